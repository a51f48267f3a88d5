//! Which replica counts which rules.
//!
//! `quota/SHARD` holds the name of the replica that counts a shard, under that replica's lease. Who should is said by
//! rendezvous hashing (Thaler and Ravishankar, 1998) over the replicas that live; who does, by the key alone.
use super::Quota;
use crate::election::Announced;
use crate::keys;
use bytes::Bytes;
use raddle_core::{Time, hash};
use raddle_policy::quota::LEARN;
use raddle_store::{
    Entry, Expect, Follow, Following, Key, LeaseId, Mirror, Op, Outcome, Revision, Store, StoreError, Txn,
};
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// Shards that rules are divided into.
pub const SHARDS: usize = 16;

/// How often it is looked anyway.
const LOOK: Duration = Duration::from_secs(1);

/// The shard of a rule.
pub(super) fn shard_of(rule: &str) -> usize {
    (hash::stable(0x071a, rule.as_bytes()) % SHARDS as u64) as usize
}

/// What is known of the shards.
#[derive(Debug, Default)]
pub(super) struct Shards {
    held: [Option<(LeaseId, Time)>; SHARDS],
    owners: [Option<Arc<str>>; SHARDS],
    live: BTreeMap<Arc<str>, Vec<String>>,
}

impl Shards {
    /// The lease under which a shard is counted here.
    pub(super) fn held(&self, shard: usize) -> Option<LeaseId> {
        self.held.get(shard)?.map(|(lease, _)| lease)
    }

    /// Whether somebody may hold leases of a shard that another gave.
    pub(super) fn learns(&self, shard: usize, now: Time) -> bool {
        self.held.get(shard).copied().flatten().is_some_and(|(_, since)| now.since(since) < LEARN)
    }

    pub(super) fn owner(&self, shard: usize) -> Option<&str> {
        self.owners.get(shard)?.as_deref()
    }

    pub(super) fn addresses(&self, replica: &str) -> Vec<String> {
        self.live.get(replica).cloned().unwrap_or_default()
    }

    /// Nothing is counted here any more, until the store says so again.
    pub(super) fn forget(&mut self) {
        self.held = Default::default();
    }
}

/// What a replica should do about a shard.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// Claim it, if nothing has changed since.
    Claim(Expect),
    /// It is its own.
    Hold,
    /// It is its own, and another should have it.
    Give(Revision),
    /// It is another's.
    Wait,
}

/// `live`: the replicas that live, the own one among them.
fn step(shard: usize, found: Option<&Entry>, live: &[&str], own: &str, lease: LeaseId, alone: bool) -> Step {
    let best = |id: &&&str| hash::stable(shard as u64, id.as_bytes());
    let mine = alone || live.iter().max_by_key(best).is_none_or(|id| *id == own);
    match found {
        None if mine => Step::Claim(Expect::Absent),
        None => Step::Wait,
        Some(entry) if *entry.value != *own.as_bytes() => {
            // Nobody else has the store: it is what a former life left.
            if alone { Step::Claim(Expect::At(entry.changed)) } else { Step::Wait }
        }
        Some(entry) if entry.lease != Some(lease) => Step::Claim(Expect::At(entry.changed)),
        Some(_) if mine => Step::Hold,
        Some(entry) => Step::Give(entry.changed),
    }
}

fn key(shard: usize) -> Key {
    format!("{}{shard:02}", keys::QUOTA).into()
}

/// Follows the store, claims what should be counted here, and gives what should not.
pub(super) async fn follow(
    quota: Weak<Quota>,
    store: Arc<dyn Store>,
    mut lease: watch::Receiver<Option<LeaseId>>,
    alone: bool,
) {
    let mut claims = (Follow::start(store.clone(), keys::QUOTA), Mirror::default());
    let mut replicas = (Follow::start(store.clone(), keys::REPLICAS), Mirror::default());
    let mut known = (false, false);
    loop {
        let took = |step: Option<Following>, mirror: &mut Mirror| step.map(|s| mirror.apply(s)).is_some();
        let goes_on = tokio::select! {
            step = claims.0.recv() => { known.0 = true; took(step, &mut claims.1) }
            step = replicas.0.recv() => { known.1 = true; took(step, &mut replicas.1) }
            changed = lease.changed() => changed.is_ok(),
            () = tokio::time::sleep(LOOK) => true,
        };
        let Some(quota) = quota.upgrade().filter(|_| goes_on) else { return };
        if known == (true, true) {
            let held = *lease.borrow_and_update();
            settle(&quota, store.as_ref(), &claims.1, &replicas.1, held, alone).await;
        }
    }
}

async fn settle(
    quota: &Quota,
    store: &dyn Store,
    claims: &Mirror,
    replicas: &Mirror,
    lease: Option<LeaseId>,
    alone: bool,
) {
    let live: BTreeMap<Arc<str>, Vec<String>> = replicas
        .entries()
        .iter()
        .filter_map(|(key, entry)| {
            let addresses = Announced::parse(&entry.value)?.addresses;
            Some((key.strip_prefix(keys::REPLICAS)?.into(), addresses))
        })
        .collect();
    let names: Vec<&str> = live.keys().map(|id| &**id).collect();
    for shard in 0..SHARDS {
        let found = claims.entries().get(&key(shard));
        {
            let mut state = quota.state();
            state.shards.owners[shard] =
                found.and_then(|e| std::str::from_utf8(&e.value).ok()).map(Into::into);
        }
        let Some(lease) = lease else {
            quota.state().shards.held[shard] = None;
            continue;
        };
        let own = &*quota.replica;
        let held = match step(shard, found, &names, own, lease, alone) {
            Step::Hold => true,
            Step::Wait => false,
            Step::Give(at) => {
                // First nothing is given any more, then another may.
                hold(quota, shard, None);
                give(store, shard, at).await;
                false
            }
            Step::Claim(expect) => match claim(store, shard, expect, own, lease).await {
                Ok(done) => done,
                Err(e) => {
                    tracing::debug!("quota shard {shard}: not claimed: {e}");
                    false
                }
            },
        };
        hold(quota, shard, held.then_some(lease));
    }
    quota.state().shards.live = live;
}

/// A shard is counted here under this lease, or is not.
fn hold(quota: &Quota, shard: usize, lease: Option<LeaseId>) {
    let now = quota.now();
    let mut state = quota.state();
    let held = &mut state.shards.held[shard];
    if held.map(|(lease, _)| lease) == lease {
        return;
    }
    *held = lease.map(|lease| (lease, now));
    if lease.is_some() {
        state.shards.owners[shard] = Some(quota.replica.clone());
    }
    // What was known of its rules is of another time.
    let rules: Vec<Arc<str>> = state.server.rules().filter(|r| shard_of(r) == shard).cloned().collect();
    for rule in &rules {
        state.server.remove(rule);
    }
}

async fn claim(
    store: &dyn Store,
    shard: usize,
    expect: Expect,
    own: &str,
    lease: LeaseId,
) -> Result<bool, StoreError> {
    let value = Bytes::copy_from_slice(own.as_bytes());
    let ops = vec![Op::Put { key: key(shard), value, lease: Some(lease) }];
    let txn = Txn { expect: vec![(key(shard), expect)], ops, relaxed: false };
    Ok(matches!(store.commit(txn).await?, Outcome::Done(_)))
}

async fn give(store: &dyn Store, shard: usize, at: Revision) {
    let ops = vec![Op::Delete { key: key(shard) }];
    let txn = Txn { expect: vec![(key(shard), Expect::At(at))], ops, relaxed: false };
    if let Err(e) = store.commit(txn).await {
        tracing::debug!("quota shard {shard}: not given: {e}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(value: &'static str, lease: i64) -> Entry {
        let value = Bytes::from_static(value.as_bytes());
        Entry { key: key(3), value, changed: Revision(7), lease: Some(LeaseId(lease)) }
    }

    #[test]
    fn every_shard_is_claimed_by_one_and_all_get_some() {
        let live = ["a", "b", "c"];
        for shard in 0..SHARDS {
            let claims = live.iter().filter(|own| {
                step(shard, None, &live, own, LeaseId(1), false) == Step::Claim(Expect::Absent)
            });
            assert_eq!(claims.count(), 1);
        }
        let claims = |own: &str, shard| step(shard, None, &live, own, LeaseId(1), false) != Step::Wait;
        assert!(live.iter().all(|own| (0..SHARDS).any(|shard| claims(own, shard))));
    }

    #[test]
    fn a_shard_that_should_be_anothers_is_given_and_anothers_is_not_taken() {
        let lease = LeaseId(1);
        let owner = if step(3, None, &["a", "b"], "a", lease, false) == Step::Wait { "b" } else { "a" };
        let other = if owner == "a" { "b" } else { "a" };
        let held = entry(other, 1);
        assert_eq!(step(3, Some(&held), &["a", "b"], other, lease, false), Step::Give(Revision(7)));
        assert_eq!(step(3, Some(&held), &["a", "b"], owner, lease, false), Step::Wait);
        assert_eq!(step(3, Some(&held), &[other], other, lease, false), Step::Hold);
    }

    #[test]
    fn who_is_alone_takes_over_from_its_former_lives() {
        let left = entry("host-1", 1);
        let again = step(3, Some(&left), &["host-1", "host-2"], "host-2", LeaseId(2), true);
        assert_eq!(again, Step::Claim(Expect::At(Revision(7))));
        assert_eq!(step(3, Some(&left), &["host-1", "host-2"], "host-2", LeaseId(2), false), Step::Wait);
        let renamed = step(3, Some(&left), &["host-1"], "host-1", LeaseId(2), false);
        assert_eq!(renamed, Step::Claim(Expect::At(Revision(7))));
    }
}
