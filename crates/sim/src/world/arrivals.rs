//! New calls: open loop, by chance alone, whatever the server does.
use crate::chance::Chance;
use crate::limiter::Call;
use crate::scenario::Scenario;
use raddle_model::Priority;

/// A call that a caller wants made, with what it will cost.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arrival {
    pub(crate) call: Call,
    pub(crate) cpu: [f64; 2],
    pub(crate) io: f64,
    pub(crate) later: f64,
    pub(crate) memory: f64,
}

impl Arrival {
    /// CPU seconds that it takes in all.
    pub(crate) fn work(&self) -> f64 {
        self.cpu[0] + self.cpu[1] + self.later
    }
}

/// The stream of new calls. Rates are constant within a second.
#[derive(Debug)]
pub(crate) struct Arrivals {
    chance: Chance,
    wander: Chance,
    /// For each interface its calls a second together with those before it; load tests after them.
    upto: Vec<f64>,
    costs: Vec<f64>,
    deviations: Vec<f64>,
    noises: Vec<f64>,
    shapes: Vec<Shape>,
    next_at: f64,
    later: f64,
}

#[derive(Clone, Copy, Debug)]
struct Shape {
    cpu: f64,
    sigma: f64,
    io: f64,
    memory: f64,
}

impl Arrivals {
    pub(crate) fn new(scenario: &Scenario, seed: u64) -> Arrivals {
        let n = scenario.interfaces.len();
        let shape =
            |i: &crate::scenario::Interface| Shape { cpu: i.cpu, sigma: i.sigma, io: i.io, memory: i.memory };
        Arrivals {
            chance: Chance::new(seed, 10),
            wander: Chance::new(seed, 13),
            upto: vec![0.0; 2 * n],
            costs: vec![1.0; n],
            deviations: vec![0.0; n],
            noises: vec![1.0; n],
            shapes: scenario.interfaces.iter().map(shape).collect(),
            next_at: 0.0,
            later: scenario.later,
        }
    }

    /// The rates of the second that begins.
    pub(crate) fn second(&mut self, scenario: &Scenario, t: f64) {
        let n = self.costs.len();
        let test = if scenario.in_event(t) {
            scenario.load_test / scenario.load().max(f64::MIN_POSITIVE)
        } else {
            0.0
        };
        self.wander(scenario);
        let mut sum = 0.0;
        for (i, interface) in scenario.interfaces.iter().enumerate() {
            let (rate, cost) = scenario.factors(i, t + 0.5);
            self.costs[i] = cost;
            sum += interface.rate * rate * self.noises[i];
            self.upto[i] = sum;
        }
        for (i, interface) in scenario.interfaces.iter().enumerate() {
            sum += interface.rate * test;
            self.upto[n + i] = sum;
        }
        // What is to come knows nothing of the past: it may be drawn anew.
        self.next_at = t + self.chance.exponential(1.0 / sum);
    }

    /// Lets all rates wander on. Together they stay below what there is ([`Noise::most`]).
    fn wander(&mut self, scenario: &Scenario) {
        let Some(noise) = scenario.noise else { return };
        let keep = (-1.0 / noise.memory).exp();
        let fresh = (1.0 - keep * keep).sqrt() * noise.sigma;
        let mut asked = 0.0;
        for (i, interface) in scenario.interfaces.iter().enumerate() {
            self.deviations[i] = self.deviations[i] * keep + fresh * self.wander.normal();
            self.noises[i] = (self.deviations[i] - noise.sigma * noise.sigma / 2.0).exp();
            asked += interface.rate * interface.cpu * self.noises[i];
        }
        let most = noise.most * scenario.cores;
        if asked > most {
            self.noises.iter_mut().for_each(|n| *n *= most / asked);
        }
    }

    pub(crate) fn next_at(&self) -> f64 {
        self.next_at
    }

    /// The call that comes now.
    pub(crate) fn take(&mut self) -> Arrival {
        let n = self.costs.len();
        let sum = self.upto[2 * n - 1];
        let point = self.chance.unit() * sum;
        let place = self.upto.partition_point(|&u| u <= point).min(2 * n - 1);
        let (interface, marked) = (place % n, place >= n);
        self.next_at += self.chance.exponential(1.0 / sum);
        let shape = self.shapes[interface];
        let whole = self.chance.lognormal(shape.cpu * self.costs[interface], shape.sigma);
        let (later, cpu) = (whole * self.later, whole * (1.0 - self.later));
        let io = if shape.io > 0.0 { self.chance.exponential(shape.io) } else { 0.0 };
        let bits = self.chance.bits();
        let call = Call {
            interface: interface as u32,
            priority: if marked { Priority::LoadTest } else { Priority::Normal },
            user: bits,
            worker: (bits >> 31) as u8,
        };
        let halves = if io > 0.0 { [cpu / 2.0, cpu / 2.0] } else { [cpu, 0.0] };
        Arrival { call, cpu: halves, io, later, memory: shape.memory }
    }
}
