//! The embedded engine: one file, no server, one process.
//!
//! [`file`] is what lies in it, [`apply`] what a transaction does to it, [`writer`] the thread that does them,
//! [`leases`] who lives, [`turn`] whether their owners had time to keep them, [`hub`] who is told.
//!
//! A commit that is answered has reached the disk (fsync), unless it is `relaxed`: those are seen by everybody at once
//! and reach the disk within 50 ms. If the *process* dies before, they are lost, as if they had never been.
mod apply;
mod file;
mod hub;
mod leases;
#[cfg(test)]
mod tests;
mod turn;
mod writer;

use crate::limits::{check_key, check_prefix, check_ttl, check_txn};
use crate::types::{Entry, LeaseId, Listing, Outcome, Revision, Store, StoreError, Txn, Wait, Watch};
use hub::{Bounds, Hub};
use leases::Leases;
use redb::Database;
use std::fmt;
use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, oneshot};
use turn::Turns;
use writer::{Job, Task, Writer};

/// Room of the writer's queue, in KiB of transactions.
const QUEUE_KIB: usize = 64 * 1024;

/// How an embedded store is kept.
#[derive(Clone, Copy, Debug)]
pub struct EmbeddedOptions {
    /// Commits kept for watches; a watch that falls behind them is [`crate::Told::Lost`].
    pub history_commits: usize,
    /// Bytes of them.
    pub history_bytes: usize,
    /// Memory for the file's pages, in bytes.
    pub cache_bytes: usize,
    /// A file of more bytes than this of which less than a quarter is used is made smaller when it is opened.
    pub compact_over: u64,
}

impl Default for EmbeddedOptions {
    fn default() -> EmbeddedOptions {
        EmbeddedOptions {
            history_commits: 10_000,
            history_bytes: 64 << 20,
            cache_bytes: 32 << 20,
            compact_over: 64 << 20,
        }
    }
}

/// A store in one file. It is closed when it is dropped.
pub struct Embedded {
    shared: Arc<Shared>,
    jobs: Sender<Job>,
    room: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

/// What the writer and the readers share.
#[derive(Debug)]
struct Shared {
    db: Database,
    leases: Mutex<Leases>,
    turns: Turns,
    hub: Arc<Hub>,
    name: String,
}

impl Embedded {
    /// Opens the file, or makes it. Leases that lived when it was closed live their whole time again, so that their
    /// owners can come back. Blocks while a file that was not closed in order is checked.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the file cannot be opened (another process has it open, no rights, no such
    /// directory), [`StoreError::Corrupt`] if it is no store, [`StoreError::Invalid`] if a newer version wrote it.
    pub fn open(path: impl AsRef<Path>, options: EmbeddedOptions) -> Result<Embedded, StoreError> {
        let path = path.as_ref();
        let opened = file::open(path, options.cache_bytes, options.compact_over)?;
        Embedded::start(opened, format!("embedded {}", path.display()), options)
    }

    /// A store that is gone with the process: for tests and demonstrations.
    ///
    /// # Errors
    /// As [`Embedded::open`].
    pub fn in_memory() -> Result<Embedded, StoreError> {
        let opened = file::open_on(redb::backends::InMemoryBackend::new())?;
        Embedded::start(opened, "embedded in memory".into(), EmbeddedOptions::default())
    }

    fn start(opened: file::Opened, name: String, options: EmbeddedOptions) -> Result<Embedded, StoreError> {
        let now = Instant::now();
        let mut leases = Leases::default();
        for (id, ttl) in opened.leases {
            leases.begin(id, ttl, now);
        }
        let bounds = Bounds { commits: options.history_commits, bytes: options.history_bytes };
        let hub = Arc::new(Hub::new(opened.revision, bounds));
        let (jobs, queue) = channel();
        let turns = Turns::new(jobs.clone());
        let shared = Arc::new(Shared { db: opened.db, leases: Mutex::new(leases), turns, hub, name });
        let first_lease = (opened.epoch as i64) << 32 | 1;
        let writer = Writer::new(Arc::clone(&shared), queue, (opened.revision, opened.ceiling), first_lease);
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || writer.run())
            .map_err(|e| StoreError::Unavailable(format!("no thread for the store: {e}")))?;
        Ok(Embedded { shared, jobs, room: Arc::new(Semaphore::new(QUEUE_KIB)), thread: Some(thread) })
    }

    /// Gives the writer a task of about so many bytes, and waits for its answer.
    async fn ask<T>(
        &self,
        bytes: usize,
        task: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Task,
    ) -> Result<T, StoreError> {
        let gone = || StoreError::Unavailable(format!("{}: its writer has ended", self.shared.name));
        let kib = (bytes / 1024 + 1) as u32;
        let room = Arc::clone(&self.room).acquire_many_owned(kib).await.map_err(|_| gone())?;
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job { task: task(reply), room: Some(room) }).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Store for Embedded {
    fn get<'a>(&'a self, key: &'a str) -> Wait<'a, Option<Entry>> {
        Box::pin(async move {
            check_key(key)?;
            // A page or two, nearly always in memory: not worth another thread.
            file::get(&self.shared.db, key).map_err(|e| file::fault(&e))
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Wait<'a, Listing> {
        Box::pin(async move {
            check_prefix(prefix)?;
            let (shared, prefix) = (Arc::clone(&self.shared), prefix.to_owned());
            let listed = tokio::task::spawn_blocking(move || file::list(&shared.db, &prefix)).await;
            let (entries, revision) = listed
                .map_err(|e| StoreError::Unavailable(format!("{}: {e}", self.shared.name)))?
                .map_err(|e| file::fault(&e))?;
            Ok(Listing { entries, revision: Revision(revision) })
        })
    }

    fn commit(&self, txn: Txn) -> Wait<'_, Outcome> {
        Box::pin(async move {
            let bytes = check_txn(&txn)?;
            self.ask(bytes, |reply| Task::Commit(txn, reply)).await
        })
    }

    fn watch<'a>(&'a self, prefix: &'a str, after: Revision) -> Wait<'a, Watch> {
        Box::pin(async move {
            check_prefix(prefix)?;
            Ok(self.shared.hub.watch(prefix, after.0))
        })
    }

    fn grant(&self, ttl: Duration) -> Wait<'_, LeaseId> {
        Box::pin(async move {
            check_ttl(ttl)?;
            self.shared.turns.here();
            self.ask(0, |reply| Task::Grant(ttl, reply)).await
        })
    }

    fn keep_alive(&self, lease: LeaseId) -> Wait<'_, ()> {
        self.shared.turns.here();
        let kept = lock(&self.shared.leases).keep(lease.0, Instant::now());
        Box::pin(std::future::ready(if kept { Ok(()) } else { Err(StoreError::NoLease) }))
    }

    fn revoke(&self, lease: LeaseId) -> Wait<'_, ()> {
        Box::pin(self.ask(0, move |reply| Task::Revoke(lease, reply)))
    }

    fn compact(&self, before: Revision) -> Wait<'_, ()> {
        self.shared.hub.compact(before.0);
        Box::pin(std::future::ready(Ok(())))
    }

    fn name(&self) -> String {
        self.shared.name.clone()
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // If it has ended already there is nothing to stop or to wait for.
        let _ = self.jobs.send(Job { task: Task::Stop, room: None });
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("name", &self.shared.name).finish_non_exhaustive()
    }
}

/// The leases' lock; whoever held it left nothing half done.
fn lock(leases: &Mutex<Leases>) -> MutexGuard<'_, Leases> {
    leases.lock().unwrap_or_else(PoisonError::into_inner)
}
