//! A latency histogram: log-linear, 1 µs to 55 min, every estimate within 6 % of the truth, under 2 KiB.
use super::{Cell, Counter, Kind};
use crate::exposition::Exposition;

/// Each power of two is cut into this many equal parts (as a power of two itself).
const PARTS_LOG2: u32 = 3;
/// The first bucket starts at 2^10 ns, about a microsecond.
const FIRST_LOG2: u32 = 10;
/// 31.5 powers of two: the last bucket starts at 2^41 × 1.375 ns, about 50 minutes.
const BUCKETS: usize = 252;

/// The `le` bounds shown to Prometheus, in nanoseconds and as text in seconds. 3 s is there because it
/// is the default timeout of Bolt clients.
const EXPOSED: [(u64, &str); 15] = [
    (50_000, "0.00005"),
    (100_000, "0.0001"),
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
    (3_000_000_000, "3"),
    (10_000_000_000, "10"),
];

/// A histogram of durations in nanoseconds.
///
/// Durations under 1.024 µs count as that, durations over 55 minutes as 55 minutes. In between, an
/// estimate made from a bucket is at most 1/17 (5.9 %) away from any duration in it.
#[derive(Debug)]
pub struct Histogram {
    buckets: [Counter; BUCKETS],
    sum: Counter,
}

const _: () = assert!(size_of::<Histogram>() <= 2048);

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { buckets: std::array::from_fn(|_| Counter::default()), sum: Counter::default() }
    }
}

impl Histogram {
    /// Counts one duration of `ns` nanoseconds. Only the owning thread may.
    #[inline]
    pub fn record(&self, ns: u64) {
        self.buckets[bucket_of(ns)].inc();
        self.sum.add(ns);
    }

    /// The counts now; any thread may ask.
    pub fn snapshot(&self) -> Snapshot {
        let mut sum = Snapshot::default();
        self.gather(&mut sum);
        sum
    }
}

#[inline]
fn bucket_of(ns: u64) -> usize {
    let ns = ns.max(1 << FIRST_LOG2);
    let power = ns.ilog2();
    let part = (ns >> (power - PARTS_LOG2)) as usize & ((1 << PARTS_LOG2) - 1);
    ((((power - FIRST_LOG2) as usize) << PARTS_LOG2) + part).min(BUCKETS - 1)
}

/// The lowest duration of a bucket, in nanoseconds.
const fn lower_bound(bucket: usize) -> u64 {
    let power = FIRST_LOG2 + (bucket >> PARTS_LOG2) as u32;
    let part = (bucket & ((1 << PARTS_LOG2) - 1)) as u64;
    ((1 << PARTS_LOG2) + part) << (power - PARTS_LOG2)
}

/// What a duration in the bucket is taken for: the harmonic mean of its bounds, which is equally far
/// (in ratio) from both, and so has the least worst error.
const fn estimate(bucket: usize) -> u64 {
    let (low, high) = (lower_bound(bucket) as u128, lower_bound(bucket + 1) as u128);
    (2 * low * high / (low + high)) as u64
}

/// The counts of one or several [`Histogram`]s at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    buckets: [u64; BUCKETS],
    sum: u64,
}

impl Default for Snapshot {
    fn default() -> Snapshot {
        Snapshot { buckets: [0; BUCKETS], sum: 0 }
    }
}

impl Snapshot {
    /// How many durations were recorded.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The sum of all durations, in nanoseconds.
    pub fn sum(&self) -> u64 {
        self.sum
    }

    /// The buckets that are not empty: the nanoseconds a duration in it is taken for, and how many there are.
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.buckets.iter().enumerate().filter(|(_, n)| **n > 0).map(|(i, n)| (estimate(i), *n))
    }

    /// The mean duration in nanoseconds; none if nothing was recorded.
    pub fn mean(&self) -> Option<u64> {
        self.sum.checked_div(self.count())
    }

    /// The duration in nanoseconds that the share `q` (0..=1) of durations does not exceed, within 6 %;
    /// none if nothing was recorded.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let count = self.count();
        let rank = ((q.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count.max(1));
        let mut seen = 0;
        self.buckets.iter().enumerate().find_map(|(bucket, n)| {
            seen += n;
            (seen >= rank).then(|| estimate(bucket))
        })
    }

    /// Adds another histogram's counts.
    pub fn merge(&mut self, other: &Snapshot) {
        for (to, from) in self.buckets.iter_mut().zip(&other.buckets) {
            *to += from;
        }
        self.sum = self.sum.wrapping_add(other.sum);
    }

    /// What was recorded after `earlier`, a snapshot of the same histogram.
    pub fn since(&self, earlier: &Snapshot) -> Snapshot {
        let mut delta = self.clone();
        for (to, from) in delta.buckets.iter_mut().zip(&earlier.buckets) {
            *to = to.saturating_sub(*from);
        }
        delta.sum = delta.sum.saturating_sub(earlier.sum);
        delta
    }
}

impl Cell for Histogram {
    const KIND: Kind = Kind::Histogram;
    type Sum = Snapshot;

    fn gather(&self, into: &mut Snapshot) {
        for (sum, bucket) in into.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.read();
        }
        into.sum = into.sum.wrapping_add(self.sum.read());
    }

    fn expose(sum: &Snapshot, name: &str, labels: &str, out: &mut Exposition) {
        let bucket_name = format!("{name}_bucket");
        let (mut seen, mut next) = (0, 0);
        for (bound, text) in EXPOSED {
            while next < BUCKETS && estimate(next) <= bound {
                seen += sum.buckets[next];
                next += 1;
            }
            out.labelled(&bucket_name, labels, "le", text, seen);
        }
        let count = sum.count();
        out.labelled(&bucket_name, labels, "le", "+Inf", count);
        out.seconds(name, "_sum", labels, sum.sum);
        out.sample(name, "_count", labels, "", count);
    }

    fn absorb(&self, from: &Histogram) {
        for (to, from) in self.buckets.iter().zip(&from.buckets) {
            to.add(from.read());
        }
        self.sum.add(from.sum.read());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_lie_end_to_end_and_each_holds_its_own_bounds() {
        for bucket in 0..BUCKETS - 1 {
            assert_eq!(bucket_of(lower_bound(bucket)), bucket);
            assert_eq!(bucket_of(lower_bound(bucket + 1) - 1), bucket);
        }
        assert_eq!(bucket_of(0), 0);
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn an_empty_histogram_has_no_quantile_and_no_mean() {
        let empty = Histogram::default().snapshot();
        assert_eq!((empty.count(), empty.mean(), empty.quantile(0.5)), (0, None, None));
    }

    #[test]
    fn since_is_what_came_between_two_snapshots() {
        let h = Histogram::default();
        h.record(1_000_000);
        let earlier = h.snapshot();
        h.record(9_000_000);
        let between = h.snapshot().since(&earlier);
        assert_eq!((between.count(), between.sum()), (1, 9_000_000));
    }

    proptest! {
        #[test]
        fn an_estimate_is_within_six_percent(ns in 1_024u64..3_200_000_000_000) {
            let guess = estimate(bucket_of(ns));
            let error = guess.abs_diff(ns) as f64 / ns as f64;
            prop_assert!(error <= 0.06, "{ns} taken for {guess}");
        }

        #[test]
        fn a_quantile_is_within_six_percent_of_the_sorted_values(
            mut values in prop::collection::vec(1_024u64..60_000_000_000, 1..300),
            q in 0.0f64..=1.0,
        ) {
            let h = Histogram::default();
            for v in &values {
                h.record(*v);
            }
            values.sort_unstable();
            let rank = ((q * values.len() as f64).ceil() as usize).max(1);
            let truth = values[rank - 1];
            let guess = h.snapshot().quantile(q).expect("not empty");
            prop_assert!(guess.abs_diff(truth) as f64 <= 0.06 * truth as f64, "{truth} taken for {guess}");
        }

        #[test]
        fn merging_equals_recording_in_one_place(
            a in prop::collection::vec(any::<u32>(), 0..50),
            b in prop::collection::vec(any::<u32>(), 0..50),
        ) {
            let (one, two, both) = (Histogram::default(), Histogram::default(), Histogram::default());
            for (values, own) in [(&a, &one), (&b, &two)] {
                for v in values {
                    own.record(u64::from(*v));
                    both.record(u64::from(*v));
                }
            }
            let mut merged = one.snapshot();
            merged.merge(&two.snapshot());
            prop_assert_eq!(&merged, &both.snapshot());
            one.absorb(&two);
            prop_assert_eq!(one.snapshot(), merged);
        }
    }
}
