//! Publications on their way into the store: many in one commit.
use super::metrics::Counters;
use bytes::Bytes;
use raddle_store::{Expect, Key, LeaseId, Op, Outcome, Revision, Store, StoreError, Txn};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// Most changes in one commit.
const BATCH: usize = 128;
/// Writes that wait.
const QUEUE: usize = 1024;

type Done = oneshot::Sender<Result<Revision, StoreError>>;

/// One write.
#[derive(Debug)]
struct Job {
    ops: Vec<Op>,
    /// Only if the key was last written by this commit.
    only: Option<(Key, Revision)>,
    done: Done,
}

/// Where writes go. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Writer {
    jobs: mpsc::Sender<Job>,
    store: Arc<dyn Store>,
}

impl Writer {
    /// Begins a task that writes.
    pub(super) fn start(store: Arc<dyn Store>, counters: Arc<Counters>) -> Writer {
        let (jobs, queue) = mpsc::channel(QUEUE);
        tokio::spawn(write(store.clone(), queue, counters));
        Writer { jobs, store }
    }

    /// Writes an instance, and its set if that is given.
    pub(super) async fn put(
        &self,
        set: Option<(Key, Bytes)>,
        key: Key,
        value: Bytes,
        lease: LeaseId,
    ) -> Result<Revision, StoreError> {
        let set = set.map(|(key, value)| Op::Put { key, value, lease: None });
        let ops = set.into_iter().chain([Op::Put { key, value, lease: Some(lease) }]).collect();
        self.ask(ops, None).await
    }

    /// Removes a key, if it is still what this commit wrote; [`StoreError::Invalid`] if it is not.
    pub(super) async fn delete(&self, key: Key, at: Revision) -> Result<Revision, StoreError> {
        // When all streams were lost and are back, all are to be removed and none is what it was. A look is cheap; a
        // commit that finds it out is not, and the others of its batch are tried again for each.
        if self.store.get(&key).await?.is_none_or(|entry| entry.changed != at) {
            return Err(written_since());
        }
        self.ask(vec![Op::Delete { key: key.clone() }], Some((key, at))).await
    }

    async fn ask(&self, ops: Vec<Op>, only: Option<(Key, Revision)>) -> Result<Revision, StoreError> {
        let gone = || StoreError::Unavailable("the control plane ends".into());
        let (done, answer) = oneshot::channel();
        self.jobs.send(Job { ops, only, done }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

async fn write(store: Arc<dyn Store>, mut queue: mpsc::Receiver<Job>, counters: Arc<Counters>) {
    let mut over = None;
    loop {
        let first = match over.take() {
            Some(job) => job,
            None => match queue.recv().await {
                Some(job) => job,
                None => return,
            },
        };
        let mut batch = Batch::default();
        batch.take(first);
        while let Ok(job) = queue.try_recv() {
            if !batch.fits(&job) {
                over = Some(job);
                break;
            }
            batch.take(job);
        }
        batch.commit(store.as_ref(), &counters).await;
    }
}

/// Writes that go into one commit: no key twice, whether written or looked at.
#[derive(Default)]
struct Batch {
    jobs: Vec<Job>,
    ops: usize,
    keys: HashSet<Key>,
}

impl Batch {
    fn fits(&self, job: &Job) -> bool {
        // A set that several instances bring is the same: its key is its hash.
        self.ops + job.ops.len() <= BATCH
            && !job.ops.iter().any(|op| bound(op) && self.keys.contains(key(op)))
    }

    fn take(&mut self, mut job: Job) {
        job.ops.retain(|op| self.keys.insert(key(op).clone()));
        self.ops += job.ops.len();
        self.jobs.push(job);
    }

    async fn commit(mut self, store: &dyn Store, counters: &Counters) {
        while !self.jobs.is_empty() {
            let expect =
                self.jobs.iter().filter_map(|j| j.only.clone()).map(|(k, r)| (k, Expect::At(r))).collect();
            let ops = self.jobs.iter().flat_map(|j| j.ops.iter().cloned()).collect();
            let began = Instant::now();
            let outcome = store.commit(Txn { expect, ops, relaxed: true }).await;
            counters.commit(self.ops, began.elapsed(), outcome.is_err());
            let answer = match outcome {
                Ok(Outcome::Done(revision)) => Ok(revision),
                Ok(Outcome::Conflict(key, _)) => {
                    // Somebody else wrote it since: theirs stays. The others are tried without it.
                    let at = self.jobs.iter().position(|j| j.only.as_ref().is_some_and(|(k, _)| *k == key));
                    if let Some(at) = at {
                        let job = self.jobs.swap_remove(at);
                        let _ = job.done.send(Err(written_since()));
                        continue;
                    }
                    Err(StoreError::Corrupt(format!("a conflict at {key}, which nobody asked about")))
                }
                Err(e) => Err(e),
            };
            for job in self.jobs.drain(..) {
                // Whoever asked may have gone.
                let _ = job.done.send(answer.clone());
            }
        }
    }
}

fn written_since() -> StoreError {
    StoreError::Invalid("it was written since".into())
}

/// Whether the order of writes to its key matters.
fn bound(op: &Op) -> bool {
    !matches!(op, Op::Put { lease: None, .. })
}

fn key(op: &Op) -> &Key {
    match op {
        Op::Put { key, .. } | Op::Delete { key } => key,
    }
}
