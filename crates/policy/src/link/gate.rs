//! When `strict` takes effect on one inbound listener: a state machine, told what was seen and what time it is.
//!
//! `strict` is the second of two phases. A rule may ask for it while callers still come in plaintext; it waits until
//! none was seen for [`LinkSettings::quiet`](raddle_model::LinkSettings::quiet), or takes effect at once if it is forced.
//! From then on it stays, whatever happens: callers that come later, a certificate that expires, another deadline. Only
//! a rule that asks for less ends it, so that nobody can bring plaintext back from outside.
use super::LinkPlan;
use raddle_core::Time;
use raddle_model::LinkMode;

/// What the gate is told.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// When a plaintext caller was last there: when one connected, sent a request, or still had a connection open;
    /// [`Time::ZERO`] = never.
    pub plaintext: Time,
    /// Whether a valid certificate is held: without one, strict would be an outage.
    pub held: bool,
}

/// What holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Effective {
    /// Plaintext is taken.
    #[default]
    Open,
    /// Plaintext is taken, although `strict` is asked for.
    Waiting {
        /// Since when it waits.
        since: Time,
        /// What for.
        why: Why,
    },
    /// New plaintext connections are refused.
    Strict {
        /// Since when.
        since: Time,
    },
}

impl Effective {
    /// Since when plaintext is refused; `None` = it is not.
    pub const fn strict(self) -> Option<Time> {
        match self {
            Effective::Strict { since } => Some(since),
            Effective::Open | Effective::Waiting { .. } => None,
        }
    }

    /// In one word, for pages.
    pub const fn name(self) -> &'static str {
        match self {
            Effective::Open => "open",
            Effective::Waiting { .. } => "waiting",
            Effective::Strict { .. } => "strict",
        }
    }
}

/// What `strict` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Callers still come in plaintext, or it is not known for long enough that none does.
    Callers,
    /// There is no valid certificate. Nothing but a certificate ends this wait.
    NoCertificate,
}

/// The gate of one listener.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    state: Effective,
}

impl Gate {
    /// What holds now on a listener of this port. The time must not go back from call to call.
    pub fn step(&mut self, plan: &LinkPlan, port: u16, seen: Seen, now: Time) -> Effective {
        let settings = &plan.settings;
        self.state = match self.state {
            _ if settings.mode_of(port) != LinkMode::Strict => Effective::Open,
            strict @ Effective::Strict { .. } => strict,
            before => {
                let since = match before {
                    Effective::Waiting { since, .. } => since,
                    _ => now,
                };
                let quiet = now.since(seen.plaintext.max(since)) >= settings.quiet;
                match (seen.held, settings.force || quiet) {
                    (false, _) => Effective::Waiting { since, why: Why::NoCertificate },
                    (true, false) => Effective::Waiting { since, why: Why::Callers },
                    (true, true) => Effective::Strict { since: now },
                }
            }
        };
        self.state
    }

    /// What held at the last step.
    pub const fn state(&self) -> Effective {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use raddle_model::{LinkSettings, PortMode};
    use std::time::Duration;

    fn plan(mode: LinkMode, force: bool) -> LinkPlan {
        let settings =
            LinkSettings { mode, force, quiet: Duration::from_secs(10), ..LinkSettings::default() };
        LinkPlan { rule: Some("r".into()), settings }
    }

    fn at(s: u64) -> Time {
        Time::from_millis(s * 1000)
    }

    const fn seen(plaintext: Time) -> Seen {
        Seen { plaintext, held: true }
    }

    #[test]
    fn strict_waits_until_no_plaintext_caller_was_seen_for_long_enough() {
        let (mut gate, strict) = (Gate::default(), plan(LinkMode::Strict, false));
        let waiting = Effective::Waiting { since: at(5), why: Why::Callers };
        assert_eq!(gate.step(&strict, 1, seen(at(1)), at(5)), waiting);
        assert_eq!(gate.step(&strict, 1, seen(at(8)), at(14)), waiting, "one came at 8");
        assert_eq!(gate.step(&strict, 1, seen(at(8)), at(17)), waiting);
        assert_eq!(gate.step(&strict, 1, seen(at(8)), at(18)), Effective::Strict { since: at(18) });
        assert_eq!(
            gate.step(&strict, 1, seen(at(19)), at(19)).strict(),
            Some(at(18)),
            "who comes now is refused"
        );
    }

    #[test]
    fn quiet_is_counted_from_when_the_rule_asked() {
        let (mut gate, strict) = (Gate::default(), plan(LinkMode::Strict, false));
        // A process that has just begun has seen nobody, and knows nothing.
        assert!(gate.step(&strict, 1, seen(Time::ZERO), at(100)).strict().is_none());
        assert!(gate.step(&strict, 1, seen(Time::ZERO), at(109)).strict().is_none());
        assert!(gate.step(&strict, 1, seen(Time::ZERO), at(110)).strict().is_some());
    }

    #[test]
    fn force_waits_for_nobody() {
        let mut gate = Gate::default();
        let forced = plan(LinkMode::Strict, true);
        assert_eq!(gate.step(&forced, 1, seen(at(5)), at(5)), Effective::Strict { since: at(5) });
    }

    #[test]
    fn without_a_certificate_strict_never_takes_effect() {
        let mut gate = Gate::default();
        let forced = plan(LinkMode::Strict, true);
        let none = Seen { plaintext: Time::ZERO, held: false };
        let waiting = Effective::Waiting { since: at(5), why: Why::NoCertificate };
        assert_eq!(gate.step(&forced, 1, none, at(5)), waiting);
        assert_eq!(gate.step(&forced, 1, none, at(5000)), waiting);
        assert!(gate.step(&forced, 1, seen(at(5000)), at(5001)).strict().is_some());
    }

    #[test]
    fn a_certificate_that_expires_opens_nothing() {
        let mut gate = Gate::default();
        let forced = plan(LinkMode::Strict, true);
        gate.step(&forced, 1, seen(Time::ZERO), at(1));
        let lost = Seen { plaintext: at(2), held: false };
        assert_eq!(gate.step(&forced, 1, lost, at(3)), Effective::Strict { since: at(1) });
    }

    #[test]
    fn ports_have_modes_of_their_own() {
        let mut both = plan(LinkMode::Strict, true);
        both.settings.ports = vec![PortMode { port: 2, mode: LinkMode::Permissive }];
        let (mut one, mut two) = (Gate::default(), Gate::default());
        assert!(one.step(&both, 1, seen(Time::ZERO), at(1)).strict().is_some());
        assert_eq!(two.step(&both, 2, seen(Time::ZERO), at(1)), Effective::Open);
    }

    proptest! {
        /// Whatever happens: never strict unless asked for; never begun without a certificate, nor, unforced, within
        /// `quiet` of a plaintext caller; and what began ends only when the rule asks for less.
        #[test]
        fn strict_is_never_early_and_never_given_up(
            steps in proptest::collection::vec((0u64..8, 0usize..4, any::<bool>(), any::<bool>(), any::<bool>()), 1..80)
        ) {
            let (mut gate, mut now, mut last) = (Gate::default(), at(1), Time::ZERO);
            let mut before = Effective::Open;
            for (dt, kind, force, held, came) in steps {
                now = now + Duration::from_secs(dt);
                if came {
                    last = now;
                }
                let mode = [LinkMode::Disable, LinkMode::Permissive, LinkMode::Strict, LinkMode::Strict][kind];
                let plan = plan(mode, force);
                let after = gate.step(&plan, 7, Seen { plaintext: last, held }, now);
                prop_assert_eq!(after == Effective::Open, mode != LinkMode::Strict);
                if let (Some(since), None) = (after.strict(), before.strict()) {
                    prop_assert_eq!(since, now);
                    prop_assert!(held);
                    prop_assert!(force || now.since(last) >= Duration::from_secs(10));
                }
                if before.strict().is_some() && mode == LinkMode::Strict {
                    prop_assert_eq!(after, before);
                }
                before = after;
            }
        }
    }
}
