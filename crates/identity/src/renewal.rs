//! When a certificate is renewed: decided without a clock.
use std::time::Duration;

/// Shortest pause between two attempts.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// When to renew a certificate: at half of its life, give or take a tenth of its life, so that those that were made
/// together are not renewed together. Seconds since 1970; `chance` is from 0 to 1.
pub fn renew_at(not_before: i64, not_after: i64, chance: f64) -> i64 {
    let life = not_after.saturating_sub(not_before).max(0) as f64;
    not_before.saturating_add((life * (0.4 + 0.2 * chance.clamp(0.0, 1.0))) as i64)
}

/// How long to wait after the n-th failed attempt in a row, from 1: doubling from one second to one minute, of which
/// at least half; `chance` is from 0 to 1.
pub fn pause(failures: u32, chance: f64) -> Duration {
    let full = FIRST_PAUSE.saturating_mul(1 << failures.saturating_sub(1).min(6)).min(LONGEST_PAUSE);
    full.mul_f64(0.5 + 0.5 * chance.clamp(0.0, 1.0))
}

/// Whether a certificate is so near its end that people must know: less than a quarter of its life is left, which
/// means that renewing it has failed for a while.
pub fn expiring(not_before: i64, not_after: i64, now: i64) -> bool {
    let life = not_after.saturating_sub(not_before).max(0);
    not_after.saturating_sub(now) < life / 4
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_is_spread_around_half_of_the_life() {
        assert_eq!(renew_at(0, 1000, 0.0), 400);
        assert_eq!(renew_at(0, 1000, 0.5), 500);
        assert_eq!(renew_at(0, 1000, 1.0), 600);
        assert_eq!(renew_at(1000, 0, 0.5), 1000);
        assert!(!expiring(0, 1000, 600));
        assert!(expiring(0, 1000, 751));
    }

    #[test]
    fn pauses_double_and_are_bounded() {
        assert_eq!(pause(1, 1.0), Duration::from_secs(1));
        assert_eq!(pause(1, 0.0), Duration::from_millis(500));
        assert_eq!(pause(3, 1.0), Duration::from_secs(4));
        assert_eq!(pause(u32::MAX, 1.0), Duration::from_secs(60));
        assert_eq!(pause(0, 1.0), Duration::from_secs(1));
    }
}
