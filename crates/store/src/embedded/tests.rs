//! A disk that fails.
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
