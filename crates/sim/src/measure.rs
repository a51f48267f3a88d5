//! What happened in a run, second by second, and the figures taken from it.
mod figures;
mod latency;

pub use figures::{Measures, THETA};
pub use latency::Latencies;

use crate::limiter::Call;
use crate::scenario::{Role, Scenario};
use crate::server::{Job, Server};
use crate::world::Arrival;
use raddle_model::Priority;
use serde::Serialize;

/// Whose calls are counted apart: the innocent, the culprits, load tests.
pub const CLASSES: usize = 3;

/// One second of a run. Calls are counted in the second in which their caller first asked.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Second {
    /// Cores at its end.
    pub cores: f64,
    /// Cores in use, on average.
    pub busy: f64,
    /// Core seconds that admitted calls still need at its end, by cores: seconds of work.
    pub queue: f64,
    /// Calls that callers wanted made.
    pub offered: [u32; CLASSES],
    /// Those of them that were answered in time.
    pub good: [u32; CLASSES],
    /// CPU seconds that they would take.
    pub offered_work: [f64; CLASSES],
    /// CPU seconds of those answered in time.
    pub good_work: [f64; CLASSES],
    /// Attempts that came in this second.
    pub attempts: [u32; CLASSES],
    /// Those of them that the limiter rejected.
    pub rejects: [u32; CLASSES],
}

/// What happened.
#[derive(Clone, Debug)]
pub struct Run {
    /// Each second from the start.
    pub seconds: Vec<Second>,
    /// Latencies of the innocent before the event, by interface.
    pub idle: Vec<Latencies>,
    /// Latencies of the innocent in the event, by interface.
    pub event: Vec<Latencies>,
    /// Calls that the server refused by itself.
    pub refused: u64,
    /// How often the app died.
    pub crashes: u32,
    /// What the limiter said, with when.
    pub notes: Vec<(f64, String)>,
    roles: Vec<Role>,
    deadlines: Vec<f64>,
    window: [f64; 3],
    closed: (f64, f64),
}

impl Run {
    pub(crate) fn new(scenario: &Scenario) -> Run {
        let patience = if scenario.retries.attempts > 1 { 2.0 } else { 1.0 };
        Run {
            seconds: vec![Second::default(); scenario.end().ceil() as usize + 1],
            idle: vec![Latencies::default(); scenario.interfaces.len()],
            event: vec![Latencies::default(); scenario.interfaces.len()],
            refused: 0,
            crashes: 0,
            notes: Vec::new(),
            roles: scenario.interfaces.iter().map(|i| i.role).collect(),
            deadlines: scenario.interfaces.iter().map(|i| i.timeout * patience).collect(),
            window: [scenario.warm / 2.0, scenario.warm, scenario.warm + scenario.event],
            closed: (0.0, 0.0),
        }
    }

    fn class(&self, call: &Call) -> usize {
        if call.priority == Priority::LoadTest {
            return 2;
        }
        usize::from(self.roles[call.interface as usize] == Role::Culprit)
    }

    /// A caller wants a call made.
    pub(crate) fn offer(&mut self, now: f64, arrival: &Arrival) {
        let class = self.class(&arrival.call);
        let second = &mut self.seconds[now as usize];
        second.offered[class] += 1;
        second.offered_work[class] += arrival.work();
    }

    /// An attempt came to the limiter.
    pub(crate) fn attempted(&mut self, now: f64, arrival: &Arrival, admitted: bool) {
        let class = self.class(&arrival.call);
        let second = &mut self.seconds[now as usize];
        second.attempts[class] += 1;
        second.rejects[class] += u32::from(!admitted);
    }

    /// A call was answered while its caller still waited.
    pub(crate) fn answered(&mut self, now: f64, job: &Job) {
        let class = self.class(&job.call);
        let latency = now - job.first;
        if latency <= self.deadlines[job.call.interface as usize] {
            let second = &mut self.seconds[job.first as usize];
            second.good[class] += 1;
            second.good_work[class] += job.cpu[0] + job.cpu[1] + job.later;
        }
        self.waited(&job.call, job.first, latency);
    }

    /// A caller gave up.
    pub(crate) fn gave_up(&mut self, now: f64, call: &Call, first: f64) {
        self.waited(call, first, now - first);
    }

    fn waited(&mut self, call: &Call, first: f64, latency: f64) {
        let [idle, event, end] = self.window;
        let interface = call.interface as usize;
        if self.class(call) != 0 {
        } else if (idle..event).contains(&first) {
            self.idle[interface].add(latency);
        } else if (event..end).contains(&first) {
            self.event[interface].add(latency);
        }
    }

    /// What this share of the innocents' latencies in the event does not exceed, less what it would be for the same
    /// calls before: each interface's latencies at rest weigh as much as its calls in the event do. Where an interface
    /// that takes long by nature is called more often, calls take longer on the whole though none takes longer than it
    /// did.
    pub fn over_idle(&self, share: f64) -> f64 {
        let event: Vec<(&Latencies, f64)> = self.event.iter().map(|l| (l, 1.0)).collect();
        let weight = |(idle, event): (&Latencies, &Latencies)| event.count() / idle.count().max(1.0);
        let weights = self.idle.iter().zip(&self.event).map(weight);
        let idle: Vec<(&Latencies, f64)> = self.idle.iter().zip(weights).collect();
        Latencies::quantile_of(&event, share) - Latencies::quantile_of(&idle, share)
    }

    /// A second (the last one maybe shorter) is over.
    pub(crate) fn close(&mut self, now: f64, server: &Server) {
        let (at, busy) = self.closed;
        if now > at {
            let second = &mut self.seconds[at as usize];
            second.busy = (server.busy - busy) / (now - at);
            second.cores = server.cores;
            second.queue = server.backlog / server.cores;
            self.closed = (now, server.busy);
        }
    }
}
