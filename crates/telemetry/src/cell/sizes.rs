//! A small histogram of counts (events in a turn, frames in a flush), by powers of two.
use super::{Cell, Counter, Kind};
use crate::exposition::Exposition;

/// Finite upper bounds: 1, 2, 4 … 4096.
const BOUNDS: usize = 13;

/// How often a count of each size came up; sizes over 4096 share the last bucket.
#[derive(Debug, Default)]
pub struct Sizes {
    buckets: [Counter; BOUNDS + 1],
    sum: Counter,
}

impl Sizes {
    /// Counts one occurrence of `size`. Only the owning thread may.
    #[inline]
    pub fn record(&self, size: u64) {
        let log2_up = 64 - size.saturating_sub(1).leading_zeros() as usize;
        self.buckets[log2_up.min(BOUNDS)].inc();
        self.sum.add(size);
    }

    /// The counts now; any thread may ask.
    pub fn snapshot(&self) -> SizesSnapshot {
        let mut sum = SizesSnapshot::default();
        self.gather(&mut sum);
        sum
    }
}

/// Merged counts of [`Sizes`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SizesSnapshot {
    buckets: [u64; BOUNDS + 1],
    /// The sum of all sizes.
    pub sum: u64,
}

impl SizesSnapshot {
    /// How many sizes were recorded.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

impl Cell for Sizes {
    const KIND: Kind = Kind::Histogram;
    type Sum = SizesSnapshot;

    fn gather(&self, into: &mut SizesSnapshot) {
        for (sum, bucket) in into.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.read();
        }
        into.sum = into.sum.wrapping_add(self.sum.read());
    }

    fn expose(sum: &SizesSnapshot, name: &str, labels: &str, out: &mut Exposition) {
        let mut seen = 0;
        for (i, bucket) in sum.buckets.iter().take(BOUNDS).enumerate() {
            seen += bucket;
            out.labelled(&format!("{name}_bucket"), labels, "le", &(1u64 << i).to_string(), seen);
        }
        out.labelled(&format!("{name}_bucket"), labels, "le", "+Inf", sum.count());
        out.sample(name, "_sum", labels, "", sum.sum);
        out.sample(name, "_count", labels, "", sum.count());
    }

    fn absorb(&self, from: &Sizes) {
        for (to, from) in self.buckets.iter().zip(&from.buckets) {
            to.add(from.read());
        }
        self.sum.add(from.sum.read());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_counted_under_the_least_power_of_two_that_holds_it() {
        let sizes = Sizes::default();
        for size in [0, 1, 2, 3, 4, 5, 4096, 4097, u64::from(u32::MAX)] {
            sizes.record(size);
        }
        let seen = sizes.snapshot();
        assert_eq!(seen.buckets, [2, 1, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(seen.count(), 9);
    }
}
