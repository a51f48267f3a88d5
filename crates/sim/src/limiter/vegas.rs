//! Vegas of Netflix's concurrency-limits: a bound on calls in flight that grows while the estimated queue,
//! `limit · (1 - rttNoLoad / rtt)`, is short, and shrinks while it is long.
//!
//! Its defaults: begins at 20, at most 1000; alpha, beta and threshold are 3, 6 and 1 times log10 of the limit. Each
//! call is a sample. The latency without load is the least one seen, taken anew at times (probes).
use super::{Call, End, Limiter};
use crate::chance::Chance;

const FIRST: f64 = 20.0;
const MOST: f64 = 1000.0;
const PROBES: f64 = 30.0;

/// Vegas.
#[derive(Debug)]
pub struct Vegas {
    limit: f64,
    least: f64,
    samples: f64,
    jitter: f64,
    flying: i64,
    chance: Chance,
}

/// Whole part of the decimal logarithm, at least 1.
fn log10(limit: f64) -> f64 {
    limit.max(1.0).log10().floor().max(1.0)
}

impl Vegas {
    /// With its defaults.
    pub fn new(seed: u64) -> Vegas {
        let mut chance = Chance::new(seed, 30);
        let jitter = chance.between(0.5, 1.0);
        Vegas { limit: FIRST, least: 0.0, samples: 0.0, jitter, flying: 0, chance }
    }

    fn sample(&mut self, rtt: f64, flying: i64, dropped: bool) {
        self.samples += 1.0;
        if self.jitter * PROBES * self.limit <= self.samples {
            self.jitter = self.chance.between(0.5, 1.0);
            (self.samples, self.least) = (0.0, rtt);
        } else if self.least == 0.0 || rtt < self.least {
            self.least = rtt;
        } else {
            self.update(rtt, flying, dropped);
        }
    }

    fn update(&mut self, rtt: f64, flying: i64, dropped: bool) {
        let step = log10(self.limit.floor());
        let queue = (self.limit * (1.0 - self.least / rtt)).ceil();
        let change = if dropped {
            -step
        } else if ((flying * 2) as f64) < self.limit {
            0.0
        } else if queue <= step {
            6.0 * step
        } else if queue < 3.0 * step {
            step
        } else if queue > 6.0 * step {
            -step
        } else {
            0.0
        };
        self.limit = (self.limit + change).clamp(1.0, MOST);
    }
}

impl Limiter for Vegas {
    fn admit(&mut self, _: &Call, _: f64) -> bool {
        let admitted = self.flying < self.limit as i64;
        self.flying += i64::from(admitted);
        admitted
    }

    fn complete(&mut self, _: &Call, end: &End, _: f64) {
        // A sample goes with the calls in flight when it began; those at its end are as near as a count gets.
        self.sample(end.latency.max(1e-6), self.flying, end.failed || end.late);
        self.flying -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(limit: f64, rtt: f64, flying: i64, dropped: bool) -> f64 {
        let mut vegas = Vegas::new(1);
        (vegas.limit, vegas.least) = (limit, 0.010);
        vegas.update(rtt, flying, dropped);
        vegas.limit
    }

    #[test]
    fn the_limit_moves_by_the_length_of_the_queue() {
        // A limit of 100 has steps of 2: threshold 2, alpha 6, beta 12.
        assert_eq!(at(100.0, 0.0102, 80, false), 112.0, "queue 2: no queue, grow by beta");
        assert_eq!(at(100.0, 0.0105, 80, false), 102.0, "queue 5: grow by a step");
        assert_eq!(at(100.0, 0.0110, 80, false), 100.0, "queue 10: stay");
        assert_eq!(at(100.0, 0.0200, 80, false), 98.0, "queue 50: shrink");
        assert_eq!(at(100.0, 0.0100, 80, true), 98.0, "a drop: shrink");
        assert_eq!(at(100.0, 0.0100, 40, false), 100.0, "hardly used: stay");
    }

    #[test]
    fn the_least_latency_is_kept_and_probed_anew() {
        let mut vegas = Vegas::new(1);
        vegas.sample(0.02, 20, false);
        vegas.sample(0.01, 20, false);
        assert_eq!(vegas.least, 0.01);
        vegas.samples = PROBES * vegas.limit;
        vegas.sample(0.05, 20, false);
        assert_eq!((vegas.least, vegas.samples), (0.05, 0.0));
    }
}
