//! One replica standing for one job.
use super::replica::Replica;
use crate::keys;
use bytes::Bytes;
use raddle_store::{
    Change, Entry, Expect, Key, LeaseId, Op, Outcome, Revision, StoreError, Told, Txn, Watch,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// The pause after the store failed.
const PAUSE: Duration = Duration::from_millis(200);

/// The time in which a replica leads a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    key: Key,
    begun: Revision,
}

impl Term {
    /// Must be among the expectations of every transaction that the leader does as leader: a conflict at this key
    /// means that it leads no more.
    pub fn fence(&self) -> (Key, Expect) {
        (self.key.clone(), Expect::At(self.begun))
    }

    /// The commit that began it; a later term's is greater.
    pub fn begun(&self) -> Revision {
        self.begun
    }
}

/// What a replica should do about a job, by what the store says.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Try to become the leader, if nothing has changed since.
    Claim(Expect),
    /// It is the leader since this commit.
    Lead(Revision),
    /// Another leads.
    Wait,
}

/// Decides by the job's key: vacant, our own, our former life's, or another's.
fn step(found: Option<&Entry>, id: &str, lease: LeaseId) -> Step {
    match found {
        None => Step::Claim(Expect::Absent),
        Some(entry) if *entry.value != *id.as_bytes() => Step::Wait,
        Some(entry) if entry.lease == Some(lease) => Step::Lead(entry.changed),
        Some(entry) => Step::Claim(Expect::At(entry.changed)),
    }
}

pub(super) struct Campaign {
    replica: Arc<Replica>,
    key: Key,
    term: watch::Sender<Option<Term>>,
}

impl Campaign {
    pub(super) fn new(replica: Arc<Replica>, job: &str, term: watch::Sender<Option<Term>>) -> Campaign {
        Campaign { replica, key: format!("{}{job}", keys::LEADER).into(), term }
    }

    /// Until nobody listens or the replica leaves.
    pub(super) async fn run(self) {
        tokio::select! {
            () = self.stand() => {}
            () = self.term.closed() => self.resign().await,
            // It frees all its jobs itself.
            () = self.replica.left() => {}
        }
        self.tell(None);
    }

    async fn stand(&self) {
        let mut lease = self.replica.lease();
        loop {
            let Some(held) = *lease.borrow_and_update() else {
                self.tell(None);
                if lease.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let watched = self.look(held).await;
            let ended = async {
                match watched {
                    Ok((watch, place)) => self.wait(watch, place).await,
                    Err(why) => {
                        tracing::debug!("{}: {why}", self.key);
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            };
            tokio::select! {
                () = ended => {}
                changed = lease.changed() => if changed.is_err() { return },
            }
        }
    }

    /// Looks who leads, claims what is vacant, and watches on from there.
    async fn look(&self, lease: LeaseId) -> Result<(Watch, Option<Revision>), StoreError> {
        let store = self.replica.store();
        let listing = store.list(&self.key).await?;
        let found = listing.entries.iter().find(|e| e.key == self.key);
        let begun = match step(found, self.replica.id(), lease) {
            Step::Lead(begun) => Some(begun),
            Step::Wait => None,
            Step::Claim(expect) => self.claim(expect, lease).await?,
        };
        let watch = store.watch(&self.key, begun.unwrap_or(listing.revision).max(listing.revision)).await?;
        // The lease may have ended meanwhile; then `stand` takes this back at once.
        if self.replica.lease().borrow().as_ref() == Some(&lease) {
            self.tell(begun.map(|begun| Term { key: self.key.clone(), begun }));
        }
        Ok((watch, begun))
    }

    async fn claim(&self, expect: Expect, lease: LeaseId) -> Result<Option<Revision>, StoreError> {
        let value = Bytes::copy_from_slice(self.replica.id().as_bytes());
        let ops = vec![Op::Put { key: self.key.clone(), value, lease: Some(lease) }];
        let txn = Txn { expect: vec![(self.key.clone(), expect)], ops, relaxed: false };
        match self.replica.store().commit(txn).await? {
            Outcome::Done(begun) => Ok(Some(begun)),
            Outcome::Conflict(..) => Ok(None),
        }
    }

    /// Until the job's key changes, the watch ends, or it is time to look again anyway.
    async fn wait(&self, mut watch: Watch, begun: Option<Revision>) {
        let changed = async {
            while let Some(Told::Changes(_, changes)) = watch.recv().await {
                let other = |change: &Change| match change {
                    Change::Put(entry) => entry.key == self.key && Some(entry.changed) != begun,
                    Change::Delete(key) => *key == self.key,
                };
                if changes.iter().any(other) {
                    return;
                }
            }
            // Lost, or its store closed: not too often.
            tokio::time::sleep(PAUSE).await;
        };
        // A watch that is dead without a word must not keep a job vacant for ever.
        let _ = tokio::time::timeout(self.replica.ttl(), changed).await;
    }

    /// Frees the job, if it is ours.
    async fn resign(&self) {
        let Some(term) = self.term.send_replace(None) else { return };
        let txn = Txn {
            expect: vec![term.fence()],
            ops: vec![Op::Delete { key: self.key.clone() }],
            relaxed: false,
        };
        if let Err(why) = self.replica.store().commit(txn).await {
            tracing::warn!("{}: not given back, it is free when the lease has ended: {why}", self.key);
        }
    }

    fn tell(&self, term: Option<Term>) {
        self.term.send_if_modified(|told| {
            let changed = *told != term;
            if changed {
                let who = self.replica.id();
                match (&*told, &term) {
                    (None, Some(_)) => tracing::info!("{who} leads {}", self.key),
                    (Some(_), None) => tracing::info!("{who} leads {} no more", self.key),
                    _ => {}
                }
                *told = term;
            }
            changed
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(value: &'static str, lease: i64) -> Entry {
        let value = Bytes::from_static(value.as_bytes());
        Entry { key: "leader/job".into(), value, changed: Revision(7), lease: Some(LeaseId(lease)) }
    }

    #[test]
    fn a_vacant_job_is_claimed_and_anothers_is_not() {
        assert_eq!(step(None, "r1", LeaseId(1)), Step::Claim(Expect::Absent));
        assert_eq!(step(Some(&entry("r2", 2)), "r1", LeaseId(1)), Step::Wait);
        assert_eq!(step(Some(&entry("r1", 1)), "r1", LeaseId(1)), Step::Lead(Revision(7)));
    }

    #[test]
    fn a_restarted_replica_takes_over_from_its_former_life() {
        assert_eq!(step(Some(&entry("r1", 1)), "r1", LeaseId(2)), Step::Claim(Expect::At(Revision(7))));
    }
}
