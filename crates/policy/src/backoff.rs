//! When to connect again after connecting failed.
use crate::rng::Rng;
use raddle_core::Time;
use std::time::Duration;

/// Wait after the first failure.
pub const FIRST: Duration = Duration::from_millis(100);
/// Longest wait.
pub const LONGEST: Duration = Duration::from_secs(10);

/// Doubling waits from [`FIRST`] to [`LONGEST`], each shortened at random by up to a half, so that those
/// who lost a host together do not come back together.
#[derive(Clone, Debug, Default)]
pub struct Backoff {
    failures: u32,
    next: Time,
}

impl Backoff {
    /// Notes a failed attempt; returns when the next may be made.
    pub fn failed(&mut self, now: Time, rng: &mut Rng) -> Time {
        let whole = FIRST.saturating_mul(1 << self.failures.min(20)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        self.next = now + whole.mul_f64(1.0 - 0.5 * rng.unit());
        self.next
    }

    /// Notes a success: the next failure waits shortest again.
    pub fn succeeded(&mut self) {
        *self = Backoff::default();
    }

    /// Whether an attempt may be made.
    pub fn ready(&self, now: Time) -> bool {
        self.next <= now
    }

    /// When the next attempt may be made; in the past = at once.
    pub fn next(&self) -> Time {
        self.next
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_to_the_longest_and_a_success_forgets() {
        let (mut backoff, mut rng, mut now) = (Backoff::default(), Rng::new(1), Time::ZERO);
        assert!(backoff.ready(now));
        for n in 0..1000u32 {
            let whole = FIRST.saturating_mul(1 << n.min(20)).min(LONGEST);
            let wait = backoff.failed(now, &mut rng).since(now);
            assert!(wait + Duration::from_nanos(1) > whole / 2 && wait <= whole, "{n}: {wait:?}");
            assert!(!backoff.ready(now));
            now = backoff.next();
            assert!(backoff.ready(now));
        }
        assert_eq!(backoff.failures(), 1000);
        backoff.succeeded();
        assert!(backoff.failed(now, &mut rng).since(now) <= FIRST);
    }

    #[test]
    fn those_who_fail_together_come_back_apart() {
        let mut times: Vec<_> =
            (0..50).map(|seed| Backoff::default().failed(Time::ZERO, &mut Rng::new(seed))).collect();
        times.sort_unstable();
        times.dedup();
        assert!(times.len() > 45);
    }
}
