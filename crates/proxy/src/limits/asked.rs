//! Which limits a request would meet that somebody asks about instead of sending it, and what each would say.
use super::{Limiting, interface};
use crate::http::request::host_of;
use crate::shared::Shared;
use raddle_core::Protocol;
use raddle_model::{Bound, InterfaceBy, KeyBy, Priority, RateLimit, RuleMode, Side};
use raddle_policy::Snapshot;
use raddle_policy::limit::adaptive::View;
use raddle_policy::limit::breaker::State;
use raddle_policy::limit::{BreakerView, LimitView, Priorities, Rules, ValueView, Would};
use raddle_policy::route::{Asked, Attributes};
use serde::Serialize;
use std::time::Duration;

/// A request that is only imagined.
pub(crate) struct Imagined {
    side: Side,
    asked: Asked,
    http: bool,
}

impl Imagined {
    /// An HTTP request that names no service is known by its host, as a real one is.
    pub(crate) fn new(side: Side, mut asked: Asked) -> Imagined {
        let http = asked.path.is_some() || asked.authority.is_some();
        if asked.service.is_empty()
            && let Some(authority) = &asked.authority
        {
            asked.service = String::from_utf8_lossy(host_of(authority.as_bytes())).into_owned();
        }
        Imagined { side, asked, http }
    }

    /// Whether it is a connection of bytes without a protocol: inbound it is known by the app's port.
    fn tcp(&self, snapshot: &Snapshot) -> bool {
        let plain =
            |name: &str| snapshot.service(name.as_bytes()).is_some_and(|s| s.protocol == Some(Protocol::Tcp));
        match self.side {
            Side::Inbound => self.asked.service.starts_with("tcp:"),
            Side::Outbound => plain(&self.asked.service),
        }
    }

    /// What adaptive limiting takes it for.
    fn interface(&self, by: InterfaceBy) -> String {
        let mut out = Vec::new();
        let method = self.asked.method.as_deref().map(str::as_bytes);
        match by {
            InterfaceBy::Service => out.extend_from_slice(self.asked.service.as_bytes()),
            InterfaceBy::Method if self.http => {
                interface::http(&mut out, method.unwrap_or(b"GET"), self.asked.path().unwrap_or(b"/"));
            }
            InterfaceBy::Method => interface::rpc(&mut out, self.asked.service.as_bytes(), method),
        }
        String::from_utf8_lossy(&out).into_owned()
    }
}

/// What became of the request, and who would say what.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Story {
    side: Side,
    service: String,
    method: Option<String>,
    path: Option<String>,
    /// What it comes to: `pass`, `wait`, `refuse`, `depends`, or `ask` where the quota server has the last word.
    verdict: Word,
    /// The rule that refuses it.
    rule: Option<String>,
    /// Whom it meets, in this order.
    steps: Vec<Step>,
}

/// One rule that takes it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    /// Its link of the chain.
    link: &'static str,
    rule: String,
    mode: RuleMode,
    would: Word,
    /// A sentence for people: its state, and what it says.
    says: String,
}

/// What a rule says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Word {
    Pass,
    Wait,
    Refuse,
    /// The quota server says.
    Ask,
    /// It counts by something that was not said of the request.
    Depends,
    /// It has no value that is counted by: it passes.
    Uncounted,
}

impl From<Would> for Word {
    fn from(would: Would) -> Word {
        match would {
            Would::Pass => Word::Pass,
            Would::Wait => Word::Wait,
            Would::Refuse => Word::Refuse,
            Would::Ask => Word::Ask,
            Would::Uncounted => Word::Uncounted,
        }
    }
}

/// What each limit in force would say now.
pub(crate) fn explain(shared: &Shared, request: &Imagined) -> Story {
    let (config, now) = (shared.config.load(), shared.clock.now());
    let view = config.snapshot.limits().explain(request.side, &request.asked, now);
    let rules = config.snapshot.limits();
    let around =
        Around { request, tcp: request.tcp(&config.snapshot), counted: shared.quota.get().is_some() };
    let limiting = shared.limits.load_full().filter(|_| request.side == Side::Inbound);
    // A connection without a protocol has no answers to learn from.
    let limiting = limiting.filter(|_| !around.tcp);
    let mut steps: Vec<Step> = limiting.iter().flat_map(|l| adaptive(l, request)).collect();
    steps.extend(view.limits.iter().map(|l| limit(l, rules, &around)));
    steps.extend(view.breakers.iter().filter(|_| !around.tcp).map(breaker));
    let enforced = || steps.iter().filter(|s| s.mode == RuleMode::Enforce);
    let first = |would| enforced().find(|s| s.would == would);
    let refused = first(Word::Refuse);
    let verdict =
        [Word::Refuse, Word::Depends, Word::Wait, Word::Ask].into_iter().find(|w| first(*w).is_some());
    Story {
        side: request.side,
        service: request.asked.service.clone(),
        method: request.asked.method.clone(),
        path: request.asked.path.clone(),
        verdict: verdict.unwrap_or(Word::Pass),
        rule: refused.map(|s| s.rule.clone()),
        steps,
    }
}

/// The load-test gate, and what the controller holds.
fn adaptive(l: &Limiting, request: &Imagined) -> Vec<Step> {
    let priority = Priorities::new(&l.settings).of(&request.asked);
    let view = l.view.load();
    let step = |link, would: Would, says| {
        let (rule, mode) = (l.rule.to_string(), l.settings.mode);
        Step { link, rule, mode, would: would.into(), says }
    };
    let Some(view) = view.as_deref() else {
        return vec![step("adaptive", Would::Pass, "it has not looked yet, and holds nothing".into())];
    };
    let mut steps = Vec::new();
    if priority == Priority::LoadTest {
        let share = view.level.mark_p;
        let would = if share > 0.0 { Would::Pass } else { Would::Refuse };
        steps.push(step(
            "loadTest",
            would,
            format!("it is load-test traffic, of which {:.0} % passes now", share * 100.0),
        ));
    }
    let name = request.interface(l.settings.by);
    let (would, says) = controller(view, &name, priority);
    steps.push(step("adaptive", would, says));
    steps
}

/// What the controller makes of an interface now.
fn controller(view: &View, name: &str, priority: Priority) -> (Would, String) {
    let culprit = view.culprits.iter().find(|c| &*c.name == name);
    match (view.tier, culprit) {
        (0, _) => (Would::Pass, format!("{name}: nothing is short, or only load tests are held")),
        (1, None) => (Would::Pass, format!("{name} is none of those that cause the shortage")),
        (_, Some(c)) => {
            let over = c.offered > c.limit;
            let would = if over && c.limit <= 0.0 { Would::Refuse } else { Would::Pass };
            let share = if over { c.limit / c.offered.max(1e-9) * 100.0 } else { 100.0 };
            (
                would,
                format!(
                    "{name}: {:.1}/s are offered and {:.1}/s pass, {share:.0} % of them",
                    c.offered, c.limit
                ),
            )
        }
        (_, None) => {
            let class = match priority {
                Priority::LoadTest => "load-test traffic",
                Priority::Batch => "batch",
                Priority::Normal => "normal",
                Priority::Critical => "critical",
            };
            (
                Would::Pass,
                format!("{name}: everything is held by priority, and this is {class}: a part of it passes"),
            )
        }
    }
}

/// What there is besides the rule.
struct Around<'a> {
    request: &'a Imagined,
    /// The request is a TCP connection.
    tcp: bool,
    /// Somebody counts for all sidecars.
    counted: bool,
}

/// What a rate limit says.
fn limit(l: &LimitView, rules: &Rules, around: &Around<'_>) -> Step {
    let name = l.rule.trim_start_matches("RateLimit/");
    let rule = rules.rates.iter().find(|r| r.metadata.name == name);
    let key = rule.and_then(|r| r.key.as_ref()).map(|k| &k.by);
    let mut would = match l.would.unwrap_or(Would::Pass) {
        Would::Ask if !around.counted => Word::Pass,
        Would::Wait if around.tcp => Word::Refuse,
        would => would.into(),
    };
    let refused = would == Word::Refuse;
    let says = match (l.link, l.values.first()) {
        ("hotspot", None) => match key.and_then(|by| unsaid(by, around)) {
            Some((what, flag)) => {
                would = Word::Depends;
                format!("it counts by {what}, and none was given: give {flag}")
            }
            None => {
                let what = key.map_or_else(|| "such value".into(), parameter);
                format!("the request has no {what}, and is not counted")
            }
        },
        ("hotspot", Some(v)) => value(l, v, rule, refused),
        ("concurrency", _) => held(refused, format!("{} under way of {}", l.in_use.unwrap_or(0), l.bound), l),
        ("pacing", _) => {
            let turn = format!("the next turn is in {:.0} ms", l.wait_ms.unwrap_or(0.0));
            match l.would {
                Some(Would::Wait) if refused => format!("{turn}, and TCP connections do not wait"),
                _ => held(refused, turn, l),
            }
        }
        ("rate", _) if refused => {
            let bound = rule.map(|r| &r.bound);
            let burst = match bound {
                Some(Bound::Rate(r)) if r.warm_up.is_some() => {
                    f64::from(r.burst).min(r.per_second / 10.0).floor().max(1.0)
                }
                Some(Bound::Rate(r)) => f64::from(r.burst),
                _ => 1.0,
            };
            held(true, nothing_left(l.level, burst, l.bound * l.warmth.unwrap_or(1.0)), l)
        }
        ("rate", _) => format!("{} of the burst is left", percent(l.level)),
        _ if refused => l.says.clone(),
        _ if around.counted => "the control plane's quota server counts for all sidecars".to_owned(),
        _ => "there is no control plane to count it: everything passes".to_owned(),
    };
    Step { link: l.link, rule: l.rule.clone(), mode: l.mode, would, says }
}

/// A state, and what is over if the request is refused.
fn held(refused: bool, state: String, l: &LimitView) -> String {
    match refused {
        true if l.bound <= 0.0 => l.says.clone(),
        true => format!("{state}: {}", l.says),
        false => state,
    }
}

/// What a limit by value says of the request's.
fn value(l: &LimitView, v: &ValueView, rule: Option<&RateLimit>, refused: bool) -> String {
    let key = rule.and_then(|r| r.key.as_ref());
    let of = key.map(|k| format!(" of {}", parameter(&k.by))).unwrap_or_default();
    // One that may be a secret is not shown, and not found.
    let own = key.filter(|_| v.own).and_then(|k| k.overrides.get(&v.value)).copied();
    let state = match (v.in_use, v.level) {
        (Some(n), _) => format!("{n} of its requests are under way"),
        (_, level) if !refused => format!("{} of its burst is left", percent(level)),
        (_, level) => {
            let burst = match rule.map(|r| &r.bound) {
                Some(Bound::Rate(r)) => f64::from(r.burst),
                _ => 1.0,
            };
            // As much longer as the rate is higher.
            let longer = own.filter(|_| l.bound > 0.0).map_or(1.0, |own| own / l.bound);
            nothing_left(level, (burst * longer).ceil().max(1.0), own.unwrap_or(l.bound))
        }
    };
    match (refused, v.own, own) {
        (false, ..) => format!("value {:?}{of}: {state}", v.value),
        (_, true, Some(0.0)) => format!("value {:?}{of}: none may pass by the bound of its own", v.value),
        (_, true, Some(own)) => format!("value {:?}{of}: {state}: the bound of its own is {own}", v.value),
        (_, true, None) => format!("value {:?}{of}: {state}: it has a bound of its own", v.value),
        (..) => held(true, format!("value {:?}: {state}", v.value), l),
    }
}

/// What a request has that was not said of this one, and how to say it. What no request need have is no such thing.
fn unsaid(by: &KeyBy, around: &Around<'_>) -> Option<(&'static str, &'static str)> {
    let request = around.request;
    match by {
        KeyBy::CallerIp => Some(("the caller's address", "--caller-ip IP")),
        KeyBy::CallerApp => Some(("the caller's app", "--caller-app APP")),
        KeyBy::Method if !around.tcp => Some(("the method", "--method NAME")),
        KeyBy::PathPart(_) if request.http && request.asked.path.is_none() => {
            Some(("the path", "--path /PATH"))
        }
        KeyBy::Header(_) | KeyBy::Query(_) | KeyBy::PathPart(_) | KeyBy::Method => None,
    }
}

fn parameter(by: &KeyBy) -> String {
    match by {
        KeyBy::Header(name) => format!("header {name}"),
        KeyBy::Query(name) => format!("query parameter {name}"),
        KeyBy::PathPart(n) => format!("part {n} of the path"),
        KeyBy::CallerApp => "caller's app".into(),
        KeyBy::CallerIp => "caller's address".into(),
        KeyBy::Method => "method".into(),
    }
}

/// Of a rate whose tokens are used up: when there is one again, roughly.
fn nothing_left(level: Option<f64>, burst: f64, per_second: f64) -> String {
    let wait = (1.0 - level.unwrap_or(0.0) * burst).clamp(0.0, 1.0) / per_second.max(1e-9);
    let wait = match wait {
        s if s < 1.0 => format!("{:.0} ms", (s * 1000.0).ceil().max(1.0)),
        s => format!("{s:.1} s"),
    };
    format!("less than one request is left, and the next passes in about {wait}")
}

fn percent(share: Option<f64>) -> String {
    format!("{:.0} %", share.unwrap_or(0.0) * 100.0)
}

fn breaker(b: &BreakerView) -> Step {
    use raddle_model::{BreakerPer, Forced};
    let open = b.targets.iter().filter(|t| t.state == State::Open).count();
    let (would, says) = match (b.forced, b.per, b.targets.first()) {
        (Some(Forced::Open), ..) => (Would::Refuse, "it is held open by hand".to_owned()),
        (Some(Forced::Closed), ..) => (Would::Pass, "it is held closed by hand".to_owned()),
        (_, BreakerPer::Endpoint, _) => {
            let all = b.closed + b.unwell;
            let would = if all > 0 && open == all { Would::Refuse } else { Would::Pass };
            (
                would,
                format!(
                    "{open} of {all} endpoints that were called are open, and not chosen while others are not"
                ),
            )
        }
        (_, _, None) => (Would::Pass, "nothing was called yet".to_owned()),
        (_, _, Some(t)) => {
            let until = Duration::from_secs_f64(t.until_seconds.unwrap_or(0.0).clamp(0.0, 1e9));
            match t.state {
                State::Closed => {
                    (Would::Pass, format!("{}: closed, {} of {} calls failed", t.target, t.failed, t.calls))
                }
                State::HalfOpen => {
                    (Would::Pass, format!("{}: it is being tried again, a few calls pass", t.target))
                }
                State::Open if until.is_zero() => {
                    (Would::Pass, format!("{}: it is tried again with the next call", t.target))
                }
                State::Open => {
                    let why = t.why.as_deref().unwrap_or_default();
                    (
                        Would::Refuse,
                        format!("{}: open for {:.1} s more: {why}", t.target, until.as_secs_f64()),
                    )
                }
            }
        }
    };
    Step { link: "breaker", rule: b.rule.clone(), mode: b.mode, would: would.into(), says }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raddle_core::Time;
    use raddle_model::{LoadOptions, Source};

    const T: Time = Time::from_nanos(1_000_000_000);
    const BY_ITEM: &str = "rate: 4, burst: 1, key: {header: itemId, values: [{value: b, bound: 2}]}";

    fn imagined(service: &str, headers: &[(&str, &str)], caller_ip: Option<&str>) -> Imagined {
        let headers = headers.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let caller_ip = caller_ip.and_then(|ip| ip.parse().ok());
        let service = service.to_owned();
        Imagined::new(Side::Inbound, Asked { service, headers, caller_ip, ..Asked::default() })
    }

    /// What a rule says, after so many such requests.
    fn said(spec: &str, request: &Imagined, before: usize, counted: bool) -> (Word, String) {
        let text =
            format!("apiVersion: raddle.io/v1\nkind: RateLimit\nmetadata: {{name: x}}\nspec: {{{spec}}}\n");
        let sources = [Source { name: "x".into(), text }];
        let (resources, _) = raddle_model::load(&sources, LoadOptions::rules_only()).unwrap();
        let rules: Vec<_> = resources.rates.iter().collect();
        let rules = std::sync::Arc::new(Rules::new(None, &rules, &[], None));
        let mut local = raddle_policy::limit::Local::new(0, 1);
        local.sync(&rules);
        for _ in 0..before {
            let _ = local.judge(request.side, &request.asked, T, false);
        }
        let view = rules.explain(request.side, &request.asked, T);
        let tcp = request.asked.service.starts_with("tcp:");
        let step = limit(&view.limits[0], &rules, &Around { request, tcp, counted });
        (step.would, step.says)
    }

    #[test]
    fn without_what_a_limit_counts_by_it_depends() {
        let by_ip = "rate: 1, key: {by: callerIp}";
        let told = said(by_ip, &imagined("a", &[], None), 0, false);
        let says = "it counts by the caller's address, and none was given: give --caller-ip IP";
        assert_eq!(told, (Word::Depends, says.into()));
        assert_eq!(said(by_ip, &imagined("a", &[], Some("10.1.2.3")), 0, false).0, Word::Pass);
        let (word, says) = said("rate: 1, key: {by: callerApp}", &imagined("a", &[], None), 0, false);
        assert!(word == Word::Depends && says.ends_with("give --caller-app APP"), "{says}");
        let none = said(BY_ITEM, &imagined("a", &[], None), 0, false);
        assert_eq!(none, (Word::Uncounted, "the request has no header itemId, and is not counted".into()));
    }

    #[test]
    fn what_is_refused_is_said_to_be_used_up_with_its_key_named_once_and_when_the_next_passes() {
        let a = imagined("a", &[("itemId", "a")], None);
        assert_eq!(said(BY_ITEM, &a, 0, false).1, "value \"a\" of header itemId: 100 % of its burst is left");
        let says = "value \"a\": less than one request is left, and the next passes in about 250 ms: over 4 requests a \
                    second for each value of header itemId";
        assert_eq!(said(BY_ITEM, &a, 1, false), (Word::Refuse, says.into()));
        let (word, says) = said(BY_ITEM, &imagined("a", &[("itemId", "b")], None), 1, false);
        assert!(word == Word::Refuse && says.contains("about 500 ms: the bound of its own is 2"), "{says}");
        let (word, says) = said("rate: 0.5, burst: 1", &a, 1, false);
        assert_eq!(word, Word::Refuse);
        assert!(says.contains("the next passes in about 2.0 s: over 0.5 requests a second"), "{says}");
        assert_eq!(said("rate: 0", &a, 0, false), (Word::Refuse, "none may pass".into()));
    }

    #[test]
    fn what_nobody_counts_passes_and_is_said_to() {
        let (rule, a) = ("rate: 9, reach: cluster", imagined("a", &[], None));
        let says = "there is no control plane to count it: everything passes";
        assert_eq!(said(rule, &a, 5, false), (Word::Pass, says.into()));
        assert_eq!(said(rule, &a, 5, true).0, Word::Ask);
        assert_eq!(
            said("rate: 0, reach: cluster", &a, 0, false),
            (Word::Refuse, "none may pass over all sidecars".into())
        );
    }

    #[test]
    fn connections_without_a_protocol_do_not_wait() {
        let paced = "rate: 0.5, maxWait: 10s";
        let (word, says) = said(paced, &imagined("tcp:3306", &[], None), 1, false);
        assert!(word == Word::Refuse && says.ends_with("and TCP connections do not wait"), "{says}");
        assert_eq!(said(paced, &imagined("a", &[], None), 1, false).0, Word::Wait);
    }
}
