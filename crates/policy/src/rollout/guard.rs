//! When a change does harm.
//!
//! Windows are short, so figures in them are noisy, and they are looked at for hours. A limit alone would end half of all
//! good rollouts. So a breach is both: over the limit, and so much worse than the rest in the same time that chance does
//! not explain it. The measure of that is the likelihood ratio of "two cohorts differ" against "they are alike"
//! (the G-test of S. S. Wilks, 1938), which needs no table and holds for few requests as for many.
use super::{Sample, Seen};
use raddle_model::Guard;
use std::fmt;

/// Evidence a breach needs, in nats: chance alone gives as much about once in a million looks.
pub const EVIDENCE: f64 = 14.0;

/// What a guard found.
#[derive(Clone, Debug, PartialEq)]
pub enum Breach {
    /// Too many requests fail.
    ErrorRate {
        /// Share of failures among sidecars with the change.
        candidate: f64,
        /// Among the others (or before); `None` = nothing to compare with.
        rest: Option<f64>,
        /// The limit.
        limit: f64,
    },
    /// Requests take too long.
    P99 {
        /// 99th percentile among sidecars with the change, microseconds.
        candidate: f64,
        /// Among the others (or before).
        rest: f64,
        /// Limit of their ratio.
        limit: f64,
    },
    /// So many sidecars refuse the change, as it cannot work on them.
    Refused(u64),
}

// Figures of a breach are never NaN.
impl Eq for Breach {}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Breach::ErrorRate { candidate, rest, limit } => {
                write!(f, "{} of requests fail", percent(*candidate))?;
                if let Some(rest) = rest {
                    write!(f, ", {} without the change", percent(*rest))?;
                }
                write!(f, "; the limit is {}", percent(*limit))
            }
            Breach::P99 { candidate, rest, limit } => write!(
                f,
                "the 99th percentile is {:.1} ms, {:.1} ms without the change; the limit is {limit} times that",
                candidate / 1000.0,
                rest / 1000.0
            ),
            Breach::Refused(1) => write!(f, "a sidecar refuses it"),
            Breach::Refused(n) => write!(f, "{n} sidecars refuse it"),
        }
    }
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    let digits = if percent < 1.0 { 2 } else { 1 };
    format!("{percent:.digits$} %")
}

/// So many times the requests of a verdict, and none of others: then there are no others.
const NOBODY_ELSE: u64 = 4;

/// The first harm found. Sidecars that refuse the change end it with or without a guard. `everyone`: the change is meant
/// for all, so that the rest is only what has not taken it yet.
pub(super) fn verdict(
    guard: Option<&Guard>,
    seen: &Seen<'_>,
    baseline: Option<&Sample>,
    everyone: bool,
) -> Option<Breach> {
    if seen.refused > 0 {
        return Some(Breach::Refused(seen.refused));
    }
    let guard = guard?;
    seen.windows.iter().find_map(|window| {
        if window.candidate.requests < guard.min_requests {
            return None;
        }
        // The rest if it says enough; else how things were when it did; else the little it says, from which less follows.
        let enough = |sample: &&Sample| sample.requests >= guard.min_requests;
        let some = |sample: &&Sample| !everyone && sample.requests > 0;
        let rest = Some(&window.rest);
        let rest = rest.filter(enough).or(baseline.filter(enough)).or(rest.filter(some));
        // The limit counts alone only where nobody is left to compare with, not where they are late to report.
        if rest.is_none() && !everyone && window.candidate.requests < guard.min_requests * NOBODY_ELSE {
            return None;
        }
        errors(guard, &window.candidate, rest).or_else(|| latency(guard, &window.candidate, rest?))
    })
}

fn errors(guard: &Guard, candidate: &Sample, rest: Option<&Sample>) -> Option<Breach> {
    let limit = guard.error_rate?;
    let rate = candidate.error_rate();
    // With great numbers the slightest difference is certain. One of less than half the limit is no harm.
    let excess = rate - rest.map_or(0.0, Sample::error_rate);
    if rate <= limit || excess <= limit / 2.0 {
        return None;
    }
    let (failures, requests) = (candidate.failures, candidate.requests);
    let evidence = match rest {
        Some(rest) => likelihood(failures, requests, rest.failures, rest.requests),
        None => requests as f64 * divergence(rate, limit),
    };
    (evidence > EVIDENCE).then(|| Breach::ErrorRate {
        candidate: rate,
        rest: rest.map(Sample::error_rate),
        limit,
    })
}

/// The candidate's 99th percentile is over the limit just if more than 1 % of its requests are slower than that; so it is
/// a share again, and a judgement of shares needs no guess about how latencies spread.
fn latency(guard: &Guard, candidate: &Sample, rest: &Sample) -> Option<Breach> {
    let ratio = guard.p99_ratio?;
    let (own, other) = (candidate.p99()?, rest.p99()?);
    let limit = other * ratio;
    let (slow, timed) = (candidate.slower_than(limit), candidate.timed());
    if own <= limit || (slow as f64) <= timed as f64 * 0.01 {
        return None;
    }
    let evidence = likelihood(slow, timed, rest.slower_than(limit), rest.timed());
    // The rest's share is bound to be about 1 % or less by the choice of the limit; it must also be beaten as such.
    let tail = timed as f64 * divergence(slow as f64 / timed as f64, 0.01);
    (evidence > EVIDENCE && tail > EVIDENCE).then_some(Breach::P99 {
        candidate: own,
        rest: other,
        limit: ratio,
    })
}

/// How much likelier two unlike shares are than one share for both, in nats.
fn likelihood(hits: u64, of: u64, other_hits: u64, other_of: u64) -> f64 {
    let (hits, of) = (hits.min(of) as f64, of.max(1) as f64);
    let (other_hits, other_of) = (other_hits.min(other_of) as f64, other_of.max(1) as f64);
    let both = (hits + other_hits) / (of + other_of);
    of * divergence(hits / of, both) + other_of * divergence(other_hits / other_of, both)
}

/// Kullback-Leibler divergence of two coins, in nats.
fn divergence(p: f64, q: f64) -> f64 {
    let part = |p: f64, q: f64| if p <= 0.0 { 0.0 } else { p * (p / q.max(1e-12)).ln() };
    (part(p, q) + part(1.0 - p, 1.0 - q)).max(0.0)
}
