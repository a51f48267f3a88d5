//! A bound on retries as a share of requests, so that retries cannot multiply an overload.
use raddle_core::Time;

/// Seconds over which the share is taken.
const WINDOW: usize = 10;

/// Retry budget of one service in one worker: over the last ten seconds retries stay within a share of
/// requests, apart from a few each second that are always allowed (Finagle's `RetryBudget` has the same
/// two parts; here both are counted exactly).
#[derive(Clone, Debug, Default)]
pub struct RetryBudget {
    seconds: [Second; WINDOW],
    requests: u64,
    retries: u64,
    /// The second the window ends with, since the clock's start.
    at: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    requests: u32,
    retries: u32,
}

impl RetryBudget {
    /// An empty budget.
    pub fn new() -> RetryBudget {
        RetryBudget::default()
    }

    /// Notes a request (not its retries).
    pub fn request(&mut self, now: Time) {
        let second = self.second(now);
        second.requests = second.requests.saturating_add(1);
        self.requests += 1;
    }

    /// Takes a retry if `share` of the requests, or `min_per_second` of this worker, allow it.
    pub fn retry(&mut self, share: f64, min_per_second: u32, now: Time) -> bool {
        let (requests, retries) = {
            self.second(now);
            (self.requests as f64, self.retries as f64)
        };
        let second = self.second(now);
        let allowed = second.retries < min_per_second || retries + 1.0 <= share * requests;
        if allowed {
            second.retries = second.retries.saturating_add(1);
            self.retries += 1;
        }
        allowed
    }

    /// The present second, after those that have left the window are forgotten.
    fn second(&mut self, now: Time) -> &mut Second {
        let second = now.as_millis() / 1000;
        if second > self.at {
            let gone = (second - self.at).min(WINDOW as u64);
            for s in (0..gone).map(|back| second - back) {
                let old = std::mem::take(&mut self.seconds[s as usize % WINDOW]);
                self.requests -= u64::from(old.requests);
                self.retries -= u64::from(old.retries);
            }
            self.at = second;
        }
        &mut self.seconds[self.at as usize % WINDOW]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn retries(budget: &mut RetryBudget, share: f64, min: u32, at: Time, tries: u32) -> u32 {
        (0..tries).filter(|_| budget.retry(share, min, at)).count() as u32
    }

    #[test]
    fn retries_are_a_share_of_requests() {
        let mut budget = RetryBudget::new();
        let now = Time::from_millis(500);
        (0..1000).for_each(|_| budget.request(now));
        assert_eq!(retries(&mut budget, 0.2, 0, now, 1000), 200);
    }

    #[test]
    fn a_few_each_second_are_always_allowed() {
        let mut budget = RetryBudget::new();
        for s in 0..30 {
            assert_eq!(retries(&mut budget, 0.0, 3, Time::from_millis(s * 1000), 10), 3);
        }
    }

    #[test]
    fn requests_long_past_earn_nothing() {
        let mut budget = RetryBudget::new();
        (0..1000).for_each(|_| budget.request(Time::ZERO));
        assert_eq!(retries(&mut budget, 0.5, 0, Time::from_millis(10_000), 10), 0);
        budget.request(Time::from_millis(500_000));
        assert_eq!(retries(&mut budget, 1.0, 0, Time::from_millis(500_000), 10), 1);
    }

    proptest! {
        #[test]
        fn over_any_window_retries_stay_within_share_and_minimum(
            steps in prop::collection::vec((0u64..700, any::<bool>()), 1..500), share in 0.0f64..1.0, min in 0u32..4,
        ) {
            let (mut budget, mut ms) = (RetryBudget::new(), 0);
            let mut log: Vec<(u64, bool)> = Vec::new();
            for (gap, retry) in steps {
                ms += gap;
                let now = Time::from_millis(ms);
                if retry {
                    if budget.retry(share, min, now) { log.push((ms / 1000, true)); }
                } else {
                    budget.request(now);
                    log.push((ms / 1000, false));
                }
                let from = (ms / 1000).saturating_sub(WINDOW as u64 - 1);
                let recent = log.iter().filter(|(s, _)| *s >= from);
                let (mut requests, mut retries) = (0.0, 0.0);
                recent.for_each(|(_, r)| if *r { retries += 1.0 } else { requests += 1.0 });
                // Requests that earned a retry may have left the window before it: two windows bound it.
                let earlier = log.iter().filter(|(s, r)| !r && *s >= from.saturating_sub(WINDOW as u64)).count();
                prop_assert!(retries <= share * (earlier as f64).max(requests) + f64::from(min) * WINDOW as f64);
            }
        }
    }
}
