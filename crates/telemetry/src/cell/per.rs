//! A bounded set of counters told apart by one label.
use super::{Cell, Counter, Kind};
use crate::exposition::Exposition;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Index;

/// The values of a metric label: a closed list, so that a label can never grow without bound.
pub trait Label: Copy + Send + Sync + 'static {
    /// The label's name.
    const KEY: &'static str;
    /// Whether values never counted are left out of the exposition, to keep large families small.
    const SPARSE: bool = false;

    /// Every value, in the order of [`Label::index`].
    fn all() -> &'static [Self];
    /// The value's place in [`Label::all`].
    fn index(self) -> usize;
    /// The value's text.
    fn name(self) -> &'static str;
}

/// One [`Counter`] for each value of the label `K`, which has `N` values: `cells.malformed[kind].inc()`.
pub struct Per<K, const N: usize> {
    counters: [Counter; N],
    label: PhantomData<K>,
}

impl<K: Label, const N: usize> Per<K, N> {
    /// The counters with their label values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (K, &Counter)> {
        K::all().iter().copied().zip(&self.counters)
    }

    /// The sum over all label values.
    pub fn total(&self) -> u64 {
        self.counters.iter().fold(0, |sum, counter| sum.wrapping_add(counter.read()))
    }
}

impl<K: Label, const N: usize> Default for Per<K, N> {
    fn default() -> Per<K, N> {
        assert_eq!(K::all().len(), N, "the label {} has another number of values", K::KEY);
        Per { counters: std::array::from_fn(|_| Counter::default()), label: PhantomData }
    }
}

impl<K: Label, const N: usize> Index<K> for Per<K, N> {
    type Output = Counter;
    #[inline]
    fn index(&self, key: K) -> &Counter {
        &self.counters[key.index()]
    }
}

impl<K: Label, const N: usize> fmt::Debug for Per<K, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter().map(|(key, counter)| (key.name(), counter.read()))).finish()
    }
}

/// Merged values of a [`Per`].
pub(crate) struct PerSum<const N: usize>([u64; N]);

impl<const N: usize> Default for PerSum<N> {
    fn default() -> PerSum<N> {
        PerSum([0; N])
    }
}

impl<K: Label, const N: usize> Cell for Per<K, N> {
    const KIND: Kind = Kind::Counter;
    const LABEL: &'static str = K::KEY;
    type Sum = PerSum<N>;

    fn gather(&self, into: &mut PerSum<N>) {
        for (sum, counter) in into.0.iter_mut().zip(&self.counters) {
            *sum = sum.wrapping_add(counter.read());
        }
    }

    fn expose(sum: &PerSum<N>, name: &str, labels: &str, out: &mut Exposition) {
        for (key, value) in K::all().iter().zip(sum.0) {
            if value != 0 || !K::SPARSE {
                out.labelled(name, labels, K::KEY, key.name(), value);
            }
        }
    }

    fn absorb(&self, from: &Per<K, N>) {
        for (to, from) in self.counters.iter().zip(&from.counters) {
            to.add(from.read());
        }
    }
}
