//! What the controller tells the gates: immutable, swapped whole.
use super::InterfaceId;
use super::board::CLASSES;
use raddle_core::Time;

/// How much is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Tier {
    /// Nothing: the guard alone stands.
    #[default]
    Idle,
    /// Those who cause the shortage, by rate.
    Culprits,
    /// Everybody, by share.
    All,
}

/// The controller's orders.
#[derive(Debug)]
pub(super) struct Orders {
    pub tier: Tier,
    /// When they were given.
    pub at: Time,
    /// When those before were given.
    pub before: Time,
    /// Cores the app has.
    pub cores: f64,
    /// Share of load-test traffic that passes.
    pub mark_pass: f64,
    /// Queue, in seconds, above which load-test traffic is held anyway.
    pub mark_queue: f64,
    /// Queue above which the guard looks at those with far more in flight than usual.
    pub guard_queue: f64,
    /// Queue above which nothing more passes in [`Tier::All`].
    pub gate_queue: f64,
    /// CPU seconds of a request of an interface that is not among `terms`.
    pub unknown_cost: f64,
    /// By interface.
    pub terms: Box<[Term]>,
    /// What is held, in order of interface.
    pub holds: Box<[Hold]>,
    /// Share of each hold's rate that each worker has: holds × workers.
    pub shares: Box<[f32]>,
}

/// What gates know of an interface.
#[derive(Clone, Copy, Debug)]
pub(super) struct Term {
    /// CPU seconds of a request.
    pub cost: f32,
    /// Requests in flight as usual.
    pub inflight: f32,
    /// Requests offered a second as usual.
    pub rate: f32,
    /// Share of the cores that these use.
    pub share: f32,
    /// How many were offered in all when these orders were given.
    pub seen: u32,
    /// How many were offered in all when those before were given.
    pub seen_before: u32,
    /// Its place among the holds; [`NOT_HELD`].
    pub hold: u32,
}

/// No place among the holds.
pub(super) const NOT_HELD: u32 = u32::MAX;

/// How one interface is held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Hold {
    pub id: InterfaceId,
    /// Requests a second, of all workers together ([`Tier::Culprits`]).
    pub rate: f64,
    /// Share that passes, by class ([`Tier::All`]).
    pub pass: [f32; CLASSES],
}

impl Default for Orders {
    fn default() -> Orders {
        Orders {
            tier: Tier::Idle,
            at: Time::ZERO,
            before: Time::ZERO,
            cores: 1.0,
            mark_pass: 1.0,
            mark_queue: f64::INFINITY,
            guard_queue: f64::INFINITY,
            gate_queue: f64::INFINITY,
            unknown_cost: 0.0,
            terms: Box::default(),
            holds: Box::default(),
            shares: Box::default(),
        }
    }
}

impl Orders {
    pub(super) fn term(&self, id: InterfaceId) -> Option<&Term> {
        self.terms.get(id as usize)
    }

    /// CPU seconds of a request.
    pub(super) fn cost(&self, id: InterfaceId) -> f64 {
        self.term(id).map_or(self.unknown_cost, |t| f64::from(t.cost))
    }

    /// How an interface is held, and its place among the holds.
    pub(super) fn hold(&self, id: InterfaceId) -> Option<(usize, &Hold)> {
        let at = self.term(id)?.hold as usize;
        Some((at, self.holds.get(at)?))
    }

    /// Requests a second of a hold that one worker may let through.
    pub(super) fn rate_of(&self, at: usize, worker: usize, workers: usize) -> f64 {
        let share = self.shares.get(at * workers + worker).copied().unwrap_or(0.0);
        self.holds[at].rate * f64::from(share)
    }
}
