//! What the rules are and do now, for people: `/limits`, `raddle explain limit`.
use super::breaker::program as breakers;
use super::breaker::target::Target;
use super::breaker::{State, window};
use super::hot::{self, Hot};
use super::program::{Link, Rule};
use super::{Again, Rules};
use crate::route::Attributes;
use raddle_core::Time;
use raddle_model::{Bound, BreakerPer, Forced, RuleMode, Side};
use serde::Serialize;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Values told of a hotspot limit.
const VALUES: usize = 20;
/// Breakers told of a rule.
const TARGETS: usize = 100;

/// The plain limits and breakers of a sidecar.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// Rate limits, in the order in which they are asked.
    pub limits: Vec<LimitView>,
    /// Circuit breakers, in file order.
    pub breakers: Vec<BreakerView>,
}

/// A rate limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitView {
    /// `RateLimit/NAME`.
    pub rule: String,
    /// Which way its requests go.
    pub side: Side,
    /// Whether it is carried out.
    pub mode: RuleMode,
    /// Its link of the chain: `concurrency`, `rate`, `pacing`, `hotspot` or `cluster`.
    pub link: &'static str,
    /// Its bound: requests a second, or at the same time.
    pub bound: f64,
    /// What is said of a request it holds: `over 100 requests a second`.
    pub says: String,
    /// Requests it let pass, over all workers.
    pub passed: u64,
    /// Requests it held, or would have held in `mode: observe`.
    pub held: u64,
    /// Those of them that it would have held, and that passed.
    pub would_have_held: u64,
    /// Of those that passed, the ones that waited.
    pub waited: u64,
    /// Share of the burst that is there now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<f64>,
    /// The rate that holds now, as a share of the whole one: below 1 while it warms up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmth: Option<f64>,
    /// How long a request that comes now would wait, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<f64>,
    /// Requests under way, and a few that workers keep room for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_use: Option<u32>,
    /// Values that are kept now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<usize>,
    /// Values with a bound of their own, then those that come most often.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<ValueView>,
    /// What it would say to the request asked about; roughly, as workers keep some room ready for themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub would: Option<Would>,
}

/// What a limit would say to one request that comes now, if no other comes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Would {
    /// It passes.
    Pass,
    /// It passes after a while.
    Wait,
    /// It is refused.
    Refuse,
    /// The quota server says.
    Ask,
    /// It has no value that is counted by: it passes.
    Uncounted,
}

/// A value of a hotspot limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ValueView {
    /// The value, or its beginning.
    pub value: String,
    /// Whether it has a bound of its own.
    pub own: bool,
    /// How often it came in the last seconds, roughly; absent = not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_second: Option<f64>,
    /// Requests held, roughly, since it has been kept.
    pub held: u64,
    /// Share of its burst that is there now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub level: Option<f64>,
    /// Its requests under way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_use: Option<u32>,
}

/// A rule of breakers.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BreakerView {
    /// `CircuitBreaker/NAME`.
    pub rule: String,
    /// Whether it is carried out.
    pub mode: RuleMode,
    /// What has a breaker of its own.
    pub per: BreakerPer,
    /// What a person told it to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forced: Option<Forced>,
    /// Calls it let pass, over all workers; of one that is tried at several endpoints each try.
    pub passed: u64,
    /// Calls it held, or would have held in `mode: observe`.
    pub held: u64,
    /// Those of them that it would have held, and that passed.
    pub would_have_held: u64,
    /// Its breakers that are closed.
    pub closed: usize,
    /// Those that are not.
    pub unwell: usize,
    /// Its breakers: those that are not closed, then those with most failures.
    pub targets: Vec<TargetView>,
}

/// A breaker.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TargetView {
    /// The endpoint, service, or `service.method`.
    pub target: String,
    /// What it is.
    pub state: State,
    /// For how many seconds; absent = it has always been closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_seconds: Option<f64>,
    /// In how many seconds it lets calls through to see whether it may close.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_seconds: Option<f64>,
    /// Why it is not closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Calls in the window.
    pub calls: u32,
    /// Those that failed.
    pub failed: u32,
    /// Those that were slow.
    pub slow: u32,
}

impl Rules {
    /// Each rule of breakers, and how many of its breakers are not closed; 1 for all that a person holds open. Costs a
    /// load each.
    pub fn unwell(&self) -> impl Iterator<Item = (&Arc<str>, u32)> {
        self.breaker_program.rules.iter().map(|r| (&r.name, r.unwell()))
    }

    /// What the plain limits and breakers are and do now.
    pub fn view(&self, now: Time) -> View {
        View {
            limits: self.program.rules.iter().map(|r| self.limit(r, now)).collect(),
            breakers: self.breaker_program.rules.iter().map(|r| breaker(r, now, None)).collect(),
        }
    }

    /// The rules that take a request of this side, with what is known for it: of hotspot limits its value alone, of
    /// breakers those of its service and method, and all endpoints'. Nothing is counted.
    pub fn explain(&self, side: Side, req: &impl Attributes, now: Time) -> View {
        let mut taking = Vec::new();
        self.program.index(side).taking(req, &mut taking);
        let limits = taking.drain(..).map(|i| {
            let rule = &self.program.rules[i as usize];
            let mut view = self.limit(rule, now);
            if let Link::Hot(hot) = &rule.link {
                view.values = of_request(hot, req, now).into_iter().collect();
            }
            view.would = Some(would(rule, req, now));
            view
        });
        let limits = limits.collect();
        if side == Side::Outbound {
            self.breaker_program.index.taking(req, &mut taking);
        }
        let rules = taking.iter().map(|&i| &self.breaker_program.rules[i as usize]);
        let breakers = rules.map(|rule| breaker(rule, now, rule.key(req)));
        View { limits, breakers: breakers.collect() }
    }

    fn limit(&self, rule: &Rule, now: Time) -> LimitView {
        let source = &self.rates[rule.index as usize];
        let counts = rule.shared.counts();
        let meter = &rule.shared.meter;
        let mut view = LimitView {
            rule: rule.name.to_string(),
            side: rule.side,
            mode: source.mode,
            link: match &rule.link {
                Link::Concurrency(_) => "concurrency",
                Link::Rate(_) => "rate",
                Link::Paced(..) => "pacing",
                Link::Hot(_) => "hotspot",
                Link::Cluster => "cluster",
            },
            bound: match &source.bound {
                Bound::Rate(rate) => rate.per_second,
                Bound::Concurrency(n) => f64::from(*n),
            },
            says: rule.detail.to_string(),
            passed: counts.passed,
            held: counts.held + counts.observed,
            would_have_held: counts.observed,
            waited: counts.waited,
            level: None,
            warmth: None,
            wait_ms: None,
            in_use: None,
            kept: None,
            values: Vec::new(),
            would: None,
        };
        let warms = matches!(&source.bound, Bound::Rate(rate) if rate.warm_up.is_some());
        match &rule.link {
            Link::Concurrency(_) => view.in_use = Some(rule.shared.permits.taken()),
            Link::Rate(pace) => {
                view.level = Some(meter.level(pace, now));
                view.warmth = warms.then(|| meter.warmth(pace, now));
            }
            Link::Paced(pace, _) => {
                view.wait_ms = Some(meter.queue(now).as_secs_f64() * 1000.0);
                view.warmth = warms.then(|| meter.warmth(pace, now));
            }
            Link::Hot(hot) => {
                view.kept = Some(hot.table.len());
                view.values = values(hot, now);
            }
            Link::Cluster => {}
        }
        view
    }
}

fn would(rule: &Rule, req: &impl Attributes, now: Time) -> Would {
    let meter = &rule.shared.meter;
    let of = |again| if again == Again::In(Duration::ZERO) { Would::Pass } else { Would::Refuse };
    match &rule.link {
        Link::Concurrency(most) if rule.shared.permits.taken() >= *most => Would::Refuse,
        Link::Concurrency(_) => Would::Pass,
        Link::Rate(pace) => of(meter.again(pace, now, 0)),
        Link::Paced(pace, most) => match meter.slot_again(pace, now, *most) {
            Again::In(Duration::ZERO) if meter.queue(now) > Duration::ZERO => Would::Wait,
            again => of(again),
        },
        Link::Hot(hot) => {
            let passes = hot::with_value(&hot.by, req, |value| hot.would_pass(value, now));
            passes.map_or(Would::Uncounted, |passes| if passes { Would::Pass } else { Would::Refuse })
        }
        Link::Cluster if rule.never() => Would::Refuse,
        Link::Cluster => Would::Ask,
    }
}

fn values(hot: &Hot, now: Time) -> Vec<ValueView> {
    let own = hot.own().map(|(value, own)| {
        let held = own.exact.held.load(Ordering::Relaxed);
        value_view(hot, hot.shown(value), true, held, own.state(now))
    });
    let mut values: Vec<ValueView> = own.collect();
    values.sort_by(|a, b| b.held.cmp(&a.held).then_with(|| a.value.cmp(&b.value)));
    values.truncate(VALUES);
    values.extend(hot.table.top(now, VALUES).into_iter().map(|kept| {
        let state = hot.each.state(&hot.table.slot(kept.slot).word, now);
        let view = value_view(hot, kept.text, false, kept.held, state);
        ValueView { per_second: Some((kept.per_second * 10.0).round() / 10.0), ..view }
    }));
    values
}

/// The value of a request, as far as it is known.
fn of_request(hot: &Hot, req: &impl Attributes, now: Time) -> Option<ValueView> {
    hot::with_value(&hot.by, req, |value| {
        let text = hot.shown(value);
        match hot.own().find(|(own, _)| *own == value) {
            Some((_, own)) => {
                value_view(hot, text, true, own.exact.held.load(Ordering::Relaxed), own.state(now))
            }
            // A value that is not kept has used nothing.
            None => {
                let state = hot.state(value, now).unwrap_or(if hot.holds() { 0.0 } else { 1.0 });
                value_view(hot, text, false, 0, state)
            }
        }
    })
}

fn value_view(hot: &Hot, value: String, own: bool, held: u64, state: f64) -> ValueView {
    let at_once = hot.holds();
    ValueView {
        value,
        own,
        per_second: None,
        held,
        level: (!at_once).then_some(state),
        in_use: at_once.then_some(state as u32),
    }
}

/// A rule of breakers; with a key, of that breaker alone.
fn breaker(rule: &breakers::Rule, now: Time, key: Option<u64>) -> BreakerView {
    let counts = rule.shared.counts.counts();
    let all = rule.shared.targets();
    let unwell = all.iter().filter(|t| t.state() != State::Closed).count();
    let closed = all.len() - unwell;
    let shown = all.iter().filter(|t| key.is_none_or(|key| t.key == key));
    let mut targets: Vec<TargetView> = shown.map(|t| target(rule, t, now)).collect();
    targets.sort_by(|a, b| {
        let rank = |t: &TargetView| (t.state == State::Closed, u32::MAX - t.failed);
        rank(a).cmp(&rank(b)).then_with(|| a.target.cmp(&b.target))
    });
    targets.truncate(TARGETS);
    BreakerView {
        rule: rule.name.to_string(),
        mode: if rule.observe { RuleMode::Observe } else { RuleMode::Enforce },
        per: rule.settings.per,
        forced: rule.settings.forced,
        passed: counts.passed,
        held: counts.held + counts.observed,
        would_have_held: counts.observed,
        closed,
        unwell,
        targets,
    }
}

fn target(rule: &breakers::Rule, target: &Target, now: Time) -> TargetView {
    let window::Sum { calls, failed, slow } = target.sum(&rule.settings, now);
    let state = target.state();
    let since = target.since();
    TargetView {
        target: target.name.to_string(),
        state,
        since_seconds: (since != Time::ZERO).then(|| now.since(since).as_secs_f64()),
        until_seconds: target.until().map(|until| until.since(now).as_secs_f64()),
        why: (state != State::Closed).then(|| rule.held(target.why(), Again::Unknown).detail.to_string()),
        calls,
        failed,
        slow,
    }
}
