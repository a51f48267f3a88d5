//! Why a request goes where it goes, told for a person: nothing is counted, nothing changes.
use crate::route::Attributes;
use crate::route::does;
use crate::route::matcher::{Cond, value};
use crate::route::plan::{Slot, Target};
use crate::snapshot::host::Health;
use crate::snapshot::service::{Endpoint, Service, hash_of};
use crate::snapshot::subset::Subset;
use raddle_core::Reason;
use raddle_model::{Actions, IfEmpty, Labels, PolicySettings, Subject};
use serde::Serialize;
use std::net::SocketAddr;

/// The whole story of a request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// The service.
    pub service: String,
    /// Its app.
    pub app: String,
    /// The `TrafficPolicy` in force; absent = the defaults.
    pub policy: Option<String>,
    /// Its settings.
    pub settings: PolicySettings,
    /// Every rule that concerns the service and reaches this sidecar, in order.
    pub rules: Vec<RuleStep>,
    /// Where the request can go, likeliest cause first: more than one if a share or weights decide.
    pub outcomes: Vec<Outcome>,
}

/// What a rule made of the request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleStep {
    /// Name of the route.
    pub route: String,
    /// Name of the rule.
    pub rule: String,
    /// Its conditions.
    pub conditions: Vec<ConditionStep>,
    /// What it does to requests besides sending them somewhere; absent = nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions: Option<Actions>,
    /// What came of it.
    pub verdict: Verdict,
}

/// Whether a condition holds, and why.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConditionStep {
    /// What it looks at, such as `header type`.
    pub subject: String,
    /// What it demands.
    pub matcher: serde_json::Value,
    /// What the request has; absent = nothing.
    pub found: Option<String>,
    /// Whether it holds.
    pub holds: bool,
}

/// What came of a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Verdict {
    /// A rule before it took every such request.
    NotReached,
    /// A condition does not hold.
    NoMatch,
    /// The stable share does not take this request.
    NotInShare,
    /// It takes the request.
    Taken,
    /// It takes this share of such requests, by counting.
    TakenByShare {
        /// Millionths.
        ppm: u32,
    },
    /// It matches, but its destinations have too few usable endpoints, so that the next rule is tried.
    Empty,
}

/// One place the request can go to.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// `route/rule`; absent = the default destination.
    pub rule: Option<String>,
    /// The flag of the reject reason, if it is rejected.
    pub reject: Option<&'static str>,
    /// What happens to it on the way, or what the rule answers it with, in words.
    pub does: Vec<String>,
    /// Whether the rule answers it, so that no endpoint is asked.
    pub answered: bool,
    /// Share of such requests, 0..=1.
    pub share: f64,
    /// Whether health is ignored, as too few are healthy.
    pub panic: bool,
    /// The endpoints it can go to.
    pub endpoints: Vec<EndpointState>,
}

/// An endpoint and what is known of it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointState {
    /// ip:port.
    pub address: SocketAddr,
    /// Its weight.
    pub weight: u32,
    /// Its group.
    pub group: String,
    /// Its unit.
    pub unit: Option<String>,
    /// Its labels.
    pub labels: Labels,
    /// Verdict of the active check.
    pub health: Health,
    /// Whether connections can be made, as far as is known.
    pub reachable: bool,
}

impl Service {
    /// Explains what [`Service::route`] makes of a request, with the endpoints' health as it is now.
    pub fn explain<R: Attributes>(&self, req: &R) -> Explanation {
        let mut walk = Walk {
            service: self,
            asked: req,
            left: 1.0,
            rules: Vec::new(),
            outcomes: Vec::new(),
            skipped: None,
        };
        for slot in &self.plan.slots {
            walk.rule(slot);
        }
        walk.rest();
        Explanation {
            service: self.name.to_string(),
            app: self.app.to_string(),
            policy: self.policy.name.as_deref().map(str::to_owned),
            settings: self.policy.settings.clone(),
            rules: walk.rules,
            outcomes: walk.outcomes,
        }
    }
}

/// Follows all ways such requests can take, with the share that takes each.
struct Walk<'s, R> {
    service: &'s Service,
    asked: &'s R,
    /// Share of such requests that no rule has taken yet.
    left: f64,
    rules: Vec<RuleStep>,
    outcomes: Vec<Outcome>,
    skipped: Option<(&'s Slot, &'s Target)>,
}

impl<'s, R: Attributes> Walk<'s, R> {
    fn rule(&mut self, slot: &'s Slot) {
        let req = self.asked;
        let rule = slot.rule();
        let conditions: Vec<ConditionStep> = rule.conds.iter().map(|c| condition(c, req)).collect();
        let matches = conditions.iter().all(|c| c.holds);
        let verdict = if self.left <= 0.0 {
            Verdict::NotReached
        } else if !matches {
            Verdict::NoMatch
        } else {
            self.share(slot)
        };
        self.rules.push(RuleStep {
            route: rule.name.route.to_string(),
            rule: rule.name.rule.to_string(),
            conditions,
            actions: (rule.source != Actions::default()).then(|| rule.source.clone()),
            verdict,
        });
    }

    /// What of the requests left a matching rule takes.
    fn share(&mut self, slot: &'s Slot) -> Verdict {
        let req = self.asked;
        let rule = slot.rule();
        let stable = rule.hash_on.as_ref().and_then(|on| hash_of(on, req, rule.salt));
        let (ppm, counted) = match stable {
            _ if rule.percent_ppm == 0 => (0, false),
            Some(key) if super::within_share(key, rule.percent_ppm) => (1_000_000, false),
            Some(_) => (0, false),
            None => (rule.percent_ppm, rule.percent_ppm < 1_000_000),
        };
        if ppm == 0 {
            return Verdict::NotInShare;
        }
        let mine = self.left * f64::from(ppm) / 1e6;
        if let Some(answer) = &rule.answer {
            let does = vec![does::answer(answer, req)];
            self.outcomes.push(Outcome { does, answered: true, ..Outcome::of(Some(slot), mine) });
            self.left -= mine;
            return if counted { Verdict::TakenByShare { ppm } } else { Verdict::Taken };
        }
        let total: u32 = slot.targets.iter().map(|t| t.weight).sum();
        let mut given = 0.0;
        for target in slot.targets.iter().filter(|t| t.weight > 0) {
            let share = mine * f64::from(target.weight) / f64::from(total);
            given += if self.target(slot, target, share) { share } else { 0.0 };
        }
        if total == 0 && self.empty(slot, mine) {
            given = mine;
        }
        self.left -= given;
        match (given > 0.0, counted) {
            (false, _) => Verdict::Empty,
            (true, true) => Verdict::TakenByShare { ppm },
            (true, false) => Verdict::Taken,
        }
    }

    /// Whether a destination, or what stands in for it, takes its share.
    fn target(&mut self, slot: &'s Slot, target: &'s Target, share: f64) -> bool {
        if let Some(subset) = self.service.usable_part(target) {
            self.sent(Some(slot), subset, share);
            return true;
        }
        if slot.rule().if_empty == IfEmpty::Next {
            self.skipped.get_or_insert((slot, target));
        }
        self.empty(slot, share)
    }

    fn empty(&mut self, slot: &'s Slot, share: f64) -> bool {
        match slot.rule().if_empty {
            IfEmpty::Next => return false,
            IfEmpty::Fail => self.rejected(Some(slot), Reason::NoHealthy, share),
            IfEmpty::Any => {
                let any = self.service.plan.any.as_ref().unwrap_or(&self.service.plan.default);
                self.last_resort(any, Some(slot), share);
            }
        }
        true
    }

    /// The requests no rule takes.
    fn rest(&mut self) {
        // Shares are sums of products: what is left of rounding is nobody's.
        if self.left < 1e-9 {
            return;
        }
        let default = &self.service.plan.default;
        match self.skipped {
            _ if self.service.usable_part(default).is_some() => self.last_resort(default, None, self.left),
            Some((slot, target)) if !target.all.members.is_empty() => {
                self.last_resort(target, Some(slot), self.left);
            }
            _ => self.last_resort(default, None, self.left),
        }
    }

    fn last_resort(&mut self, target: &'s Target, slot: Option<&'s Slot>, share: f64) {
        match self.service.last_resort(target, slot) {
            super::Decision::Send { subset, .. } => self.sent(slot, subset, share),
            // Answers are given before destinations are looked at.
            super::Decision::Answer { .. } => {}
            super::Decision::Reject { reason, .. } => self.rejected(slot, reason, share),
        }
    }

    fn sent(&mut self, slot: Option<&Slot>, subset: &Subset, share: f64) {
        let endpoints = subset.members.iter().map(|&i| state(&self.service.endpoints[i as usize])).collect();
        let panic = self.service.panics(subset);
        let actions = slot.and_then(|s| s.rule().actions.as_ref());
        let does = actions.map_or_else(Vec::new, |actions| does::all(actions, self.asked));
        self.outcomes.push(Outcome { does, panic, endpoints, ..Outcome::of(slot, share) });
    }

    fn rejected(&mut self, slot: Option<&Slot>, reason: Reason, share: f64) {
        self.outcomes.push(Outcome { reject: Some(reason.flag()), ..Outcome::of(slot, share) });
    }
}

impl Outcome {
    fn of(slot: Option<&Slot>, share: f64) -> Outcome {
        Outcome {
            rule: slot.map(|s| s.rule().name.to_string()),
            reject: None,
            does: Vec::new(),
            answered: false,
            share,
            panic: false,
            endpoints: Vec::new(),
        }
    }
}

fn condition(cond: &Cond, req: &impl Attributes) -> ConditionStep {
    let found = value(&cond.source.subject, req);
    ConditionStep {
        subject: match &cond.source.subject {
            Subject::Header(name) => format!("header {name}"),
            Subject::Query(name) => format!("query {name}"),
            Subject::Method => "method".to_owned(),
            Subject::Path => "path".to_owned(),
            Subject::Authority => "authority".to_owned(),
            Subject::Service => "service".to_owned(),
            Subject::CallerApp => "callerApp".to_owned(),
            Subject::LoadTest => "loadTest".to_owned(),
        },
        matcher: serde_json::to_value(&cond.source.matcher).unwrap_or_default(),
        holds: cond.test(found),
        found: found.map(|v| String::from_utf8_lossy(v).into_owned()),
    }
}

fn state(endpoint: &Endpoint) -> EndpointState {
    EndpointState {
        address: endpoint.host.addr,
        weight: endpoint.weight,
        group: endpoint.group.to_string(),
        unit: endpoint.unit.as_deref().map(str::to_owned),
        labels: (*endpoint.labels).clone(),
        health: endpoint.host.health(),
        reachable: endpoint.host.reachable(),
    }
}
