//! Tokens of what is not leased out.
use raddle_core::Time;
use std::time::Duration;

/// The shortest that somebody is told to wait for tokens.
const SHORTEST: Duration = Duration::from_millis(2);

/// A bucket whose rate changes.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    rate: f64,
    most: f64,
    level: f64,
    /// What came and was too much to be kept.
    lost: f64,
    at: Time,
    /// When the next of those who were sent away comes back.
    turn: Time,
}

impl Pool {
    /// An empty pool.
    pub(super) fn new(now: Time) -> Pool {
        Pool { rate: 0.0, most: 1.0, level: 0.0, lost: 0.0, at: now, turn: now }
    }

    /// Its rate from now on, tokens a second, and how many it keeps at most.
    pub(super) fn set(&mut self, rate: f64, most: f64, now: Time) {
        self.fill(now);
        (self.rate, self.most) = (rate.max(0.0), most.max(1.0));
        self.level = self.level.min(self.most);
    }

    /// Tokens that nobody took in time, since this was asked last.
    pub(super) fn lost(&mut self, now: Time) -> f64 {
        self.fill(now);
        std::mem::take(&mut self.lost)
    }

    /// Takes up to `ask`.
    pub(super) fn take(&mut self, ask: u32, now: Time) -> u32 {
        self.fill(now);
        let got = f64::from(ask).min(self.level.floor()).max(0.0);
        self.level -= got;
        got as u32
    }

    /// Takes `n`, or nothing. More than it keeps, up to `burst`, are taken from a full one in advance: those who come
    /// afterwards wait for them to come in.
    pub(super) fn take_whole(&mut self, n: u32, burst: u32, now: Time) -> bool {
        self.fill(now);
        let wanted = f64::from(n);
        let there = self.level >= wanted.min(self.most) && wanted <= self.most.max(f64::from(burst));
        if there {
            self.level -= wanted;
        }
        there
    }

    /// When somebody who found it empty shall ask again for so many: one after the other, as tokens come, but not later
    /// than `longest`.
    pub(super) fn retry(&mut self, ask: u32, longest: Duration, now: Time) -> Duration {
        if self.rate <= 0.0 {
            return longest;
        }
        let all = Duration::from_secs_f64((f64::from(ask) / self.rate).min(longest.as_secs_f64()));
        let turn = self.turn.max(now) + all;
        let wait = turn.since(now);
        if wait <= longest {
            self.turn = turn;
        }
        wait.clamp(SHORTEST, longest)
    }

    fn fill(&mut self, now: Time) {
        let passed = now.since(self.at).as_secs_f64();
        let level = self.level + passed * self.rate;
        self.level = level.min(self.most);
        self.lost += level - self.level;
        self.at = self.at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_millis(500);

    #[test]
    fn no_more_leaves_the_pool_than_came_in() {
        let mut pool = Pool::new(Time::ZERO);
        pool.set(500.0, 25.0, Time::ZERO);
        let taken: u32 = (0..10_000u64).map(|ms| pool.take(7, Time::from_millis(ms))).sum();
        assert!((4_950..=5_000).contains(&taken), "{taken}");
    }

    #[test]
    fn large_requests_pass_and_are_waited_for() {
        let mut pool = Pool::new(Time::ZERO);
        pool.set(100.0, 8.0, Time::ZERO);
        let passed = |n, burst| {
            let mut pool = pool.clone();
            (0..10_000u64).filter(|ms| pool.take_whole(n, burst, Time::from_millis(*ms))).count()
        };
        assert!(
            (19..=20).contains(&passed(50, 100)),
            "fifty at a time of a hundred a second: {}",
            passed(50, 100)
        );
        assert_eq!(passed(101, 100), 0, "more than may ever come at once");
        assert!((990..=1008).contains(&passed(1, 100)));
    }

    #[test]
    fn those_who_found_it_empty_come_back_as_tokens_do() {
        let mut pool = Pool::new(Time::ZERO);
        pool.set(100.0, 1.0, Time::ZERO);
        let waits: Vec<_> = (0..3).map(|_| pool.retry(1, LONGEST, Time::ZERO).as_millis()).collect();
        assert_eq!(waits, [10, 20, 30]);
        assert!((0..1000).all(|_| pool.retry(1, LONGEST, Time::ZERO) <= LONGEST));
        pool.set(0.0, 1.0, Time::ZERO);
        assert_eq!(
            (pool.take(1, Time::from_millis(60_000)), pool.retry(1, LONGEST, Time::ZERO)),
            (0, LONGEST)
        );
    }
}
