//! The trait and its values.
use bytes::Bytes;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

/// A future that can be sent between threads.
pub type Wait<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A key: UTF-8, parts divided by `/`, without one at the begin; at most 1 KiB.
pub type Key = Arc<str>;

/// A point in the store's history. Every commit makes the next one; the first is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// A lease: keys bound to it go when it is not kept alive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Key,
    /// Its value, at most 1 MiB.
    pub value: Bytes,
    /// The commit that wrote this value.
    pub changed: Revision,
    /// The lease it goes with.
    pub lease: Option<LeaseId>,
}

/// All entries under a prefix, at one revision.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// In the keys' order.
    pub entries: Vec<Entry>,
    /// The point in history they are of; a watch after it misses nothing.
    pub revision: Revision,
}

/// What must hold for a transaction to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent,
    /// The key exists, whatever its value.
    Present,
    /// The key's value is the one written by this commit.
    At(Revision),
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Writes a value.
    Put {
        /// The key.
        key: Key,
        /// The value.
        value: Bytes,
        /// The lease it shall go with; it must live.
        lease: Option<LeaseId>,
    },
    /// Removes a key; nothing happens if it does not exist.
    Delete {
        /// The key.
        key: Key,
    },
}

/// Changes done all or not at all, if all expectations hold. At most 128 changes.
#[derive(Clone, Debug, Default)]
pub struct Txn {
    /// What must hold.
    pub expect: Vec<(Key, Expect)>,
    /// What is done then.
    pub ops: Vec<Op>,
    /// May be lost, as if never done, if the process or machine that holds the store dies within the next 50 ms;
    /// cheaper. For what is told anew anyway, as publications are.
    pub relaxed: bool,
}

/// What became of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done: it is in the store, and survives what the engine survives.
    Done(Revision),
    /// An expectation did not hold: the first such key, and what is there. Nothing was changed.
    Conflict(Key, Option<Entry>),
}

/// A change that a watch tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A value was written.
    Put(Entry),
    /// A key was removed, or its lease ended.
    Delete(Key),
}

/// What a watch tells.
#[derive(Clone, Debug)]
pub enum Told {
    /// The changes of one or more commits, whole commits only, in order.
    Changes(Revision, Vec<Change>),
    /// The watch missed something (history was compacted, the connection was lost too long): list again.
    Lost(String),
}

/// A watch; it ends when it is dropped.
pub type Watch = tokio::sync::mpsc::Receiver<Told>;

/// A store. All methods may be called from any task, at once.
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// The entry of a key.
    fn get<'a>(&'a self, key: &'a str) -> Wait<'a, Option<Entry>>;
    /// All entries whose keys begin with `prefix`.
    fn list<'a>(&'a self, prefix: &'a str) -> Wait<'a, Listing>;
    /// Does a transaction. Commits are in one order for all.
    fn commit(&self, txn: Txn) -> Wait<'_, Outcome>;
    /// Every change after `after` to keys that begin with `prefix`.
    fn watch<'a>(&'a self, prefix: &'a str, after: Revision) -> Wait<'a, Watch>;
    /// A new lease that lives for `ttl` after each [`Store::keep_alive`].
    fn grant(&self, ttl: Duration) -> Wait<'_, LeaseId>;
    /// Keeps a lease. [`StoreError::NoLease`] if it has ended.
    fn keep_alive(&self, lease: LeaseId) -> Wait<'_, ()>;
    /// Ends a lease and removes its keys now.
    fn revoke(&self, lease: LeaseId) -> Wait<'_, ()>;
    /// Forgets the history up to a revision: watches from before it are [`Told::Lost`]. Values stay.
    fn compact(&self, before: Revision) -> Wait<'_, ()> {
        let _ = before;
        Box::pin(std::future::ready(Ok(())))
    }
    /// Which engine, for people: `embedded FILE`, `etcd HOSTS`.
    fn name(&self) -> String;
}

/// Why a store did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// It cannot be reached, or does not answer in time. A commit may or may not have been done.
    Unavailable(String),
    /// The lease does not live.
    NoLease,
    /// It was asked for something it does not do (too large, bad key).
    Invalid(String),
    /// The file or an answer makes no sense.
    Corrupt(String),
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Unavailable(why) => write!(f, "the store is not available: {why}"),
            StoreError::NoLease => write!(f, "the lease has ended"),
            StoreError::Invalid(why) => write!(f, "the store refuses it: {why}"),
            StoreError::Corrupt(why) => write!(f, "the store is damaged: {why}"),
        }
    }
}

impl std::error::Error for StoreError {}
