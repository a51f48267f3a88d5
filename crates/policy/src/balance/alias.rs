//! Drawing at random by weight in O(1).
use crate::rng::Rng;

/// Walker's alias table, built by Vose's method (*A linear algorithm for generating random numbers with a
/// given distribution*, 1991).
#[derive(Debug, Default)]
pub(crate) struct Alias {
    /// Share of the draws of a slot that are its own, in 2⁻³².
    keep: Vec<u32>,
    other: Vec<u32>,
}

impl Alias {
    /// Rebuilds the table; its memory is used again. Weights must not all be 0.
    pub(crate) fn rebuild(&mut self, weights: impl ExactSizeIterator<Item = u32> + Clone) {
        let n = weights.len();
        let total: f64 = weights.clone().map(f64::from).sum();
        let mut scaled: Vec<f64> = weights.map(|w| f64::from(w) * n as f64 / total).collect();
        self.keep.clear();
        self.keep.resize(n, u32::MAX);
        self.other.clear();
        self.other.extend(0..n as u32);
        let (mut small, mut large): (Vec<u32>, Vec<u32>) =
            (0..n as u32).partition(|&i| scaled[i as usize] < 1.0);
        while let (Some(&s), Some(&l)) = (small.last(), large.last()) {
            small.pop();
            self.keep[s as usize] = (scaled[s as usize] * f64::from(u32::MAX)) as u32;
            self.other[s as usize] = l;
            scaled[l as usize] -= 1.0 - scaled[s as usize];
            if scaled[l as usize] < 1.0 {
                large.pop();
                small.push(l);
            }
        }
    }

    /// Draws an index. The table must not be empty.
    pub(crate) fn draw(&self, rng: &mut Rng) -> u32 {
        let slot = rng.below(self.keep.len() as u32);
        let coin = rng.next_u64() as u32;
        if coin <= self.keep[slot as usize] { slot } else { self.other[slot as usize] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_follow_the_weights() {
        let weights = [1u32, 10, 100, 889];
        let mut alias = Alias::default();
        alias.rebuild(weights.into_iter());
        let (mut rng, mut seen) = (Rng::new(5), [0u32; 4]);
        for _ in 0..1_000_000 {
            seen[alias.draw(&mut rng) as usize] += 1;
        }
        for (got, weight) in seen.into_iter().zip(weights) {
            let (got, want) = (f64::from(got), f64::from(weight) * 1000.0);
            assert!((got - want).abs() < 5.0 * want.sqrt() + 1.0, "{seen:?}");
        }
    }
}
