//! Circuit breakers: `kind: CircuitBreaker`, decided.
//!
//! A call's life: [`Breakers::begin`] for the whole, which asks the breakers of its service and method; for each try
//! [`Breakers::open`] of the endpoints to choose from, [`Breakers::enter`] for the one chosen, [`Breakers::leave`] with
//! what became of it; and [`Breakers::end`] for the whole.
use super::{Held, Rules};
use crate::rng::Rng;
use crate::route::Attributes;
use raddle_core::Time;
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What became of a call or a try of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered, after so long.
    Answered(Duration),
    /// It failed in a way that speaks against the callee, after so long.
    Failed(Duration),
    /// It says nothing about the callee: the caller went away, or the sidecar refused it itself.
    Unknown,
}

/// A call under way. The default one is taken by no rule.
#[must_use = "a probe that does not end keeps its place"]
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Call(u64);

impl Call {
    /// Taken by no rule.
    pub const NONE: Call = Call(0);

    /// Whether no rule takes it: nothing needs to be asked or told about it.
    pub const fn is_none(&self) -> bool {
        self.0 == 0
    }
}

/// What a breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// Everything passes.
    Closed,
    /// Nothing passes.
    Open,
    /// Some pass, to see whether it may close.
    HalfOpen,
}

/// A breaker has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When.
    #[serde(skip)]
    pub at: Time,
    /// `CircuitBreaker/NAME`.
    pub rule: Arc<str>,
    /// The endpoint, service or `service.method`.
    pub target: Arc<str>,
    /// What it is now.
    pub state: State,
    /// One sentence: what happened and by what evidence.
    pub text: String,
}

/// A worker's part of the breakers.
#[derive(Debug)]
pub struct Breakers {
    rules: Arc<Rules>,
    events: Vec<Event>,
}

impl Breakers {
    /// That of the worker with this index of so many. It knows no rules yet.
    pub fn new(worker: usize, workers: usize) -> Breakers {
        let _ = (worker, workers);
        Breakers { rules: Arc::default(), events: Vec::new() }
    }

    /// Follows the rules of a new snapshot; cheap if they are the ones it has.
    pub fn sync(&mut self, rules: &Arc<Rules>) {
        if !Arc::ptr_eq(&self.rules, rules) {
            self.rules = rules.clone();
        }
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.rules.breakers.is_empty()
    }

    /// A call begins: may it, as far as breakers of its service and method are concerned? Beside it stands what would
    /// hold it if every rule in `mode: observe` were enforced.
    ///
    /// # Errors
    /// Such a breaker is open.
    pub fn begin(
        &mut self,
        req: &impl Attributes,
        now: Time,
        rng: &mut Rng,
    ) -> Result<(Call, Option<Held>), Held> {
        let _ = (req.service(), now, rng);
        Ok((Call::NONE, None))
    }

    /// Whether an enforced breaker of this endpoint lets the call not through now. Changes nothing; for each candidate.
    pub fn open(&mut self, call: &Call, endpoint: SocketAddr, now: Time) -> bool {
        let _ = (call, endpoint, now);
        false
    }

    /// A try goes to this endpoint. Beside it stands what would hold it if rules in `mode: observe` were enforced.
    ///
    /// # Errors
    /// Its breaker is open: choose another, or give up with this if there is none.
    pub fn enter(
        &mut self,
        call: &Call,
        endpoint: SocketAddr,
        now: Time,
        rng: &mut Rng,
    ) -> Result<Option<Held>, Held> {
        let _ = (call, endpoint, now, rng);
        Ok(None)
    }

    /// The try that entered last has ended.
    pub fn leave(&mut self, call: &Call, outcome: Outcome, now: Time, rng: &mut Rng) {
        let _ = (call, outcome, now, rng);
    }

    /// The call has ended; a try still under way with it. A call that is not known is harmless.
    pub fn end(&mut self, call: Call, outcome: Outcome, now: Time, rng: &mut Rng) {
        let _ = (call, outcome, now, rng);
    }

    /// What changed since the last time, each change told by one worker.
    pub fn events(&mut self) -> impl Iterator<Item = Event> + '_ {
        self.events.drain(..)
    }
}
