//! Why a request passes or not, told for a person: nothing is counted, nothing changes.
use super::clause::{self, Clause, Cond};
use super::facts::{Facts, Names};
use super::{Rules, Verdict};
use raddle_model::{AuthAction, AuthSubject, Authorization, RuleMode};
use serde::Serialize;

/// The whole story of a request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explained {
    /// Whether it passes.
    pub allowed: bool,
    /// What decided: `Authorization/RULE/CLAUSE`, or what happened; absent = no rule has a say.
    pub by: Option<String>,
    /// The verdict as a sentence.
    pub why: String,
    /// What would refuse it if every rule in `mode: observe` were enforced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed: Option<String>,
    /// Every rule that reaches the sidecar, in order.
    pub rules: Vec<RuleStep>,
}

/// What a rule made of the request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleStep {
    /// Its name.
    pub rule: String,
    /// `allow` or `deny`.
    pub action: AuthAction,
    /// Whether it is carried out.
    pub mode: RuleMode,
    /// Whether one of its clauses takes the request.
    pub takes: bool,
    /// Its clauses.
    pub clauses: Vec<ClauseStep>,
}

/// What a clause made of the request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ClauseStep {
    /// Its name, or its 0-based index.
    pub clause: String,
    /// Whether all of its conditions hold.
    pub takes: bool,
    /// Its conditions.
    pub conditions: Vec<ConditionStep>,
}

/// Whether a condition holds, and why.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConditionStep {
    /// What it looks at, such as `header type`.
    pub subject: String,
    /// What it demands.
    pub matcher: serde_json::Value,
    /// What the request has: nothing, or all of it.
    pub found: Vec<String>,
    /// Why it cannot hold, whatever it demands.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hidden: Option<&'static str>,
    /// Whether it holds.
    pub holds: bool,
}

impl Rules {
    /// Explains what [`Rules::judge`] makes of a request. Takes time in the number of rules.
    pub fn explain(&self, facts: &impl Facts) -> Explained {
        let asked = clause::Asked { facts, names: facts.names() };
        let rules: Vec<RuleStep> = self.sources.iter().map(|r| rule(r, &asked)).collect();
        let (allowed, by, why, observed) = match self.judge(facts) {
            Verdict::Refuse(refusal) => {
                let why = match &refusal {
                    super::Refusal::Denied(c) => {
                        format!("rule {} denies it by its clause {}", c.rule, c.clause)
                    }
                    super::Refusal::NotAllowed(_) => "there are rules that allow, and none takes it".into(),
                    super::Refusal::Unclear(why) => why.describe().into(),
                };
                (false, Some(refusal.text().to_owned()), why, None)
            }
            Verdict::Pass { by, observed } => {
                let why = match by {
                    Some(c) => format!("rule {} allows it by its clause {}", c.rule, c.clause),
                    None if self.is_empty() => "no rule reaches the sidecar: everything passes".into(),
                    None => "no rule denies it, and no rule in force allows: everything else passes".into(),
                };
                (true, by.map(|c| c.text.to_string()), why, observed.map(|o| o.text().to_owned()))
            }
        };
        Explained { allowed, by, why, observed, rules }
    }
}

fn rule(rule: &Authorization, asked: &clause::Asked<'_, impl Facts>) -> RuleStep {
    let clauses: Vec<ClauseStep> = super::clauses(rule).map(|c| step(&c, asked)).collect();
    RuleStep {
        rule: rule.metadata.name.clone(),
        action: rule.action,
        mode: rule.mode,
        takes: clauses.iter().any(|c| c.takes),
        clauses,
    }
}

fn step(clause: &Clause, asked: &clause::Asked<'_, impl Facts>) -> ClauseStep {
    ClauseStep {
        clause: clause.name.clause.to_string(),
        takes: clause.takes(asked),
        conditions: clause.conds.iter().map(|c| condition(c, asked)).collect(),
    }
}

fn condition(cond: &Cond, asked: &clause::Asked<'_, impl Facts>) -> ConditionStep {
    let holds = cond.holds(asked);
    match cond {
        Cond::Text { subject, matcher, .. } => {
            let mut found = Vec::new();
            asked.each(subject, &mut |v| found.push(String::from_utf8_lossy(v).into_owned()));
            ConditionStep {
                subject: name(subject),
                matcher: serde_json::to_value(matcher).unwrap_or_default(),
                found,
                hidden: asked.hides(subject).then(|| why_hidden(subject, asked)),
                holds,
            }
        }
        Cond::Source { blocks, inside } => {
            let blocks: Vec<String> = blocks.iter().map(ToString::to_string).collect();
            let operator = if *inside { "in" } else { "notIn" };
            let source = asked.facts.source();
            ConditionStep {
                subject: "source".into(),
                matcher: serde_json::json!({ operator: blocks }),
                found: source.iter().map(ToString::to_string).collect(),
                hidden: source.is_none().then_some("the address is not known"),
                holds,
            }
        }
    }
}

fn why_hidden(subject: &AuthSubject, asked: &clause::Asked<'_, impl Facts>) -> &'static str {
    match (subject.needs_identity(), asked.facts.caller(), asked.names) {
        (true, None, _) => "the caller has no certificate",
        (true, Some(_), _) => "the caller's certificate does not say it",
        (_, _, Names::Differ) => "the request names it twice, and differently",
        _ => "it cannot be read",
    }
}

fn name(subject: &AuthSubject) -> String {
    match subject {
        AuthSubject::CallerApp => "callerApp".into(),
        AuthSubject::CallerUnit => "callerUnit".into(),
        AuthSubject::CallerId => "callerId".into(),
        AuthSubject::Service => "service".into(),
        AuthSubject::Method => "method".into(),
        AuthSubject::Path => "path".into(),
        AuthSubject::Authority => "authority".into(),
        AuthSubject::Header(name) => format!("header {name}"),
    }
}
