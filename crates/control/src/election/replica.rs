//! A replica's lease, kept alive for as long as it runs.
use super::campaign::{Campaign, Term};
use crate::keys;
use bytes::Bytes;
use raddle_store::{Expect, Key, LeaseId, Op, Outcome, Store, StoreError, Txn};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a replica counts as alive without a word, and so how long a job may be without a leader after a crash.
pub const DEFAULT_TTL: Duration = Duration::from_secs(10);

/// The pause after the store failed.
const PAUSE: Duration = Duration::from_millis(200);

/// What a replica says of itself, at `replicas/ID`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Announced {
    /// Where sidecars reach it, `host:port`.
    pub addresses: Vec<String>,
}

impl Announced {
    /// Reads the value of `replicas/ID`; nothing if it makes no sense (a newer layout).
    pub fn parse(value: &[u8]) -> Option<Announced> {
        serde_json::from_slice(value).ok()
    }
}

/// One running control plane, as the store knows it.
pub struct Replica {
    store: Arc<dyn Store>,
    id: Arc<str>,
    ttl: Duration,
    lease: watch::Sender<Option<LeaseId>>,
    leaving: watch::Sender<bool>,
}

impl Replica {
    /// Joins with the default time to live. The lease comes when the store answers; see [`Replica::lease`].
    ///
    /// `id` names one process at a time: who joins with an id takes over from whoever had it before, at once, so that
    /// a restarted replica need not wait for its former life's lease to end.
    pub fn join(store: Arc<dyn Store>, id: impl Into<Arc<str>>, addresses: Vec<String>) -> Arc<Replica> {
        Replica::join_for(store, id, addresses, DEFAULT_TTL)
    }

    /// Joins with a time to live of its own.
    pub fn join_for(
        store: Arc<dyn Store>,
        id: impl Into<Arc<str>>,
        addresses: Vec<String>,
        ttl: Duration,
    ) -> Arc<Replica> {
        let (lease, leaving) = (watch::Sender::new(None), watch::Sender::new(false));
        let replica = Arc::new(Replica { store, id: id.into(), ttl, lease, leaving });
        tokio::spawn(Arc::clone(&replica).live(Announced { addresses }));
        replica
    }

    /// Its name.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The lease, if there is one. It may end (the store was away for too long) and another come: whoever bound keys
    /// to the old one writes them again under the new one.
    pub fn lease(&self) -> watch::Receiver<Option<LeaseId>> {
        self.lease.subscribe()
    }

    /// Waits until it begins to leave.
    pub async fn left(&self) {
        // It cannot fail: the sender is in `self`.
        let _ = self.leaving.subscribe().wait_for(|leaving| *leaving).await;
    }

    /// Stands for a job. There is a term while this replica leads it; it is nothing as soon as that is in doubt. Ends
    /// when the receiver is dropped, or the replica leaves.
    pub fn lead(self: &Arc<Replica>, job: &str) -> watch::Receiver<Option<Term>> {
        let (term, led) = watch::channel(None);
        tokio::spawn(Campaign::new(Arc::clone(self), job, term).run());
        led
    }

    /// Leaves in order: its jobs are free for others at once. The lease is not revoked, it ends by its time: what
    /// sidecars published through this replica stands until they have published it through another.
    ///
    /// # Errors
    /// If the store does not answer; then the jobs are free when the lease has ended.
    pub async fn leave(&self) -> Result<(), StoreError> {
        self.leaving.send_replace(true);
        // A claim that is on its way is done before this (the embedded store keeps the order), and so is seen below.
        let ops = vec![Op::Delete { key: self.key() }];
        self.store.commit(Txn { ops, ..Txn::default() }).await?;
        let listing = self.store.list(keys::LEADER).await?;
        let mine = listing.entries.into_iter().filter(|e| *e.value == *self.id.as_bytes());
        for entry in mine {
            let expect = vec![(entry.key.clone(), Expect::At(entry.changed))];
            let ops = vec![Op::Delete { key: entry.key }];
            // A conflict means that it is another's already.
            self.store.commit(Txn { expect, ops, relaxed: false }).await?;
        }
        Ok(())
    }

    pub(super) fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    pub(super) fn ttl(&self) -> Duration {
        self.ttl
    }

    fn key(&self) -> Key {
        format!("{}{}", keys::REPLICAS, self.id).into()
    }

    /// Gets a lease, keeps it, gets another when it has ended; until the replica leaves.
    async fn live(self: Arc<Replica>, announced: Announced) {
        let living = async {
            loop {
                let asked = Instant::now();
                match self.begin(&announced).await {
                    Ok(lease) => {
                        self.lease.send_replace(Some(lease));
                        self.keep(lease, asked).await;
                        tracing::warn!("replica {}: its lease has ended; it asks for another", self.id);
                    }
                    Err(why) => tracing::warn!("replica {}: no lease: {why}", self.id),
                }
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = living => {}
            () = self.left() => {}
        }
    }

    /// A new lease, with the announcement bound to it.
    async fn begin(&self, announced: &Announced) -> Result<LeaseId, StoreError> {
        let lease = self.store.grant(self.ttl).await?;
        let value = serde_json::to_vec(announced).map_err(|e| StoreError::Invalid(e.to_string()))?;
        let op = Op::Put { key: self.key(), value: Bytes::from(value), lease: Some(lease) };
        match self.store.commit(Txn { ops: vec![op], ..Txn::default() }).await? {
            Outcome::Done(_) => Ok(lease),
            Outcome::Conflict(key, _) => {
                Err(StoreError::Corrupt(format!("a conflict at {key} out of nothing")))
            }
        }
    }

    /// Keeps a lease until the store says that it has ended. While the store is silent for longer than the lease
    /// lives, nobody is told that there is one; it may come back.
    async fn keep(&self, lease: LeaseId, granted: Instant) {
        let mut until = granted + self.ttl;
        let mut pause = self.ttl / 3;
        loop {
            tokio::time::sleep(pause).await;
            let asked = Instant::now();
            // Asking longer than the lease lives for sure would be believing in it for too long.
            let patience = until.saturating_duration_since(asked).max(PAUSE);
            match tokio::time::timeout(patience, self.store.keep_alive(lease)).await {
                Ok(Ok(())) => {
                    until = asked + self.ttl;
                    pause = self.ttl / 3;
                    self.tell(Some(lease));
                }
                Ok(Err(StoreError::NoLease)) => {
                    self.tell(None);
                    return;
                }
                Ok(Err(_)) | Err(_) => pause = PAUSE.min(self.ttl / 10),
            }
            if Instant::now() >= until {
                self.tell(None);
            }
        }
    }

    fn tell(&self, lease: Option<LeaseId>) {
        self.lease.send_if_modified(|told| {
            let changed = *told != lease;
            *told = lease;
            changed
        });
    }
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica")
            .field("id", &self.id)
            .field("lease", &*self.lease.borrow())
            .finish_non_exhaustive()
    }
}
