//! What the controller saw and did in each second of a run:
//! `cargo run --release -p raddle-sim --example ticks SCENARIO SEED [FROM] [TO] [--variant]`; seconds from the event's
//! begin.
use raddle_core::Time;
use raddle_model::AdaptiveSettings;
use raddle_policy::limit::adaptive::{Board, Controller, Gate, InterfaceId, Sample};
use raddle_policy::rng::Rng;
use raddle_sim::limiter::{Call, End, Limiter};
use raddle_sim::scenario::{Role, find, variant};
use raddle_sim::{Measures, run};
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
struct Told {
    ids: Vec<InterfaceId>,
    gates: Vec<Gate>,
    chance: Vec<Rng>,
    controller: Controller,
    window: [f64; 3],
}

fn time(now: f64) -> Time {
    Time::from_nanos(((now + 1000.0) * 1e9) as u64)
}

impl Limiter for Told {
    fn admit(&mut self, call: &Call, now: f64) -> bool {
        let worker = usize::from(call.worker) % 2;
        let id = self.ids[call.interface as usize];
        self.gates[worker].admit(id, call.priority, time(now), &mut self.chance[worker]).is_ok()
    }

    fn complete(&mut self, call: &Call, end: &End, _: f64) {
        let id = self.ids[call.interface as usize];
        let latency = Duration::from_secs_f64(end.latency);
        self.gates[usize::from(call.worker) % 2].complete(id, latency, None, end.failed);
    }

    fn tick(&mut self, now: f64, sample: Option<&Sample>, _: f64) {
        let events = self.controller.tick(time(now), Some((now / 60.0) as u32 % 10_080), sample);
        let at = now - self.window[2];
        if at < self.window[0] || at > self.window[1] {
            return;
        }
        let view = self.controller.view();
        let l = view.level;
        println!(
            "{at:7.2} cpu {:.2}/{:.1} mem {:.2} q {:.3}/{:.3} s {:.2} tier {} g {:.2} room {:.2} offered {} refused {:?}",
            l.cpu, l.cores, l.memory, l.q, l.qref, l.s, l.tier, l.g, l.room, l.offered, l.refused
        );
        for c in &view.culprits {
            println!(
                "          {} offered {:.0} limit {:.0} base {:.0} demand {:.2} cost {:.2} ms dearer {}",
                c.name, c.offered, c.limit, c.baseline, c.demand, c.cost_ms, c.dearer
            );
        }
        for event in events {
            println!("          - {}", event.text);
        }
    }
}

fn main() {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let variants = arguments.iter().any(|a| a == "--variant");
    arguments.retain(|a| a != "--variant");
    let number = |n: usize, or: f64| arguments.get(n).and_then(|s| s.parse().ok()).unwrap_or(or);
    let (name, seed) = (arguments.first().map_or("S1", String::as_str), number(1, 1.0) as u64);
    let scenario = if variants { variant(name, seed, seed) } else { find(name, seed) };
    let Some(scenario) = scenario else { return println!("there is no scenario {name}") };
    let settings = AdaptiveSettings::default();
    let board = Arc::new(Board::new(2, &settings));
    let mut told = Told {
        ids: (0..scenario.interfaces.len()).map(|i| board.id(&format!("call-{i}"))).collect(),
        gates: (0..2).map(|w| Gate::new(board.clone(), w)).collect(),
        chance: (0..2u64).map(|w| Rng::new(seed ^ (w << 32))).collect(),
        controller: Controller::new(board, &settings),
        window: [number(2, -3.0), number(3, 20.0), scenario.warm],
    };
    for (n, i) in scenario.interfaces.iter().enumerate().filter(|(_, i)| i.role == Role::Culprit) {
        println!("culprit call-{n}: {:.1}/s × {:.2} ms + {:.1} ms", i.rate, i.cpu * 1e3, i.io * 1e3);
    }
    println!("{} cores, load {:.2}", scenario.cores, scenario.load());
    let run = run(&scenario, seed, &mut told);
    let from = (scenario.warm + number(2, -3.0)) as usize;
    let to = ((scenario.warm + number(3, 20.0)) as usize).min(run.seconds.len());
    for (n, s) in run.seconds[from..to].iter().enumerate() {
        let rejected = s.rejects;
        println!(
            "{:5} busy {:.2} queue {:.3} offered {:?} good {:?} rejected {rejected:?}",
            n as i64 + from as i64 - scenario.warm as i64,
            s.busy / s.cores,
            s.queue,
            s.offered,
            s.good
        );
    }
    println!("{:?}", Measures::of(&scenario, &run));
}
