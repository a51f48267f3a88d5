//! Expected latency of an endpoint: a moving average that believes bad news at once and good news slowly.
use raddle_core::Time;
use std::time::Duration;

/// How long news stay: weight e⁻¹ after this. Finagle's default.
pub const DECAY: Duration = Duration::from_secs(10);
/// An idle endpoint is asked again after this many times what its replies take: at most about a twentieth of the time
/// somebody waits for it, however slow it is.
pub const AGAIN: f64 = 20.0;
/// And what was known until then counts only so much beside the new reply.
const STALE: f64 = 0.1;
/// Expected latency of an endpoint that never answered, ns. Linkerd's default, 30 ms.
pub const UNKNOWN_NS: f64 = 30e6;

/// Peak EWMA, as Finagle's `PeakEwma` and linkerd2's balancer have it.
///
/// With td the time since the last reply and w = e^(−td/[`DECAY`]): a reply that took rtt makes it rtt if
/// that is more than it was (the peak), else old·w + rtt·(1−w). Read later, it has decayed to old·w, so
/// that an endpoint that was slow is asked again in time. How soon is up to [`PeakEwma::expected`]: decay alone would
/// leave an instance whose first reply took 500 ms, as cold ones do, without any request for a minute among others that
/// take 2 ms.
#[derive(Clone, Copy, Debug)]
pub struct PeakEwma {
    ns: f64,
    at: Time,
}

impl PeakEwma {
    /// Of an endpoint first seen at `now`.
    pub const fn new(now: Time) -> PeakEwma {
        PeakEwma { ns: UNKNOWN_NS, at: now }
    }

    /// Takes in a reply at `now` that took `rtt`.
    pub fn observe(&mut self, rtt: Duration, now: Time) {
        let rtt = rtt.as_nanos() as f64;
        self.ns = if rtt > self.ns {
            rtt
        } else {
            let w = if self.stale(now) { STALE } else { 1.0 } * weight(now.since(self.at));
            self.ns * w + rtt * (1.0 - w)
        };
        self.at = self.at.max(now);
    }

    /// What a balancer expects of it at `now`, ns, at least 1: the latency, or nearly nothing where it is `idle` and has
    /// been for [`AGAIN`] times as long. Where requests are few, those that take about the same have about the same.
    pub fn expected(&self, idle: bool, now: Time) -> f64 {
        if idle && self.stale(now) { 1.0 } else { self.value(now) }
    }

    fn stale(&self, now: Time) -> bool {
        now.since(self.at).as_nanos() as f64 > self.ns * AGAIN
    }

    /// Latency that is known at `now`, ns, at least 1.
    pub fn value(&self, now: Time) -> f64 {
        let idle = now.since(self.at);
        // Too little to matter: spares the exponential on busy endpoints.
        if idle < DECAY / 128 { self.ns.max(1.0) } else { (self.ns * weight(idle)).max(1.0) }
    }
}

fn weight(idle: Duration) -> f64 {
    (-idle.as_secs_f64() / DECAY.as_secs_f64()).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_news_count_at_once_and_fade() {
        let mut ewma = PeakEwma::new(Time::ZERO);
        ewma.observe(Duration::from_millis(500), Time::from_millis(100));
        assert!((ewma.value(Time::from_millis(100)) - 500e6).abs() < 1.0);
        ewma.observe(Duration::from_millis(1), Time::from_millis(200));
        assert!(ewma.value(Time::from_millis(200)) > 490e6, "one good reply does not forgive");
        assert!(ewma.value(Time::from_millis(60_000)) < 2e6, "time does");
    }

    #[test]
    fn who_was_slow_is_asked_again_after_twenty_times_as_long() {
        let mut ewma = PeakEwma::new(Time::ZERO);
        ewma.observe(Duration::from_millis(500), Time::from_millis(500));
        assert!(ewma.expected(true, Time::from_millis(10_400)) > 100e6);
        assert!(ewma.expected(true, Time::from_millis(10_600)) < 2.0);
        assert!(ewma.expected(false, Time::from_millis(10_600)) > 100e6, "one is on its way: that is enough");
        ewma.observe(Duration::from_millis(2), Time::from_millis(20_000));
        let then = ewma.expected(true, Time::from_millis(20_100));
        assert!((2e6..50e6).contains(&then), "it answered well, and is on its way back: {then}");
    }
}
