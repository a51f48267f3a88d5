//! What sidecars say: what they run, refuse and lack, and how their requests go.
//!
//! [`Reports`] takes their streams (`service`, bounded by `check`) into memory (`state`). `keep` tells the store what the
//! other replicas must know, and follows what they tell: statuses of sidecars ([`NodeStatus`]), and `sums` of requests
//! for each rollout that runs. Of both it makes what a rollout is decided by (`observe`). [`drift()`]: what a sidecar runs
//! against what it should. `edges`: who calls whom, and whether over TLS; `story`: what happens to that, as events.
mod check;
mod drift;
mod edges;
mod keep;
mod known;
mod limits;
mod observe;
mod service;
mod state;
mod status;
mod story;
mod sums;

pub use drift::{Differs, drift, wanted};
pub use edges::{AppLinks, CallerLink};
pub use limits::{Culprit, HeldCount, LimitStatus, LimitedTime};
pub use service::Service;
pub use status::{LinkStatus, NodeStatus, Refusal, Running};
pub use story::subject;

use crate::election::Replica;
use crate::rules::RuleBook;
use raddle_store::Store;
use raddle_xds::proto::ReportRequest;
use raddle_xds::proto::reports_server::ReportsServer;
use state::{Origin, State};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::{Notify, Semaphore, watch};

/// How long a sidecar is known after its stream has ended.
const GRACE: Duration = Duration::from_secs(5);
/// The store is told of a sidecar, or of a rollout, no more often than this.
const PACE: Duration = Duration::from_secs(1);
/// A stream on which nothing comes for so long is dead: sidecars report every few seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// Most streams.
const STREAMS: usize = 100_000;
/// Most bytes of a report.
const REQUEST: usize = 8 << 20;

/// What all sidecars say.
pub struct Reports {
    replica: Arc<str>,
    book: watch::Receiver<Arc<RuleBook>>,
    state: Mutex<State>,
    due: Arc<Notify>,
    places: Arc<Semaphore>,
    streams: AtomicU64,
    ending: watch::Sender<bool>,
    /// There are other replicas.
    others: AtomicBool,
    known: known::Known,
}

impl Reports {
    /// Begins to follow the store, and to write to it under the replica's lease, in tasks of the caller's runtime.
    pub fn start(
        store: Arc<dyn Store>,
        replica: &Replica,
        book: watch::Receiver<Arc<RuleBook>>,
    ) -> Arc<Reports> {
        let reports = Arc::new(Reports {
            replica: replica.id().clone(),
            book,
            state: Mutex::default(),
            due: Arc::default(),
            places: Arc::new(Semaphore::new(STREAMS)),
            streams: AtomicU64::new(1),
            ending: watch::channel(false).0,
            others: AtomicBool::new(false),
            known: known::Known::default(),
        });
        tokio::spawn(keep::write(Arc::downgrade(&reports), store.clone(), replica.lease()));
        tokio::spawn(keep::follow_nodes(Arc::downgrade(&reports), store.clone()));
        tokio::spawn(keep::follow_sums(Arc::downgrade(&reports), store.clone()));
        tokio::spawn(keep::follow_links(Arc::downgrade(&reports), store.clone()));
        tokio::spawn(keep::follow_replicas(Arc::downgrade(&reports), store));
        reports
    }

    /// The gRPC service.
    pub fn service(self: &Arc<Reports>) -> ReportsServer<Service> {
        ReportsServer::new(Service(self.clone())).max_decoding_message_size(REQUEST)
    }

    /// All sidecars, by id.
    pub fn nodes(&self) -> Vec<Arc<NodeStatus>> {
        self.state().nodes()
    }

    /// A sidecar.
    pub fn node(&self, id: &str) -> Option<Arc<NodeStatus>> {
        self.state().node(id)
    }

    /// Ends the streams. What the store knows stays until the lease ends, or the sidecars are with another replica.
    pub fn end(&self) {
        self.ending.send_replace(true);
    }

    fn take(&self, from: &Origin, report: ReportRequest) {
        let book = self.book.borrow().clone();
        let whose = self.whose(&report);
        let mut state = self.state();
        if state.take(from, report, &book, now(), |address| whose.get(address).cloned()) {
            self.due.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reports").field("replica", &self.replica).finish_non_exhaustive()
    }
}

/// Milliseconds since the Unix epoch.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
