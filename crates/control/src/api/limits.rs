//! What holds an app's requests back: which rules, what its sidecars hold, and why.
use super::http::shape::answers;
use super::http::{Call, Problem, Reply, Route};
use crate::reports::{Culprit, HeldCount, LimitStatus, LimitedTime, NodeStatus};
use crate::rules::{RuleEntry, RuleRevision, Seen};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The kinds that hold requests back.
const KINDS: [&str; 3] = ["AdaptiveLimit/", "RateLimit/", "CircuitBreaker/"];

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/apps/{app}/limits", "getAppLimits")
            .says("What holds an app's requests back: which rules, what its sidecars hold now and held of late, and why.")
            .answers::<AppLimits>(200, "The app's limits.")
            .on(one),
    ]
}

answers! {
    /// What holds an app's requests back.
    pub struct AppLimits {
        /// The app.
        pub app: String,
        /// The rules that reach its sidecars.
        pub rules: Vec<LimitRuleAnswer>,
        /// Its sidecars that report.
        pub sidecars: Vec<SidecarLimits>,
        /// Those of them on which adaptive limiting holds something now.
        pub holding: u64,
        /// What each rule held, over these sidecars, since each of them started.
        pub counts: Vec<HeldAnswer>,
    }

    /// A rule that reaches an app.
    pub struct LimitRuleAnswer {
        /// `KIND/NAME`.
        pub rule: String,
        /// Hash of the revision in force; null = the rule is new.
        pub revision: Option<String>,
        /// `enforce` or `observe`.
        pub mode: String,
        /// Hash of the revision on its way; empty = the rule is being removed; null = none.
        pub candidate: Option<String>,
        /// Share of the sidecars that has it, in percent.
        pub percent: Option<f64>,
        /// The app's sidecars that run some revision of it.
        pub running: u64,
    }

    /// What a sidecar holds back.
    pub struct SidecarLimits {
        /// Instance id.
        pub id: String,
        /// Where it is, as it says itself.
        pub address: String,
        /// When it reported last, milliseconds since the Unix epoch; of another replica's sidecar: when what it said changed
        /// last, and so of when the levels are.
        pub reported: u64,
        /// The AdaptiveLimit in force, `KIND/NAME`; empty = none.
        pub rule: String,
        /// `enforce` or `observe`; empty = there is none.
        pub mode: String,
        /// 0 = it holds nothing, 1 = those that cause the shortage, 2 = everything.
        pub tier: u32,
        /// Since when it holds something, milliseconds since the Unix epoch; 0 = it does not.
        pub since: u64,
        /// What it goes by: `load`, `latency` (nothing of the app is read), `stale` (nothing was read of late); empty = not
        /// known yet.
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
        /// Seconds of work the app has in hand.
        pub queue: f64,
        /// Who is held for causing the shortage, the largest excess first.
        pub culprits: Vec<CulpritAnswer>,
        /// The last times something was held, oldest first.
        pub times: Vec<LimitedTimeAnswer>,
        /// What each limit and breaker held since the sidecar started.
        pub counts: Vec<HeldAnswer>,
    }

    /// An interface that is held.
    pub struct CulpritAnswer {
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
    pub struct LimitedTimeAnswer {
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
        pub culprits: Vec<CulpritAnswer>,
        /// Requests refused: load-test traffic, by the burst guard, of culprits, of everything.
        pub refused: Vec<u64>,
        /// The rule only observed: these requests would have been refused, and passed.
        pub observed: bool,
    }

    /// What a limit or a breaker held.
    pub struct HeldAnswer {
        /// `KIND/NAME`.
        pub rule: String,
        /// Requests refused.
        pub held: u64,
        /// Requests that passed because the rule only observes.
        pub observed: u64,
    }
}

async fn one(call: Call) -> Result<Reply, Problem> {
    let parts = &call.state.parts;
    let app = call.param("app");
    let all = parts.plane.iter().flat_map(|p| p.reports.nodes());
    let nodes: Vec<Arc<NodeStatus>> = all.filter(|n| n.node.app == app).collect();
    let book = parts.book.borrow().clone();
    let reaches = |r: &Arc<RuleRevision>| match nodes.as_slice() {
        [] => r.scope.apps.iter().any(|a| a == app),
        some => some.iter().any(|n| r.scope.covers(&Seen(&n.node))),
    };
    let limits = book.rules.values().filter(|e| KINDS.iter().any(|k| e.id.starts_with(k)));
    let rules: Vec<_> = limits.filter(|e| revisions(e).any(reaches)).map(|e| rule(e, &nodes)).collect();
    if nodes.is_empty() && rules.is_empty() && !parts.directory.borrow().apps.contains_key(app) {
        return Err(Problem::not_found(format!("no app {app} is known: no instance, no sidecar, no rule")));
    }
    let sidecars: Vec<SidecarLimits> = nodes.iter().map(|n| sidecar(n)).collect();
    let mut counts: BTreeMap<&str, HeldAnswer> = BTreeMap::new();
    for count in sidecars.iter().flat_map(|s| &s.counts) {
        let sum = counts.entry(&count.rule).or_default();
        sum.rule.clone_from(&count.rule);
        sum.held = sum.held.saturating_add(count.held);
        sum.observed = sum.observed.saturating_add(count.observed);
    }
    let counts = counts.into_values().collect();
    let holding = sidecars.iter().filter(|s| s.tier > 0).count() as u64;
    Reply::json(&AppLimits { app: app.to_owned(), rules, sidecars, holding, counts })
}

fn revisions(entry: &RuleEntry) -> impl Iterator<Item = &Arc<RuleRevision>> {
    entry.stable.iter().chain(entry.candidate.as_ref().and_then(|(revision, _)| revision.as_ref()))
}

fn rule(entry: &RuleEntry, nodes: &[Arc<NodeStatus>]) -> LimitRuleAnswer {
    let mode = revisions(entry).next().and_then(|r| {
        let document: Value = serde_json::from_str(&r.document).ok()?;
        document["spec"]["mode"].as_str().map(str::to_owned)
    });
    let on_its_way = entry.candidate.as_ref();
    LimitRuleAnswer {
        rule: entry.id.to_string(),
        revision: entry.stable.as_ref().map(|r| r.hash.to_string()),
        mode: mode.unwrap_or_else(|| "enforce".into()),
        candidate: on_its_way.map(|(r, _)| r.as_ref().map_or(String::new(), |r| r.hash.to_string())),
        percent: on_its_way.map(|(_, cohort)| f64::from(cohort.ppm) / 10_000.0),
        running: nodes.iter().filter(|n| n.running.contains_key(&entry.id)).count() as u64,
    }
}

fn sidecar(node: &NodeStatus) -> SidecarLimits {
    let known = SidecarLimits {
        id: node.node.id.clone(),
        address: node.node.address.clone(),
        reported: node.last_report,
        ..SidecarLimits::default()
    };
    let Some(l) = &node.limits else { return known };
    let LimitStatus {
        rule, mode, tier, since, signal, sensing, cpu, threshold, cores, memory, queue, ..
    } = l.clone();
    SidecarLimits {
        rule,
        mode,
        tier,
        since,
        signal,
        sensing,
        cpu,
        threshold,
        cores,
        memory,
        queue,
        culprits: l.culprits.iter().map(culprit).collect(),
        times: l.times.iter().map(time).collect(),
        counts: l.counts.iter().map(count).collect(),
        ..known
    }
}

fn culprit(c: &Culprit) -> CulpritAnswer {
    let Culprit { name, offered, limit, baseline, demand, cost_ms, rise, dearer } = c.clone();
    CulpritAnswer { name, offered, limit, baseline, demand, cost_ms, rise, dearer }
}

fn time(t: &LimitedTime) -> LimitedTimeAnswer {
    let LimitedTime { number, began, ended, cause, end, peak_cpu, peak_queue, culprits, refused, observed } =
        t.clone();
    let culprits = culprits.iter().map(culprit).collect();
    LimitedTimeAnswer { number, began, ended, cause, end, peak_cpu, peak_queue, culprits, refused, observed }
}

fn count(c: &HeldCount) -> HeldAnswer {
    HeldAnswer { rule: c.rule.clone(), held: c.held, observed: c.observed }
}
