//! What holds requests back here, as the control plane is told.
use crate::shared::Shared;
use raddle_model::RuleMode;
use raddle_policy::limit::adaptive::{self, View};
use raddle_xds::proto::{LimitActivation, LimitCount, LimitCulprit, Limiting};

/// Culprits in a report: those with the largest excess.
const CULPRITS: usize = 32;
/// Activations in a report: the last ones.
const ACTIVATIONS: usize = 8;
/// Rules in a report: those that held most.
const COUNTS: usize = 500;

/// Most characters of a name, and of a sentence.
const NAME: usize = 256;
const SENTENCE: usize = 500;

/// What is so now.
pub(crate) fn limiting(shared: &Shared) -> Limiting {
    let mut counts: Vec<LimitCount> = (shared.registry.limit_counts().into_iter())
        .map(|(rule, held, observed)| LimitCount { rule: rule.to_string(), held, observed })
        .collect();
    let of = |c: &LimitCount| c.held.max(c.observed);
    counts.sort_by(|a, b| of(b).cmp(&of(a)).then_with(|| a.rule.cmp(&b.rule)));
    counts.truncate(COUNTS);
    let Some(now) = shared.limits.load_full() else { return Limiting { counts, ..Limiting::default() } };
    let sensing = now.sensing.load();
    let mode = if now.settings.mode == RuleMode::Observe { "observe" } else { "enforce" };
    let known = Limiting {
        rule: now.rule.to_string(),
        mode: mode.into(),
        sensing: sensing.as_ref().map(|s| clean(&s.from, SENTENCE)).unwrap_or_default(),
        counts,
        ..Limiting::default()
    };
    match &*now.view.load() {
        Some(view) => with_view(known, view, &wall(shared)),
        None => known,
    }
}

/// Milliseconds since the Unix epoch of seconds of the process's clock.
fn wall(shared: &Shared) -> impl Fn(f64) -> u64 {
    let zero = shared.wall_zero_ns / 1_000_000;
    move |seconds: f64| zero.saturating_add((seconds * 1000.0).max(0.0) as u64)
}

fn with_view(known: Limiting, view: &View, wall: &impl Fn(f64) -> u64) -> Limiting {
    let level = &view.level;
    let running = view.activations.iter().rev().find(|a| a.ended_secs.is_none());
    let began = running.map_or(level.at_secs - view.since_secs, |a| a.began_secs);
    let skip = view.activations.len().saturating_sub(ACTIVATIONS);
    Limiting {
        tier: u32::from(view.tier),
        since_ms: if view.active { wall(began) } else { 0 },
        signal: view.signal.to_owned(),
        cpu: level.cpu,
        threshold: level.theta,
        cores: level.cores,
        memory: level.memory,
        queue_s: level.q,
        culprits: view.culprits.iter().take(CULPRITS).map(culprit).collect(),
        activations: view.activations.iter().skip(skip).map(|a| activation(a, wall)).collect(),
        ..known
    }
}

/// Names of interfaces are what callers wrote: a report with control characters would be refused whole.
fn clean(text: &str, most: usize) -> String {
    text.chars().take(most).map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn culprit(c: &adaptive::Culprit) -> LimitCulprit {
    LimitCulprit {
        name: clean(&c.name, NAME),
        offered: c.offered,
        limit: c.limit,
        baseline: c.baseline,
        demand: c.demand,
        cost_ms: c.cost_ms,
        rise: c.rise,
        dearer: c.dearer,
    }
}

fn activation(a: &adaptive::Activation, wall: &impl Fn(f64) -> u64) -> LimitActivation {
    LimitActivation {
        number: a.number,
        began_ms: wall(a.began_secs),
        ended_ms: a.ended_secs.map_or(0, wall),
        cause: clean(&a.cause, SENTENCE),
        end: clean(&a.end, SENTENCE),
        peak_cpu: a.peak_cpu,
        peak_queue_s: a.peak_queue,
        culprits: a.culprits.iter().take(CULPRITS).map(culprit).collect(),
        refused: a.refused.to_vec(),
        observed: a.observed,
    }
}

/// What of it is reported at once when it changes.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Story {
    rule: String,
    mode: String,
    tier: u32,
    culprits: Vec<String>,
    activations: Option<(u64, u64)>,
}

impl Story {
    pub(crate) fn of(l: &Limiting) -> Story {
        Story {
            rule: l.rule.clone(),
            mode: l.mode.clone(),
            tier: l.tier,
            culprits: l.culprits.iter().map(|c| c.name.clone()).collect(),
            activations: l.activations.last().map(|a| (a.number, a.ended_ms)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raddle_policy::limit::adaptive::{Activation, Level};

    #[test]
    fn times_are_told_by_the_wall_clock() {
        let activation = Activation { number: 3, began_secs: 3700.0, ..Activation::default() };
        let ended =
            Activation { number: 2, began_secs: 3650.0, ended_secs: Some(3660.5), ..Activation::default() };
        let view = View {
            active: true,
            tier: 1,
            since_secs: 9.0,
            level: Level { at_secs: 3709.0, cpu: 0.97, ..Level::default() },
            activations: vec![ended, activation],
            ..View::default()
        };
        let told = with_view(Limiting::default(), &view, &|s| (s * 1000.0) as u64);
        assert_eq!((told.tier, told.since_ms), (1, 3_700_000));
        let ends: Vec<_> = told.activations.iter().map(|a| (a.number, a.began_ms, a.ended_ms)).collect();
        assert_eq!(ends, [(2, 3_650_000, 3_660_500), (3, 3_700_000, 0)]);
        let still =
            with_view(Limiting::default(), &View { level: Level { cpu: 0.5, ..view.level }, ..view }, &|s| {
                (s * 1000.0) as u64
            });
        assert_eq!(Story::of(&told), Story::of(&still), "a level alone is no news");
    }
}
