//! An ordinary app, made by chance.
use super::{Interface, Retries, Role, Scenario, Sensor};
use crate::chance::Chance;
use crate::server::Discipline;

/// Interfaces of an ordinary app.
const INTERFACES: usize = 100;

/// Seconds before the event, in it and after it, where a scenario does not say otherwise.
const WARM: f64 = 240.0;
const EVENT: f64 = 60.0;
const AFTER: f64 = 30.0;

/// A hundred interfaces with rates after Zipf and costs of 1 to 40 ms, half of which wait for others as well; together
/// they use this share of the cores.
pub(super) fn app(name: &str, about: &str, cores: f64, load: f64, chance: &mut Chance) -> Scenario {
    let mut interfaces: Vec<Interface> = (0..INTERFACES).map(|n| interface(n, chance)).collect();
    fit(&mut interfaces, load * cores, None);
    Scenario {
        name: name.into(),
        about: about.into(),
        cores,
        discipline: Discipline::Sharing,
        interfaces,
        warm: WARM,
        event: EVENT,
        after: AFTER,
        surges: Vec::new(),
        load_test: 0.0,
        capacity: 1.0,
        pauses: None,
        day: None,
        noise: None,
        retries: Retries { attempts: 1, backoff: 0.1 },
        sensor: Sensor { jitter: 0.0, error: 0.01, missing: 0.0, cores: 1.0 },
        memory: None,
        background: [0.0, 0.0],
        later: 0.0,
    }
}

fn interface(rank: usize, chance: &mut Chance) -> Interface {
    let cpu = chance.lognormal(0.0055, 0.8).clamp(0.001, 0.04);
    let io = if chance.unit() < 0.5 { chance.between(0.002, 0.04) } else { 0.0 };
    let sigma = chance.between(0.3, 0.7);
    Interface {
        rate: 1.0 / (rank + 1) as f64,
        cpu,
        sigma,
        io,
        timeout: 1.0,
        memory: 0.0,
        role: Role::Innocent,
    }
}

/// Scales all rates, but that of the interfaces up to `fixed`, such that together they use this many cores.
pub(super) fn fit(interfaces: &mut [Interface], cores: f64, fixed: Option<&[usize]>) {
    let fixed = fixed.unwrap_or(&[]);
    let (mut held, mut free) = (0.0, 0.0);
    for (n, i) in interfaces.iter().enumerate() {
        *if fixed.contains(&n) { &mut held } else { &mut free } += i.rate * i.cpu;
    }
    let factor = (cores - held).max(0.0) / free;
    for (n, i) in interfaces.iter_mut().enumerate() {
        if !fixed.contains(&n) {
            i.rate *= factor;
        }
    }
}

impl Scenario {
    /// Makes these interfaces, each with a share of the cores, the culprits; the whole load stays what it was.
    pub(super) fn culprits(&mut self, shares: &[(usize, f64)]) {
        let load = self.load();
        for &(n, share) in shares {
            let i = &mut self.interfaces[n];
            i.role = Role::Culprit;
            i.rate = share * self.cores / i.cpu;
        }
        let fixed: Vec<usize> = shares.iter().map(|s| s.0).collect();
        fit(&mut self.interfaces, load * self.cores, Some(&fixed));
    }
}
