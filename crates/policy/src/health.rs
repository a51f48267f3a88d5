//! Active health check: when to ask next, and what the answers mean.
use crate::rng::Rng;
use crate::snapshot::host::Health;
use raddle_core::Time;
use raddle_model::HealthCheck;

/// Intervals vary by this share both ways, so that sidecars do not check in step.
const JITTER: f64 = 0.1;

/// State of the check of one host. The shell asks the host when [`HealthState::due`], reports the outcome
/// and hands a changed verdict to [`Host::set_health`](crate::Host::set_health).
#[derive(Clone, Debug)]
pub struct HealthState {
    verdict: Health,
    /// Outcomes in a row that speak against the verdict.
    against: u8,
    next: Time,
}

impl HealthState {
    /// A host nobody has asked; the first check is due within one interval of `now`, at random.
    pub fn new(check: &HealthCheck, now: Time, rng: &mut Rng) -> HealthState {
        HealthState { verdict: Health::Unknown, against: 0, next: now + check.interval.mul_f64(rng.unit()) }
    }

    /// Whether it is time to ask.
    pub fn due(&self, now: Time) -> bool {
        self.next <= now
    }

    /// When to ask next.
    pub fn next(&self) -> Time {
        self.next
    }

    /// The verdict so far.
    pub fn verdict(&self) -> Health {
        self.verdict
    }

    /// Takes in the outcome of a check that ended at `now`; a changed verdict is returned. A host nobody
    /// knew is healthy by its first success.
    pub fn outcome(&mut self, passed: bool, check: &HealthCheck, now: Time, rng: &mut Rng) -> Option<Health> {
        self.next = now + check.interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * rng.unit());
        let (verdict, needed) = match (self.verdict, passed) {
            (Health::Healthy, true) | (Health::Unhealthy, false) => {
                self.against = 0;
                return None;
            }
            (Health::Unknown, true) => (Health::Healthy, 1),
            (Health::Unhealthy, true) => (Health::Healthy, check.healthy_after),
            (Health::Unknown | Health::Healthy, false) => (Health::Unhealthy, check.unhealthy_after),
        };
        self.against = self.against.saturating_add(1);
        if self.against < needed {
            return None;
        }
        self.verdict = verdict;
        self.against = 0;
        Some(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raddle_model::CheckKind;
    use std::time::Duration;

    fn check() -> HealthCheck {
        HealthCheck {
            kind: CheckKind::Tcp,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            unhealthy_after: 3,
            healthy_after: 2,
        }
    }

    fn verdicts(outcomes: &[bool]) -> Vec<Option<Health>> {
        let mut rng = Rng::new(1);
        let mut state = HealthState::new(&check(), Time::ZERO, &mut rng);
        outcomes.iter().map(|&o| state.outcome(o, &check(), Time::ZERO, &mut rng)).collect()
    }

    #[test]
    fn only_outcomes_in_a_row_change_the_verdict() {
        let (t, f) = (true, false);
        let (up, down) = (Some(Health::Healthy), Some(Health::Unhealthy));
        assert_eq!(verdicts(&[t, f, f, t, f, f, f, f]), [up, None, None, None, None, None, down, None]);
        assert_eq!(verdicts(&[f, f, f, t, f, t, t]), [None, None, down, None, None, None, up]);
    }

    #[test]
    fn checks_come_once_an_interval_but_not_in_step() {
        let mut rng = Rng::new(2);
        let mut state = HealthState::new(&check(), Time::ZERO, &mut rng);
        assert!(state.next() < Time::from_millis(5000));
        let (mut now, mut gaps) = (state.next(), Vec::new());
        for _ in 0..100 {
            assert!(state.due(now));
            state.outcome(true, &check(), now, &mut rng);
            gaps.push(state.next().since(now));
            now = state.next();
        }
        assert!(gaps.iter().all(|g| (4500..=5500).contains(&g.as_millis())));
        assert!(gaps.windows(2).any(|w| w[0] != w[1]));
    }
}
