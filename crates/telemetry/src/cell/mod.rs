//! The cells metrics are kept in: one writer, any number of readers.
//!
//! A cell belongs to one worker, which alone writes it; adding is a plain load and store, not a locked
//! instruction. Two writers on one cell would lose counts (never memory safety): give every thread its
//! own cells and let the reader add them up.
mod histogram;
mod per;
mod sizes;

pub use histogram::{Histogram, Snapshot};
pub use per::{Label, Per};
pub use sizes::{Sizes, SizesSnapshot};

use crate::exposition::Exposition;
use std::ops::Deref;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// What a metric family is, in the words of the Prometheus text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until the process restarts.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Counts by upper bound, with sum and count.
    Histogram,
}

impl Kind {
    /// The word of the text format's `# TYPE` line.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// What the [`cells!`](crate::cells) macro needs of a cell: to be added up over workers and written out.
pub(crate) trait Cell: Default {
    const KIND: Kind;
    /// The label key the cell adds by itself, or nothing.
    const LABEL: &'static str = "";
    /// The merged value of several workers' cells.
    type Sum: Default;
    fn gather(&self, into: &mut Self::Sum);
    fn expose(sum: &Self::Sum, name: &str, labels: &str, out: &mut Exposition);
    /// Adds another cell's value to this one; the caller is this cell's only writer.
    fn absorb(&self, from: &Self);
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one. Only the owning thread may.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`. Only the owning thread may.
    #[inline]
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The value now; any thread may ask.
    #[inline]
    pub fn read(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Cell for Counter {
    const KIND: Kind = Kind::Counter;
    type Sum = u64;

    fn gather(&self, into: &mut u64) {
        *into = into.wrapping_add(self.read());
    }

    fn expose(sum: &u64, name: &str, labels: &str, out: &mut Exposition) {
        out.sample(name, "", labels, "", *sum);
    }

    fn absorb(&self, from: &Counter) {
        self.add(from.read());
    }
}

/// A number that goes up and down.
///
/// One worker's value may be negative (a connection counted in by one worker and out by another); the
/// sum over workers is what is shown.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Adds one. Only the owning thread may.
    #[inline]
    pub fn inc(&self) {
        self.add(1);
    }

    /// Takes one away. Only the owning thread may.
    #[inline]
    pub fn dec(&self) {
        self.add(-1);
    }

    /// Adds `n`, which may be negative. Only the owning thread may.
    #[inline]
    pub fn add(&self, n: i64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// Takes `n` away. Only the owning thread may.
    #[inline]
    pub fn sub(&self, n: i64) {
        self.add(n.wrapping_neg());
    }

    /// Replaces the value. Only the owning thread may.
    #[inline]
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// The value now; any thread may ask.
    #[inline]
    pub fn read(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

impl Cell for Gauge {
    const KIND: Kind = Kind::Gauge;
    type Sum = i64;

    fn gather(&self, into: &mut i64) {
        *into = into.wrapping_add(self.read());
    }

    fn expose(sum: &i64, name: &str, labels: &str, out: &mut Exposition) {
        out.sample(name, "", labels, "", *sum);
    }

    fn absorb(&self, from: &Gauge) {
        self.add(from.read());
    }
}

/// A gauge whose value for the process is the least of its workers': "all have come at least this far".
#[derive(Debug, Default)]
pub struct MinGauge(Gauge);

impl Deref for MinGauge {
    type Target = Gauge;
    fn deref(&self) -> &Gauge {
        &self.0
    }
}

impl Cell for MinGauge {
    const KIND: Kind = Kind::Gauge;
    type Sum = Option<i64>;

    fn gather(&self, into: &mut Option<i64>) {
        let value = self.read();
        *into = Some(into.map_or(value, |least| least.min(value)));
    }

    fn expose(sum: &Option<i64>, name: &str, labels: &str, out: &mut Exposition) {
        out.sample(name, "", labels, "", sum.unwrap_or(0));
    }

    fn absorb(&self, from: &MinGauge) {
        self.set(self.read().min(from.read()));
    }
}

/// A gauge in thousandths of its unit.
#[derive(Debug, Default)]
pub struct Milli(Gauge);

impl Milli {
    /// Replaces the value, which is in the whole unit. Only the owning thread may.
    #[inline]
    pub fn set(&self, value: f64) {
        self.0.set((value * 1000.0).round() as i64);
    }

    /// The value now, in the whole unit; any thread may ask.
    pub fn read(&self) -> f64 {
        self.0.read() as f64 / 1000.0
    }
}

impl Cell for Milli {
    const KIND: Kind = Kind::Gauge;
    type Sum = i64;

    fn gather(&self, into: &mut i64) {
        self.0.gather(into);
    }

    fn expose(sum: &i64, name: &str, labels: &str, out: &mut Exposition) {
        out.sample(name, "", labels, "", *sum as f64 / 1000.0);
    }

    fn absorb(&self, from: &Milli) {
        self.0.absorb(&from.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gauge_counted_in_by_one_worker_and_out_by_another_sums_to_nothing() {
        let (a, b) = (Gauge::default(), Gauge::default());
        a.inc();
        b.dec();
        let mut sum = 0;
        a.gather(&mut sum);
        b.gather(&mut sum);
        assert_eq!((a.read(), b.read(), sum), (1, -1, 0));
    }

    #[test]
    fn the_generation_of_a_process_is_that_of_its_slowest_worker() {
        let (a, b) = (MinGauge::default(), MinGauge::default());
        a.set(7);
        b.set(5);
        let mut sum = None;
        a.gather(&mut sum);
        b.gather(&mut sum);
        assert_eq!(sum, Some(5));
    }
}
