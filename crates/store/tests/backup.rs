//! Backups: one consistent revision, taken whole or refused with nothing changed.
mod etcd;

use bytes::Bytes;
use raddle_store::{
    BackupError, Embedded, Entry, Etcd, EtcdOptions, LeaseId, Op, Outcome, Restore, Store, Txn, export,
    import,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn put(key: &str, value: impl Into<Bytes>) -> Op {
    Op::Put { key: key.into(), value: value.into(), lease: None }
}

async fn done(store: &dyn Store, ops: Vec<Op>) {
    let outcome = store.commit(Txn { ops, ..Txn::default() }).await.expect("answered");
    assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
}

async fn contents(store: &dyn Store) -> Vec<(String, Bytes, Option<LeaseId>)> {
    let row = |e: Entry| (e.key.to_string(), e.value, e.lease);
    store.list("").await.expect("listed").entries.into_iter().map(row).collect()
}

/// A store with some of everything.
async fn filled() -> Embedded {
    let store = Embedded::in_memory().expect("made");
    for some in 0..10 {
        done(&store, (0..50).map(|i| put(&format!("k/{some}/{i}"), vec![i; usize::from(i) * 200])).collect())
            .await;
    }
    done(&store, vec![put("large", vec![9; 1 << 20])]).await;
    done(&store, vec![put("ümlaut", Bytes::new())]).await;
    store
}

async fn leased(store: &dyn Store, key: &str) {
    let lease = store.grant(Duration::from_secs(600)).await.expect("granted");
    done(store, vec![Op::Put { key: key.into(), value: "leased".into(), lease: Some(lease) }]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_goes_from_the_embedded_engine_to_etcd_and_back_unchanged() {
    if !etcd::available() {
        return;
    }
    let cluster = etcd::Cluster::start(1, etcd::QUICK);
    let mut options = EtcdOptions::new(cluster.endpoints.clone());
    options.prefix = "mesh-1/".into();
    let shared = Etcd::connect(options).await.expect("connected");
    let first = filled().await;
    let before = contents(&first).await;
    leased(&first, "instance").await;

    let mut file = Vec::new();
    let out = export(&first, &mut file).await.expect("exported");
    assert_eq!((out.entries, out.leased), (502, 1));
    let into = import(&shared, &file[..], Restore::IfEmpty).await.expect("imported");
    assert_eq!((into.entries, into.written, into.removed, into.revision), (502, 502, 0, out.revision));
    assert_eq!(contents(&shared).await, before);

    let mut again = Vec::new();
    export(&shared, &mut again).await.expect("exported");
    let last = Embedded::in_memory().expect("made");
    import(&last, &again[..], Restore::IfEmpty).await.expect("imported");
    assert_eq!(contents(&last).await, before);
}

#[tokio::test]
async fn a_store_that_is_not_empty_is_overwritten_only_if_that_is_asked_for() {
    let mut file = Vec::new();
    let source = filled().await;
    export(&source, &mut file).await.expect("exported");
    let store = Embedded::in_memory().expect("made");
    done(&store, vec![put("other", "gone after"), put("k/0/1", "changed after"), put("ümlaut", "")]).await;
    leased(&store, "replica").await;
    let untouched = contents(&store).await;
    let refused = import(&store, &file[..], Restore::IfEmpty).await;
    let Err(BackupError::NotEmpty(3, first)) = &refused else { panic!("{refused:?}") };
    assert_eq!(&**first, "k/0/1");
    assert_eq!(contents(&store).await, untouched);
    let summary = import(&store, &file[..], Restore::Overwrite).await.expect("imported");
    assert_eq!((summary.written, summary.removed), (501, 1), "what was the same is not written again");
    let mut now = contents(&store).await;
    assert!(
        now.iter().any(|(key, _, lease)| key == "replica" && lease.is_some()),
        "leased keys are left alone"
    );
    now.retain(|(key, ..)| key != "replica");
    assert_eq!(now, contents(&source).await);
}

#[tokio::test]
async fn a_damaged_backup_changes_nothing_wherever_the_damage_is() {
    let source = Embedded::in_memory().expect("made");
    done(&source, (0..20).map(|i| put(&format!("k/{i}"), "value")).collect()).await;
    let mut file = Vec::new();
    export(&source, &mut file).await.expect("exported");
    let store = Embedded::in_memory().expect("made");
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 0x10;
        let refused = import(&store, &damaged[..], Restore::Overwrite).await;
        assert!(refused.is_err(), "byte {at} may be anything");
        let refused = import(&store, &file[..at], Restore::Overwrite).await;
        assert!(matches!(refused, Err(BackupError::Damaged(_))), "cut at {at}: {refused:?}");
    }
    let longer = [&file[..], b"x"].concat();
    assert!(matches!(import(&store, &longer[..], Restore::Overwrite).await, Err(BackupError::Damaged(_))));
    let text = String::from_utf8_lossy(&file).into_owned();
    let newer = text.replacen("raddle-store-backup 1", "raddle-store-backup 2", 1);
    assert!(matches!(import(&store, newer.as_bytes(), Restore::Overwrite).await, Err(BackupError::Newer(_))));
    assert!(contents(&store).await.is_empty());
    assert_eq!(store.list("").await.expect("listed").revision.0, 0);
    import(&store, &file[..], Restore::IfEmpty).await.expect("the whole one is taken");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_made_while_others_write_is_of_one_revision() {
    let store = Arc::new(Embedded::in_memory().expect("made"));
    let round = |n: u32| (0..100).map(move |i| put(&format!("k/{i}"), n.to_string())).collect();
    done(&*store, round(0)).await;
    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (store, stop) = (Arc::clone(&store), Arc::clone(&stop));
        async move {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                n += 1;
                done(&*store, round(n)).await;
            }
            n
        }
    });
    for _ in 0..20 {
        let mut file = Vec::new();
        export(&*store, &mut file).await.expect("exported");
        let copy = Embedded::in_memory().expect("made");
        import(&copy, &file[..], Restore::IfEmpty).await.expect("imported");
        let copied = contents(&copy).await;
        assert_eq!(copied.len(), 100);
        assert!(copied.iter().all(|(_, value, _)| *value == copied[0].1), "of more than one revision");
    }
    stop.store(true, Ordering::Relaxed);
    assert!(writer.await.expect("no panic") > 0);
}
