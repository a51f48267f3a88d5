//! Between workers, loader and admin pages on one side and the `mesh` thread on the other.
use super::agent::AgentStatus;
use super::names::Counts;
use raddle_telemetry::MeshCells;
use raddle_xds::client::Status;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, mpsc, watch};

/// Questions that can wait for the `mesh` thread; further ones are dropped, and asked again by the next request.
const ASKS_MOST: usize = 16_384;

/// What the `mesh` thread is asked.
pub(crate) enum Ask {
    /// A request names this service.
    Want(Box<str>),
    /// What the local app publishes, or subscribes to, has changed.
    Local,
    /// Withdraw what is published and say when that is known.
    Withdraw(crossbeam_channel::Sender<()>),
}

/// The way to the `mesh` thread.
pub struct Link {
    asks: mpsc::Sender<Ask>,
    /// Seconds since the Unix epoch when the control plane went away; 0 = it is there.
    away: AtomicU64,
    /// Something came from the control plane, or from the cache.
    pub(crate) answered: AtomicBool,
    /// What is known came from the cache, and no control plane has said anything since.
    pub(crate) cached: AtomicBool,
    /// The app's port accepts connections, or is not watched.
    pub(crate) app_there: AtomicBool,
    /// A certificate is held, so that callers may use TLS. Never said before.
    pub holds_certificate: AtomicBool,
    /// Roots of trust, DER, as the control plane gives them.
    pub roots: watch::Sender<Vec<Vec<u8>>>,
    /// What runs here, or what is refused, may have changed.
    pub(crate) changed: Notify,
    pub(crate) cells: Arc<MeshCells>,
    pub(crate) view: Mutex<View>,
}

/// What the pages show.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    pub status: Status,
    pub names: Counts,
    pub publication: Publication,
    pub certificate: Option<AgentStatus>,
}

/// How publishing is going.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Publication {
    /// Services published now.
    pub services: usize,
    /// Callers are asked for TLS.
    pub tls: bool,
    /// And not to fall back to plaintext.
    pub tls_required: bool,
    /// It is in the registry as it should be.
    pub acknowledged: bool,
    /// The app's port is watched and does not accept connections.
    pub app_away: bool,
    /// Why the registry refused it.
    pub error: Option<String>,
}

impl Link {
    pub(crate) fn new(cells: Arc<MeshCells>) -> (Arc<Link>, mpsc::Receiver<Ask>) {
        let (asks, rx) = mpsc::channel(ASKS_MOST);
        let link = Link {
            asks,
            away: AtomicU64::new(now_s()),
            answered: false.into(),
            cached: false.into(),
            app_there: false.into(),
            holds_certificate: false.into(),
            roots: watch::channel(Vec::new()).0,
            changed: Notify::new(),
            cells,
            view: Mutex::default(),
        };
        (Arc::new(link), rx)
    }

    /// Asks, unless too much is being asked already.
    pub(crate) fn ask(&self, what: Ask) -> bool {
        self.asks.try_send(what).is_ok()
    }

    /// Since when there is no control plane, as text; `None` = there is one.
    pub fn away(&self) -> Option<String> {
        match self.away.load(Ordering::Relaxed) {
            0 => None,
            since => Some(clock(since)),
        }
    }

    pub(crate) fn set_connected(&self, connected: bool) {
        let was = self.away.load(Ordering::Relaxed) == 0;
        if was != connected {
            self.away.store(if connected { 0 } else { now_s() }, Ordering::Relaxed);
        }
        self.cells.connected.set(i64::from(connected));
    }

    pub(crate) fn view(&self) -> std::sync::MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |d| d.as_secs().max(1))
}

/// A time of the day in UTC, as `22:41:07 UTC`.
fn clock(s: u64) -> String {
    let day = s % 86_400;
    format!("{:02}:{:02}:{:02} UTC", day / 3600, day / 60 % 60, day % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_told_as_people_read_it() {
        assert_eq!(clock(86_400 * 3 + 22 * 3600 + 41 * 60 + 7), "22:41:07 UTC");
    }
}
