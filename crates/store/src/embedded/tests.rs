//! A disk that fails, and a process that has no time.
use super::*;
use crate::types::{Op, Told};
use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// A disk that is full from some moment on.
#[derive(Debug)]
struct Disk {
    disk: InMemoryBackend,
    full: Arc<AtomicBool>,
}

impl Disk {
    fn room(&self) -> Result<(), io::Error> {
        match self.full.load(Ordering::SeqCst) {
            true => Err(io::Error::new(io::ErrorKind::StorageFull, "no space left on device")),
            false => Ok(()),
        }
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> Result<u64, io::Error> {
        self.disk.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.disk.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.room()?;
        self.disk.set_len(len)
    }
    fn sync_data(&self) -> Result<(), io::Error> {
        self.room()?;
        self.disk.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.room()?;
        self.disk.write(offset, data)
    }
}

fn put(key: &str) -> Txn {
    let op = Op::Put { key: key.into(), value: bytes::Bytes::from_static(b"v"), lease: None };
    Txn { ops: vec![op], ..Txn::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_told_in_words_and_nothing_is_acknowledged_after_it() {
    let full = Arc::new(AtomicBool::new(false));
    let disk = Disk { disk: InMemoryBackend::new(), full: Arc::clone(&full) };
    let opened = file::open_on(disk).expect("opened");
    let store = Embedded::start(opened, "embedded test".into(), EmbeddedOptions::default()).expect("started");
    let Ok(Outcome::Done(before)) = store.commit(put("before")).await else { panic!("not done") };
    let lease = store.grant(Duration::from_millis(100)).await.expect("granted");
    let mut watch = store.watch("", before).await.expect("watched");
    full.store(true, Ordering::SeqCst);
    for _ in 0..3 {
        let refused = store.commit(put("after")).await;
        let Err(StoreError::Unavailable(why)) = &refused else { panic!("{refused:?}") };
        assert!(why.contains("no space left") && why.contains("opened again"), "{why}");
    }
    // Room that comes back does not bring the file back into a known state.
    full.store(false, Ordering::SeqCst);
    assert!(matches!(store.commit(put("later")).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.grant(Duration::from_secs(1)).await, Err(StoreError::Unavailable(_))));
    assert!(matches!(store.revoke(lease).await, Err(StoreError::Unavailable(_))));
    drop(store);
    let told: Option<Told> = watch.recv().await;
    assert!(told.is_none(), "what was not acknowledged was told: {told:?}");
}

/// Work that gives no other task of its runtime a turn.
fn work(long: Duration) {
    let until = Instant::now() + long;
    while Instant::now() < until {
        std::hint::spin_loop();
    }
}

#[tokio::test]
async fn a_lease_does_not_end_because_the_process_that_keeps_it_had_no_time() {
    let store = Arc::new(Embedded::in_memory().expect("opened"));
    let ttl = Duration::from_millis(150);
    let kept = store.grant(ttl).await.expect("granted");
    let other = store.grant(ttl).await.expect("granted");
    let keeper = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            loop {
                tokio::time::sleep(ttl / 3).await;
                if store.keep_alive(kept).await.is_err() {
                    return;
                }
            }
        }
    });
    for lease in [kept, other] {
        let op = Op::Put { key: format!("{}", lease.0).into(), value: "v".into(), lease: Some(lease) };
        store.commit(Txn { ops: vec![op], ..Txn::default() }).await.expect("done");
    }
    // Twice: what was done once must not count for the next time.
    for _ in 0..2 {
        tokio::task::yield_now().await;
        work(ttl * 3);
    }
    // The one that nobody keeps ends, the other does not.
    let until = Instant::now() + Duration::from_secs(20);
    while store.get(&format!("{}", other.0)).await.expect("answered").is_some() {
        assert!(Instant::now() < until, "it does not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(store.get(&format!("{}", kept.0)).await.expect("answered").is_some());
    assert!(!keeper.is_finished());
    assert_eq!(store.keep_alive(kept).await, Ok(()));
    assert_eq!(store.keep_alive(other).await, Err(StoreError::NoLease));
}

#[test]
fn a_lease_ends_also_when_the_runtime_that_kept_it_is_gone() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let store = Embedded::in_memory().expect("opened");
    let lease = runtime().block_on(store.grant(Duration::from_millis(100))).expect("granted");
    let until = Instant::now() + Duration::from_secs(20);
    while lock(&store.shared.leases).lives(lease.0) {
        assert!(Instant::now() < until, "it does not end");
        std::thread::yield_now();
    }
}
