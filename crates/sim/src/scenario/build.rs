//! An ordinary app, made by chance.
use super::{Interface, Retries, Role, Scenario, Sensor};
use crate::chance::Chance;
use crate::server::Discipline;

/// What apps are made of. The default is the ordinary app of all scenarios; variants draw their own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Make {
    pub(super) cores: f64,
    pub(super) interfaces: usize,
    /// Exponent of Zipf's law.
    pub(super) zipf: f64,
    /// Median-like CPU seconds of a call, and the deviation of their logarithm between interfaces.
    pub(super) cpu: f64,
    pub(super) spread: f64,
    /// Share of the interfaces that wait for others.
    pub(super) waiting: f64,
    /// Seconds before the event and in it, where a scenario does not say otherwise.
    pub(super) warm: f64,
    pub(super) event: f64,
    /// What surges are multiplied by once more.
    pub(super) surge: f64,
    /// Relative error of the sensor.
    pub(super) error: f64,
}

impl Make {
    /// The ordinary app.
    pub(super) const ORDINARY: Make = Make {
        cores: 4.0,
        interfaces: 100,
        zipf: 1.0,
        cpu: 0.0055,
        spread: 0.8,
        waiting: 0.5,
        warm: 240.0,
        event: 60.0,
        surge: 1.0,
        error: 0.01,
    };

    /// Another app: as unlike the ordinary one as apps are.
    pub(super) fn variant(number: u64) -> Make {
        let mut chance = Chance::new(number, 2);
        Make {
            cores: [2.0, 3.0, 4.0, 6.0, 8.0][chance.below(5)],
            interfaces: 40 + chance.below(160),
            zipf: chance.between(0.7, 1.2),
            cpu: chance.between(0.003, 0.009),
            spread: chance.between(0.4, 1.1),
            waiting: chance.between(0.2, 0.9),
            warm: chance.between(200.0, 400.0).round(),
            event: chance.between(45.0, 120.0).round(),
            surge: chance.between(0.9, 1.6),
            error: chance.between(0.0, 0.03),
        }
    }
}

/// Seconds after the event.
const AFTER: f64 = 30.0;

/// Interfaces with rates after Zipf and costs of 1 to 40 ms, some of which wait for others as well; together they use
/// this share of the cores.
pub(super) fn app(name: &str, about: &str, make: &Make, load: f64, chance: &mut Chance) -> Scenario {
    let mut interfaces: Vec<Interface> = (0..make.interfaces).map(|n| interface(n, make, chance)).collect();
    fit(&mut interfaces, load * make.cores, None);
    Scenario {
        name: name.into(),
        about: about.into(),
        cores: make.cores,
        discipline: Discipline::Sharing,
        interfaces,
        warm: make.warm,
        event: make.event,
        after: AFTER,
        surges: Vec::new(),
        load_test: 0.0,
        capacity: 1.0,
        pauses: None,
        day: None,
        noise: None,
        retries: Retries { attempts: 1, backoff: 0.1 },
        sensor: Sensor { jitter: 0.0, error: make.error, missing: 0.0, cores: 1.0 },
        memory: None,
        background: [0.0, 0.0],
        later: 0.0,
    }
}

fn interface(rank: usize, make: &Make, chance: &mut Chance) -> Interface {
    let cpu = chance.lognormal(make.cpu, make.spread).clamp(0.001, 0.04);
    let io = if chance.unit() < make.waiting { chance.between(0.002, 0.04) } else { 0.0 };
    let sigma = chance.between(0.3, 0.7);
    Interface {
        rate: ((rank + 1) as f64).powf(-make.zipf),
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
    /// Makes these interfaces, each with a share of the cores, the culprits; the whole load is this one.
    pub(super) fn culprits(&mut self, load: f64, shares: &[(usize, f64)]) {
        for &(n, share) in shares {
            let i = &mut self.interfaces[n];
            i.role = Role::Culprit;
            i.rate = share * self.cores / i.cpu;
        }
        let fixed: Vec<usize> = shares.iter().map(|s| s.0).collect();
        fit(&mut self.interfaces, load * self.cores, Some(&fixed));
    }
}
