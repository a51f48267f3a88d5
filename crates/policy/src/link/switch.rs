//! The caller's side of a switch between plaintext and TLS: how a connection stands to what is wanted of its host's,
//! and when TLS that could not be had is tried again.
//!
//! A worker has one [`Switch`] a host. The rule is to establish first: connections that are no longer what is wanted
//! carry requests until one that is was established, as long as they lead to the right peer.
use super::PLAINTEXT;
use crate::rng::Rng;
use raddle_core::Time;
use std::time::Duration;

/// Stands in place of a transport's id once its peer is no longer trusted: no host ever wants it.
pub const DISTRUSTED: u64 = u64::MAX;
/// A connection whose peer is no longer trusted carries requests for this long at most.
pub const DISTRUSTED_MOST: Duration = Duration::from_mins(5);
/// Wait before TLS is tried again, after the first failure.
pub const FIRST: Duration = Duration::from_secs(1);
/// The longest such wait.
pub const LONGEST: Duration = Duration::from_secs(60);
/// Hosts whose connections are to switch begin within this time, each at its own moment.
pub const SPREAD: Duration = Duration::from_secs(1);

/// How a connection stands to what is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It is what is wanted.
    Current,
    /// It carries requests as long as there is no current one.
    Stale,
    /// It must not carry any: it leads to another identity, or is plaintext where that was ruled out.
    Wrong,
}

/// What a worker knows of TLS to one host.
#[derive(Clone, Debug, Default)]
pub struct Switch {
    /// What could not be had.
    failed: u64,
    failures: u32,
    /// Plaintext is no way out.
    required: bool,
    next: Time,
}

impl Switch {
    /// How a connection that is `is` stands to `wanted`; both ids of transports.
    #[inline]
    pub fn standing(&self, is: u64, wanted: u64) -> Standing {
        if is == wanted {
            return Standing::Current;
        }
        let toggles = (is == PLAINTEXT) != (wanted == PLAINTEXT);
        let barred = is == PLAINTEXT && self.required && self.fails(wanted);
        match (toggles && !barred) || is == DISTRUSTED {
            true => Standing::Stale,
            false => Standing::Wrong,
        }
    }

    /// Whether `wanted` could not be had when it was last tried.
    #[inline]
    pub fn fails(&self, wanted: u64) -> bool {
        self.failures > 0 && self.failed == wanted
    }

    /// What a connection made now is to be: what is wanted, or plaintext for a while after that failed, if it is a way out.
    #[inline]
    pub fn aim(&self, wanted: u64, now: Time) -> u64 {
        match self.fails(wanted) && !self.required && self.next > now {
            false => wanted,
            true => PLAINTEXT,
        }
    }

    /// When `wanted` is to be tried again, if it failed.
    pub fn next(&self, wanted: u64) -> Option<Time> {
        self.fails(wanted).then_some(self.next)
    }

    /// TLS could not be had. Returns when it may be tried again: after [`FIRST`] to [`LONGEST`], doubling, each shortened
    /// at random by up to a half. Attempts that ended together count once.
    pub fn failed(&mut self, wanted: u64, required: bool, now: Time, rng: &mut Rng) -> Time {
        let together = self.fails(wanted) && self.next > now;
        if self.failed != wanted {
            self.failures = 0;
        }
        self.failed = wanted;
        self.required = required;
        if !together {
            let whole = FIRST.saturating_mul(1 << self.failures.min(20)).min(LONGEST);
            self.failures = self.failures.saturating_add(1);
            self.next = now + whole.mul_f64(1.0 - 0.5 * rng.unit());
        }
        self.next
    }

    /// TLS was had, or what stood in its way may be gone: the next attempt may be made at once. Returns whether anything
    /// stood in its way.
    pub fn forget(&mut self) -> bool {
        let failed = self.failures > 0;
        *self = Switch::default();
        failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_and_tls_stand_in_for_each_other_and_one_identity_never_for_another() {
        let s = Switch::default();
        assert_eq!(s.standing(7, 7), Standing::Current);
        assert_eq!(s.standing(PLAINTEXT, 7), Standing::Stale);
        assert_eq!(s.standing(7, PLAINTEXT), Standing::Stale);
        assert_eq!(s.standing(8, 7), Standing::Wrong);
        assert_eq!(s.standing(DISTRUSTED, 7), Standing::Stale);
        assert_eq!(s.standing(DISTRUSTED, PLAINTEXT), Standing::Stale);
    }

    #[test]
    fn with_fallback_allowed_plaintext_is_made_until_tls_is_due_again() {
        let (mut s, mut rng, now) = (Switch::default(), Rng::new(1), Time::from_millis(5));
        assert_eq!(s.aim(7, now), 7);
        let next = s.failed(7, false, now, &mut rng);
        assert_eq!(s.aim(7, now), PLAINTEXT);
        assert_eq!(s.standing(PLAINTEXT, 7), Standing::Stale);
        assert_eq!(s.aim(7, next), 7, "tried again");
        assert_eq!(s.aim(8, now), 8, "another identity did not fail");
        assert!(s.forget() && s.aim(7, now) == 7 && !s.forget());
    }

    #[test]
    fn with_fallback_denied_plaintext_is_ruled_out_by_the_first_failure_and_not_before() {
        let (mut s, mut rng, now) = (Switch::default(), Rng::new(1), Time::from_millis(5));
        assert_eq!(s.standing(PLAINTEXT, 7), Standing::Stale);
        s.failed(7, true, now, &mut rng);
        assert_eq!(s.standing(PLAINTEXT, 7), Standing::Wrong);
        assert_eq!(s.aim(7, now), 7, "how long to rest is the host's own back-off");
        assert_eq!(s.standing(PLAINTEXT, PLAINTEXT), Standing::Current, "turned off, it is what is wanted");
    }

    #[test]
    fn waits_grow_to_a_minute_and_what_failed_together_counts_once() {
        let (mut s, mut rng, mut now) = (Switch::default(), Rng::new(1), Time::ZERO);
        for n in 0..12u32 {
            let whole = FIRST.saturating_mul(1 << n).min(LONGEST);
            let next = s.failed(7, false, now, &mut rng);
            assert_eq!(s.failed(7, false, now, &mut rng), next);
            let wait = next.since(now);
            assert!(wait + Duration::from_nanos(1) > whole / 2 && wait <= whole, "{n}: {wait:?}");
            now = next;
        }
    }
}
