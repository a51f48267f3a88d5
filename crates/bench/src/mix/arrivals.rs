//! When requests are meant to be sent: at random, at each path's rate, drawn one slice of time at a time.
use super::{Knobs, MixOptions, Surge, rates};
use std::sync::Arc;

/// Nanoseconds of a slice: rates change between two of them.
pub(super) const SLICE: u64 = 20_000_000;

/// A request to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    /// Nanoseconds since the start.
    pub(super) at: u64,
    pub(super) path: usize,
}

/// Draws requests. Each path has chance of its own, so that what one does changes nothing for another.
pub(super) struct Arrivals {
    rates: Vec<f64>,
    surges: Vec<Surge>,
    knobs: Option<Arc<Knobs>>,
    chance: Vec<u64>,
    /// What of an exponentially distributed distance is left for each path, in requests.
    left: Vec<f64>,
    slice: u64,
    until: u64,
}

impl Arrivals {
    pub(super) fn new(opts: &MixOptions) -> Arrivals {
        let paths = opts.paths.len();
        let mut arrivals = Arrivals {
            rates: rates(paths, opts.rate, opts.zipf),
            surges: opts.surges.clone(),
            knobs: opts.knobs.clone(),
            chance: (0..paths as u64).map(|p| opts.seed.wrapping_mul(1_000_003) ^ (p << 32 | p)).collect(),
            left: vec![0.0; paths],
            slice: 0,
            until: opts.duration.as_nanos() as u64,
        };
        for path in 0..paths {
            arrivals.left[path] = exponential(&mut arrivals.chance[path]);
        }
        arrivals
    }

    /// When the slice begins that comes next; `None` = there is none.
    pub(super) fn next_slice(&self) -> Option<u64> {
        Some(self.slice * SLICE).filter(|at| *at < self.until)
    }

    /// Appends the next slice's requests, in order of time.
    pub(super) fn draw(&mut self, out: &mut Vec<Arrival>) {
        let (begin, from) = (self.slice * SLICE, out.len());
        for path in 0..self.rates.len() {
            let rate = self.rate(path, begin as f64 / 1e9);
            let mut room = rate * SLICE as f64 / 1e9;
            let mut at = begin as f64;
            while self.left[path] <= room {
                room -= self.left[path];
                at += self.left[path] / rate * 1e9;
                out.push(Arrival { at: at as u64, path });
                self.left[path] = exponential(&mut self.chance[path]);
            }
            self.left[path] -= room;
        }
        self.slice += 1;
        out[from..].sort_by_key(|a| a.at);
    }

    fn rate(&self, path: usize, seconds: f64) -> f64 {
        let surges = self.surges.iter().filter(|s| s.path == path && s.from <= seconds && seconds < s.until);
        let factor: f64 = surges.map(|s| s.factor).product();
        self.rates[path] * factor * self.knobs.as_ref().map_or(1.0, |k| k.factor(path))
    }
}

/// Exponentially distributed around 1.
fn exponential(state: &mut u64) -> f64 {
    // 53 bits, never 0.
    let unit = ((splitmix(state) >> 11) + 1) as f64 / (1_u64 << 53) as f64;
    -unit.ln()
}

fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn all(opts: &MixOptions) -> Vec<Arrival> {
        let mut arrivals = Arrivals::new(opts);
        let mut out = Vec::new();
        while arrivals.next_slice().is_some() {
            arrivals.draw(&mut out);
        }
        out
    }

    fn count(of: &[Arrival], path: usize, from: u64, until: u64) -> f64 {
        let inside =
            |a: &&Arrival| a.path == path && (from * 1_000_000_000..until * 1_000_000_000).contains(&a.at);
        of.iter().filter(inside).count() as f64
    }

    #[test]
    fn only_who_surges_is_asked_for_more_and_only_then() {
        let calm = MixOptions { rate: 2000.0, duration: Duration::from_secs(30), ..MixOptions::default() };
        let surge = Surge { path: 0, factor: 5.0, from: 10.0, until: 20.0 };
        let (before, after) = (all(&calm), all(&MixOptions { surges: vec![surge], ..calm.clone() }));
        let usual = rates(100, 2000.0, 1.2)[0] * 10.0;
        assert!((count(&after, 0, 0, 10) / usual - 1.0).abs() < 0.1);
        assert!((count(&after, 0, 10, 20) / usual - 5.0).abs() < 0.2);
        assert!((count(&after, 0, 20, 30) / usual - 1.0).abs() < 0.1);
        let others = |all: &[Arrival]| all.iter().filter(|a| a.path != 0).copied().collect::<Vec<_>>();
        assert_eq!(others(&before), others(&after));
        assert!(after.is_sorted_by_key(|a| a.at));
    }

    #[test]
    fn a_knob_acts_from_the_next_slice_on() {
        let knobs = Arc::new(Knobs::new(100));
        let opts = MixOptions { rate: 2000.0, knobs: Some(knobs.clone()), ..MixOptions::default() };
        let mut arrivals = Arrivals::new(&opts);
        knobs.turn(0, 0.0);
        let mut out = Vec::new();
        arrivals.draw(&mut out);
        assert!(!out.is_empty() && out.iter().all(|a| a.path != 0));
    }
}
