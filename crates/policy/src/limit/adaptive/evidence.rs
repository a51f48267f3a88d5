//! What people are told: events with their evidence, and the view behind `/limits` and `raddle explain limit`.
use raddle_core::Time;
use serde::Serialize;
use std::sync::Arc;

/// Something people should know of.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// When.
    #[serde(skip)]
    pub at: Time,
    /// Which activation it belongs to, counted from 1; 0 = none.
    pub activation: u64,
    /// What kind of thing it is.
    pub kind: Kind,
    /// One sentence: what happened and by what evidence.
    pub text: String,
}

/// Kinds of [`Event`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// The app's machine is short: from now on something is held.
    Began,
    /// Interfaces are held, or no more, or everything is.
    Culprits,
    /// What passes was cut.
    Cut,
    /// What passes was raised.
    Restored,
    /// Nothing is held any more.
    Ended,
    /// Something about what is read of the app: it is gone, back, or not what it says.
    Signal,
}

/// What `/limits` and `raddle explain limit` show.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// Whether it holds anything now.
    pub active: bool,
    /// Whether refusals are counted only.
    pub observe: bool,
    /// 0 = nothing is held, 1 = those that cause the shortage, 2 = everything.
    pub tier: u8,
    /// Seconds since it holds something.
    pub since_secs: f64,
    /// What it goes by: `load` = samples of the app's load; `latency` = latency alone, as no sample ever came;
    /// `stale` = samples came, but none of late.
    pub signal: &'static str,
    /// The last second.
    pub level: Level,
    /// Those that are held for causing the shortage, by excess.
    pub culprits: Vec<Culprit>,
    /// Those that use most of the CPU.
    pub top: Vec<Interface>,
    /// Interfaces known.
    pub interfaces: usize,
    /// The last 120 seconds, oldest first.
    pub history: Vec<Level>,
    /// The last activations, oldest first.
    pub activations: Vec<Activation>,
}

/// One second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Level {
    /// Seconds of the process's monotonic clock.
    pub at_secs: f64,
    /// Share of the cores in use.
    pub cpu: f64,
    /// Share above which they are short.
    pub theta: f64,
    /// Cores counted with.
    pub cores: f64,
    /// Share of the memory in use; 0 = not known.
    pub memory: f64,
    /// Queue in seconds of the app's work.
    pub q: f64,
    /// Queue above which it counts as growing.
    pub qref: f64,
    /// How much shortage has added up; 1 begins an activation.
    pub s: f64,
    /// The trim of what culprits may use.
    pub g: f64,
    /// Share of load-test traffic that passes.
    pub mark_p: f64,
    /// Share of the cores that culprits may use.
    pub room: f64,
    /// 0, 1 or 2, as in [`View`].
    pub tier: u8,
    /// Requests offered in that second.
    pub offered: u32,
    /// Of these, refused: by [`super::Why`], in its order.
    pub refused: [u32; 4],
}

/// An interface that is held.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Culprit {
    /// Its name.
    pub name: Arc<str>,
    /// Requests offered a second.
    pub offered: f64,
    /// Requests a second that pass.
    pub limit: f64,
    /// Requests a second as usual.
    pub baseline: f64,
    /// Share of the cores that it asks for.
    pub demand: f64,
    /// CPU milliseconds of a request.
    pub cost_ms: f64,
    /// How many times the usual.
    pub rise: f64,
    /// Whether it is its cost that rose.
    pub dearer: bool,
}

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// Its name.
    pub name: Arc<str>,
    /// Share of the cores.
    pub share: f64,
    /// CPU milliseconds of a request.
    pub cost_ms: f64,
    /// Requests offered a second.
    pub offered: f64,
    /// Requests a second as usual.
    pub baseline: f64,
    /// Requests in flight.
    pub inflight: u32,
    /// Mean latency of late in milliseconds.
    pub latency_ms: f64,
}

/// One time that something was held.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Activation {
    /// Counted from 1.
    pub number: u64,
    /// Seconds of the process's monotonic clock.
    pub began_secs: f64,
    /// The same for its end; absent = it goes on.
    pub ended_secs: Option<f64>,
    /// What was short.
    pub cause: String,
    /// Who was held.
    pub culprits: Vec<Culprit>,
    /// Highest share of the cores seen.
    pub peak_cpu: f64,
    /// Longest queue seen, in seconds.
    pub peak_queue: f64,
    /// Requests refused, by [`super::Why`], in its order.
    pub refused: [u64; 4],
    /// The rule only observed: they would have been refused, and passed.
    pub observed: bool,
    /// Why it ended; empty = it goes on.
    pub end: String,
}
