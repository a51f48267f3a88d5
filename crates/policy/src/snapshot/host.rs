//! A host: one address, with what the sidecar knows of its health, shared by every service that lists it.
use crate::link::{PLAINTEXT, Transport};
use arc_swap::ArcSwapOption;
use raddle_core::Time;
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// Verdict of the active health check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Health {
    /// Not checked, or not often enough to say; it takes requests.
    Unknown,
    /// Checks pass.
    Healthy,
    /// Checks fail; it takes no requests, the panic threshold aside.
    Unhealthy,
}

/// Counts changes of any host's state, so that what is derived from them is derived again only then.
#[derive(Debug, Default)]
pub(crate) struct Changes(AtomicU64, AtomicU64);

impl Changes {
    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }

    fn note(&self) {
        self.0.fetch_add(1, Ordering::Release);
    }

    /// Changes of what hosts' connections are wanted to be.
    pub(crate) fn transports(&self) -> u64 {
        self.1.load(Ordering::Acquire)
    }
}

const HEALTH: u8 = 0b011;
const UNREACHABLE: u8 = 0b100;

/// One address. Its state outlives configurations as long as some service lists it.
#[derive(Debug)]
pub struct Host {
    /// ip:port.
    pub addr: SocketAddr,
    state: AtomicU8,
    since: AtomicU64,
    transport_id: AtomicU64,
    transport: ArcSwapOption<Transport>,
    changes: Arc<Changes>,
}

impl Host {
    pub(crate) fn new(addr: SocketAddr, since: Time, changes: Arc<Changes>) -> Host {
        Host {
            addr,
            state: AtomicU8::new(0),
            since: AtomicU64::new(since.as_nanos()),
            transport_id: AtomicU64::new(PLAINTEXT),
            transport: ArcSwapOption::empty(),
            changes,
        }
    }

    /// Verdict of the active check.
    pub fn health(&self) -> Health {
        match self.state.load(Ordering::Relaxed) & HEALTH {
            0 => Health::Unknown,
            1 => Health::Healthy,
            _ => Health::Unhealthy,
        }
    }

    /// Whether connections to it can be made, as far as is known.
    pub fn reachable(&self) -> bool {
        self.state.load(Ordering::Relaxed) & UNREACHABLE == 0
    }

    /// When its slow start began; [`Time::ZERO`] = it has none.
    pub fn since(&self) -> Time {
        Time::from_nanos(self.since.load(Ordering::Relaxed))
    }

    /// Notes the active check's verdict. Coming back from [`Health::Unhealthy`] begins a slow start at
    /// `now`. Returns whether it changed.
    pub fn set_health(&self, health: Health, now: Time) -> bool {
        let bits = match health {
            Health::Unknown => 0,
            Health::Healthy => 1,
            Health::Unhealthy => 2,
        };
        let old = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |s| Some(s & !HEALTH | bits));
        let was = old.unwrap_or_default() & HEALTH;
        if was == 2 && bits != 2 {
            self.since.store(now.as_nanos(), Ordering::Relaxed);
        }
        if was != bits {
            self.changes.note();
        }
        was != bits
    }

    /// Notes whether connections to it can be made. An unreachable host counts as none for `ifEmpty`,
    /// `minHealthy` and unit affinity, but stays a candidate where nothing else is left. Whoever says
    /// `false` must go on trying to connect until it can say `true`. Coming back begins a slow start at
    /// `now`. Returns whether it changed.
    pub fn set_reachable(&self, reachable: bool, now: Time) -> bool {
        let old = if reachable {
            self.state.fetch_and(!UNREACHABLE, Ordering::Relaxed)
        } else {
            self.state.fetch_or(UNREACHABLE, Ordering::Relaxed)
        };
        let changed = (old & UNREACHABLE == 0) != reachable;
        if changed {
            if reachable {
                self.since.store(now.as_nanos(), Ordering::Relaxed);
            }
            self.changes.note();
        }
        changed
    }

    /// What its connections are wanted to be, as one number to compare with: [`Transport::id`], 0 = plaintext.
    #[inline]
    pub fn transport_id(&self) -> u64 {
        self.transport_id.load(Ordering::Relaxed)
    }

    /// What its connections are wanted to be; `None` = plaintext.
    pub fn transport(&self) -> Option<Arc<Transport>> {
        self.transport.load_full()
    }

    /// A configuration says what its connections are to be.
    pub(crate) fn set_transport(&self, wanted: Option<&Arc<Transport>>) {
        let same = match (&*self.transport.load(), wanted) {
            (Some(a), Some(b)) => a == b,
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.transport.store(wanted.cloned());
            self.transport_id.store(wanted.map_or(PLAINTEXT, |t| t.id), Ordering::Release);
            self.changes.1.fetch_add(1, Ordering::Release);
        }
    }

    pub(crate) fn healthy(&self) -> bool {
        self.state.load(Ordering::Relaxed) & HEALTH != 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_counted_once_and_coming_back_begins_a_slow_start() {
        let changes = Arc::new(Changes::default());
        let host = Host::new(SocketAddr::from(([127, 0, 0, 1], 1)), Time::ZERO, changes.clone());
        assert!(host.set_health(Health::Healthy, Time::from_millis(5)));
        assert_eq!(host.since(), Time::ZERO, "the first verdict is no comeback");
        assert!(host.set_health(Health::Unhealthy, Time::from_millis(6)));
        assert!(!host.set_health(Health::Unhealthy, Time::from_millis(7)));
        assert!(host.set_reachable(false, Time::from_millis(7)));
        assert_eq!(host.health(), Health::Unhealthy, "reachability leaves the verdict alone");
        assert!(host.set_health(Health::Healthy, Time::from_millis(8)));
        assert!(!host.reachable(), "the verdict leaves reachability alone");
        assert_eq!(host.since(), Time::from_millis(8));
        assert_eq!(changes.count(), 4);
    }
}
