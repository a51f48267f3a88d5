//! What every engine promises, asked of each. The etcd ones run against a real etcd.
#[path = "../etcd/mod.rs"]
mod etcd;

mod bounds;
mod leases;
mod values;
mod watches;

use bytes::Bytes;
use raddle_store::{
    Change, Embedded, EmbeddedOptions, Entry, Etcd, EtcdOptions, Key, LeaseId, Op, Outcome, Revision, Store,
    Told, Txn, Watch,
};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// How long anything may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// An engine under test, with what must live as long.
struct Engine {
    store: Arc<dyn Store>,
    _keep: Box<dyn std::any::Any>,
}

fn embedded() -> Option<Engine> {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Embedded::open(folder.path().join("store"), EmbeddedOptions::default()).expect("opened");
    Some(Engine { store: Arc::new(store), _keep: Box::new(folder) })
}

/// Nothing on a machine without etcd.
async fn etcd_engine() -> Option<Engine> {
    if !etcd::available() {
        return None;
    }
    // Dozens of them at once would only wait for each other.
    static ONE_AFTER_THE_OTHER: Semaphore = Semaphore::const_new(2);
    let turn = ONE_AFTER_THE_OTHER.acquire().await.expect("never closed");
    let start = || etcd::Cluster::start(1, etcd::QUICK);
    let cluster = tokio::task::spawn_blocking(start).await.expect("started");
    let mut options = EtcdOptions::new(cluster.endpoints.clone());
    options.prefix = "tests/".into();
    let store = Etcd::connect(options).await.expect("connected");
    Some(Engine { store: Arc::new(store), _keep: Box::new((cluster, turn)) })
}

/// Runs one promise on every engine.
macro_rules! promises {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let engine = crate::embedded().expect("always there");
                tokio::time::timeout(crate::PATIENCE, super::$name(engine.store.clone())).await.expect("in time");
            })*
        }
        mod etcd {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let Some(engine) = crate::etcd_engine().await else { return };
                tokio::time::timeout(crate::PATIENCE, super::$name(engine.store.clone())).await.expect("in time");
            })*
        }
    };
}
pub(crate) use promises;

fn put(key: &str, value: impl Into<Bytes>) -> Op {
    Op::Put { key: key.into(), value: value.into(), lease: None }
}

fn put_leased(key: &str, value: impl Into<Bytes>, lease: LeaseId) -> Op {
    Op::Put { key: key.into(), value: value.into(), lease: Some(lease) }
}

fn delete(key: &str) -> Op {
    Op::Delete { key: key.into() }
}

/// A transaction without expectations.
fn txn(ops: impl IntoIterator<Item = Op>) -> Txn {
    Txn { ops: ops.into_iter().collect(), ..Txn::default() }
}

/// Commits what must succeed.
async fn done(store: &dyn Store, txn: Txn) -> Revision {
    match store.commit(txn).await.expect("answered") {
        Outcome::Done(revision) => revision,
        Outcome::Conflict(key, found) => panic!("conflict at {key}: {found:?}"),
    }
}

async fn value(store: &dyn Store, key: &str) -> Option<Bytes> {
    store.get(key).await.expect("answered").map(|e| e.value)
}

/// What a watch tells until `enough` says so.
async fn hear(watch: &mut Watch, mut enough: impl FnMut(&[Change]) -> bool) -> Vec<Change> {
    let mut heard = Vec::new();
    while !enough(&heard) {
        match tokio::time::timeout(PATIENCE, watch.recv())
            .await
            .expect("told in time")
            .expect("a living watch")
        {
            Told::Changes(_, changes) => heard.extend(changes),
            Told::Lost(why) => panic!("lost: {why}"),
        }
    }
    heard
}

fn key_of(change: &Change) -> &Key {
    match change {
        Change::Put(Entry { key, .. }) | Change::Delete(key) => key,
    }
}

fn keys(changes: &[Change]) -> Vec<&str> {
    changes.iter().map(|c| key_of(c).as_ref()).collect()
}
