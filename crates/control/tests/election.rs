//! Replicas and leaders, on both engines.
#[path = "../../store/tests/etcd/mod.rs"]
mod etcd;

use bytes::Bytes;
use raddle_control::election::{Announced, Replica, Term, housekeep};
use raddle_control::{events, keys};
use raddle_store::{
    Embedded, Entry, Etcd, EtcdOptions, Expect, LeaseId, Listing, Op, Outcome, Revision, Store, StoreError,
    Told, Txn, Wait, Watch,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
const TTL: Duration = Duration::from_secs(1);

type Keep = Box<dyn std::any::Any>;

fn embedded() -> Option<(Arc<dyn Store>, Keep)> {
    Some((Arc::new(Embedded::in_memory().expect("opened")), Box::new(())))
}

/// Nothing on a machine without etcd.
async fn etcd_engine() -> Option<(Arc<dyn Store>, Keep)> {
    if !etcd::available() {
        return None;
    }
    let start = || etcd::Cluster::start(1, etcd::QUICK);
    let cluster = tokio::task::spawn_blocking(start).await.expect("started");
    let store = Etcd::connect(EtcdOptions::new(cluster.endpoints.clone())).await.expect("connected");
    Some((Arc::new(store), Box::new(cluster)))
}

/// Runs each promise on both engines.
macro_rules! promises {
    ($($name:ident),* $(,)?) => {
        mod on_embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let (store, _keep) = super::embedded().expect("always there");
                tokio::time::timeout(super::PATIENCE, super::$name(store)).await.expect("in time");
            })*
        }
        mod on_etcd {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let Some((store, _keep)) = super::etcd_engine().await else { return };
                tokio::time::timeout(super::PATIENCE, super::$name(store)).await.expect("in time");
            })*
        }
    };
}

promises!(
    a_replica_announces_itself_and_keeps_its_lease,
    one_replica_leads_and_the_next_takes_over_at_once_when_it_leaves,
    a_dead_leaders_job_is_taken_over_within_its_time_to_live,
    a_paused_leaders_write_is_refused,
    a_replica_that_lost_its_lease_gets_another_and_leads_again,
    a_restarted_replica_leads_at_once,
    a_job_that_nobody_stands_for_any_more_is_given_back,
    a_leaving_replica_leaves_what_was_published_through_it,
    old_history_is_forgotten_by_one_replica_and_values_stay,
    the_leader_keeps_the_newest_events_and_no_more,
);

async fn value<T: Clone>(receiver: &mut watch::Receiver<Option<T>>) -> T {
    let found = tokio::time::timeout(PATIENCE, receiver.wait_for(Option::is_some)).await;
    found.expect("in time").expect("living").clone().expect("just seen")
}

async fn nothing<T>(receiver: &mut watch::Receiver<Option<T>>) {
    tokio::time::timeout(PATIENCE, receiver.wait_for(Option::is_none))
        .await
        .expect("in time")
        .expect("living");
}

fn join(store: &Arc<dyn Store>, id: &str) -> Arc<Replica> {
    Replica::join_for(Arc::clone(store), id, vec![format!("{id}:15010")], TTL)
}

/// What a leader writes: only while it leads.
async fn fenced(store: &dyn Store, term: &Term, value: &'static str) -> Outcome {
    let op = Op::Put { key: "led".into(), value: Bytes::from_static(value.as_bytes()), lease: None };
    store.commit(Txn { expect: vec![term.fence()], ops: vec![op], relaxed: false }).await.expect("answered")
}

async fn a_replica_announces_itself_and_keeps_its_lease(store: Arc<dyn Store>) {
    let replica = join(&store, "r1");
    let mut lease = replica.lease();
    let held = value(&mut lease).await;
    let entry = store.get(&format!("{}r1", keys::REPLICAS)).await.expect("answered").expect("there");
    assert_eq!(entry.lease, Some(held));
    assert_eq!(Announced::parse(&entry.value), Some(Announced { addresses: vec!["r1:15010".into()] }));
    // For three lives nothing ends.
    let other = tokio::time::timeout(TTL * 3, lease.wait_for(|l| *l != Some(held))).await;
    assert!(other.is_err(), "the lease changed");
    assert!(store.keep_alive(held).await.is_ok());
}

async fn one_replica_leads_and_the_next_takes_over_at_once_when_it_leaves(store: Arc<dyn Store>) {
    let (first, second) = (join(&store, "r1"), join(&store, "r2"));
    let mut term1 = first.lead("job");
    let one = value(&mut term1).await;
    let mut term2 = second.lead("job");
    value(&mut second.lease()).await;
    assert!(matches!(fenced(&*store, &one, "one").await, Outcome::Done(_)));
    assert_eq!(*term2.borrow(), None);
    let left = Instant::now();
    first.leave().await.expect("left");
    let two = value(&mut term2).await;
    assert!(left.elapsed() < TTL, "{:?}", left.elapsed());
    assert!(two.begun() > one.begun());
    assert!(matches!(fenced(&*store, &two, "two").await, Outcome::Done(_)));
    assert!(matches!(fenced(&*store, &one, "late").await, Outcome::Conflict(..)));
}

async fn a_dead_leaders_job_is_taken_over_within_its_time_to_live(store: Arc<dyn Store>) {
    let cut = Cut::new(&store);
    let first = join(&(Arc::clone(&cut) as Arc<dyn Store>), "r1");
    let mut term1 = first.lead("job");
    let one = value(&mut term1).await;
    let second = join(&store, "r2");
    let mut term2 = second.lead("job");
    value(&mut second.lease()).await;
    cut.cut();
    let died = Instant::now();
    let two = value(&mut term2).await;
    // etcd looks for ended leases twice a second, and gives them a little more after an election.
    assert!(died.elapsed() < TTL * 4, "{:?}", died.elapsed());
    assert!(two.begun() > one.begun());
    // Without the store, the first one stopped believing in its term.
    nothing(&mut term1).await;
}

async fn a_paused_leaders_write_is_refused(store: Arc<dyn Store>) {
    let cut = Cut::new(&store);
    let first = join(&(Arc::clone(&cut) as Arc<dyn Store>), "r1");
    let mut led = first.lead("job");
    // What a paused process believes: the term it had when it stopped.
    let believed = value(&mut led).await;
    cut.cut();
    let second = join(&store, "r2");
    let mut leads = second.lead("job");
    let now = value(&mut leads).await;
    assert!(matches!(fenced(&*store, &now, "new leader").await, Outcome::Done(_)));
    cut.mend();
    let Outcome::Conflict(key, _) = fenced(&*store, &believed, "late").await else {
        panic!("a late write was done")
    };
    assert_eq!(key, believed.fence().0);
    let led = store.get("led").await.expect("answered").expect("there");
    assert_eq!(led.value, "new leader");
}

async fn a_replica_that_lost_its_lease_gets_another_and_leads_again(store: Arc<dyn Store>) {
    let replica = join(&store, "r1");
    let mut lease = replica.lease();
    let held = value(&mut lease).await;
    let mut term = replica.lead("job");
    let one = value(&mut term).await;
    store.revoke(held).await.expect("revoked");
    lease.wait_for(|l| l.is_some_and(|l| l != held)).await.expect("living");
    term.wait_for(|t| t.as_ref().is_some_and(|t| t.begun() > one.begun())).await.expect("living");
    assert!(store.get(&format!("{}r1", keys::REPLICAS)).await.expect("answered").is_some());
    assert!(matches!(fenced(&*store, &one, "late").await, Outcome::Conflict(..)));
}

async fn a_restarted_replica_leads_at_once(store: Arc<dyn Store>) {
    let cut = Cut::new(&store);
    let before =
        Replica::join_for(Arc::clone(&cut) as Arc<dyn Store>, "r1", Vec::new(), Duration::from_secs(600));
    let mut led = before.lead("job");
    let one = value(&mut led).await;
    cut.cut();
    let after = join(&store, "r1");
    let mut leads = after.lead("job");
    let two = value(&mut leads).await;
    assert!(two.begun() > one.begun());
}

async fn a_job_that_nobody_stands_for_any_more_is_given_back(store: Arc<dyn Store>) {
    let (first, second) = (join(&store, "r1"), join(&store, "r2"));
    let mut term = first.lead("job");
    value(&mut term).await;
    let mut next = second.lead("job");
    drop(term);
    value(&mut next).await;
}

async fn a_leaving_replica_leaves_what_was_published_through_it(store: Arc<dyn Store>) {
    let replica = Replica::join_for(Arc::clone(&store), "r1", Vec::new(), Duration::from_secs(600));
    let lease = value(&mut replica.lease()).await;
    let op = Op::Put { key: "instance".into(), value: Bytes::new(), lease: Some(lease) };
    store.commit(Txn { ops: vec![op], ..Txn::default() }).await.expect("done");
    replica.leave().await.expect("left");
    assert!(store.get("instance").await.expect("answered").is_some());
    assert!(store.get(&format!("{}r1", keys::REPLICAS)).await.expect("answered").is_none());
}

async fn old_history_is_forgotten_by_one_replica_and_values_stay(store: Arc<dyn Store>) {
    let write = async |value: &'static str| {
        let op = Op::Put { key: "kept".into(), value: Bytes::from_static(value.as_bytes()), lease: None };
        store.commit(Txn { ops: vec![op], ..Txn::default() }).await.expect("answered")
    };
    let Outcome::Done(old) = write("1").await else { panic!("a conflict") };
    write("2").await;
    let replicas = [join(&store, "r1"), join(&store, "r2")];
    let jobs: Vec<_> = replicas.iter().map(|r| housekeep(r, Duration::from_millis(300))).collect();
    let begun = Instant::now();
    loop {
        // Until a watch of what is old is told that it is gone.
        let mut watch = store.watch("kept", old).await.expect("watched");
        if let Some(Told::Lost(_)) = watch.recv().await {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "nothing is forgotten");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let kept = store.get("kept").await.expect("answered").expect("there");
    assert_eq!(kept.value, "2");
    for replica in &replicas {
        replica.leave().await.expect("left");
    }
    for job in jobs {
        tokio::time::timeout(PATIENCE, job).await.expect("it ends with its replica").expect("no panic");
    }
}

async fn the_leader_keeps_the_newest_events_and_no_more(store: Arc<dyn Store>) {
    const OVER: usize = 100;
    let key = |n: usize| format!("{}{n:015}-r1-00000001", keys::EVENTS);
    let numbers: Vec<usize> = (0..events::KEPT + OVER).collect();
    for some in numbers.chunks(100) {
        let put = |n: &usize| Op::Put { key: key(*n).into(), value: Bytes::from_static(b"{}"), lease: None };
        let ops = some.iter().map(put).collect();
        store.commit(Txn { ops, relaxed: true, ..Txn::default() }).await.expect("answered");
    }
    let replica = join(&store, "r1");
    let job = housekeep(&replica, Duration::from_millis(300));
    let begun = Instant::now();
    // The oldest go first.
    while store.get(&key(OVER - 1)).await.expect("answered").is_some() {
        assert!(begun.elapsed() < PATIENCE, "nothing is removed");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let left = store.list(keys::EVENTS).await.expect("answered").entries;
    assert_eq!(left.len(), events::KEPT);
    assert_eq!(&*left[0].key, key(OVER));
    replica.leave().await.expect("left");
    tokio::time::timeout(PATIENCE, job).await.expect("it ends with its replica").expect("no panic");
}

/// A store that can be cut off, as by a dead network.
#[derive(Debug)]
struct Cut {
    store: Arc<dyn Store>,
    cut: AtomicBool,
}

impl Cut {
    fn new(store: &Arc<dyn Store>) -> Arc<Cut> {
        Arc::new(Cut { store: Arc::clone(store), cut: AtomicBool::new(false) })
    }

    fn cut(&self) {
        self.cut.store(true, Ordering::SeqCst);
    }

    fn mend(&self) {
        self.cut.store(false, Ordering::SeqCst);
    }

    fn through<'a, T: Send + 'a>(&'a self, wait: Wait<'a, T>) -> Wait<'a, T> {
        match self.cut.load(Ordering::SeqCst) {
            true => Box::pin(std::future::ready(Err(StoreError::Unavailable("it is cut off".into())))),
            false => wait,
        }
    }
}

impl Store for Cut {
    fn get<'a>(&'a self, key: &'a str) -> Wait<'a, Option<Entry>> {
        self.through(self.store.get(key))
    }
    fn list<'a>(&'a self, prefix: &'a str) -> Wait<'a, Listing> {
        self.through(self.store.list(prefix))
    }
    fn commit(&self, txn: Txn) -> Wait<'_, Outcome> {
        self.through(self.store.commit(txn))
    }
    fn watch<'a>(&'a self, prefix: &'a str, after: Revision) -> Wait<'a, Watch> {
        self.through(self.store.watch(prefix, after))
    }
    fn grant(&self, ttl: Duration) -> Wait<'_, LeaseId> {
        self.through(self.store.grant(ttl))
    }
    fn keep_alive(&self, lease: LeaseId) -> Wait<'_, ()> {
        match self.cut.load(Ordering::SeqCst) {
            true => Box::pin(std::future::ready(Err(StoreError::Unavailable("it is cut off".into())))),
            false => self.store.keep_alive(lease),
        }
    }
    fn revoke(&self, lease: LeaseId) -> Wait<'_, ()> {
        self.through(self.store.revoke(lease))
    }
    fn name(&self) -> String {
        self.store.name()
    }
}

/// The expectation that a fence is.
#[test]
fn a_term_is_fenced_by_the_commit_that_began_it() {
    let fence = |term: &Term| matches!(term.fence(), (_, Expect::At(at)) if at == term.begun());
    tokio::runtime::Runtime::new().expect("a runtime").block_on(async {
        let (store, _keep) = embedded().expect("always there");
        let replica = join(&store, "r1");
        assert!(fence(&value(&mut replica.lead("job")).await));
    });
}
