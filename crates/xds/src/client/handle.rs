//! A running client, from outside.
use crate::types::Kind;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;
use tokio::sync::{Notify, watch};

/// A running client. Clones are the same client; it ends with [`Handle::shutdown`], or when the last is dropped.
#[derive(Clone, Debug)]
pub struct Handle {
    inner: Arc<Ends>,
}

/// Ends the client when the last handle goes.
#[derive(Debug)]
struct Ends {
    shared: Arc<Shared>,
    closed: watch::Receiver<bool>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>, closed: watch::Receiver<bool>) -> Handle {
        Handle { inner: Arc::new(Ends { shared, closed }) }
    }

    /// Subscribes to a service, if that was not done yet.
    pub fn want(&self, name: &str) {
        self.inner.shared.wish(name, true);
    }

    /// Says that nobody uses a service any more. It stays for a while (see
    /// [`unsubscribe_after`](super::Options::unsubscribe_after)), then it is unsubscribed and gone.
    pub fn unwant(&self, name: &str) {
        self.inner.shared.wish(name, false);
    }

    /// How it is going.
    pub fn status(&self) -> Status {
        self.inner.shared.lock().status.clone()
    }

    /// Ends the client; the cache is written.
    pub fn shutdown(&self) {
        self.inner.shared.stop();
    }

    /// Waits until it has ended.
    pub async fn closed(&self) {
        let mut closed = self.inner.closed.clone();
        // An error means that the task is gone, and so is the client.
        let _ = closed.wait_for(|closed| *closed).await;
    }
}

/// How a client is doing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Status {
    /// The server it has a stream to.
    pub connected: Option<String>,
    /// When that stream began.
    pub since: Option<SystemTime>,
    /// Variant the stream speaks: `delta` or `sotw`.
    pub mode: &'static str,
    /// Why the last stream or attempt ended.
    pub last_error: Option<String>,
    /// Attempts that failed since a stream last delivered something.
    pub failures: u32,
    /// Streams opened so far.
    pub streams: u64,
    /// Versions in force, by kind and name.
    pub versions: BTreeMap<Kind, BTreeMap<Arc<str>, Arc<str>>>,
    /// What was refused and not mended since.
    pub refused: Vec<RefusedResource>,
    /// Wanted services that do not exist.
    pub missing: Vec<Arc<str>>,
    /// Responses or resources that should not have come: unasked types and names, duplicates.
    pub oddities: u64,
}

/// A resource that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedResource {
    /// What it is.
    pub kind: Kind,
    /// Its name; empty = a response that could not be read far enough to know one.
    pub name: Arc<str>,
    /// The version that was refused.
    pub version: Arc<str>,
    /// Why.
    pub reason: String,
}

/// Most names whose wishes can wait for the client's task; further ones are dropped and asked for again at the
/// next use. The task empties it at every turn.
const MOST_WISHES: usize = 65_536;

/// What handles and the client's task share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    inside: Mutex<Inside>,
    woken: Notify,
}

#[derive(Debug, Default)]
pub(super) struct Inside {
    wishes: HashMap<Arc<str>, bool>,
    stopped: bool,
    pub(super) status: Status,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, Inside> {
        // What is inside is whole after every statement, so a panic elsewhere does no harm to it.
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wish(&self, name: &str, wanted: bool) {
        let mut inside = self.lock();
        if inside.wishes.len() >= MOST_WISHES && !inside.wishes.contains_key(name) {
            return;
        }
        inside.wishes.insert(name.into(), wanted);
        drop(inside);
        self.woken.notify_one();
    }

    fn stop(&self) {
        self.lock().stopped = true;
        self.woken.notify_one();
    }

    /// Takes the wishes; `None` = the client shall end.
    pub(super) fn take(&self) -> Option<HashMap<Arc<str>, bool>> {
        let mut inside = self.lock();
        (!inside.stopped).then(|| std::mem::take(&mut inside.wishes))
    }

    /// Waits until there may be something to take.
    pub(super) async fn woken(&self) {
        self.woken.notified().await;
    }
}
