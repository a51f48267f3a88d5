//! A route compiled once for all services it concerns.
use crate::hash;
use crate::route::Attributes;
use crate::route::actions::{self, Actions, Answer};
use crate::route::matcher::Cond;
use crate::snapshot::policy::CompiledRetry;
use raddle_model as model;
use raddle_model::{Condition, HashOn, Matcher, Subject};
use std::sync::Arc;
use std::time::Duration;

/// The rule that decided about a request, for logs and replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleRef {
    /// Name of the `Route`.
    pub route: Arc<str>,
    /// Name of the rule in it, or its 0-based index.
    pub rule: Arc<str>,
}

impl std::fmt::Display for RuleRef {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.route, self.rule)
    }
}

/// A compiled route. The same `Arc` in every snapshot in which the route says the same.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) name: Arc<str>,
    pub(crate) scope: model::Scope,
    pub(crate) to: model::Target,
    pub(crate) rules: Vec<Rule>,
}

/// A compiled rule.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) name: RuleRef,
    pub(crate) conds: Box<[Cond]>,
    pub(crate) percent_ppm: u32,
    pub(crate) hash_on: Option<HashOn>,
    pub(crate) send: Vec<model::Destination>,
    pub(crate) if_empty: model::IfEmpty,
    pub(crate) timeout: Option<Duration>,
    pub(crate) retry: Option<CompiledRetry>,
    pub(crate) actions: Option<Actions>,
    /// Where this is given, no destination is.
    pub(crate) answer: Option<Answer>,
    /// What the two were compiled from.
    pub(crate) source: model::Actions,
    /// Makes the stable shares of different rules fall on different keys.
    pub(crate) salt: u64,
    retry_source: Option<model::Retry>,
}

impl Program {
    pub(crate) fn compile(route: model::Route) -> Program {
        let name: Arc<str> = Arc::from(route.metadata.name);
        let methods = (!route.to.methods.is_empty())
            .then(|| Condition { subject: Subject::Method, matcher: Matcher::In(route.to.methods.clone()) });
        let rules = route
            .rules
            .into_iter()
            .enumerate()
            .map(|(i, rule)| {
                let label = rule.name.unwrap_or_else(|| i.to_string());
                let (actions, answer) = actions::compile(&rule.actions);
                Rule {
                    salt: hash::stable(hash::stable(0, name.as_bytes()), label.as_bytes()),
                    name: RuleRef { route: name.clone(), rule: Arc::from(label) },
                    conds: methods.iter().chain(&rule.when).map(Cond::new).collect(),
                    percent_ppm: rule.percent_ppm.min(1_000_000),
                    hash_on: rule.hash_on,
                    send: rule.send,
                    if_empty: rule.if_empty,
                    timeout: rule.timeout,
                    retry: rule.retry.as_ref().map(CompiledRetry::new),
                    actions,
                    answer,
                    source: rule.actions,
                    retry_source: rule.retry,
                }
            })
            .collect();
        Program { name, scope: route.scope, to: route.to, rules }
    }

    /// Whether `route` says just what this was compiled from.
    pub(crate) fn same(&self, route: &model::Route) -> bool {
        let extra = usize::from(!self.to.methods.is_empty());
        self.scope == route.scope
            && self.to == route.to
            && self.rules.len() == route.rules.len()
            && self.rules.iter().zip(&route.rules).enumerate().all(|(i, (a, b))| a.same(b, i, extra))
    }

    pub(crate) fn needs_method(&self) -> bool {
        self.rules.iter().any(|r| {
            r.conds.iter().any(|c| c.source.subject == Subject::Method)
                || r.hash_on == Some(HashOn::Method)
                || r.retry.as_ref().is_some_and(CompiledRetry::needs_method)
        })
    }
}

impl Rule {
    pub(crate) fn holds(&self, req: &impl Attributes) -> bool {
        self.conds.iter().all(|c| c.holds(req))
    }

    /// `extra` conditions come from the route's target, not from the rule.
    fn same(&self, rule: &model::RouteRule, index: usize, extra: usize) -> bool {
        let named = match &rule.name {
            Some(name) => *name == *self.name.rule,
            None => index.to_string() == *self.name.rule,
        };
        named
            && self.percent_ppm == rule.percent_ppm.min(1_000_000)
            && self.hash_on == rule.hash_on
            && self.send == rule.send
            && self.if_empty == rule.if_empty
            && self.timeout == rule.timeout
            && self.retry_source == rule.retry
            && self.source == rule.actions
            && self.conds.len() == rule.when.len() + extra
            && self.conds[extra..].iter().zip(&rule.when).all(|(a, b)| same_condition(&a.source, b))
    }
}

fn same_condition(a: &Condition, b: &Condition) -> bool {
    a.subject == b.subject && same_matcher(&a.matcher, &b.matcher)
}

/// Whether both say the same.
pub(crate) fn same_matcher(a: &Matcher, b: &Matcher) -> bool {
    use Matcher::{Equals, Exists, In, NotEquals, NotIn, Prefix, Range, Regex};
    match (a, b) {
        (Equals(a), Equals(b)) | (NotEquals(a), NotEquals(b)) | (Prefix(a), Prefix(b)) => a == b,
        (In(a), In(b)) | (NotIn(a), NotIn(b)) => a == b,
        (Regex(a), Regex(b)) => a.as_str() == b.as_str(),
        (Range { min, max }, Range { min: lo, max: hi }) => (min, max) == (lo, hi),
        (Exists(a), Exists(b)) => a == b,
        _ => false,
    }
}
