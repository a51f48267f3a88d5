//! Limits that say what another says already, or that never come to bear beside it.
use super::place;
use crate::decode::{At, Cx};
use crate::mistake::Mistake;
use crate::resources::{
    AdaptiveLimit, Bound, Condition, KeyBy, Matcher, Metadata, Rate, RateLimit, Reach, Resources, Service,
    Subject,
};
use raddle_core::Protocol;
use std::collections::{HashMap, HashSet};

pub(super) fn all(resources: &Resources, cx: &mut Cx) {
    adaptive(&resources.adaptive, cx);
    yields(&resources.adaptive, cx);
    rates(&resources.rates, cx);
    alone(resources, cx);
    tcp(resources, cx);
    let mut first = HashMap::new();
    for rule in &resources.breakers {
        let said = (&rule.scope, rule.mode, &rule.when, &rule.settings);
        same(&rule.metadata, serde_json::to_string(&said).ok(), &mut first, cx);
    }
}

/// Two rules of which neither is the more particular for the same sidecar: it follows one of them.
fn adaptive(rules: &[AdaptiveLimit], cx: &mut Cx) {
    // Pairs looked at; a file made to be slow ends here, and a real one never comes near.
    let mut budget = 1_000_000usize;
    for (i, rule) in rules.iter().enumerate() {
        let level = rule.scope.specificity();
        let other = rules[..i].iter().find(|other| {
            budget = budget.saturating_sub(1);
            budget > 0 && other.scope.specificity() == level && other.scope.overlaps(&rule.scope)
        });
        let Some(other) = other else { continue };
        let mut finding = place(&rule.metadata, &At::ROOT.field("spec").field("scope"));
        finding.problem = format!(
            "limits {} and {} reach the same sidecars, and neither is more particular",
            rule.metadata.name,
            at(&other.metadata)
        );
        finding.remedy = "merge them, or give their scopes parts that differ".into();
        cx.mistake_at(finding);
    }
}

/// Several rules for the same sidecars, of which one is more particular: it holds alone there.
fn yields(rules: &[AdaptiveLimit], cx: &mut Cx) {
    let mut budget = 1_000_000usize;
    for rule in rules {
        let level = rule.scope.specificity();
        let wins = |other: &&AdaptiveLimit| {
            budget = budget.saturating_sub(1);
            budget > 0 && other.scope.specificity() > level && other.scope.overlaps(&rule.scope)
        };
        let winners: Vec<String> = rules.iter().filter(wins).map(|r| at(&r.metadata)).collect();
        if winners.is_empty() {
            continue;
        }
        let named = winners[..winners.len().min(3)].join(", ");
        let more = winners.len().saturating_sub(3);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let (are, hold) = if winners.len() > 1 { ("are", "hold") } else { ("is", "holds") };
        let mut finding = place(&rule.metadata, &At::ROOT.field("spec").field("scope"));
        finding.problem = format!(
            "{named}{more} {are} more particular and {hold} in place of {} where both reach",
            rule.metadata.name
        );
        finding.remedy = "a sidecar follows one AdaptiveLimit: see that it is the one you mean".into();
        cx.warning_at(finding);
    }
}

/// Rules that the control plane counts, at a sidecar that has none: everything passes them.
fn alone(resources: &Resources, cx: &mut Cx) {
    let Some(sidecar) = resources.sidecar.as_ref().filter(|s| s.control_plane.is_none()) else { return };
    // Of none nothing needs to be counted.
    let counted = |r: &&RateLimit| matches!(&r.bound, Bound::Rate(Rate { reach: Reach::Cluster, per_second, .. }) if *per_second > 0.0);
    for rule in resources.rates.iter().filter(counted).filter(|r| r.scope.covers(sidecar)) {
        let mut finding = place(&rule.metadata, &At::ROOT.field("spec").field("reach"));
        finding.problem =
            "the control plane counts such a rule, and this sidecar has none: everything passes".into();
        finding.remedy =
            "give the Sidecar a controlPlane, or leave reach out: it then counts by itself".into();
        cx.warning_at(finding);
    }
}

/// What rules ask of TCP connections that those do not have.
fn tcp(resources: &Resources, cx: &mut Cx) {
    let plain = |s: &&Service| s.protocol == Some(Protocol::Tcp);
    let services: HashSet<&str> =
        resources.services.iter().filter(plain).map(|s| s.metadata.name.as_str()).collect();
    let is_tcp = |name: &String| name.starts_with("tcp:") || services.contains(name.as_str());
    // Whether a rule is for such connections and nothing else.
    let only_tcp = |when: &[Condition]| {
        when.iter().any(|c| match (&c.subject, &c.matcher) {
            (Subject::Service, Matcher::Equals(name)) => is_tcp(name),
            (Subject::Service, Matcher::In(names)) => names.iter().all(is_tcp),
            _ => false,
        })
    };
    for rule in resources.rates.iter().filter(|r| only_tcp(&r.when)) {
        let mut warn = |field: &str, problem: String, remedy: &str| {
            let mut finding = place(&rule.metadata, &At::ROOT.field("spec").field(field));
            finding.problem = problem;
            finding.remedy = remedy.into();
            cx.warning_at(finding);
        };
        if let Some(what) = rule.when.iter().find_map(of_requests) {
            let problem = format!("TCP connections have no {what}: this rule takes none of them");
            warn("when", problem, "ask for service and callerApp alone");
        }
        let keyed = rule.key.as_ref().map(|k| &k.by);
        if keyed.is_some_and(|by| !matches!(by, KeyBy::CallerApp | KeyBy::CallerIp)) {
            let problem = "TCP connections have no such value: none of them is counted".to_owned();
            warn("key", problem, "count by callerIp or callerApp");
        }
        if matches!(&rule.bound, Bound::Rate(Rate { max_wait: Some(_), .. })) {
            let problem = "TCP connections do not wait: those that come too early are reset".to_owned();
            warn("maxWait", problem, "leave it out");
        }
    }
    for rule in resources.breakers.iter().filter(|r| only_tcp(&r.when)) {
        let mut finding = place(&rule.metadata, &At::ROOT.field("spec").field("when"));
        finding.problem = "breakers go by answers, and TCP has none: this one never opens".into();
        finding.remedy = "endpoints that cannot be connected to are left out in any case".into();
        cx.warning_at(finding);
    }
}

/// What of a request a condition wants to be there, if only requests have it.
fn of_requests(c: &Condition) -> Option<&'static str> {
    let what = match c.subject {
        Subject::Header(_) => "headers",
        Subject::Method => "method",
        Subject::Path => "path",
        Subject::Authority => "host",
        Subject::Query(_) => "query",
        Subject::Service | Subject::CallerApp | Subject::LoadTest => return None,
    };
    let absent_is_fine =
        matches!(c.matcher, Matcher::NotEquals(_) | Matcher::NotIn(_) | Matcher::Exists(false));
    (!absent_is_fine).then_some(what)
}

fn rates(rules: &[RateLimit], cx: &mut Cx) {
    let mut first = HashMap::new();
    // Rules that count the same requests in the same way.
    let mut alike: HashMap<String, Vec<&RateLimit>> = HashMap::new();
    for rule in rules {
        pointless(rule, cx);
        let counted = (rule.side, &rule.scope, rule.mode, &rule.when, &rule.key, kind(&rule.bound));
        let Ok(counted) = serde_json::to_string(&counted) else { continue };
        let said = serde_json::to_string(&rule.bound).ok().map(|bound| format!("{counted} {bound}"));
        if same(&rule.metadata, said, &mut first, cx) {
            continue;
        }
        let others = alike.entry(counted).or_default();
        // A few of them tell enough.
        for other in others.iter().take(20) {
            let (never, by) = match (covers(&rule.bound, &other.bound), covers(&other.bound, &rule.bound)) {
                (true, _) => (rule, *other),
                (false, true) => (*other, rule),
                (false, false) => continue,
            };
            cx.warning_at(never_holds(never, by));
            break;
        }
        others.push(rule);
    }
}

fn never_holds(rule: &RateLimit, lower: &RateLimit) -> Mistake {
    let field = if matches!(rule.bound, Bound::Rate(_)) { "rate" } else { "concurrency" };
    let mut finding = place(&rule.metadata, &At::ROOT.field("spec").field(field));
    finding.problem =
        format!("{} bounds the same requests lower, so this rule never holds one", at(&lower.metadata));
    finding.remedy = "keep one of them".into();
    finding
}

/// What kind of bound it is, for bounds of one kind can be compared.
fn kind(bound: &Bound) -> u8 {
    match bound {
        Bound::Concurrency(_) => 0,
        Bound::Rate(Rate { reach: Reach::Local, max_wait: None, .. }) => 1,
        Bound::Rate(Rate { reach: Reach::Local, max_wait: Some(_), .. }) => 2,
        Bound::Rate(Rate { reach: Reach::Cluster, .. }) => 3,
    }
}

/// Whether what passes `other` always passes this, too. A lower rate with a longer burst says something else.
fn covers(this: &Bound, other: &Bound) -> bool {
    match (this, other) {
        (Bound::Concurrency(this), Bound::Concurrency(other)) => this >= other,
        (Bound::Rate(this), Bound::Rate(other)) => {
            this.per_second >= other.per_second
                && this.burst >= other.burst
                && this.max_wait == other.max_wait
                && (this.warm_up.is_none() || this.warm_up == other.warm_up)
        }
        _ => false,
    }
}

/// Fields that mean nothing beside others.
fn pointless(rule: &RateLimit, cx: &mut Cx) {
    let Bound::Rate(rate) = &rule.bound else { return };
    let mut warn = |field: &str, problem: &str| {
        let mut finding = place(&rule.metadata, &At::ROOT.field("spec").field(field));
        finding.problem = problem.into();
        finding.remedy = "leave it out".into();
        cx.warning_at(finding);
    };
    let cluster = rate.reach == Reach::Cluster;
    if rate.max_wait.is_some() && cluster {
        warn("maxWait", "means nothing with reach: cluster: what is over the quota is refused at once");
    }
    // What the burst is when nothing is said of it is no mistake.
    if rate.max_wait.is_some() && rate.burst != (rate.per_second.ceil() as u32).max(1) {
        warn("burst", "means nothing with maxWait: requests leave evenly, one by one");
    }
    // What `Pace::new` of crate policy makes of both. By value the rate is whole at once, and waiting is told above.
    let warm = (rate.per_second / 10.0).max(1.0) as u32;
    if rate.warm_up.is_some() && !cluster && rule.key.is_none() && rate.max_wait.is_none() {
        let second = (rate.per_second.ceil() as u32).max(1);
        if rate.burst != second && rate.burst > warm {
            let problem = format!(
                "has no effect with warmUp: what comes at once is at most what the rate gives in a tenth of a second, {warm}"
            );
            warn("burst", &problem);
        }
    }
    if rate.warm_up.is_some() && (cluster || rule.key.is_some()) {
        let with = if cluster { "reach: cluster" } else { "key" };
        warn("warmUp", &format!("means nothing with {with}: the rate is whole at once"));
    }
}

/// Warns if a rule says what one before it says; says whether it does.
fn same<'r>(
    rule: &'r Metadata,
    said: Option<String>,
    first: &mut HashMap<String, &'r Metadata>,
    cx: &mut Cx,
) -> bool {
    let Some(said) = said else { return false };
    let other = *first.entry(said).or_insert(rule);
    if std::ptr::eq(other, rule) {
        return false;
    }
    let mut finding = place(rule, &At::ROOT.field("spec"));
    finding.problem = format!("{} says the same", at(other));
    finding.remedy = "keep one of them".into();
    cx.warning_at(finding);
    true
}

/// A rule and where it is.
fn at(rule: &Metadata) -> String {
    format!("{} ({}:{})", rule.name, rule.origin.file, rule.origin.line)
}
