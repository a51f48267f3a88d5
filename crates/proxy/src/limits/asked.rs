//! Which limits a request would meet that somebody asks about instead of sending it, and what each would say.
use super::{Limiting, interface};
use crate::http::request::host_of;
use crate::shared::Shared;
use raddle_model::{InterfaceBy, KeyBy, Priority, RuleMode, Side};
use raddle_policy::limit::adaptive::View;
use raddle_policy::limit::breaker::State;
use raddle_policy::limit::{BreakerView, LimitView, Priorities, Would};
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
    /// What it comes to: `pass`, `wait`, `refuse`, or `ask` where the quota server has the last word.
    verdict: Would,
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
    would: Would,
    /// A sentence for people: its state, and what it says.
    says: String,
}

/// What each limit in force would say now.
pub(crate) fn explain(shared: &Shared, request: &Imagined) -> Story {
    let (config, now) = (shared.config.load(), shared.clock.now());
    let view = config.snapshot.limits().explain(request.side, &request.asked, now);
    let limiting = shared.limits.load_full().filter(|_| request.side == Side::Inbound);
    let mut steps: Vec<Step> = limiting.iter().flat_map(|l| adaptive(l, request)).collect();
    steps.extend(view.limits.iter().map(|l| limit(l, config.snapshot.limits())));
    steps.extend(view.breakers.iter().map(breaker));
    let enforced = || steps.iter().filter(|s| s.mode == RuleMode::Enforce);
    let first = |would| enforced().find(|s| s.would == would);
    let refused = first(Would::Refuse);
    let verdict = [Would::Wait, Would::Ask].into_iter().find(|w| first(*w).is_some());
    Story {
        side: request.side,
        service: request.asked.service.clone(),
        method: request.asked.method.clone(),
        verdict: if refused.is_some() { Would::Refuse } else { verdict.unwrap_or(Would::Pass) },
        rule: refused.map(|s| s.rule.clone()),
        steps,
    }
}

/// The load-test gate, and what the controller holds.
fn adaptive(l: &Limiting, request: &Imagined) -> Vec<Step> {
    let priority = Priorities::new(&l.settings).of(&request.asked);
    let view = l.view.load();
    let step =
        |link, would, says| Step { link, rule: l.rule.to_string(), mode: l.settings.mode, would, says };
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
    let (would, says) = held(view, &name, priority);
    steps.push(step("adaptive", would, says));
    steps
}

/// What the controller makes of an interface now.
fn held(view: &View, name: &str, priority: Priority) -> (Would, String) {
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

fn limit(l: &LimitView, rules: &raddle_policy::limit::Rules) -> Step {
    let state = match (l.link, l.values.first()) {
        ("hotspot", None) => "the request has no such value, and is not counted".to_owned(),
        ("hotspot", Some(v)) => match (v.in_use, v.level) {
            (Some(n), _) => format!("value {:?}: {n} of its requests are under way", v.value),
            (_, level) => format!("value {:?}: {} of its burst is left", v.value, percent(level)),
        },
        ("concurrency", _) => format!("{} under way of {}", l.in_use.unwrap_or(0), l.bound),
        ("pacing", _) => format!("the next turn is in {:.0} ms", l.wait_ms.unwrap_or(0.0)),
        ("rate", _) => format!("{} of the burst is left", percent(l.level)),
        _ => "the control plane's quota server counts for all sidecars".to_owned(),
    };
    let name = l.rule.trim_start_matches("RateLimit/");
    let rule = rules.rates.iter().find(|r| r.metadata.name == name);
    let by = rule.and_then(|r| r.key.as_ref()).map(|k| match &k.by {
        KeyBy::Header(name) => format!(" by header {name}"),
        KeyBy::Query(name) => format!(" by query parameter {name}"),
        KeyBy::PathPart(n) => format!(" by part {n} of the path"),
        KeyBy::CallerApp => " by the caller's app".into(),
        KeyBy::CallerIp => " by the caller's address".into(),
        KeyBy::Method => " by method".into(),
    });
    let says = match l.would {
        Some(Would::Refuse) => format!("{state}: {}", l.says),
        _ => state,
    };
    let would = l.would.unwrap_or(Would::Pass);
    Step {
        link: l.link,
        rule: l.rule.clone(),
        mode: l.mode,
        would,
        says: says + by.as_deref().unwrap_or_default(),
    }
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
    Step { link: "breaker", rule: b.rule.clone(), mode: b.mode, would, says }
}
