//! Sentinel's system rule (Alibaba): while the system's load is above a bound, calls in flight may not exceed the
//! bandwidth-delay product, `maxSuccessQps · minRt`.
//!
//! Source: "System adaptive protection" in Sentinel's wiki and `SystemRuleManager`. Its statistics are of the last
//! second, in two buckets; the bound on the load that its documentation advises is 2.5 by cores. `load1` is Linux's:
//! the tasks that run or want to, exponentially averaged over a minute.
use super::{Call, End, Limiter};
use raddle_policy::limit::adaptive::Sample;

/// Length and number of the buckets of statistics.
const BUCKET: f64 = 0.5;
const BUCKETS: usize = 2;
/// A minimum of nothing, in seconds.
const NO_RT: f64 = 5.0;
/// Load by cores above which the check is made.
const LOAD_BY_CORE: f64 = 2.5;

#[derive(Clone, Copy, Debug)]
struct Bucket {
    number: i64,
    successes: f64,
    least: f64,
}

/// Sentinel's system rule.
#[derive(Debug)]
pub struct Sentinel {
    buckets: [Bucket; BUCKETS],
    flying: i64,
    load: f64,
    bound: f64,
}

impl Default for Sentinel {
    fn default() -> Sentinel {
        let empty = Bucket { number: -10, successes: 0.0, least: NO_RT };
        Sentinel { buckets: [empty; BUCKETS], flying: 0, load: 0.0, bound: f64::INFINITY }
    }
}

/// The minute's average after a second with so many active tasks.
fn load_average(load: f64, active: f64) -> f64 {
    let keep = (-1.0_f64 / 60.0).exp();
    load * keep + active * (1.0 - keep)
}

impl Sentinel {
    fn count(&mut self, latency: f64, now: f64) {
        let number = (now / BUCKET) as i64;
        let bucket = &mut self.buckets[number as usize % BUCKETS];
        if bucket.number != number {
            *bucket = Bucket { number, successes: 0.0, least: NO_RT };
        }
        bucket.successes += 1.0;
        bucket.least = bucket.least.min(latency);
    }

    /// `maxSuccessQps · minRt`: calls that may be in flight.
    fn product(&self, now: f64) -> f64 {
        let number = (now / BUCKET) as i64;
        let valid = self.buckets.iter().filter(|b| b.number > number - BUCKETS as i64);
        let (most, least) =
            valid.fold((0.0_f64, NO_RT), |(most, least), b| (most.max(b.successes), least.min(b.least)));
        // The minimum is kept in whole milliseconds.
        most * BUCKETS as f64 * (least * 1000.0).round().max(1.0) / 1000.0
    }
}

impl Limiter for Sentinel {
    fn admit(&mut self, _: &Call, now: f64) -> bool {
        let full = self.flying > 1 && self.flying as f64 > self.product(now);
        let admitted = !(self.load > self.bound && full);
        self.flying += i64::from(admitted);
        admitted
    }

    fn complete(&mut self, _: &Call, end: &End, now: f64) {
        self.flying -= 1;
        if !end.failed {
            self.count(end.latency, now);
        }
    }

    fn tick(&mut self, _: f64, sample: Option<&Sample>, active: f64) {
        if let Some(sample) = sample {
            self.load = load_average(self.load, active);
            self.bound = LOAD_BY_CORE * sample.cores;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_is_of_the_fullest_bucket_and_the_shortest_call() {
        let mut s = Sentinel::default();
        for (n, at) in [(30, 10.1), (50, 10.6)] {
            (0..n).for_each(|_| s.count(0.020, at));
        }
        s.count(0.008, 10.2);
        // 50 successes in half a second are 100 a second; 100/s · 8 ms = 0.8.
        assert!((s.product(10.7) - 0.8).abs() < 1e-9);
        // The first bucket is too old: 100/s · 20 ms = 2.
        assert!((s.product(11.1) - 2.0).abs() < 1e-9);
    }

    #[test]
    fn load_is_averaged_over_a_minute() {
        let load = (0..60).fold(0.0, |load, _| load_average(load, 10.0));
        assert!((load - 10.0 * (1.0 - (-1.0_f64).exp())).abs() < 1e-9);
    }

    #[test]
    fn it_checks_only_while_the_load_is_high() {
        let mut s = Sentinel { bound: 10.0, ..Sentinel::default() };
        let call = Call::default();
        assert!((0..100).all(|_| s.admit(&call, 1.0)));
        s.load = 10.1;
        assert!(!s.admit(&call, 1.0));
    }
}
