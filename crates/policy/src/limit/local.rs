//! A worker's part of the plain limits.
use super::{Held, Rules};
use crate::route::Attributes;
use raddle_core::Time;
use raddle_model::Side;
use std::sync::Arc;
use std::time::Duration;

/// What becomes of a request.
#[derive(Debug)]
pub enum Verdict {
    /// It passes, perhaps later, perhaps if the quota server lets it.
    Pass {
        /// What it holds until it ends: give it to [`Local::done`] exactly once, also if it never gets anywhere.
        ticket: Ticket,
        /// How long it waits before it goes on; zero = not at all.
        wait: Duration,
        /// Whether rules with `reach: cluster` take it: [`Local::asks`] says which, until the next request is judged.
        ask: bool,
        /// What would hold it if every rule in `mode: observe` were enforced: the first of them.
        observed: Option<Held>,
    },
    /// It is refused, and holds nothing.
    Refuse(Held),
}

/// What a request holds of bounds on concurrency. The default one holds nothing.
#[must_use = "what is not given back is lost"]
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Ticket(u64);

impl Ticket {
    /// Holds nothing.
    pub const NONE: Ticket = Ticket(0);

    /// Whether it holds nothing: then [`Local::done`] need not hear of it.
    pub const fn is_none(&self) -> bool {
        self.0 == 0
    }
}

/// A worker's part of the plain limits.
#[derive(Debug)]
pub struct Local {
    rules: Arc<Rules>,
    asks: Vec<u32>,
}

impl Local {
    /// That of the worker with this index of so many. It knows no rules yet.
    pub fn new(worker: usize, workers: usize) -> Local {
        let _ = (worker, workers);
        Local { rules: Arc::default(), asks: Vec::new() }
    }

    /// Follows the rules of a new snapshot; cheap if they are the ones it has. Rules that stayed go on as they were,
    /// and tickets of requests under way stay good.
    pub fn sync(&mut self, rules: &Arc<Rules>) {
        if !Arc::ptr_eq(&self.rules, rules) {
            self.rules = rules.clone();
        }
    }

    /// Whether no rule of that side asks about any request.
    pub fn is_empty(&self, side: Side) -> bool {
        !self.rules.rates.iter().any(|r| r.side == side)
    }

    /// Judges a request: every rule that takes it must let it pass, else none has counted it. `can_wait` is whether the
    /// request can be kept for a while: one-way and streamed ones can not, and are refused where they would have to.
    pub fn judge(&mut self, side: Side, req: &impl Attributes, now: Time, can_wait: bool) -> Verdict {
        let _ = (side, req.service(), now, can_wait);
        self.asks.clear();
        Verdict::Pass { ticket: Ticket::NONE, wait: Duration::ZERO, ask: false, observed: None }
    }

    /// The rules with `reach: cluster` that take the request judged last: indexes into [`Rules::rates`].
    pub fn asks(&self) -> &[u32] {
        &self.asks
    }

    /// Counts the quota server's word on a request for a rule of [`Local::asks`]. `Ok(Some(_))` = it would hold the
    /// request, but is in `mode: observe`.
    ///
    /// # Errors
    /// It holds the request: end it, [`Local::done`] included.
    pub fn answered(&mut self, rule: u32, granted: bool) -> Result<Option<Held>, Held> {
        let _ = (rule, granted);
        Ok(None)
    }

    /// A request that passed has ended, however. A ticket that is not known is harmless.
    pub fn done(&mut self, ticket: Ticket, now: Time) {
        let _ = (ticket, now);
    }

    /// Gives back what it keeps ready for itself. Call it when the worker has been idle for a second or so.
    pub fn flush(&mut self) {}
}
