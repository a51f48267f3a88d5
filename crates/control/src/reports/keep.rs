//! Between memory and store: what this replica knows goes in, what others know comes out.
use super::Reports;
use super::state::{Look, Write};
use super::status::NodeStatus;
use super::sums::Sums;
use crate::keys;
use raddle_store::{
    Change, Expect, Follow, Following, Key, LeaseId, Mirror, Op, Outcome, Revision, Store, StoreError, Txn,
};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How often is looked for what is due.
const BEAT: Duration = Duration::from_millis(100);
/// The pause after the store failed.
const PAUSE: Duration = Duration::from_millis(500);
/// Most changes, and about so many bytes, in one commit.
const BATCH: (usize, usize) = (64, 512 << 10);

/// Writes what is due, until the reports end.
pub(super) async fn write(
    reports: Weak<Reports>,
    store: Arc<dyn Store>,
    mut lease: watch::Receiver<Option<LeaseId>>,
) {
    let mut written: HashMap<Key, Revision> = HashMap::new();
    let mut bound = None;
    loop {
        let Some(this) = reports.upgrade().filter(|r| !*r.ending.borrow()) else { return };
        let due = this.due.clone();
        drop(this);
        tokio::select! {
            () = due.notified() => {}
            () = tokio::time::sleep(BEAT) => {}
            changed = lease.changed() => if changed.is_err() { return },
        }
        let Some(this) = reports.upgrade() else { return };
        let Some(lease) = *lease.borrow_and_update() else { continue };
        if bound.replace(lease) != Some(lease) {
            this.state().anew();
        }
        this.story();
        let mut jobs = {
            let book = this.book.borrow().clone();
            let mut state = this.state();
            let mut jobs = state.due(&this.replica, &book, Instant::now());
            if this.others.load(Ordering::Relaxed) {
                jobs.extend(state.links_due(&this.replica, super::now(), Instant::now()));
            }
            jobs
        };
        while !jobs.is_empty() {
            let rest = jobs.split_off(batch(&jobs));
            if let Err(e) = commit(store.as_ref(), &jobs, lease, &mut written).await {
                tracing::debug!("sidecars' reports: not written yet: {e}");
                jobs.extend(rest);
                this.state().failed(jobs);
                drop(this);
                tokio::time::sleep(PAUSE).await;
                break;
            }
            jobs = rest;
        }
    }
}

/// How many writes go into the next commit.
fn batch(jobs: &[Write]) -> usize {
    let mut bytes = 0;
    let fit = jobs.iter().take(BATCH.0).take_while(|job| {
        bytes += job.value.as_ref().map_or(0, bytes::Bytes::len);
        bytes <= BATCH.1
    });
    fit.count().max(1)
}

/// Writes; what others wrote since is not removed.
async fn commit(
    store: &dyn Store,
    jobs: &[Write],
    lease: LeaseId,
    written: &mut HashMap<Key, Revision>,
) -> Result<(), StoreError> {
    let known = |job: &&Write| job.value.is_some() || written.contains_key(&job.key);
    let mut jobs: Vec<&Write> = jobs.iter().filter(known).collect();
    while !jobs.is_empty() {
        let removed = jobs.iter().filter(|job| job.value.is_none());
        let expect = removed.filter_map(|job| Some((job.key.clone(), Expect::At(*written.get(&job.key)?))));
        let ops = jobs.iter().map(|job| match &job.value {
            Some(value) => Op::Put { key: job.key.clone(), value: value.clone(), lease: Some(lease) },
            None => Op::Delete { key: job.key.clone() },
        });
        let txn = Txn { expect: expect.collect(), ops: ops.collect(), relaxed: true };
        match store.commit(txn).await? {
            Outcome::Done(at) => {
                for job in jobs.drain(..) {
                    if job.value.is_some() {
                        written.insert(job.key.clone(), at);
                    } else {
                        written.remove(&job.key);
                    }
                }
            }
            Outcome::Conflict(key, _) => {
                written.remove(&key);
                let left = jobs.len();
                jobs.retain(|job| job.key != key);
                if jobs.len() == left {
                    return Err(StoreError::Corrupt(format!(
                        "a conflict at {key}, which nobody asked about"
                    )));
                }
            }
        }
    }
    Ok(())
}

/// Follows what all replicas know of their sidecars.
pub(super) async fn follow_nodes(reports: Weak<Reports>, store: Arc<dyn Store>) {
    let mut told = Follow::start(store, keys::NODES);
    let mut mirror = Mirror::default();
    while let Some(step) = told.recv().await {
        let Some(this) = reports.upgrade() else { return };
        let mut state = this.state();
        for change in mirror.apply(step) {
            match change {
                Change::Delete(key) => drop(key.strip_prefix(keys::NODES).map(|id| state.others.remove(id))),
                Change::Put(entry) => {
                    let Some(id) = entry.key.strip_prefix(keys::NODES) else { continue };
                    match serde_json::from_slice::<NodeStatus>(&entry.value) {
                        Ok(status) if status.replica != this.replica => {
                            state.others.insert(id.into(), Arc::new(status));
                        }
                        // Its own, of this life or the last one; or of a layout that is not known.
                        _ => drop(state.others.remove(id)),
                    }
                }
            }
        }
    }
}

/// Follows what all replicas' sidecars report of rollouts.
pub(super) async fn follow_sums(reports: Weak<Reports>, store: Arc<dyn Store>) {
    let mut told = Follow::start(store, keys::REPORTS);
    let mut mirror = Mirror::default();
    let mut first = true;
    while let Some(step) = told.recv().await {
        let Some(this) = reports.upgrade() else { return };
        // What was reported before this replica looked is no news.
        let old = std::mem::take(&mut first) && matches!(step, Following::State(_));
        for change in mirror.apply(step) {
            match change {
                Change::Delete(key) => this.take_sums(&key, None, old),
                Change::Put(entry) => {
                    let sums = serde_json::from_slice(&entry.value).ok();
                    this.take_sums(&entry.key, sums, old);
                }
            }
        }
    }
}

/// Follows what all replicas know of callers.
pub(super) async fn follow_links(reports: Weak<Reports>, store: Arc<dyn Store>) {
    let mut told = Follow::start(store, keys::LINKS);
    let mut mirror = Mirror::default();
    while let Some(step) = told.recv().await {
        let Some(this) = reports.upgrade() else { return };
        let mut state = this.state();
        for change in mirror.apply(step) {
            let (key, value) = match &change {
                Change::Delete(key) => (key, None),
                Change::Put(entry) => (&entry.key, Some(&entry.value)),
            };
            let of = key.strip_prefix(keys::LINKS).and_then(|rest| rest.split_once('/'));
            let Some((replica, app)) = of.filter(|(replica, _)| **replica != *this.replica) else { continue };
            let told = &mut state.edges.told;
            match value.and_then(|v| serde_json::from_slice(v).ok()) {
                Some(links) => drop(told.entry(app.into()).or_default().insert(replica.into(), links)),
                None => {
                    let left = told.get_mut(app).map_or(1, |of| {
                        of.remove(replica);
                        of.len()
                    });
                    if left == 0 {
                        told.remove(app);
                    }
                }
            }
        }
    }
}

/// Follows whether there are other replicas: while there are none, nobody needs to be told of callers.
pub(super) async fn follow_replicas(reports: Weak<Reports>, store: Arc<dyn Store>) {
    let mut told = Follow::start(store, keys::REPLICAS);
    let mut mirror = Mirror::default();
    let mut all = std::collections::BTreeSet::new();
    while let Some(step) = told.recv().await {
        let Some(this) = reports.upgrade() else { return };
        for change in mirror.apply(step) {
            match change {
                Change::Delete(key) => drop(all.remove(&key)),
                Change::Put(entry) => drop(all.insert(entry.key.clone())),
            }
        }
        let own = format!("{}{}", keys::REPLICAS, this.replica);
        this.others.store(all.iter().any(|key| **key != *own), Ordering::Relaxed);
    }
}

impl Reports {
    /// Sums of a replica, or their end.
    fn take_sums(&self, key: &str, sums: Option<Sums>, old: bool) {
        let of = key.strip_prefix(keys::REPORTS).and_then(|rest| rest.split_once('/'));
        let Some((replica, rule)) = of.filter(|(replica, _)| **replica != *self.replica) else { return };
        let (replica, rule): (Arc<str>, Arc<str>) = (replica.into(), rule.into());
        let mut state = self.state();
        let Some(sums) = sums else {
            if let Some(told) = state.told.get_mut(&rule) {
                told.remove(&replica);
            }
            return;
        };
        if old {
            let seed = sums.seed.clone();
            let look = state.looks.entry(rule.clone()).or_insert_with(|| Look::new(seed));
            look.sums.insert(replica.clone(), sums.clone());
        }
        state.told.entry(rule).or_default().insert(replica, sums);
    }
}
