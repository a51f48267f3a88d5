//! Envoy's admission control, after "client-side throttling" of Google's SRE book: calls are rejected with probability
//! `((total - successes / threshold) / (total + 1)) ^ (1 / aggression)`.
//!
//! Its defaults: window 30 s, threshold 95 %, aggression 1, probability 80 % at most. What it rejected itself does not
//! count. A call that its caller gave up on is a failure (the proxy's own timeout is meant to be the caller's).
use super::{Call, End, Limiter};
use crate::chance::Chance;

const WINDOW: usize = 30;
const THRESHOLD: f64 = 0.95;
const AGGRESSION: f64 = 1.0;
const MOST: f64 = 0.8;

/// Envoy's admission control.
#[derive(Debug)]
pub struct Admission {
    /// The number of a second, calls and successes in it.
    seconds: Vec<(i64, f64, f64)>,
    sums: (f64, f64),
    at: i64,
    chance: Chance,
}

/// How likely a call is rejected.
fn probability(total: f64, successes: f64) -> f64 {
    let p = (total - successes / THRESHOLD) / (total + 1.0);
    p.max(0.0).powf(1.0 / AGGRESSION).min(MOST)
}

impl Admission {
    /// With its defaults.
    pub fn new(seed: u64) -> Admission {
        Admission {
            seconds: vec![(-1, 0.0, 0.0); WINDOW],
            sums: (0.0, 0.0),
            at: 0,
            chance: Chance::new(seed, 32),
        }
    }

    fn forget(&mut self, now: f64) {
        let second = now as i64;
        if second > self.at {
            self.at = second;
            for old in self.seconds.iter_mut().filter(|s| s.0 >= 0 && s.0 <= second - WINDOW as i64) {
                self.sums.0 -= old.1;
                self.sums.1 -= old.2;
                *old = (-1, 0.0, 0.0);
            }
        }
    }

    fn count(&mut self, success: bool, now: f64) {
        self.forget(now);
        let place = &mut self.seconds[now as usize % WINDOW];
        place.0 = now as i64;
        let success = f64::from(u8::from(success));
        place.1 += 1.0;
        place.2 += success;
        self.sums.0 += 1.0;
        self.sums.1 += success;
    }
}

impl Limiter for Admission {
    fn admit(&mut self, _: &Call, now: f64) -> bool {
        self.forget(now);
        self.chance.unit() >= probability(self.sums.0, self.sums.1)
    }

    fn complete(&mut self, _: &Call, end: &End, now: f64) {
        if !end.late {
            self.count(!end.failed, now);
        }
    }

    fn timed_out(&mut self, _: &Call, now: f64) {
        self.count(false, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probability_is_that_of_its_documentation() {
        assert_eq!(probability(0.0, 0.0), 0.0);
        assert_eq!(probability(1000.0, 950.0), 0.0);
        assert!((probability(999.0, 475.0) - 0.499).abs() < 1e-9);
        assert_eq!(probability(1000.0, 0.0), MOST);
    }

    #[test]
    fn calls_count_for_thirty_seconds() {
        let mut a = Admission::new(1);
        (0..10).for_each(|_| a.count(false, 5.0));
        a.count(true, 20.0);
        assert_eq!(a.sums, (11.0, 1.0));
        a.forget(34.9);
        assert_eq!(a.sums, (11.0, 1.0));
        a.forget(35.0);
        assert_eq!(a.sums, (1.0, 1.0));
    }
}
