//! The recent commits, kept for watches, and the tasks that tell them.
//!
//! A watch is a place in the one history that all share. A slow watcher costs nothing but that place: when the
//! history's bound passes it, the watcher is told that it lost some, and the writer has never waited.
use crate::types::{Change, Revision, Told, Watch};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{mpsc, watch};

/// Told at once at most: so many commits, or so many bytes.
const BATCH_COMMITS: usize = 256;
const BATCH_BYTES: usize = 1 << 20;
/// Batches that wait in a watcher's channel.
const CHANNEL: usize = 8;
/// What a change costs beside its key and value.
const CHANGE_BYTES: usize = 96;

/// How much history is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) commits: usize,
    pub(super) bytes: usize,
}

#[derive(Debug)]
struct Commit {
    revision: u64,
    changes: Vec<Change>,
    bytes: usize,
}

#[derive(Debug)]
struct History {
    commits: VecDeque<Arc<Commit>>,
    /// Every commit after this one is in `commits`. A place may be later than all of them: readers see a commit a
    /// moment before it is published.
    floor: u64,
    bytes: usize,
    bounds: Bounds,
}

/// What a watch finds at its place.
enum Found {
    Told(u64, Option<Told>),
    Nothing,
    Lost(String),
}

impl History {
    fn push(&mut self, revision: u64, changes: Vec<Change>) {
        let bytes = changes.iter().map(size).sum();
        self.bytes += bytes;
        self.commits.push_back(Arc::new(Commit { revision, changes, bytes }));
        while self.commits.len() > self.bounds.commits || self.bytes > self.bounds.bytes {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        if let Some(first) = self.commits.pop_front() {
            self.bytes -= first.bytes;
            self.floor = first.revision;
        }
    }

    /// Commits after a place, up to a batch; they are shared, so that filtering needs no lock.
    fn after(&self, place: u64) -> Result<Vec<Arc<Commit>>, String> {
        if place < self.floor {
            return Err(format!("the history up to revision {} is gone", self.floor));
        }
        let from = self.commits.partition_point(|c| c.revision <= place);
        let mut bytes = 0;
        let batch = self.commits.range(from..).take(BATCH_COMMITS).take_while(|commit| {
            let room = bytes < BATCH_BYTES;
            bytes += commit.bytes;
            room
        });
        Ok(batch.cloned().collect())
    }
}

fn size(change: &Change) -> usize {
    CHANGE_BYTES
        + match change {
            Change::Put(entry) => entry.key.len() + entry.value.len(),
            Change::Delete(key) => key.len(),
        }
}

/// The history and who waits for more of it.
#[derive(Debug)]
pub(super) struct Hub {
    history: Mutex<History>,
    tail: watch::Sender<u64>,
}

impl Hub {
    /// A hub for a store whose last commit is `last`; nothing before it is known.
    pub(super) fn new(last: u64, bounds: Bounds) -> Hub {
        let history = History { commits: VecDeque::new(), floor: last, bytes: 0, bounds };
        Hub { history: Mutex::new(history), tail: watch::Sender::new(last) }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        // Nothing panics between two changes that belong together.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits were done; watches hear of them.
    pub(super) fn publish(&self, commits: Vec<(u64, Vec<Change>)>) {
        let Some((last, _)) = commits.last() else { return };
        let last = *last;
        let mut history = self.history();
        for (revision, changes) in commits {
            history.push(revision, changes);
        }
        drop(history);
        self.tail.send_replace(last);
    }

    /// Forgets the history up to a revision.
    pub(super) fn compact(&self, upto: u64) {
        let mut history = self.history();
        while history.commits.front().is_some_and(|c| c.revision <= upto) {
            history.forget_first();
        }
    }

    /// No more commits: every watch ends. What was published before is still told.
    pub(super) fn close(&self) {
        self.tail.send_replace(u64::MAX);
    }

    /// A new watch of what comes after a revision; its task runs in the caller's runtime.
    pub(super) fn watch(self: &Arc<Hub>, prefix: &str, after: u64) -> Watch {
        let (tell, watch) = mpsc::channel(CHANNEL);
        tokio::spawn(Arc::clone(self).tell(prefix.to_owned(), after, tell));
        watch
    }

    async fn tell(self: Arc<Hub>, prefix: String, mut place: u64, tell: mpsc::Sender<Told>) {
        let mut tail = self.tail.subscribe();
        loop {
            let closed = *tail.borrow_and_update() == u64::MAX;
            match self.find(&prefix, place) {
                Found::Told(upto, told) => {
                    place = upto;
                    if let Some(told) = told
                        && tell.send(told).await.is_err()
                    {
                        return;
                    }
                }
                Found::Lost(why) => {
                    // A watcher that has gone needs no word.
                    let _ = tell.send(Told::Lost(why)).await;
                    return;
                }
                Found::Nothing if closed => return,
                Found::Nothing => tokio::select! {
                    changed = tail.changed() => if changed.is_err() { return },
                    () = tell.closed() => return,
                },
            }
        }
    }

    fn find(&self, prefix: &str, place: u64) -> Found {
        let batch = match self.history().after(place) {
            Ok(batch) => batch,
            Err(why) => return Found::Lost(why),
        };
        let Some(last) = batch.last().map(|c| c.revision) else { return Found::Nothing };
        let mine = batch.iter().flat_map(|c| &c.changes).filter(|change| key(change).starts_with(prefix));
        let changes: Vec<Change> = mine.cloned().collect();
        Found::Told(last, (!changes.is_empty()).then(|| Told::Changes(Revision(last), changes)))
    }
}

fn key(change: &Change) -> &str {
    match change {
        Change::Put(entry) => &entry.key,
        Change::Delete(key) => key,
    }
}
