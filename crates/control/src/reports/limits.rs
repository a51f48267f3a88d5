//! What holds requests of a sidecar back, in its own words.
use super::check::{HASH, NAME, REASON, most, text};
use raddle_xds::proto;
use serde::{Deserialize, Serialize};

/// Most culprits, of the present and of each time.
const CULPRITS: usize = 64;
/// Most times that something was held.
const TIMES: usize = 16;
/// Most rules with counts.
const COUNTS: usize = 1_000;
/// Kinds of refusals of adaptive limiting.
const KINDS: usize = 8;

/// What holds requests of a sidecar back.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LimitStatus {
    /// The AdaptiveLimit in force, `KIND/NAME`; empty = none.
    pub rule: String,
    /// `enforce` or `observe`.
    pub mode: String,
    /// 0 = it holds nothing, 1 = those that cause the shortage, 2 = everything.
    pub tier: u32,
    /// Since when it holds something, milliseconds since the Unix epoch; 0 = it does not.
    pub since: u64,
    /// What it goes by: `load`, `latency`, `stale`; empty = not known yet.
    pub signal: String,
    /// What of the app is read, or why nothing is.
    pub sensing: String,
    /// Share of the app's cores in use.
    pub cpu: f64,
    /// Share above which they are short.
    pub threshold: f64,
    /// Cores counted with.
    pub cores: f64,
    /// Share of the app's memory in use; 0 = not known.
    pub memory: f64,
    /// Seconds of work it has in hand.
    pub queue: f64,
    /// Who is held for causing the shortage.
    pub culprits: Vec<Culprit>,
    /// The last times something was held, oldest first.
    pub times: Vec<LimitedTime>,
    /// What each limit and breaker held.
    pub counts: Vec<HeldCount>,
}

/// An interface that is held.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Culprit {
    /// Its name.
    pub name: String,
    /// Requests offered a second.
    pub offered: f64,
    /// Requests a second that pass.
    pub limit: f64,
    /// Requests a second as usual.
    pub baseline: f64,
    /// Share of the cores that it asks for.
    pub demand: f64,
    /// CPU milliseconds of a request.
    pub cost_ms: f64,
    /// How many times the usual.
    pub rise: f64,
    /// It is its cost that rose.
    pub dearer: bool,
}

/// One time that something was held.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LimitedTime {
    /// Counted from 1 since the sidecar started.
    pub number: u64,
    /// Milliseconds since the Unix epoch.
    pub began: u64,
    /// The same of its end; 0 = it goes on.
    pub ended: u64,
    /// What was short.
    pub cause: String,
    /// Why it ended.
    pub end: String,
    /// Highest share of the cores seen.
    pub peak_cpu: f64,
    /// Longest queue seen, seconds.
    pub peak_queue: f64,
    /// Who was held.
    pub culprits: Vec<Culprit>,
    /// Requests refused: load-test traffic, by the burst guard, of culprits, of everything.
    pub refused: Vec<u64>,
    /// The rule only observed: these requests passed.
    pub observed: bool,
}

/// What a limit or a breaker held since its sidecar started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HeldCount {
    /// `KIND/NAME`.
    pub rule: String,
    /// Requests refused.
    pub held: u64,
    /// Requests that passed because the rule only observes.
    pub observed: u64,
}

/// What other replicas are told when it changes: levels and counts change with every report.
#[derive(PartialEq)]
pub(super) struct Story<'a> {
    rule: (&'a str, &'a str, &'a str, &'a str),
    tier: u32,
    culprits: Vec<&'a str>,
    last: Option<(u64, u64)>,
    counted: Vec<&'a str>,
}

impl LimitStatus {
    /// What a sidecar reports; absent if nothing is limited there.
    pub(super) fn of(l: &proto::Limiting) -> Option<LimitStatus> {
        if l.rule.is_empty() && l.counts.is_empty() {
            return None;
        }
        let number = |n: f64| if n.is_finite() { n } else { 0.0 };
        Some(LimitStatus {
            rule: l.rule.clone(),
            mode: l.mode.clone(),
            tier: l.tier,
            since: l.since_ms,
            signal: l.signal.clone(),
            sensing: l.sensing.clone(),
            cpu: number(l.cpu),
            threshold: number(l.threshold),
            cores: number(l.cores),
            memory: number(l.memory),
            queue: number(l.queue_s),
            culprits: l.culprits.iter().map(Culprit::of).collect(),
            times: l.activations.iter().map(LimitedTime::of).collect(),
            counts: (l.counts.iter())
                .map(|c| HeldCount { rule: c.rule.clone(), held: c.held, observed: c.observed })
                .collect(),
        })
    }

    pub(super) fn story(&self) -> Story<'_> {
        Story {
            rule: (&self.rule, &self.mode, &self.signal, &self.sensing),
            tier: self.tier,
            culprits: self.culprits.iter().map(|c| &*c.name).collect(),
            last: self.times.last().map(|t| (t.number, t.ended)),
            counted: self.counts.iter().filter(|c| c.held + c.observed > 0).map(|c| &*c.rule).collect(),
        }
    }

    /// What people are to be told, against what was so before: the kind of event, and what happened.
    pub(super) fn news(&self, before: Option<&LimitStatus>) -> Option<(&'static str, String)> {
        let was = before.map_or(0, |b| b.tier);
        let would = if self.mode == "observe" { "would hold" } else { "holds" };
        match (was, self.tier) {
            (0, 0) => None,
            (_, 0) => {
                Some(("limitEnded", format!("{} holds nothing any more", before.map_or("", |b| &b.rule))))
            }
            (0, _) | (1, 2) => {
                let names: Vec<&str> = self.culprits.iter().take(3).map(|c| &*c.name).collect();
                let more = self.culprits.len().saturating_sub(names.len());
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                let whom =
                    if self.tier == 1 && !names.is_empty() { names.join(", ") + &more } else { "all".into() };
                Some(("limitBegan", format!("{} {would} {whom}", self.rule)))
            }
            _ => None,
        }
    }
}

impl Culprit {
    fn of(c: &proto::LimitCulprit) -> Culprit {
        let number = |n: f64| if n.is_finite() { n } else { 0.0 };
        Culprit {
            name: c.name.clone(),
            offered: number(c.offered),
            limit: number(c.limit),
            baseline: number(c.baseline),
            demand: number(c.demand),
            cost_ms: number(c.cost_ms),
            rise: number(c.rise),
            dearer: c.dearer,
        }
    }
}

impl LimitedTime {
    fn of(t: &proto::LimitActivation) -> LimitedTime {
        let number = |n: f64| if n.is_finite() { n } else { 0.0 };
        LimitedTime {
            number: t.number,
            began: t.began_ms,
            ended: t.ended_ms,
            cause: t.cause.clone(),
            end: t.end.clone(),
            peak_cpu: number(t.peak_cpu),
            peak_queue: number(t.peak_queue_s),
            culprits: t.culprits.iter().map(Culprit::of).collect(),
            refused: t.refused.clone(),
            observed: t.observed,
        }
    }
}

/// What a report may hold; an error is a sentence for people.
pub(super) fn check(l: &proto::Limiting) -> Result<(), String> {
    text("limiting.rule", &l.rule, NAME)?;
    text("limiting.mode", &l.mode, HASH)?;
    text("limiting.signal", &l.signal, HASH)?;
    text("limiting.sensing", &l.sensing, REASON)?;
    most("limiting.activations", l.activations.len(), TIMES)?;
    most("limiting.counts", l.counts.len(), COUNTS)?;
    culprits(&l.culprits)?;
    for a in &l.activations {
        text("limiting.activations.cause", &a.cause, REASON)?;
        text("limiting.activations.end", &a.end, REASON)?;
        most("limiting.activations.refused", a.refused.len(), KINDS)?;
        culprits(&a.culprits)?;
    }
    l.counts.iter().try_for_each(|c| text("limiting.counts.rule", &c.rule, NAME))
}

fn culprits(all: &[proto::LimitCulprit]) -> Result<(), String> {
    most("limiting.culprits", all.len(), CULPRITS)?;
    all.iter().try_for_each(|c| text("limiting.culprits.name", &c.name, REASON))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(tier: u32, names: &[&str]) -> LimitStatus {
        let culprits = names.iter().map(|n| Culprit { name: (*n).into(), ..Culprit::default() }).collect();
        LimitStatus { rule: "AdaptiveLimit/all".into(), tier, culprits, ..LimitStatus::default() }
    }

    #[test]
    fn people_are_told_of_beginnings_and_ends() {
        let (quiet, one, all) = (holding(0, &[]), holding(1, &["a", "b", "c", "d"]), holding(2, &[]));
        assert_eq!(quiet.news(None), None);
        let began = one.news(Some(&quiet)).expect("news");
        assert_eq!(began, ("limitBegan", "AdaptiveLimit/all holds a, b, c and 1 more".into()));
        assert_eq!(one.news(Some(&one)), None);
        assert_eq!(all.news(Some(&one)).map(|n| n.1), Some("AdaptiveLimit/all holds all".into()));
        assert_eq!(quiet.news(Some(&all)).map(|n| n.0), Some("limitEnded"));
        let observed = LimitStatus { mode: "observe".into(), ..one };
        assert!(observed.news(None).is_some_and(|n| n.1.contains("would hold")));
    }

    #[test]
    fn numbers_that_are_none_are_not_kept() {
        let said = proto::Limiting {
            rule: "AdaptiveLimit/a".into(),
            cpu: f64::NAN,
            queue_s: f64::INFINITY,
            ..Default::default()
        };
        let status = LimitStatus::of(&said).expect("a rule");
        assert_eq!((status.cpu, status.queue), (0.0, 0.0));
        assert_eq!(LimitStatus::of(&proto::Limiting::default()), None);
    }

    #[test]
    fn a_report_has_bounds() {
        let culprit = proto::LimitCulprit { name: "x".repeat(5000), ..Default::default() };
        assert!(check(&proto::Limiting { culprits: vec![culprit], ..Default::default() }).is_err());
        let many = vec![proto::LimitCount::default(); COUNTS + 1];
        assert!(check(&proto::Limiting { counts: many, ..Default::default() }).is_err());
        assert!(check(&proto::Limiting { sensing: "a\u{7}b".into(), ..Default::default() }).is_err());
    }
}
