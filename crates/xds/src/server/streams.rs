//! The streams there are, and what became of them in numbers.
use super::Peer;
use super::Software;
use super::response::{Response, Variant};
use super::status::{Counters, KindInfo, StreamInfo};
use crate::resource::fnv;
use crate::types::Kind;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;

/// Something that can say how a stream stands.
pub(super) trait Report: Send {
    fn report(&self) -> Vec<KindInfo>;
}

/// All streams, and counters.
#[derive(Default)]
pub(super) struct Streams {
    /// Those admitted, whether they have said who they are or not.
    open: AtomicUsize,
    next: AtomicU64,
    known: Mutex<BTreeMap<u64, Entry>>,
    pub(super) counts: Counts,
}

struct Entry {
    peer: Arc<Peer>,
    variant: Variant,
    since_ms: u64,
    machine: Arc<Mutex<dyn Report>>,
    /// Taken when the stream has been asked to go.
    shed: Option<oneshot::Sender<Duration>>,
}

/// Counters as they are counted.
#[derive(Default)]
pub(super) struct Counts {
    pushes: [AtomicU64; Kind::ALL.len()],
    bytes: AtomicU64,
    resources: AtomicU64,
    nacks: [AtomicU64; Kind::ALL.len()],
    pub(super) refused: AtomicU64,
    pub(super) violations: AtomicU64,
    shed: AtomicU64,
}

impl Counts {
    pub(super) fn sent(&self, response: &Response) {
        if let Some(kind) = response.kind {
            self.pushes[kind as usize].fetch_add(1, Relaxed);
        }
        self.bytes.fetch_add(response.encoded_len() as u64, Relaxed);
        self.resources.fetch_add(response.resources.len() as u64, Relaxed);
    }

    pub(super) fn refused_by_client(&self, kind: Kind) {
        self.nacks[kind as usize].fetch_add(1, Relaxed);
    }
}

impl Streams {
    pub(super) fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Counts a stream as open until the place is dropped.
    pub(super) fn take(self: &Arc<Self>) -> Place {
        self.open.fetch_add(1, Relaxed);
        let id = self.next.fetch_add(1, Relaxed) + 1;
        Place { streams: Arc::clone(self), id, known: false }
    }

    pub(super) fn counters(&self) -> Counters {
        let load = |all: &[AtomicU64; Kind::ALL.len()]| std::array::from_fn(|i| all[i].load(Relaxed));
        Counters {
            pushes: load(&self.counts.pushes),
            bytes: self.counts.bytes.load(Relaxed),
            resources: self.counts.resources.load(Relaxed),
            nacks: load(&self.counts.nacks),
            streams: self.open() as u64,
            refused: self.counts.refused.load(Relaxed),
            violations: self.counts.violations.load(Relaxed),
            shed: self.counts.shed.load(Relaxed),
        }
    }

    pub(super) fn infos(&self) -> Vec<StreamInfo> {
        // The machines are locked one by one, after the list: they may be busy.
        let list: Vec<_> = self
            .lock()
            .iter()
            .map(|(id, e)| (*id, Arc::clone(&e.peer), e.variant, e.since_ms, Arc::clone(&e.machine)))
            .collect();
        list.into_iter()
            .map(|(id, peer, variant, since_ms, machine)| StreamInfo {
                id,
                node: peer.node.id.clone(),
                app: peer.node.app.clone(),
                unit: peer.node.unit.clone(),
                address: peer.node.address.clone(),
                software: software(peer.software),
                identity: peer.identity.clone(),
                variant: variant.name(),
                since_ms,
                kinds: lock(&machine).report(),
            })
            .collect()
    }

    /// Tells the oldest streams to go, each at its own time.
    pub(super) fn shed(&self, share: f64, over: Duration) -> usize {
        let mut known = self.lock();
        let number = (known.len() as f64 * share.clamp(0.0, 1.0)).ceil() as usize;
        let mut told = 0;
        for (id, entry) in known.iter_mut() {
            if told == number {
                break;
            }
            let Some(tell) = entry.shed.take() else { continue };
            // Spread by a hash of the id: no two servers and no two times need to agree on it.
            let part = fnv(&id.to_le_bytes()) % 1000;
            if tell.send(over.mul_f64(part as f64 / 1000.0)).is_ok() {
                told += 1;
            }
        }
        self.counts.shed.fetch_add(told as u64, Relaxed);
        told
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        lock(&self.known)
    }
}

/// What is behind these locks is whole after every statement that changes it, so a panic elsewhere does it no harm.
pub(super) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn software(software: Software) -> &'static str {
    match software {
        Software::Raddle => "raddle",
        Software::Envoy => "envoy",
        Software::Grpc => "grpc",
        Software::Other => "other",
    }
}

/// A stream's place among the others; gone when dropped.
pub(super) struct Place {
    streams: Arc<Streams>,
    pub(super) id: u64,
    known: bool,
}

impl Place {
    /// Lists the stream. Gives where it is told to go.
    pub(super) fn list(
        &mut self,
        peer: Arc<Peer>,
        variant: Variant,
        since_ms: u64,
        machine: Arc<Mutex<dyn Report>>,
    ) -> oneshot::Receiver<Duration> {
        let (tell, told) = oneshot::channel();
        self.known = true;
        self.streams.lock().insert(self.id, Entry { peer, variant, since_ms, machine, shed: Some(tell) });
        told
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.known {
            self.streams.lock().remove(&self.id);
        }
        self.streams.open.fetch_sub(1, Relaxed);
    }
}
