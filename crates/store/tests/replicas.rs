//! Three etcd members on loopback, any of which is killed or stopped while several tasks write: writes go on within 5 s,
//! what was acknowledged is there, and a watch misses nothing of it.
mod etcd;

use bytes::Bytes;
use raddle_store::{
    Change, Etcd, EtcdOptions, Follow, Mirror, Op, Outcome, Revision, Store, StoreError, Told, Txn,
};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const WRITERS: usize = 4;
const LONGEST_GAP: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(30);

/// What writers have done.
#[derive(Debug)]
struct Done {
    acknowledged: BTreeSet<String>,
    last: Instant,
    longest_gap: Duration,
    unknown: usize,
}

/// Writes key after key; one whose answer was lost is written again.
async fn write(store: Arc<Etcd>, writer: usize, stop: Arc<AtomicBool>, done: Arc<Mutex<Done>>) {
    let mut n = 0;
    while !stop.load(Ordering::Relaxed) {
        let key = format!("ha/{writer}/{n:06}");
        let op = Op::Put { key: key.as_str().into(), value: Bytes::from_static(b"v"), lease: None };
        let outcome = store.commit(Txn { ops: vec![op], ..Txn::default() }).await;
        let mut done = done.lock().expect("no panic");
        match outcome {
            Ok(Outcome::Done(_)) => {
                done.acknowledged.insert(key);
                done.longest_gap = done.longest_gap.max(done.last.elapsed());
                done.last = Instant::now();
                n += 1;
            }
            Err(StoreError::Unavailable(_)) => done.unknown += 1,
            other => panic!("{key}: {other:?}"),
        }
    }
}

/// Everything that a watch tells, until the end is told.
async fn listen(store: Arc<Etcd>) -> BTreeSet<String> {
    let mut watch = store.watch("ha/", Revision(0)).await.expect("watched");
    let mut heard = BTreeSet::new();
    loop {
        match tokio::time::timeout(PATIENCE, watch.recv()).await.expect("told in time").expect("living") {
            Told::Changes(_, changes) => {
                for change in changes {
                    let Change::Put(entry) = change else { panic!("{change:?}") };
                    if &*entry.key == "ha/end" {
                        return heard;
                    }
                    heard.insert(entry.key.to_string());
                }
            }
            Told::Lost(why) => panic!("lost: {why}"),
        }
    }
}

/// Lets writers acknowledge some more; the longest time between two acknowledgements meanwhile.
async fn more(done: &Mutex<Done>, count: usize, what: &str) -> Duration {
    let (begun, before) = {
        let mut done = done.lock().expect("no panic");
        done.longest_gap = Duration::ZERO;
        (Instant::now(), done.acknowledged.len())
    };
    while done.lock().expect("no panic").acknowledged.len() < before + count {
        assert!(begun.elapsed() < PATIENCE, "{what}: writes do not go on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    done.lock().expect("no panic").longest_gap
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_go_on_within_five_seconds_of_any_members_death_and_nothing_acknowledged_is_lost() {
    if !etcd::available() {
        return;
    }
    let mut cluster = etcd::Cluster::start(3, etcd::DEFAULT);
    let store =
        Arc::new(Etcd::connect(EtcdOptions::new(cluster.endpoints.clone())).await.expect("connected"));
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(Mutex::new(Done {
        acknowledged: BTreeSet::new(),
        last: Instant::now(),
        longest_gap: Duration::ZERO,
        unknown: 0,
    }));
    let listener = tokio::spawn(listen(Arc::clone(&store)));
    let writers = (0..WRITERS)
        .map(|writer| tokio::spawn(write(Arc::clone(&store), writer, Arc::clone(&stop), Arc::clone(&done))));
    let writers: Vec<_> = writers.collect();
    more(&done, 100, "before").await;
    let begun = Instant::now();
    let mut gaps = Vec::new();
    for member in 0..3 {
        cluster.kill(member);
        gaps.push(("killed", member, more(&done, 200, "after a kill").await));
        cluster.run(member);
        let restarted = Instant::now();
        while !cluster.healthy(member) {
            assert!(restarted.elapsed() < PATIENCE, "member {member} does not come back");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    // One that hangs is worse than one that is dead: its connections stay.
    for member in 0..3 {
        cluster.pause(member);
        gaps.push(("stopped", member, more(&done, 200, "after a stop").await));
        cluster.resume(member);
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("no panic");
    }
    let end = Op::Put { key: "ha/end".into(), value: Bytes::new(), lease: None };
    let end = store.commit(Txn { ops: vec![end], ..Txn::default() }).await;
    assert!(matches!(end, Ok(Outcome::Done(_))), "{end:?}");

    let listed: BTreeSet<String> =
        store.list("ha/").await.expect("listed").entries.into_iter().map(|e| e.key.to_string()).collect();
    let heard = listener.await.expect("no panic");
    let done = done.lock().expect("no panic");
    let lost: Vec<_> = done.acknowledged.difference(&listed).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let missed: Vec<_> = done.acknowledged.difference(&heard).collect();
    assert!(missed.is_empty(), "acknowledged and not told to the watch: {missed:?}");
    println!(
        "{} acknowledged, {} answers lost, in {:?}; longest gaps: {gaps:?}",
        done.acknowledged.len(),
        done.unknown,
        begun.elapsed()
    );
    for (what, member, gap) in gaps {
        // A member that stands still is noticed by time limits only, and those of a busy machine come late.
        let longest = if what == "killed" { LONGEST_GAP } else { 3 * LONGEST_GAP };
        assert!(gap <= longest, "member {member} {what}: no write for {gap:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_outlives_the_death_and_return_of_all_of_etcd() {
    if !etcd::available() {
        return;
    }
    let mut cluster = etcd::Cluster::start(1, etcd::QUICK);
    let store =
        Arc::new(Etcd::connect(EtcdOptions::new(cluster.endpoints.clone())).await.expect("connected"));
    let mut follow = Follow::start(store.clone(), "k/");
    let mut mirror = Mirror::default();
    for round in 0..3 {
        let begun = Instant::now();
        let written = loop {
            let op = Op::Put { key: format!("k/{round}").into(), value: Bytes::new(), lease: None };
            match store.commit(Txn { ops: vec![op], ..Txn::default() }).await {
                Ok(Outcome::Done(revision)) => break revision,
                other => assert!(begun.elapsed() < PATIENCE, "{other:?}"),
            }
        };
        while mirror.latest() < written {
            let step = tokio::time::timeout(PATIENCE, follow.recv()).await.expect("in time").expect("living");
            mirror.apply(step);
        }
        cluster.kill(0);
        cluster.run(0);
    }
    assert_eq!(mirror.entries().len(), 3);
}
