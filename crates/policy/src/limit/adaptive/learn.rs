//! What is usual, learned while it is.
use super::controller::{Controller, INFANCY, Load};
use super::cost;
use super::meter::Flow;
use super::orders::Tier;
use super::rise::{self, Usual};
use super::signal::{Reading, Standing};

impl Controller {
    /// Learns what is usual, while it is.
    pub(super) fn learn(&mut self, reading: &Reading, load: Load, minute: Option<u32>, seconds: f64) {
        if reading.standing == Standing::Latency {
            self.costs.assume(self.usual.iter().map(|u| u.latency));
        }
        if reading.standing == Standing::Stale {
            return;
        }
        let held = self.tier == Tier::All || !self.culprits.members.is_empty();
        if let Some(used) = reading.used
            && ((load.level <= 0.9 && !self.drains(reading.cores) && !held) || self.age < INFANCY)
        {
            let usual = self.usual.iter();
            let work: Vec<cost::Work> = self.meter.flows.iter().zip(usual).map(|(f, u)| work(f, u)).collect();
            self.costs.learn(used * seconds, &work, seconds);
        }
        let odd = load.level > 0.9 || (self.shortage > 0.9 && self.drains(reading.cores));
        if held || (odd && self.age >= INFANCY) {
            return;
        }
        let pull = 1.0 / self.age.clamp(1.0, 60.0);
        self.queue.usual += (self.queue.now - self.queue.usual) * pull;
        if let Some(memory) = reading.memory {
            let usual = self.memory_usual.get_or_insert(memory);
            *usual += (memory - *usual) * (seconds / 300.0).min(0.5);
        }
        for (flow, usual) in self.meter.flows.iter().zip(&mut self.usual) {
            usual.learn(flow.offered, flow.inflight, flow.latency, seconds);
            if let Some(minute) = minute {
                if !usual.has_week() {
                    if self.weeks >= rise::WEEKS {
                        continue;
                    }
                    self.weeks += 1;
                }
                usual.learn_week(minute, flow.offered, seconds);
            }
        }
    }
}

fn work(flow: &Flow, usual: &Usual) -> cost::Work {
    let latency = if usual.latency > 0.0 { usual.latency } else { flow.lately };
    cost::Work { completed: flow.worked, latency, said: flow.said }
}
