//! Requests of a cohort in some time: how many, how many failed, how long they took.
use serde::{Deserialize, Serialize};

/// Buckets of the latency histogram: number `i` counts requests of 2^(i/4) microseconds and more, up to the next.
pub const BUCKETS: usize = 128;

/// Requests of a cohort in some time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Sample {
    /// All that ended.
    pub requests: u64,
    /// Those that failed.
    pub failures: u64,
    /// Latencies by bucket; trailing empty ones may be missing.
    latency: Vec<u64>,
}

impl Sample {
    /// Counts requests of a latency bucket; the last one takes what lies beyond.
    pub fn latency(&mut self, bucket: usize, count: u64) {
        let bucket = bucket.min(BUCKETS - 1);
        if self.latency.len() <= bucket {
            self.latency.resize(bucket + 1, 0);
        }
        self.latency[bucket] = self.latency[bucket].saturating_add(count);
    }

    /// The bucket of a latency.
    pub fn bucket(micros: u64) -> usize {
        let bucket = (4.0 * (micros.max(1) as f64).log2()).floor();
        (bucket as usize).min(BUCKETS - 1)
    }

    /// Adds another sample.
    pub fn add(&mut self, other: &Sample) {
        self.requests = self.requests.saturating_add(other.requests);
        self.failures = self.failures.saturating_add(other.failures);
        for (bucket, count) in other.latency.iter().enumerate() {
            if *count > 0 {
                self.latency(bucket, *count);
            }
        }
    }

    /// Share of failures; 0 without requests.
    pub fn error_rate(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.failures as f64 / self.requests as f64 }
    }

    /// Requests whose latency is known.
    pub fn timed(&self) -> u64 {
        self.latency.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// The 99th percentile in microseconds, within its bucket by proportion; `None` without requests.
    pub fn p99(&self) -> Option<f64> {
        let total = self.timed();
        if total == 0 {
            return None;
        }
        let rank = total as f64 * 0.99;
        let mut below = 0.0;
        for (bucket, count) in self.latency.iter().enumerate() {
            let count = *count as f64;
            if below + count >= rank && count > 0.0 {
                let within = ((rank - below) / count).clamp(0.0, 1.0);
                return Some(((bucket as f64 + within) / 4.0).exp2());
            }
            below += count;
        }
        None
    }

    /// How many requests certainly took at least so long.
    pub fn slower_than(&self, micros: f64) -> u64 {
        let first = (4.0 * micros.max(1.0).log2()).ceil() as usize;
        self.latency.iter().skip(first).fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// The buckets that hold something.
    pub fn buckets(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        self.latency.iter().enumerate().filter(|(_, n)| **n > 0).map(|(i, n)| (i, *n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_their_bucket() {
        let mut sample = Sample::default();
        for _ in 0..990 {
            sample.latency(Sample::bucket(1000), 1);
        }
        for _ in 0..10 {
            sample.latency(Sample::bucket(50_000), 1);
        }
        let p99 = sample.p99().expect("requests");
        assert!((840.0..=1200.0).contains(&p99), "{p99}");
        assert_eq!((sample.slower_than(2000.0), sample.slower_than(100_000.0)), (10, 0));
        assert_eq!(Sample::default().p99(), None);
    }

    #[test]
    fn buckets_beyond_the_last_are_the_last() {
        let mut sample = Sample::default();
        sample.latency(usize::MAX, u64::MAX);
        sample.latency(500, 1);
        assert_eq!(sample.buckets().collect::<Vec<_>>(), [(BUCKETS - 1, u64::MAX)]);
        assert_eq!(Sample::bucket(0), 0);
        assert_eq!(Sample::bucket(u64::MAX), BUCKETS - 1);
    }
}
