//! Which streams are let in. Pure: the time is passed in.
use super::options::Admission;
use std::time::Duration;

/// Nobody is told to stay away for longer.
const LONGEST: Duration = Duration::from_secs(10);

/// Why a stream is refused, and when to come again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too many new ones at once; there will be room after that time.
    Crowd(Duration),
    /// As many as are allowed are open.
    Full(Duration),
}

/// The gate. A token bucket bounds how many streams begin in a time, since each begins with everything its client
/// wants; a cap bounds how many there are.
#[derive(Debug)]
pub struct Gate {
    options: Admission,
    tokens: f64,
    /// When the tokens were counted.
    at: Duration,
    /// The time up to which those who were refused have been told to come back, one for each token that will be.
    promised: Duration,
}

impl Gate {
    /// A gate with all its tokens.
    pub fn new(options: Admission) -> Gate {
        Gate { tokens: options.burst.max(1.0), options, at: Duration::ZERO, promised: Duration::ZERO }
    }

    /// Asks for a stream at `now` (on any clock that does not go back), while `open` are open.
    pub fn ask(&mut self, now: Duration, open: usize) -> Result<(), Refusal> {
        let rate = self.options.rate.max(0.001);
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.tokens = (self.tokens + passed * rate).min(self.options.burst.max(1.0));
        if open >= self.options.streams {
            // Somebody has to leave first; nobody knows when.
            return Err(Refusal::Full(LONGEST));
        }
        if self.tokens < 1.0 {
            // Those who are refused come back spread over the time in which their tokens grow, not all at its end.
            // The promise is a hint only: it takes no tokens from those who come.
            self.promised = self.promised.max(now) + Duration::from_secs_f64(1.0 / rate);
            let wait = self.promised.saturating_sub(now).min(LONGEST);
            self.promised = now + wait;
            return Err(Refusal::Crowd(wait));
        }
        self.tokens -= 1.0;
        Ok(())
    }
}

impl Refusal {
    /// When to come again.
    pub const fn after(self) -> Duration {
        match self {
            Refusal::Crowd(after) | Refusal::Full(after) => after,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(rate: f64, burst: f64, streams: usize) -> Gate {
        Gate::new(Admission { rate, burst, streams })
    }

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_burst_is_let_in_and_the_rest_at_the_rate() {
        let mut g = gate(10.0, 3.0, 100);
        let taken = (0..5).filter(|_| g.ask(ms(0), 0).is_ok()).count();
        assert_eq!(taken, 3);
    }

    #[test]
    fn who_comes_back_when_told_is_let_in() {
        let mut g = gate(10.0, 5.0, 10_000);
        let mut waiting: Vec<u64> = vec![0; 60];
        let mut open = 0;
        let mut tries = 0;
        for now in 0..30_000 {
            waiting.retain_mut(|at| {
                if *at > now {
                    return true;
                }
                tries += 1;
                match g.ask(ms(now), open) {
                    Ok(()) => {
                        open += 1;
                        false
                    }
                    Err(refusal) => {
                        *at = now + refusal.after().as_millis() as u64 + 1;
                        true
                    }
                }
            });
        }
        assert_eq!(open, 60);
        assert!(tries < 400, "{tries} tries for 60 streams");
    }

    #[test]
    fn a_crowd_that_keeps_asking_is_let_in_at_the_rate_all_the_same() {
        let mut g = gate(10.0, 1.0, 10_000);
        let let_in = (0..1_000_000).filter(|i| g.ask(Duration::from_micros(i * 10), 0).is_ok()).count();
        assert!((95..=105).contains(&let_in), "{let_in} in ten seconds");
    }

    #[test]
    fn no_more_than_the_cap_are_open() {
        let mut g = gate(1000.0, 1000.0, 2);
        assert!(g.ask(ms(0), 1).is_ok());
        assert!(matches!(g.ask(ms(0), 2), Err(Refusal::Full(_))));
    }

    #[test]
    fn a_clock_that_goes_back_gives_no_tokens() {
        let mut g = gate(1.0, 1.0, 100);
        assert!(g.ask(ms(5000), 0).is_ok());
        assert!(g.ask(ms(0), 0).is_err());
        assert!(g.ask(ms(5100), 0).is_err());
    }
}
