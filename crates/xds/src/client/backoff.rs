//! When to try again.
use super::BackoffOptions;
use std::time::Duration;

/// Doubling bounds with full jitter: the wait is anywhere between nothing and the bound, so that those who lost a
/// server together do not come back together. Short luck doubles the bound faster than time passes; so no wait is
/// longer than half of what the server has been away already: what takes a restart of it is over soon after it.
#[derive(Clone, Debug)]
pub(super) struct Backoff {
    options: BackoffOptions,
    failures: u32,
    chance: Chance,
}

/// The bound that being away only briefly does not make smaller.
const FLOOR: Duration = Duration::from_secs(1);
/// Longest wait a server can ask for.
const LONGEST_HINT: Duration = Duration::from_mins(5);

impl Backoff {
    pub(super) fn new(options: BackoffOptions, seed: u64) -> Backoff {
        Backoff { options, failures: 0, chance: Chance(seed) }
    }

    /// Notes a failure, `away` after the server was last there; returns how long to wait. A server's own hint is
    /// kept to, and spread by a fifth.
    pub(super) fn failed(&mut self, hint: Option<Duration>, away: Duration) -> Duration {
        let doubled = self.options.first.saturating_mul(1 << self.failures.min(20));
        let bound = doubled.min(self.options.longest).min(FLOOR.max(away / 2));
        self.failures = self.failures.saturating_add(1);
        let own = bound.mul_f64(self.chance.unit());
        match hint {
            Some(hint) => own.max(hint.min(LONGEST_HINT).mul_f64(1.0 + 0.2 * self.chance.unit())),
            None => own,
        }
    }

    /// Notes that a stream lived and delivered.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Puts things into an order of chance.
    pub(super) fn shuffle<T>(&mut self, things: &mut [T]) {
        for i in (1..things.len()).rev() {
            things.swap(i, (self.chance.unit() * (i + 1) as f64) as usize);
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): for jitter, never for secrets.
#[derive(Clone, Debug)]
struct Chance(u64);

impl Chance {
    /// In `[0, 1)`.
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_hours(1);

    #[test]
    fn waits_are_anywhere_up_to_a_doubling_bound_and_success_forgets() {
        let mut backoff = Backoff::new(BackoffOptions::default(), 7);
        for n in 0..40u32 {
            let bound =
                Duration::from_millis(200).saturating_mul(1 << n.min(20)).min(Duration::from_secs(30));
            assert!(backoff.failed(None, LONG) <= bound, "{n}");
        }
        assert_eq!(backoff.failures(), 40);
        backoff.succeeded();
        assert!(backoff.failed(None, LONG) <= Duration::from_millis(200));
    }

    #[test]
    fn a_server_that_was_away_briefly_is_found_again_soon() {
        for seed in 0..1000 {
            let mut backoff = Backoff::new(BackoffOptions::default(), seed);
            let mut at = Duration::ZERO;
            while at < Duration::from_secs(7) {
                at += backoff.failed(None, at);
            }
            assert!(at <= Duration::from_millis(10_500), "{seed}: {at:?}");
        }
    }

    #[test]
    fn a_servers_hint_is_kept_to_within_reason() {
        let mut backoff = Backoff::new(BackoffOptions::default(), 7);
        let wait = backoff.failed(Some(Duration::from_secs(10)), LONG);
        assert!((Duration::from_secs(10)..=Duration::from_secs(12)).contains(&wait));
        assert!(backoff.failed(Some(Duration::MAX), LONG) <= LONGEST_HINT.mul_f64(1.2));
    }

    #[test]
    fn a_thousand_who_fail_together_come_back_apart() {
        let wait = |seed| {
            let mut backoff = Backoff::new(BackoffOptions::default(), seed);
            (0..8).map(|_| backoff.failed(None, LONG)).last().map_or(0, |wait| wait.as_millis() / 1000)
        };
        let mut seconds = [0u32; 30];
        for seed in 0..1000 {
            seconds[(wait(seed) as usize).min(29)] += 1;
        }
        assert!(seconds[..25].iter().all(|&n| n < 80), "{seconds:?}");
    }

    #[test]
    fn every_target_is_somebodys_first() {
        let first = |seed| {
            let mut things = [0, 1, 2];
            Backoff::new(BackoffOptions::default(), seed).shuffle(&mut things);
            things[0]
        };
        for target in 0..3 {
            let share = (0..300).filter(|&seed| first(seed) == target).count();
            assert!((60..140).contains(&share), "{target}: {share}");
        }
    }
}
