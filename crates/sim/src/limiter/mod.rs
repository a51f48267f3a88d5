//! What stands between callers and app: ours, and what others have published, behind one trait.
pub mod admission;
pub mod aimd;
pub mod codel;
pub mod dagor;
pub mod gradient;
pub mod gradient2;
pub mod kratos;
pub mod none;
pub mod raddle;
pub mod seed;
pub mod sentinel;
pub mod vegas;

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

    /// A look at the app's load over the time since the last one; absent = it could not be read. `active` is the mean
    /// number of calls that ran or wanted to, of which a machine's load average is made.
    fn tick(&mut self, now: f64, sample: Option<&Sample>, active: f64) {
        let _ = (now, sample, active);
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
    /// Sentinel's system rule.
    Sentinel,
    /// BBR of Kratos.
    Kratos,
    /// Netflix's Vegas.
    Vegas,
    /// Netflix's Gradient2.
    Gradient2,
    /// Envoy's adaptive concurrency.
    Gradient,
    /// Envoy's admission control.
    Admission,
    /// WeChat's DAGOR.
    Dagor,
    /// The plain scheme of Ant Group's account.
    Seed,
    /// Netflix's AIMD.
    Aimd,
    /// A gate after CoDel.
    Codel,
}

impl Scheme {
    /// All of them, ours first.
    pub const ALL: [Scheme; 12] = [
        Scheme::Raddle,
        Scheme::None,
        Scheme::Sentinel,
        Scheme::Kratos,
        Scheme::Vegas,
        Scheme::Gradient2,
        Scheme::Gradient,
        Scheme::Admission,
        Scheme::Dagor,
        Scheme::Seed,
        Scheme::Aimd,
        Scheme::Codel,
    ];

    /// What it is called on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Scheme::Raddle => "raddle",
            Scheme::None => "none",
            Scheme::Sentinel => "sentinel",
            Scheme::Kratos => "kratos",
            Scheme::Vegas => "vegas",
            Scheme::Gradient2 => "gradient2",
            Scheme::Gradient => "envoy-ac",
            Scheme::Admission => "envoy-adm",
            Scheme::Dagor => "dagor",
            Scheme::Seed => "seed",
            Scheme::Aimd => "aimd",
            Scheme::Codel => "codel",
        }
    }

    /// What it is, in a few words.
    pub fn about(self) -> &'static str {
        match self {
            Scheme::Raddle => "ours: the code that ships, two workers",
            Scheme::None => "no limiter",
            Scheme::Sentinel => "Sentinel's system rule (load1 > 2.5 by core)",
            Scheme::Kratos => "BBR of Kratos (aegis)",
            Scheme::Vegas => "Vegas of Netflix's concurrency-limits",
            Scheme::Gradient2 => "Gradient2 of Netflix's concurrency-limits",
            Scheme::Gradient => "Envoy's adaptive concurrency",
            Scheme::Admission => "Envoy's admission control",
            Scheme::Dagor => "WeChat's DAGOR",
            Scheme::Seed => "the plain scheme of Ant Group's account of MOSN",
            Scheme::Aimd => "AIMD of Netflix's concurrency-limits",
            Scheme::Codel => "a gate after CoDel (RFC 8289)",
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
            Scheme::Sentinel => Box::new(sentinel::Sentinel::default()),
            Scheme::Kratos => Box::new(kratos::Kratos::default()),
            Scheme::Vegas => Box::new(vegas::Vegas::new(seed)),
            Scheme::Gradient2 => Box::new(gradient2::Gradient2::default()),
            Scheme::Gradient => Box::new(gradient::Gradient::new(seed)),
            Scheme::Admission => Box::new(admission::Admission::new(seed)),
            Scheme::Dagor => Box::new(dagor::Dagor::default()),
            Scheme::Seed => Box::new(seed::Seed::new(interfaces)),
            Scheme::Aimd => Box::new(aimd::Aimd::default()),
            Scheme::Codel => Box::new(codel::Codel::default()),
        }
    }
}
