//! A subset: the endpoints of a service a destination names.
use crate::balance::ring::Ring;
use crate::snapshot::service::Endpoint;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Endpoints of one service that a destination names; weight 0 is never among them.
#[derive(Debug)]
pub struct Subset {
    /// Unique over all compilations of a process's snapshots; 0 is never used.
    pub id: u64,
    /// Indexes into [`Service::endpoints`](crate::Service::endpoints), ascending.
    pub members: Box<[u32]>,
    /// Whether all members have one weight.
    pub(crate) equal: bool,
    ring: OnceLock<Ring>,
    counts: AtomicU64,
}

/// How many members may take requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Not found unhealthy by the active check.
    pub(crate) healthy: u32,
    /// Healthy and not known to be unreachable.
    pub(crate) usable: u32,
}

const COUNT_BITS: u32 = 20;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

impl Subset {
    pub(crate) fn new(id: u64, members: Box<[u32]>, endpoints: &[Endpoint]) -> Subset {
        let first = members.first().map(|&i| endpoints[i as usize].weight);
        let equal = members.iter().all(|&i| Some(endpoints[i as usize].weight) == first);
        Subset { id, members, equal, ring: OnceLock::new(), counts: AtomicU64::new(0) }
    }

    /// Counted again only when a host's state changed since (`changes` is their count). The lower 24 bits
    /// of that count are kept beside the counts in one word, so that no lock is needed.
    pub(crate) fn counts(&self, endpoints: &[Endpoint], changes: u64) -> Counts {
        // Off by one, so that a fresh subset's zero word is never taken for a count.
        let stamp = (changes.wrapping_add(1)) & 0xff_ffff;
        let word = self.counts.load(Ordering::Relaxed);
        if word >> (2 * COUNT_BITS) == stamp && word != 0 {
            let healthy = (word >> COUNT_BITS & COUNT_MAX) as u32;
            return Counts { healthy, usable: (word & COUNT_MAX) as u32 };
        }
        let counts = self.count(endpoints);
        let clamp = |n: u32| u64::from(n).min(COUNT_MAX);
        let word = stamp << (2 * COUNT_BITS) | clamp(counts.healthy) << COUNT_BITS | clamp(counts.usable);
        self.counts.store(word, Ordering::Relaxed);
        counts
    }

    fn count(&self, endpoints: &[Endpoint]) -> Counts {
        let mut counts = Counts { healthy: 0, usable: 0 };
        for &i in &self.members {
            let host = &endpoints[i as usize].host;
            if host.healthy() {
                counts.healthy += 1;
                counts.usable += u32::from(host.reachable());
            }
        }
        counts
    }

    /// Whether so few members are healthy that health is ignored: their share is below `threshold`.
    pub(crate) fn panics(&self, healthy: u32, threshold: f64) -> bool {
        f64::from(healthy) < threshold * self.members.len() as f64
    }

    /// The consistent-hash ring over all members, built by whoever asks first.
    pub(crate) fn ring(&self, endpoints: &[Endpoint]) -> &Ring {
        self.ring.get_or_init(|| Ring::new(&self.members, endpoints))
    }
}
