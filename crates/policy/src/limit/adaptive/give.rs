//! From what the controller decided to the orders that gates read.
use super::board::CLASSES;
use super::controller::{Controller, INFANCY};
use super::orders::{Hold, NOT_HELD, Orders, Term, Tier};
use super::signal::{RELEASE, Reading, Standing};
use super::water;
use raddle_core::Time;
use raddle_model::Priority;

/// Queue, above the usual, at which the guard looks at who surges; and at which nothing more passes of what is held.
const GUARD_QUEUE: f64 = 0.06;
pub(super) const GATE_QUEUE: f64 = 0.05;

impl Controller {
    /// Gives the gates their orders.
    pub(super) fn give(&mut self, now: Time, reading: &Reading, minute: Option<u32>) {
        let (holds, shares) = match self.tier {
            Tier::Idle => (Vec::new(), Vec::new()),
            Tier::Culprits => {
                let release = self.release();
                let flows = &self.meter.flows;
                self.culprits.orders(&self.board, |m| {
                    let wanted = flows.get(m.id as usize).map_or(0.0, |f| f.offered) * 1.2;
                    m.limit + (wanted - m.limit).max(0.0) * release
                })
            }
            Tier::All => (self.turns(reading), Vec::new()),
        };
        let mut terms: Vec<Term> = self
            .meter
            .flows
            .iter()
            .zip(&self.usual)
            .enumerate()
            .map(|(i, (flow, usual))| Term {
                cost: self.cost(i) as f32,
                inflight: usual.inflight as f32,
                rate: usual.rate(0, minute) as f32,
                share: (usual.rate(0, minute) * self.cost(i) / reading.cores) as f32,
                seen: flow.seen.0,
                seen_before: flow.seen.1,
                hold: NOT_HELD,
            })
            .collect();
        for (at, hold) in holds.iter().enumerate() {
            terms[hold.id as usize].hold = at as u32;
        }
        let known = self.age >= INFANCY && reading.standing != Standing::Stale;
        let when_known = |queue: f64| if known { queue } else { f64::INFINITY };
        let usual = self.queue.usual;
        // While cores are free, a queue is large requests that run, not small ones that wait; and what is free in a second
        // works off so much of it.
        let free = if self.tier == Tier::All { (self.theta() - reading.cpu).max(0.0) } else { 0.0 };
        self.board.give(Orders {
            tier: self.tier,
            at: now,
            before: self.given.0,
            cores: reading.cores,
            mark_pass: self.mark.pass,
            mark_queue: when_known(usual + 0.1),
            guard_queue: when_known(usual + GUARD_QUEUE),
            gate_queue: when_known(usual + GATE_QUEUE + free + self.costs.typical() / reading.cores),
            unknown_cost: self.costs.typical(),
            terms: terms.into(),
            holds: holds.into(),
            shares: shares.into(),
        });
        self.given = (now, self.given.0);
    }

    /// What part of the way to letting everything go it is, while no sample comes.
    fn release(&self) -> f64 {
        ((self.signal.blind() - 3.0) / RELEASE).clamp(0.0, 1.0)
    }

    /// What part of each interface's classes passes: the highest class is served first, within a class all up to the
    /// same level.
    fn turns(&self, reading: &Reading) -> Vec<Hold> {
        let flows = &self.meter.flows;
        let mut holds: Vec<Hold> =
            (0..flows.len()).map(|i| Hold { id: i as u32, rate: 0.0, pass: [1.0; CLASSES] }).collect();
        let mut room = self.room;
        let release = self.release() as f32;
        for class in [Priority::Critical, Priority::Normal, Priority::Batch, Priority::LoadTest] {
            let class = class as usize;
            let demand = |i: usize| flows[i].classes[class] * self.costs.of(i) / reading.cores;
            let demands: Vec<f64> = (0..flows.len()).map(demand).collect();
            let level = water::level(&demands, room);
            for (hold, demand) in holds.iter_mut().zip(&demands) {
                let pass = if *demand > level { (level / demand) as f32 } else { 1.0 };
                hold.pass[class] = pass + (1.0 - pass) * release;
                room -= demand.min(level);
            }
            room = room.max(0.0);
        }
        holds
    }
}
