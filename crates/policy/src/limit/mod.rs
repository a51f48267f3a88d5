//! What holds requests back: `kind: AdaptiveLimit`, `RateLimit` and `CircuitBreaker`, compiled and decided.
//!
//! One chain, each link optional, cheapest first: load-test gate → adaptive → concurrency → rate → hotspot → cluster;
//! on the way out breakers, too. Every link can run in `mode: observe`, and every refusal names its rule.
//!
//! [`Rules`] are a snapshot's, shared by all workers and never changed. Each worker has its own [`Local`], which
//! judges requests by the plain limits (concurrency, rate, hotspot, and who is to ask the quota server), and its own
//! [`Breakers`]. What workers share is in atomics behind `Arc`s that new rules take over from the ones before.
pub mod adaptive;
pub mod breaker;
mod hot;
mod index;
mod local;
mod priority;
mod program;
mod rate;
mod slab;
mod view;

pub use breaker::Breakers;
pub use local::{Local, Ticket, Verdict};
pub use priority::Priorities;
pub use view::{BreakerView, LimitView, TargetView, ValueView, View, Would};

use program::Program;
use raddle_core::Reason;
use raddle_model::{AdaptiveLimit, CircuitBreaker, Metadata, RateLimit};
use std::sync::Arc;
use std::time::Duration;

/// A request that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Which link of the chain: `AL`, `RL`, `HL`, `CL` or `CB`.
    pub reason: Reason,
    /// `KIND/NAME` of the rule behind it.
    pub rule: Arc<str>,
    /// What is short, for a person: `over 100 requests a second`.
    pub detail: Arc<str>,
    /// When one like it may pass.
    pub again: Again,
}

/// When a request like one that is held may pass, if no others come meanwhile.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Again {
    /// Nobody knows: what is short is given back by others.
    #[default]
    Unknown,
    /// In so long.
    In(Duration),
    /// Not while the rule says what it says.
    Never,
}

/// The limits that reach a sidecar.
#[derive(Debug, Default)]
pub struct Rules {
    /// The one rule of adaptive limiting that holds here.
    pub adaptive: Option<AdaptiveLimit>,
    /// Rate limits, in file order.
    pub rates: Vec<RateLimit>,
    /// Circuit breakers, in file order.
    pub breakers: Vec<CircuitBreaker>,
    program: Program,
    breaker_program: breaker::program::Program,
}

impl Rules {
    /// Compiles rules, whatever their scopes. What `prev`'s rules of the same name and kind counted goes on counting.
    pub fn new(
        adaptive: Option<&AdaptiveLimit>,
        rates: &[&RateLimit],
        breakers: &[&CircuitBreaker],
        prev: Option<&Rules>,
    ) -> Rules {
        Rules {
            program: Program::new(rates, prev.map(|p| &p.program)),
            breaker_program: breaker::program::Program::new(breakers, prev.map(|p| &p.breaker_program)),
            adaptive: adaptive.cloned(),
            rates: rates.iter().copied().cloned().collect(),
            breakers: breakers.iter().copied().cloned().collect(),
        }
    }

    /// Whether there are none: then everything passes, and nothing needs to be judged.
    pub fn is_empty(&self) -> bool {
        self.adaptive.is_none() && self.rates.is_empty() && self.breakers.is_empty()
    }

    /// Whether these are just what this was compiled from.
    pub(crate) fn same(
        &self,
        adaptive: Option<&AdaptiveLimit>,
        rates: &[&RateLimit],
        breakers: &[&CircuitBreaker],
    ) -> bool {
        let own = self.adaptive.iter().map(|r| &r.metadata);
        let own = own.chain(self.rates.iter().map(|r| &r.metadata));
        let own = own.chain(self.breakers.iter().map(|r| &r.metadata));
        let new = adaptive.into_iter().map(|r| &r.metadata);
        let new = new.chain(rates.iter().map(|r| &r.metadata)).chain(breakers.iter().map(|r| &r.metadata));
        let key = |m: &Metadata| (m.name.clone(), m.fingerprint);
        (self.rates.len(), self.breakers.len()) == (rates.len(), breakers.len())
            && own.map(key).eq(new.map(key))
    }
}
