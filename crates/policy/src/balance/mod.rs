//! Balancing: which endpoint of a subset takes a request.
//!
//! State is per worker and subset; nothing is shared on the way. Every pick costs the same for ten
//! endpoints as for ten thousand; what depends on their number is done once after a change of the
//! configuration or of a host's health.

pub(crate) mod alias;
pub mod ewma;
pub mod fair;
pub(crate) mod ring;
mod state;

use crate::rng::Rng;
use crate::snapshot::service::Service;
use crate::snapshot::subset::Subset;
use raddle_core::Time;
pub use state::BalanceState;

/// More draws of the balancer's own before others are searched.
const REDRAWS: u32 = 4;
/// Most endpoints searched for a ready one in a pick; the search goes on where it ended.
const SEARCH: u32 = 256;

/// What the pool knows of the connection to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// A request can be written now.
    Ready,
    /// A connection is being made.
    Connecting,
    /// No connection, and nothing speaks against making one.
    Idle,
    /// The last attempt failed and the next has to wait.
    Down,
}

/// What a worker knows of the endpoints of a service. All take indexes into
/// [`Service::endpoints`](crate::Service::endpoints) and should cost an array access.
pub trait Load {
    /// Whether a request can be written to it now.
    fn ready(&self, i: u32) -> Readiness;
    /// Requests in flight to it.
    fn active(&self, i: u32) -> u32;
    /// Expected latency, ns, above 0; see [`ewma::PeakEwma::expected`].
    fn ewma_ns(&self, i: u32) -> f64;
}

/// The endpoint a request goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Picked {
    /// Index into the service's endpoints.
    pub index: u32,
    /// Whether a request can be written to it now; else the request has to wait for its connection.
    pub ready: bool,
    /// An idle endpoint whose turn it was: a connection to it should be made. It may be `index` itself.
    pub connect: Option<u32>,
}

/// Picks an endpoint of `subset`, which must be one of this very `service`.
///
/// Candidates weigh more than 0 and are not found unhealthy; if the share of healthy members is below the
/// policy's panic threshold, health is ignored. The balancer's own choice is taken if it is ready. If not,
/// another ready one is, and the caller is told to connect the choice, so that no request waits for a
/// connection while another is ready (beyond 256 candidates it may for a
/// few picks, until the search has been around). With none ready, one that may come is chosen before one that is
/// down. `avoid` (already tried) is chosen only if there is no other. `req_hash` is
/// [`Service::hash_key`]; without one, consistent hashing picks at random.
///
/// `None` if there is no candidate.
pub fn pick(
    subset: &Subset,
    service: &Service,
    state: &mut BalanceState,
    load: &impl Load,
    req_hash: Option<u64>,
    now: Time,
    rng: &mut Rng,
    avoid: Option<u32>,
) -> Option<Picked> {
    state.follow(subset, service, now, rng);
    if state.candidates().is_empty() {
        return None;
    }
    let mut search = Search { best: None, connect: None };
    for attempt in 0..=REDRAWS {
        let choice = state.choose(subset, service, load, req_hash, attempt, now, rng);
        if Some(choice) == avoid {
            continue;
        }
        if search.ready(choice, load.ready(choice)) {
            return Some(search.found(choice));
        }
    }
    if let Some(index) = state.ready_seen_before(load, avoid) {
        return Some(search.found(index));
    }
    for _ in 0..SEARCH.min(state.candidates().len() as u32) {
        let index = state.search_next();
        if Some(index) != avoid && search.ready(index, load.ready(index)) {
            state.remember_ready(index);
            return Some(search.found(index));
        }
    }
    Some(search.give_up(avoid, state.candidates()[0], load))
}

/// What was seen while looking for a ready endpoint.
struct Search {
    best: Option<(u32, Readiness)>,
    connect: Option<u32>,
}

impl Search {
    fn ready(&mut self, index: u32, readiness: Readiness) -> bool {
        match readiness {
            Readiness::Ready => return true,
            Readiness::Down => {
                self.best.get_or_insert((index, readiness));
            }
            Readiness::Connecting | Readiness::Idle => {
                if self.best.is_none_or(|(_, r)| r == Readiness::Down) {
                    self.best = Some((index, readiness));
                    if readiness == Readiness::Idle {
                        self.connect = Some(index);
                    }
                }
            }
        }
        false
    }

    fn found(&self, index: u32) -> Picked {
        Picked { index, ready: true, connect: self.connect }
    }

    /// Nothing is ready: the first that may come, else one that is down, else the one already tried.
    fn give_up(self, avoid: Option<u32>, first: u32, load: &impl Load) -> Picked {
        if let Some((index, _)) = self.best {
            return Picked { index, ready: false, connect: self.connect };
        }
        let index = avoid.unwrap_or(first);
        let readiness = load.ready(index);
        Picked {
            index,
            ready: readiness == Readiness::Ready,
            connect: (readiness == Readiness::Idle).then_some(index),
        }
    }
}
