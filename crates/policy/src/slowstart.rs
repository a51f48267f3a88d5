//! Slow start: an endpoint that is new or back gets its weight over time, not at once.
use raddle_core::Time;
use raddle_model::SlowStart;

/// The share of its weight a host has at `now`, if its ramp began at `since` ([`Time::ZERO`] = it never
/// ramps). Linear from `floor` to 1 over `window`.
pub fn factor(ramp: &SlowStart, since: Time, now: Time) -> f64 {
    if since == Time::ZERO || ramp.window.is_zero() {
        return 1.0;
    }
    let done = now.since(since).as_secs_f64() / ramp.window.as_secs_f64();
    if done >= 1.0 { 1.0 } else { ramp.floor + (1.0 - ramp.floor) * done }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_ramp_is_linear_from_its_floor_to_the_whole() {
        let ramp = SlowStart { window: Duration::from_secs(10), floor: 0.1 };
        let since = Time::from_millis(1000);
        let at = |ms| factor(&ramp, since, Time::from_millis(ms));
        assert!((at(1000) - 0.1).abs() < 1e-9);
        assert!((at(6000) - 0.55).abs() < 1e-9);
        assert!((at(11_000) - 1.0).abs() < 1e-9);
        assert!((at(99_000) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_host_that_was_there_from_the_start_has_its_whole_weight() {
        let ramp = SlowStart { window: Duration::from_secs(10), floor: 0.1 };
        assert!((factor(&ramp, Time::ZERO, Time::from_millis(5)) - 1.0).abs() < 1e-9);
    }
}
