//! Circuit breakers: `kind: CircuitBreaker`, decided.
//!
//! A call's life: [`Breakers::begin`] for the whole, which asks the breakers of its service and method; for each try
//! [`Breakers::open`] of the endpoints to choose from, [`Breakers::enter`] for the one chosen, [`Breakers::leave`] with
//! what became of it; and [`Breakers::end`] for the whole.
//!
//! A breaker's state is one word that all workers share: found open by one, it is open for all. What they count of calls
//! each writes for itself; where a call ends badly, all their counts are added up. A breaker closed takes a call nothing
//! but its worker's own memory.
mod local;
pub(super) mod program;
pub(super) mod target;
pub(super) mod window;
mod word;

pub use local::Breakers;
use raddle_core::Time;
use serde::Serialize;
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
