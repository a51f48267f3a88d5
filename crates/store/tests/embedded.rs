//! What only the embedded engine promises: the file, restarts, bounded memory.
use bytes::Bytes;
use raddle_store::{
    Embedded, EmbeddedOptions, Follow, Following, Mirror, Op, Outcome, Revision, Store, StoreError, Told, Txn,
};
use std::path::Path;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

fn open(path: &Path) -> Result<Embedded, StoreError> {
    Embedded::open(path, EmbeddedOptions::default())
}

fn put(key: &str, value: impl Into<Bytes>) -> Txn {
    Txn { ops: vec![Op::Put { key: key.into(), value: value.into(), lease: None }], ..Txn::default() }
}

async fn done(store: &Embedded, txn: Txn) -> Revision {
    match store.commit(txn).await.expect("answered") {
        Outcome::Done(revision) => revision,
        Outcome::Conflict(key, found) => panic!("conflict at {key}: {found:?}"),
    }
}

#[tokio::test]
async fn what_was_committed_is_there_after_a_restart_and_revisions_go_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let mut last = Revision(0);
    for round in 0..5_u64 {
        let store = open(&path).expect("opened");
        assert_eq!(store.list("").await.expect("listed").entries.len() as u64, round * 2);
        for relaxed in [false, true] {
            let txn = Txn { relaxed, ..put(&format!("{round}{relaxed}"), "v") };
            let revision = done(&store, txn).await;
            assert_eq!(revision.0, last.0 + 1, "closed in order, so without a gap");
            last = revision;
        }
    }
}

#[tokio::test]
async fn a_file_that_is_open_is_refused_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("the-file");
    let _store = open(&path).expect("opened");
    let Err(StoreError::Unavailable(why)) = open(&path) else { panic!("opened twice") };
    assert!(why.contains("the-file") && why.contains("another process"), "{why}");
}

#[test]
fn what_is_no_store_is_refused_in_words_and_left_as_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = folder.path().join("text");
    std::fs::write(&text, "not a store at all, but long enough to have a header".repeat(100))
        .expect("written");
    let before = std::fs::read(&text).expect("read");
    let Err(StoreError::Corrupt(why)) = open(&text) else { panic!("opened a text") };
    assert!(why.contains("text is not a store"), "{why}");
    assert_eq!(std::fs::read(&text).expect("read"), before);

    let foreign = folder.path().join("foreign");
    let table = redb::TableDefinition::<&str, u64>::new("something else");
    let db = redb::Database::create(&foreign).expect("made");
    let write = db.begin_write().expect("begun");
    write.open_table(table).expect("made").insert("a", 1).expect("inserted");
    write.commit().expect("committed");
    drop(db);
    let Err(StoreError::Corrupt(why)) = open(&foreign) else { panic!("opened a foreign file") };
    assert!(why.contains("foreign") && why.contains("not a store"), "{why}");

    let Err(StoreError::Unavailable(why)) = open(&folder.path().join("no/such/folder")) else {
        panic!("opened")
    };
    assert!(why.contains("no/such") && why.contains("does not exist"), "{why}");
}

#[test]
fn a_file_of_a_newer_schema_is_refused_in_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("newer");
    drop(open(&path).expect("made"));
    let meta = redb::TableDefinition::<&str, u64>::new("meta");
    let db = redb::Database::create(&path).expect("opened");
    let write = db.begin_write().expect("begun");
    write.open_table(meta).expect("opened").insert("schema", 2).expect("inserted");
    write.commit().expect("committed");
    drop(db);
    let Err(StoreError::Invalid(why)) = open(&path) else { panic!("opened") };
    assert!(why.contains("newer: it has schema 2 of a newer raddle"), "{why}");
}

#[tokio::test]
async fn a_damaged_file_is_refused_in_words() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("damaged");
    let store = open(&path).expect("made");
    for i in 0..200 {
        done(&store, Txn { relaxed: true, ..put(&format!("key/{i}"), vec![b'x'; 500]) }).await;
    }
    drop(store);
    let whole = std::fs::read(&path).expect("read");
    let mut damaged = whole.clone();
    // Every value, wherever it lies: some page of the tree in use is hit.
    for at in (0..damaged.len() - 500).filter(|at| whole[*at..*at + 500].iter().all(|b| *b == b'x')) {
        damaged[at] = b'y';
    }
    std::fs::write(&path, damaged).expect("written");
    let Err(StoreError::Corrupt(why)) = open(&path) else { panic!("a damaged file was opened") };
    assert!(why.contains("damaged"), "{why}");
    std::fs::write(&path, &whole[..whole.len() / 2]).expect("written");
    assert!(open(&path).is_err(), "half a file was opened");
}

#[tokio::test]
async fn after_a_restart_a_lease_lives_its_whole_time_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("store");
    let ttl = Duration::from_millis(1500);
    let store = open(&path).expect("opened");
    let (kept, left) = (store.grant(ttl).await.expect("granted"), store.grant(ttl).await.expect("granted"));
    for (key, lease) in [("kept", kept), ("left", left)] {
        let op = Op::Put { key: key.into(), value: Bytes::new(), lease: Some(lease) };
        done(&store, Txn { ops: vec![op], ..Txn::default() }).await;
    }
    drop(store);
    let store = open(&path).expect("opened");
    let opened = Instant::now();
    let listing = store.list("").await.expect("listed");
    assert_eq!(listing.entries.len(), 2);
    let mut watch = store.watch("", listing.revision).await.expect("watched");
    let gone = loop {
        tokio::select! {
            told = watch.recv() => break told.expect("told"),
            () = tokio::time::sleep(ttl / 10) => store.keep_alive(kept).await.expect("kept"),
        }
    };
    assert!(opened.elapsed() + Duration::from_millis(50) >= ttl, "{:?}", opened.elapsed());
    assert!(matches!(gone, Told::Changes(_, changes) if changes.len() == 1));
    assert!(store.get("kept").await.expect("answered").is_some());
    assert_ne!(store.grant(ttl).await.expect("granted"), left, "no id comes twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_does_not_read_is_lost_and_holds_up_nobody() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = EmbeddedOptions { history_commits: 100, ..EmbeddedOptions::default() };
    let store = Embedded::open(folder.path().join("store"), options).expect("opened");
    let mut asleep = store.watch("", Revision(0)).await.expect("watched");
    let mut awake = store.watch("", Revision(0)).await.expect("watched");
    let mut heard = 0;
    for i in 0..2_000 {
        done(&store, Txn { relaxed: true, ..put(&format!("{}", i % 10), vec![1; 100]) }).await;
        while let Ok(told) = awake.try_recv() {
            assert!(matches!(told, Told::Changes(..)), "{told:?}");
            heard += 1;
        }
    }
    assert!(heard > 0);
    let why = loop {
        match tokio::time::timeout(PATIENCE, asleep.recv())
            .await
            .expect("in time")
            .expect("told before it ends")
        {
            Told::Changes(..) => {}
            Told::Lost(why) => break why,
        }
    };
    assert!(why.contains("gone"), "{why}");
    assert!(asleep.recv().await.is_none(), "after that it ends");
}

#[tokio::test]
async fn history_is_bounded_by_bytes_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = EmbeddedOptions { history_bytes: 1 << 20, ..EmbeddedOptions::default() };
    let store = Embedded::open(folder.path().join("store"), options).expect("opened");
    let first = done(&store, put("a", vec![0; 400_000])).await;
    for _ in 0..3 {
        done(&store, put("a", vec![0; 400_000])).await;
    }
    let mut watch = store.watch("", first).await.expect("watched");
    let told = tokio::time::timeout(PATIENCE, watch.recv()).await.expect("in time");
    assert!(matches!(told, Some(Told::Lost(_))), "{told:?}");
}

#[tokio::test]
async fn watches_end_when_the_store_is_closed_after_they_told_all() {
    let store = Embedded::in_memory().expect("made");
    let mut watch = store.watch("", Revision(0)).await.expect("watched");
    done(&store, put("a", "1")).await;
    drop(store);
    assert!(matches!(watch.recv().await, Some(Told::Changes(..))));
    assert!(watch.recv().await.is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commits_at_the_same_time_share_an_fsync() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = std::sync::Arc::new(open(&folder.path().join("store")).expect("opened"));
    let alone = Instant::now();
    for i in 0..50 {
        done(&store, put(&format!("alone/{i}"), "v")).await;
    }
    let alone = alone.elapsed();
    let together = Instant::now();
    let all = (0..50 * 8).map(|i| {
        let store = std::sync::Arc::clone(&store);
        tokio::spawn(async move { done(&store, put(&format!("together/{i}"), "v")).await })
    });
    for one in all.collect::<Vec<_>>() {
        one.await.expect("no panic");
    }
    println!("50 one after the other: {alone:?}; 400 at once: {:?}", together.elapsed());
    assert!(
        together.elapsed() < alone * 4,
        "eight times as many at once: {:?} beside {alone:?}",
        together.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_fell_behind_gets_the_state_again_and_ends_up_right() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = EmbeddedOptions { history_commits: 10, ..EmbeddedOptions::default() };
    let store = std::sync::Arc::new(Embedded::open(folder.path().join("store"), options).expect("opened"));
    let mut follow = Follow::start(store.clone(), "");
    let mut last = Revision(0);
    for i in 0..2_000_u32 {
        let delete = Op::Delete { key: format!("{}", (i + 3) % 7).into() };
        let mut txn = Txn { relaxed: true, ..put(&format!("{}", i % 7), i.to_string()) };
        txn.ops.push(delete);
        last = done(&store, txn).await;
    }
    let (mut mirror, mut states) = (Mirror::default(), 0);
    while mirror.latest() < last {
        let step =
            tokio::time::timeout(PATIENCE, follow.recv()).await.expect("in time").expect("it never gives up");
        states += u32::from(matches!(step, Following::State(_)));
        mirror.apply(step);
    }
    assert!(states > 1, "it was never lost");
    let listed = store.list("").await.expect("listed").entries;
    assert_eq!(mirror.entries().values().cloned().collect::<Vec<_>>(), listed);
}
