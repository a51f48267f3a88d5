//! What happened, for people: kept in the store, bounded, in order of time.
//!
//! Whoever does something worth knowing calls [`Events::tell`], which never waits and never fails: an event that finds
//! no room or no store is counted and lost. The leader calls [`prune`] now and then.
use crate::keys::EVENTS;
use bytes::Bytes;
use raddle_store::{Entry, Op, Store, StoreError, Txn};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::mpsc;

/// Events kept.
pub const KEPT: usize = 10_000;
/// Notes of the audit kept.
pub const AUDIT_KEPT: usize = 50_000;
/// Events that wait to be written; more are lost.
const WAITING: usize = 1024;
/// Most events of one transaction.
const BATCH: usize = 64;

/// How much an event matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// As it should be.
    #[default]
    Info,
    /// Worth a look.
    Warning,
    /// Somebody should act.
    Error,
}

/// Something that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Event {
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    /// How much it matters.
    pub severity: Severity,
    /// What, as a word: `rolloutPaused`, `sidecarJoined`, `servicesProtected`, ...
    pub what: String,
    /// What it happened to: `Route/checkout`, `sidecar order-1`, `service com.shop.Order:1.0`.
    pub subject: String,
    /// A sentence.
    pub message: String,
    /// The replica that saw it.
    pub replica: String,
}

/// Takes events; cheap to clone.
#[derive(Clone)]
pub struct Events {
    inner: Arc<Inner>,
}

struct Inner {
    replica: Arc<str>,
    queue: mpsc::Sender<Event>,
    lost: AtomicU64,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Events({}, {} lost)", self.inner.replica, self.lost())
    }
}

impl Events {
    /// Begins to write events into `store` in a task of the running runtime, which ends when the last clone is
    /// dropped.
    pub fn start(store: Arc<dyn Store>, replica: impl Into<Arc<str>>) -> Events {
        let (queue, waiting) = mpsc::channel(WAITING);
        let inner = Arc::new(Inner { replica: replica.into(), queue, lost: AtomicU64::new(0) });
        tokio::spawn(write(store, inner.replica.clone(), waiting));
        Events { inner }
    }

    /// Something happened. Never waits.
    pub fn tell(
        &self,
        severity: Severity,
        what: &str,
        subject: impl Into<String>,
        message: impl Into<String>,
    ) {
        let event = Event {
            at: now_ms(),
            severity,
            what: what.to_owned(),
            subject: subject.into(),
            message: message.into(),
            replica: self.inner.replica.to_string(),
        };
        if self.inner.queue.try_send(event).is_err() {
            self.inner.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// As it should be.
    pub fn info(&self, what: &str, subject: impl Into<String>, message: impl Into<String>) {
        self.tell(Severity::Info, what, subject, message);
    }

    /// Worth a look.
    pub fn warning(&self, what: &str, subject: impl Into<String>, message: impl Into<String>) {
        self.tell(Severity::Warning, what, subject, message);
    }

    /// Somebody should act.
    pub fn error(&self, what: &str, subject: impl Into<String>, message: impl Into<String>) {
        self.tell(Severity::Error, what, subject, message);
    }

    /// Events that found no room.
    pub fn lost(&self) -> u64 {
        self.inner.lost.load(Ordering::Relaxed)
    }
}

async fn write(store: Arc<dyn Store>, replica: Arc<str>, mut waiting: mpsc::Receiver<Event>) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut number = 0_u64;
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        let ops = batch.drain(..).map(|event| {
            number += 1;
            let key = key(EVENTS, event.at, &replica, number).into();
            let value = Bytes::from(serde_json::to_vec(&event).unwrap_or_default());
            Op::Put { key, value, lease: None }
        });
        let txn = Txn { expect: Vec::new(), ops: ops.collect(), relaxed: true };
        if let Err(e) = store.commit(txn).await {
            tracing::warn!("events could not be kept: {e}");
        }
    }
}

/// `PREFIX TIME-REPLICA-NUMBER`: sorts by time, and no two replicas make the same.
pub(crate) fn key(prefix: &str, at: u64, replica: &str, number: u64) -> String {
    format!("{prefix}{at:015}-{replica}-{number:08}")
}

/// An event as it is listed, with its id: what `after` takes.
pub(crate) fn read(entry: &Entry) -> Option<(String, Event)> {
    let id = entry.key.strip_prefix(EVENTS)?.to_owned();
    Some((id, serde_json::from_slice(&entry.value).ok()?))
}

/// Removes all but the newest `keep` entries under a prefix whose keys sort by time. For the leader.
///
/// # Errors
/// When the store does not do it; the next try goes on.
pub async fn prune(store: &dyn Store, prefix: &str, keep: usize) -> Result<usize, StoreError> {
    let listing = store.list(prefix).await?;
    let over = listing.entries.len().saturating_sub(keep);
    for chunk in listing.entries[..over].chunks(BATCH) {
        let ops = chunk.iter().map(|e| Op::Delete { key: e.key.clone() }).collect();
        store.commit(Txn { expect: Vec::new(), ops, relaxed: true }).await?;
    }
    Ok(over)
}

/// Now, in milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_by_time_whoever_wrote_them() {
        let earlier = key(EVENTS, 999, "z", 9);
        let later = key(EVENTS, 1_700_000_000_000, "a", 1);
        assert!(earlier < later);
    }
}
