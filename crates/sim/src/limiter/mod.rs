//! What stands between callers and app: ours, and what others have published, behind one trait.
pub mod none;
pub mod raddle;

use raddle_model::Priority;
use raddle_policy::limit::adaptive::Sample;
use std::fmt;

/// A call, as a sidecar sees it when it comes in.
#[derive(Clone, Copy, Debug, Default)]
pub struct Call {
    /// Which interface.
    pub interface: u32,
    /// Its class; load tests are marked.
    pub priority: Priority,
    /// Whom it is for, hashed.
    pub user: u32,
    /// Which worker of the sidecar has its connection.
    pub worker: u8,
}

/// How a call that was admitted has ended.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// Seconds from admission.
    pub latency: f64,
    /// How many of them it waited in the server: for a thread, or because it had less than a core. A sidecar
    /// cannot see that; schemes that live inside the app can.
    pub queued: f64,
    /// The server refused or lost it.
    pub failed: bool,
    /// Its caller had given up before.
    pub late: bool,
}

/// A scheme that decides which calls the app gets. Times are seconds since the start.
pub trait Limiter: fmt::Debug {
    /// Whether a call may pass.
    fn admit(&mut self, call: &Call, now: f64) -> bool;

    /// A call that passed has ended.
    fn complete(&mut self, call: &Call, end: &End, now: f64);

    /// A caller gave up waiting; the call itself goes on.
    fn timed_out(&mut self, call: &Call, now: f64) {
        let _ = (call, now);
    }

    /// Seconds between two looks at the app's load.
    fn period(&self) -> f64 {
        1.0
    }

    /// A look at the app's load over the time since the last one; absent = it could not be read.
    fn tick(&mut self, now: f64, sample: Option<&Sample>) {
        let _ = (now, sample);
    }

    /// What it has to say of what it did since it was last asked, each with its time.
    fn notes(&mut self) -> Vec<(f64, String)> {
        Vec::new()
    }
}

/// The schemes there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Ours: the code that ships.
    Raddle,
    /// Nothing.
    None,
}

impl Scheme {
    /// All of them, ours first.
    pub const ALL: [Scheme; 2] = [Scheme::Raddle, Scheme::None];

    /// What it is called on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Raddle => "raddle",
            Scheme::None => "none",
        }
    }

    /// The scheme of this name.
    pub fn named(name: &str) -> Option<Scheme> {
        Scheme::ALL.into_iter().find(|s| s.name() == name)
    }

    /// One of it, for an app of these interfaces.
    pub fn build(self, interfaces: usize, seed: u64) -> Box<dyn Limiter> {
        match self {
            Scheme::Raddle => Box::new(raddle::Raddle::new(interfaces, seed)),
            Scheme::None => Box::new(none::Unlimited),
        }
    }
}
