//! BBR of Kratos (bilibili; go-kratos/aegis): while the CPU's moving average is at 80 % or more, and for a second after
//! the first drop, calls in flight may not exceed `maxPass · minRT · bucketsPerSecond`.
//!
//! Statistics are of 10 s in 100 buckets; the current bucket does not count. `maxPass` is the fullest bucket, `minRT`
//! the least mean latency of one, in whole milliseconds, upwards. The CPU is read every 500 ms and averaged with a
//! decay of 0.95.
use super::{Call, End, Limiter};
use raddle_policy::limit::adaptive::Sample;

const BUCKETS: usize = 100;
const BUCKETS_PER_SECOND: f64 = 10.0;
const DECAY: f64 = 0.95;
const THRESHOLD: f64 = 0.8;

#[derive(Clone, Copy, Debug)]
struct Bucket {
    number: i64,
    passed: f64,
    milliseconds: f64,
}

/// BBR of Kratos.
#[derive(Debug)]
pub struct Kratos {
    buckets: Vec<Bucket>,
    flying: i64,
    cpu: f64,
    dropped_at: Option<f64>,
}

impl Default for Kratos {
    fn default() -> Kratos {
        let empty = Bucket { number: -1000, passed: 0.0, milliseconds: 0.0 };
        Kratos { buckets: vec![empty; BUCKETS], flying: 0, cpu: 0.0, dropped_at: None }
    }
}

impl Kratos {
    fn count(&mut self, latency: f64, now: f64) {
        let number = (now * BUCKETS_PER_SECOND) as i64;
        let bucket = &mut self.buckets[number as usize % BUCKETS];
        if bucket.number != number {
            *bucket = Bucket { number, passed: 0.0, milliseconds: 0.0 };
        }
        bucket.passed += 1.0;
        bucket.milliseconds += latency * 1000.0;
    }

    /// Calls that may be in flight.
    fn most(&self, now: f64) -> f64 {
        let number = (now * BUCKETS_PER_SECOND) as i64;
        let valid = |b: &&Bucket| b.number > number - BUCKETS as i64 && b.number < number && b.passed > 0.0;
        let mut pass = 1.0_f64;
        let mut least = f64::INFINITY;
        for bucket in self.buckets.iter().filter(valid) {
            pass = pass.max(bucket.passed);
            least = least.min(bucket.milliseconds / bucket.passed);
        }
        let least = if least.is_finite() { least.ceil().max(1.0) } else { 1.0 };
        (pass * least * BUCKETS_PER_SECOND / 1000.0 + 0.5).floor()
    }

    fn drops(&mut self, now: f64) -> bool {
        let full = self.flying > 1 && self.flying as f64 > self.most(now);
        if self.cpu < THRESHOLD {
            match self.dropped_at {
                Some(at) if now - at <= 1.0 => return full,
                _ => self.dropped_at = None,
            }
            return false;
        }
        if full && self.dropped_at.is_none() {
            self.dropped_at = Some(now);
        }
        full
    }
}

impl Limiter for Kratos {
    fn admit(&mut self, _: &Call, now: f64) -> bool {
        // The statistics are walked only where they can matter.
        let idle = self.cpu < THRESHOLD && self.dropped_at.is_none();
        let admitted = idle || !self.drops(now);
        self.flying += i64::from(admitted);
        admitted
    }

    fn complete(&mut self, _: &Call, end: &End, now: f64) {
        self.flying -= 1;
        self.count(end.latency, now);
    }

    fn period(&self) -> f64 {
        0.5
    }

    fn tick(&mut self, _: f64, sample: Option<&Sample>, _: f64) {
        if let Some(sample) = sample {
            self.cpu = self.cpu * DECAY + sample.cpu / sample.cores * (1.0 - DECAY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled() -> Kratos {
        let mut k = Kratos::default();
        (0..40).for_each(|_| k.count(0.030, 10.05));
        (0..20).for_each(|_| k.count(0.0104, 10.15));
        k
    }

    #[test]
    fn the_bound_is_of_the_fullest_bucket_and_the_quickest() {
        // 40 in a bucket · 11 ms (10.4 upwards) · 10 buckets a second = 4.4, rounded to 4.
        assert_eq!(filled().most(10.25), 4.0);
        // The current bucket does not count: 40 · 30 ms · 10 = 12.
        assert_eq!(filled().most(10.19), 12.0);
    }

    #[test]
    fn it_drops_at_80_percent_and_a_second_after_its_first_drop() {
        let mut k = filled();
        k.flying = 5;
        k.cpu = 0.79;
        assert!(!k.drops(10.3));
        k.cpu = 0.8;
        assert!(k.drops(10.3));
        k.cpu = 0.5;
        assert!(k.drops(11.2));
        assert!(!k.drops(11.4));
        assert_eq!(k.dropped_at, None);
    }

    #[test]
    fn its_cpu_follows_slowly() {
        let mut k = Kratos::default();
        let full = Sample { cpu: 4.0, cores: 4.0, ..Sample::default() };
        (0..32).for_each(|_| k.tick(0.0, Some(&full), 0.0));
        assert!(k.cpu > 0.8 && k.cpu < 0.81, "16 s until a full machine is seen as such: {}", k.cpu);
    }
}
