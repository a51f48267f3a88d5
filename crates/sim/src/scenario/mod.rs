//! What befalls an app: its interfaces, and what changes when.
//!
//! Times are seconds from the start of a run: first `warm` seconds of ordinary life, in which a limiter learns what is
//! usual, then `event` seconds of what the scenario is about, then `after` seconds.
mod build;
mod catalogue;

pub use catalogue::{ALL, BARRED, find, variant};

use crate::server::Discipline;

/// Whose fault the event is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// Not this interface's.
    #[default]
    Innocent,
    /// This interface's.
    Culprit,
}

/// An interface of the app, in ordinary life.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Calls a second (Poisson, open loop).
    pub rate: f64,
    /// Mean CPU seconds of a call (lognormal).
    pub cpu: f64,
    /// Standard deviation of the logarithm of the CPU time.
    pub sigma: f64,
    /// Mean seconds that a call waits for others, between the halves of its CPU time (exponential); 0 = it does not.
    pub io: f64,
    /// Seconds after which its callers give up.
    pub timeout: f64,
    /// Share of the app's memory that a call holds.
    pub memory: f64,
    /// Whose fault the event is.
    pub role: Role,
}

/// How something changes within the event.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape {
    /// At once.
    Step,
    /// Evenly over so many seconds.
    Ramp(f64),
}

/// What an interface does in the event.
#[derive(Clone, Copy, Debug)]
pub struct Surge {
    /// Which.
    pub interface: usize,
    /// Its rate is multiplied by this.
    pub rate: f64,
    /// Its CPU time is multiplied by this.
    pub cost: f64,
    /// How it gets there.
    pub shape: Shape,
}

/// How callers take a failure.
#[derive(Clone, Copy, Debug)]
pub struct Retries {
    /// Attempts at most, the first included.
    pub attempts: u8,
    /// Mean seconds before the second attempt; doubled with each more.
    pub backoff: f64,
}

/// The collector stops the app now and then, and takes all cores meanwhile.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    /// Seconds between them.
    pub every: f64,
    /// Seconds that one lasts.
    pub length: f64,
}

/// The app's load over a day.
#[derive(Clone, Copy, Debug)]
pub struct Day {
    /// Load at night, as a share of the cores.
    pub low: f64,
    /// Load at the peak.
    pub high: f64,
    /// Seconds of a day.
    pub length: f64,
}

/// Rates wander, each interface's by itself (Ornstein-Uhlenbeck, of the logarithm).
#[derive(Clone, Copy, Debug)]
pub struct Noise {
    /// Standard deviation of the logarithm.
    pub sigma: f64,
    /// Seconds in which a deviation falls to 1/e.
    pub memory: f64,
    /// What all together ask for at most, as a share of the cores: more would be an overload, not noise.
    pub most: f64,
}

/// What is wrong with how the load is read.
#[derive(Clone, Copy, Debug)]
pub struct Sensor {
    /// Looks come this much early or late, as a share of the period.
    pub jitter: f64,
    /// Relative error of the CPU time (standard deviation).
    pub error: f64,
    /// Share of looks that fail.
    pub missing: f64,
    /// Cores that it takes the app to have, as a share of those it has.
    pub cores: f64,
}

/// An app and what befalls it.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// A short name, as on the command line.
    pub name: String,
    /// What befalls the app.
    pub about: String,
    /// Its cores in ordinary life.
    pub cores: f64,
    /// How it takes calls.
    pub discipline: Discipline,
    /// Its interfaces.
    pub interfaces: Vec<Interface>,
    /// Seconds of ordinary life before the event.
    pub warm: f64,
    /// Seconds of the event.
    pub event: f64,
    /// Seconds after it.
    pub after: f64,
    /// What interfaces do in the event.
    pub surges: Vec<Surge>,
    /// Load-test traffic in the event, marked as such, as a share of the cores, over all interfaces.
    pub load_test: f64,
    /// Cores in the event, as a share of those in ordinary life; told to the sensor.
    pub capacity: f64,
    /// Collector pauses, always.
    pub pauses: Option<Pauses>,
    /// The day's wave, always.
    pub day: Option<Day>,
    /// Wandering rates, always.
    pub noise: Option<Noise>,
    /// What callers do with failures, always.
    pub retries: Retries,
    /// What is wrong with the sensor, always.
    pub sensor: Sensor,
    /// Memory in use without any call, as a share; `None` = memory is not looked at.
    pub memory: Option<f64>,
    /// Cores that the app uses for itself in ordinary life and in the event, as a share.
    pub background: [f64; 2],
    /// Share of a call's CPU time that is used after it has answered.
    pub later: f64,
}

impl Scenario {
    /// When everything is over.
    pub fn end(&self) -> f64 {
        self.warm + self.event + self.after
    }

    /// Whether this is within the event.
    pub fn in_event(&self, t: f64) -> bool {
        (self.warm..self.warm + self.event).contains(&t)
    }

    /// What an interface's rate and CPU time are multiplied by at a time.
    pub fn factors(&self, interface: usize, t: f64) -> (f64, f64) {
        let mut factors = (1.0, 1.0);
        if self.in_event(t) {
            for surge in self.surges.iter().filter(|s| s.interface == interface) {
                let part = match surge.shape {
                    Shape::Step => 1.0,
                    Shape::Ramp(length) => ((t - self.warm) / length).min(1.0),
                };
                factors.0 *= 1.0 + (surge.rate - 1.0) * part;
                factors.1 *= 1.0 + (surge.cost - 1.0) * part;
            }
        }
        if let Some(day) = self.day {
            let load = self.load();
            let middle = f64::midpoint(day.low, day.high);
            let swing = (day.high - day.low) / 2.0;
            // The run begins at the mean, on the way up.
            let now = middle + swing * (t / day.length * std::f64::consts::TAU).sin();
            factors.0 *= now / load;
        }
        factors
    }

    /// Cores at a time.
    pub fn cores_at(&self, t: f64) -> f64 {
        self.cores * if self.in_event(t) { self.capacity } else { 1.0 }
    }

    /// Load of ordinary life, as a share of the cores.
    pub fn load(&self) -> f64 {
        self.interfaces.iter().map(|i| i.rate * i.cpu).sum::<f64>() / self.cores
    }

    /// CPU that interfaces of a role ask for at a time, as a share of the cores of ordinary life, without retries.
    pub fn demand(&self, role: Role, t: f64) -> f64 {
        let of = |(n, i): (usize, &Interface)| {
            let (rate, cost) = self.factors(n, t);
            if i.role == role { i.rate * rate * i.cpu * cost } else { 0.0 }
        };
        self.interfaces.iter().enumerate().map(of).sum::<f64>() / self.cores
    }
}
