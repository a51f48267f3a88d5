//! The scenarios by name. What the seed decides: the app, its load, which interface it is that surges.
use super::build::{Make, app, fit};
use super::{Day, Noise, Pauses, Retries, Role, Scenario, Sensor, Shape, Surge};
use crate::chance::Chance;
use crate::server::Discipline;

/// All names, with what befalls the app, in the order of tables.
pub const ALL: [(&str, &str); 26] = [
    ("S1", "one interface ×5"),
    ("S1x10", "one interface ×10"),
    ("S1x20", "one interface ×20"),
    ("S2", "a call of 300 ms CPU ×6"),
    ("S3", "the collector stops the app for 300 ms every 10 s"),
    ("S4", "a load test of 0.8 C, marked"),
    ("S5", "half of the cores are taken away"),
    ("S6", "one interface ×5 for 20 s, callers try three times"),
    ("S7", "one interface ×5, one that only waits ×2"),
    ("S8", "one interface slowly to ×6, over 3 minutes"),
    ("S9", "a day between 0.3 and 0.72, in 30 minutes"),
    ("S10", "one interface's calls cost ×10"),
    ("two", "two interfaces ×5"),
    ("three", "three interfaces ×5"),
    ("pool", "one interface ×5, 64 threads with a queue of 1,000"),
    ("pool-S5", "half of the cores, 64 threads with a queue of 1,000"),
    ("pool-S10", "one interface's calls cost ×10, 64 threads"),
    ("jitter", "one interface ×5, looks at the load 20 % early or late, 5 % wrong"),
    ("missing", "one interface ×5, a tenth of the looks at the load fail"),
    ("cores+50", "one interface ×5, the app is taken to have half as many cores more"),
    ("cores-50", "one interface ×5, the app is taken to have half of its cores"),
    ("memory", "an interface that waits and holds memory slowly to ×8"),
    ("background", "one interface ×5, 0.15 C are used by no call"),
    ("later", "one interface ×5, 40 % of CPU time is used after the answer"),
    ("retries", "one interface ×5 for 60 s, callers try three times"),
    ("noise", "72 minutes of rates that wander and small collector pauses"),
];

/// What noise asks for at most, as a share of the cores: the level above which they are called short. Rates that wander
/// by themselves go beyond all there is now and then; that is an overload, and to hold somebody then is right.
const NOISE: f64 = crate::measure::THETA;

/// Those of which the bars of `limiting.md` are asked.
pub const BARRED: [&str; 13] =
    ["S1", "S1x10", "S1x20", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "S9", "S10", "noise"];

/// The scenario of this name as this seed makes it; `None` if there is none.
pub fn find(name: &str, seed: u64) -> Option<Scenario> {
    make(name, seed, &Make::ORDINARY)
}

/// The same, of an app that this number makes: other cores, interfaces, costs, times and surges. What the limiter was
/// tuned with says nothing of it.
pub fn variant(name: &str, seed: u64, number: u64) -> Option<Scenario> {
    make(name, seed ^ number.wrapping_mul(0x9e37_79b9), &Make::variant(number))
}

fn make(name: &str, seed: u64, make: &Make) -> Option<Scenario> {
    let (name, about) = ALL.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
    let mut chance = Chance::new(seed, 1);
    let load = chance.between(0.5, 0.7);
    let mut s = app(name, about, make, load, &mut chance);
    // Which interfaces are concerned is drawn for all scenarios alike, such that they can be compared.
    let mut picks: Vec<usize> = Vec::new();
    while picks.len() < 4 {
        let pick = 2 + chance.below(20);
        if !picks.contains(&pick) {
            picks.push(pick);
        }
    }
    let share = chance.between(0.12, 0.16);
    let grown = |factor: f64| if factor > 1.0 { factor * make.surge } else { 1.0 };
    let step =
        |interface, rate, cost| Surge { interface, rate: grown(rate), cost: grown(cost), shape: Shape::Step };
    let one = |s: &mut Scenario, load: f64, factor: f64| {
        s.culprits(load, &[(picks[0], share)]);
        s.surges = vec![step(picks[0], factor, 1.0)];
    };
    match name {
        "S1x10" => one(&mut s, load, 10.0),
        "S1x20" => one(&mut s, load, 20.0),
        "S2" => {
            s.interfaces[picks[0]].cpu = 0.3;
            s.interfaces[picks[0]].timeout = 3.0;
            s.culprits(load, &[(picks[0], chance.between(0.1, 0.13))]);
            s.surges = vec![step(picks[0], 6.0, 1.0)];
        }
        "S3" => s.pauses = Some(Pauses { every: 10.0, length: 0.3 }),
        "S4" => s.load_test = 0.8,
        "S5" | "pool-S5" => {
            fit(&mut s.interfaces, 0.6 * s.cores, None);
            s.capacity = 0.5;
        }
        "S6" => {
            one(&mut s, load, 5.0);
            s.event = 20.0;
            s.retries = Retries { attempts: 3, backoff: 0.1 };
        }
        "S7" => {
            let i = &mut s.interfaces[picks[1]];
            // Many calls in flight, hardly any CPU: what waits for others.
            (i.io, i.cpu, i.timeout) = (0.4, 0.001, 3.0);
            i.rate = chance.between(40.0, 80.0);
            one(&mut s, load, 5.0);
            s.surges.push(step(picks[1], 2.0, 1.0));
        }
        "S8" => {
            one(&mut s, load, 6.0);
            s.surges[0].shape = Shape::Ramp(180.0);
            s.event = 240.0;
        }
        "S9" => {
            s.day = Some(Day { low: 0.3, high: 0.72, length: 1800.0 });
            (s.warm, s.event) = (300.0, 1800.0);
        }
        "S10" | "pool-S10" => {
            s.culprits(load, &[(picks[0], chance.between(0.07, 0.1))]);
            s.surges = vec![step(picks[0], 1.0, 10.0)];
        }
        "two" | "three" => {
            let n = if name == "two" { 2 } else { 3 };
            let shares: Vec<(usize, f64)> =
                picks[..n].iter().map(|&p| (p, chance.between(0.16, 0.2) / n as f64)).collect();
            s.culprits(load, &shares);
            s.surges = shares.iter().map(|&(p, _)| step(p, 5.0, 1.0)).collect();
        }
        "memory" => {
            let i = &mut s.interfaces[picks[0]];
            (i.io, i.cpu, i.timeout, i.memory) = (0.5, 0.0005, 3.0, 0.002);
            i.rate = 80.0;
            i.role = Role::Culprit;
            fit(&mut s.interfaces, 0.6 * s.cores, Some(&[picks[0]]));
            // Slowly enough for one who looks once a second: about 7 s from 0.9 to 1.
            s.surges = vec![Surge { shape: Shape::Ramp(60.0), ..step(picks[0], 8.0, 1.0) }];
            s.event = 120.0;
            s.memory = Some(0.5);
        }
        "background" => {
            one(&mut s, load - 0.1, 5.0);
            s.background = [0.15, 0.15];
        }
        "noise" => {
            fit(&mut s.interfaces, chance.between(0.5, 0.62) * s.cores, None);
            s.noise = Some(Noise { sigma: 0.3, memory: 60.0, most: NOISE });
            s.pauses = Some(Pauses { every: 30.0, length: 0.05 });
            s.sensor = Sensor { jitter: 0.05, error: 0.02, missing: 0.001, cores: 1.0 };
            (s.warm, s.event) = (300.0, 4320.0);
        }
        _ => one(&mut s, load, 5.0),
    }
    match name {
        "pool" | "pool-S5" | "pool-S10" => s.discipline = Discipline::Pool { threads: 64, queue: 1000 },
        "jitter" => s.sensor = Sensor { jitter: 0.2, error: 0.05, ..s.sensor },
        "missing" => s.sensor.missing = 0.1,
        "cores+50" => s.sensor.cores = 1.5,
        "cores-50" => s.sensor.cores = 0.5,
        "later" => s.later = 0.4,
        "retries" => s.retries = Retries { attempts: 3, backoff: 0.1 },
        _ => {}
    }
    Some(s)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_begins_with_a_load_that_its_cores_can_take() {
        for (name, _) in ALL {
            for seed in 1..=40 {
                for s in [find(name, seed).unwrap(), variant(name, seed, seed).unwrap()] {
                    let load = s.load() + s.background[0];
                    let range = if name == "background" { 0.5..0.76 } else { 0.49..0.71 };
                    assert!(range.contains(&load), "{name} {seed}: {load}");
                    assert!(
                        s.interfaces.iter().all(|i| i.rate >= 0.0 && i.rate.is_finite()),
                        "{name} {seed}"
                    );
                }
            }
        }
    }

    #[test]
    fn in_events_something_is_short_and_the_innocent_have_room() {
        for (name, _) in ALL.iter().filter(|(n, _)| !["S3", "S9", "noise", "memory"].contains(n)) {
            for seed in 1..=40 {
                let s = find(name, seed).unwrap();
                let t = s.warm + s.event - 0.5;
                let innocent = s.demand(Role::Innocent, t) + s.background[1];
                let asked = innocent + s.demand(Role::Culprit, t) + s.load_test;
                assert!(asked > 0.9 * s.capacity, "{name} {seed}: {asked} is asked for");
                assert!(innocent < 0.65 || s.surges.is_empty(), "{name} {seed}: {innocent}");
            }
        }
    }
}
