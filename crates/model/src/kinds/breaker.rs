//! `kind: CircuitBreaker`.
use super::Resource;
use super::limit::{MODE_MEANING, MODES};
use super::reach::reach;
use super::route::when;
use crate::decode::{Choice, DurationIn, Fields, Int, Record, Share};
use crate::resources::{BreakerPer, BreakerSettings, CircuitBreaker, Forced, Metadata, RuleMode};

impl Resource for CircuitBreaker {
    const KIND: &'static str = "CircuitBreaker";

    fn spec(fields: &mut Fields<'_>) -> Option<CircuitBreaker> {
        let (scope, rollout) = reach(fields);
        let mode = fields.or("mode", MODES, RuleMode::Enforce, MODE_MEANING);
        let when = fields.or(
            "when",
            Record(when),
            Vec::new(),
            "Which calls it counts and holds: all conditions must hold. Absent = every call of the app.",
        );
        let settings = settings(fields);
        Some(CircuitBreaker { metadata: Metadata::default(), scope, rollout, mode, when, settings })
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

fn settings(fields: &mut Fields<'_>) -> BreakerSettings {
    let d = BreakerSettings::default();
    let settings = BreakerSettings {
        per: fields.or(
            "per",
            Choice(&[
                ("endpoint", BreakerPer::Endpoint),
                ("service", BreakerPer::Service),
                ("method", BreakerPer::Method),
            ]),
            d.per,
            "What has a breaker of its own. While an `endpoint`'s is open the others take its requests, and only if all are \
             open they fail with `CB`; an open `service` or `method` fails with `CB`.",
        ),
        forced: fields.optional(
            "state",
            Choice(&[("open", Forced::Open), ("closed", Forced::Closed)]),
            "decided",
            "Said by hand: it stays `open` or `closed` whatever happens.",
        ),
        error_ratio: fields.optional(
            "errorRatio",
            Share,
            "it does not open by that",
            "Share of failed calls in the window that opens it. Failed: 5xx, gRPC's server errors, the exceptions of Bolt and \
             Dubbo that are not the app's own, timeouts, lost connections.",
        ),
        slow_ratio: fields.optional(
            "slowRatio",
            Share,
            "it does not open by that",
            "Share of slow calls in the window that opens it.",
        ),
        slow_after: fields.or("slowAfter", DurationIn::usual(), d.slow_after, "A call that takes longer is slow."),
        consecutive_errors: fields.optional(
            "consecutiveErrors",
            Int::<u32>::new(1, 100_000, "calls"),
            "it does not open by that",
            "Failed calls in a row that open it.",
        ),
        min_calls: fields.or(
            "minCalls",
            Int::<u32>::new(1, 1_000_000, "calls"),
            d.min_calls,
            "Calls in the window below which shares say nothing.",
        ),
        window: fields.or("window", DurationIn::millis(1000, 600_000), d.window, "Time that shares are of."),
        open_for: fields.or(
            "openFor",
            DurationIn::millis(100, 3_600_000),
            d.open_for,
            "How long it stays open at first; twice as long each time it opens again, some chance added.",
        ),
        max_open_for: fields.or(
            "maxOpenFor",
            DurationIn::millis(100, 86_400_000),
            d.max_open_for,
            "How long it stays open at most.",
        ),
        probes: fields.or(
            "probes",
            Int::<u32>::new(1, 1000, "calls"),
            d.probes,
            "Calls let through after that, to see whether it may close.",
        ),
        passes: fields.or(
            "passes",
            Int::<u32>::new(1, 1000, "calls"),
            d.passes,
            "How many of them must succeed for it to close.",
        ),
    };
    check(fields, &settings);
    settings
}

fn check(fields: &mut Fields<'_>, s: &BreakerSettings) {
    let never = s.error_ratio.is_none() && s.slow_ratio.is_none() && s.consecutive_errors.is_none();
    if never
        && s.forced.is_none()
        && !["errorRatio", "slowRatio", "consecutiveErrors"].iter().any(|n| fields.has(n))
    {
        fields.whole("never opens", "give errorRatio, slowRatio, consecutiveErrors or state");
    }
    if s.passes > s.probes {
        let name = if fields.has("passes") { "passes" } else { "probes" };
        fields.mistake(
            name,
            format!("{} of {} can never pass", s.passes, s.probes),
            "give passes at most as many as probes",
        );
    }
    if s.max_open_for < s.open_for {
        let name = if fields.has("maxOpenFor") { "maxOpenFor" } else { "openFor" };
        fields.mistake(name, "maxOpenFor is under openFor", "give maxOpenFor at least as long as openFor");
    }
}
