//! Turns by weight, exact: after any number of turns everyone has had its share of them, within one.
use crate::rng::Rng;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Most turns skipped to start at a random phase.
const MAX_SKIP: u32 = 1024;

/// Who is next, by weight; O(log n) a turn.
///
/// Each one's k-th turn must fall into the slots from ⌊k·W/w⌋ up to ⌈(k+1)·W/w⌉ (W = all weights); of those
/// whose slot has come, the one with the earliest deadline is next. As the shares add up to one, no
/// deadline is ever missed, so that counts stay within one of the share (Baruah et al., *Proportionate
/// progress*, 1996; the rule is that of WF²Q, Bennett & Zhang 1996). Smooth weighted round robin and plain
/// virtual deadlines do not promise that.
#[derive(Debug)]
pub struct Turns {
    weights: Box<[u32]>,
    total: u64,
    turn: u64,
    taken: Box<[u64]>,
    /// Deadline, tie-break, who.
    due: BinaryHeap<Reverse<(u64, u32, u32)>>,
    /// First slot, who.
    waiting: BinaryHeap<Reverse<(u64, u32)>>,
    tie: u32,
}

impl Turns {
    /// Turns by these weights, starting at a random phase; weight 0 has none.
    pub fn new(weights: impl IntoIterator<Item = u32>, rng: &mut Rng) -> Turns {
        let mut turns = Turns::from_start(weights, rng.next_u64() as u32);
        let period = u32::try_from(turns.total).unwrap_or(u32::MAX);
        for _ in 0..rng.below(period.min(MAX_SKIP)) {
            turns.next_turn();
        }
        turns
    }

    fn from_start(weights: impl IntoIterator<Item = u32>, tie: u32) -> Turns {
        let mut weights: Box<[u32]> = weights.into_iter().collect();
        let common = weights.iter().fold(0, |a, &b| gcd(a, b)).max(1);
        weights.iter_mut().for_each(|w| *w /= common);
        let n = weights.len();
        let mut turns = Turns {
            total: weights.iter().map(|&w| u64::from(w)).sum(),
            turn: 0,
            taken: vec![0; n].into_boxed_slice(),
            due: BinaryHeap::with_capacity(n),
            waiting: BinaryHeap::with_capacity(n),
            tie,
            weights,
        };
        for i in 0..n as u32 {
            if turns.weights[i as usize] > 0 {
                turns.make_due(i);
            }
        }
        turns
    }

    /// Index of the one whose turn it is; `None` if all weigh nothing.
    pub fn next_turn(&mut self) -> Option<u32> {
        while let Some(&Reverse((slot, i))) = self.waiting.peek() {
            if slot > self.turn {
                break;
            }
            self.waiting.pop();
            self.make_due(i);
        }
        let Reverse((_, _, i)) = self.due.pop()?;
        self.turn += 1;
        self.taken[i as usize] += 1;
        let slot = self.boundary(i, self.taken[i as usize], false);
        self.waiting.push(Reverse((slot, i)));
        Some(i)
    }

    fn make_due(&mut self, i: u32) {
        let deadline = self.boundary(i, self.taken[i as usize] + 1, true);
        // Among equals another one leads in every instance, so that a fleet does not move in step.
        self.due.push(Reverse((deadline, i.wrapping_mul(0x9e37_79b1).wrapping_add(self.tie), i)));
    }

    /// k·W/w rounded; whole periods are split off, so that nothing overflows.
    fn boundary(&self, i: u32, k: u64, up: bool) -> u64 {
        let w = u64::from(self.weights[i as usize]);
        let part = (k % w) * self.total;
        k / w * self.total + if up { part.div_ceil(w) } else { part / w }
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::Turns;
    use crate::rng::Rng;
    use proptest::{prop_assert, prop_assume, proptest};

    proptest! {
        #[test]
        fn counts_stay_within_one_of_the_share(weights in proptest::collection::vec(0u32..50, 1..12), tie: u32) {
            let total: u32 = weights.iter().sum();
            let mut turns = Turns::from_start(weights.clone(), tie);
            let mut counts = vec![0u32; weights.len()];
            for n in 1..=3 * total {
                counts[turns.next_turn().unwrap() as usize] += 1;
                for (c, w) in counts.iter().zip(&weights) {
                    let lag = f64::from(*c) - f64::from(n) * f64::from(*w) / f64::from(total);
                    prop_assert!(lag.abs() < 1.0, "lag {lag} after {n} of {weights:?}");
                }
            }
        }

        #[test]
        fn any_window_is_within_two_of_the_share(
            weights in proptest::collection::vec(0u32..50, 1..12), seed: u64, from in 0usize..200, len in 1usize..200,
        ) {
            let total: u32 = weights.iter().sum();
            prop_assume!(total > 0);
            let mut turns = Turns::new(weights.clone(), &mut Rng::new(seed));
            let taken: Vec<u32> = (0..from + len).filter_map(|_| turns.next_turn()).collect();
            for (i, w) in weights.iter().enumerate() {
                let got = taken[from..].iter().filter(|&&t| t == i as u32).count() as f64;
                let share = len as f64 * f64::from(*w) / f64::from(total);
                prop_assert!((got - share).abs() < 2.0, "{got} for {share}");
                prop_assert!(*w > 0 || got == 0.0);
            }
        }
    }

    #[test]
    fn all_weights_zero_have_no_turn() {
        assert_eq!(Turns::new([0, 0], &mut Rng::new(1)).next_turn(), None);
        assert_eq!(Turns::new([], &mut Rng::new(1)).next_turn(), None);
    }

    #[test]
    fn instances_do_not_start_with_the_same_one() {
        let mut seen = std::collections::HashSet::new();
        for seed in 0..64 {
            seen.insert(Turns::new([5, 3, 3, 2], &mut Rng::new(seed)).next_turn());
        }
        assert_eq!(seen.len(), 4);
    }
}
