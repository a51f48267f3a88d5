//! What becomes of a request.
use super::facts::Unclear;
use std::sync::Arc;

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict<'r> {
    /// It passes.
    Pass {
        /// The clause of an enforced `allow` rule that takes it; `None` = there is no such rule.
        by: Option<&'r ClauseRef>,
        /// What would refuse it if every rule in `mode: observe` were enforced.
        observed: Option<Refusal<'r>>,
    },
    /// It is refused.
    Refuse(Refusal<'r>),
}

/// Why a request is refused, or would be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal<'r> {
    /// A clause of a `deny` rule takes it: the first one, in order.
    Denied(&'r ClauseRef),
    /// There are `allow` rules, and none takes it.
    NotAllowed(&'r NotAllowed),
    /// It cannot be judged.
    Unclear(Unclear),
}

/// A clause, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClauseRef {
    /// Name of the rule.
    pub rule: Arc<str>,
    /// Name of the clause, or its 0-based index.
    pub clause: Arc<str>,
    /// `Authorization/RULE/CLAUSE`.
    pub text: Arc<str>,
    /// Refusals may say the name to the caller.
    pub explain: bool,
}

/// The `allow` rules that do not take a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAllowed {
    /// What happened, with the first of the rules' names.
    text: Arc<str>,
    /// The same for the caller; `None` = no rule wants its name said.
    told: Option<Arc<str>>,
    labels: Box<[Arc<str>]>,
}

/// The rule that metrics name where no `allow` rule takes a request.
pub const NO_ALLOW_RULE: &str = "(no allow rule)";
/// The rule that metrics name where a request cannot be judged.
pub const UNCLEAR: &str = "(unclear)";
/// Most names in a text, and most rules that one observation is counted under.
const NAMES_MOST: usize = 8;

impl NotAllowed {
    /// Of these rules (name, whether it may be told); enforced, or only observed. `None` if there are none.
    pub(super) fn of(rules: &[(Arc<str>, bool)], enforced: bool) -> Option<NotAllowed> {
        if rules.is_empty() {
            return None;
        }
        let all: Vec<&str> = rules.iter().map(|(name, _)| &**name).collect();
        let told: Vec<&str> = rules.iter().filter(|(_, told)| *told).map(|(name, _)| &**name).collect();
        let text = |names: &[&str]| -> Arc<str> {
            let first = names.get(..NAMES_MOST).unwrap_or(names).join(", ");
            match names.len().saturating_sub(NAMES_MOST) {
                0 => format!("Authorization (no allow rule takes it: {first})").into(),
                more => format!("Authorization (no allow rule takes it: {first} and {more} more)").into(),
            }
        };
        let labels = match enforced {
            true => [Arc::from(NO_ALLOW_RULE)].into(),
            // With more rules, counting each of them would cost a request time in their number.
            false => rules.iter().take(NAMES_MOST).map(|(name, _)| name.clone()).collect(),
        };
        Some(NotAllowed { text: text(&all), told: (!told.is_empty()).then(|| text(&told)), labels })
    }
}

impl<'r> Refusal<'r> {
    /// As logs name what refused it: `Authorization/RULE/CLAUSE`, or what happened.
    pub fn text(&self) -> &'r str {
        match self {
            Refusal::Denied(clause) => &clause.text,
            Refusal::NotAllowed(none) => &none.text,
            Refusal::Unclear(why) => why.text(),
        }
    }

    /// What of it the caller may know; `None` = that it was refused.
    pub fn told(&self) -> Option<&'r str> {
        match self {
            Refusal::Denied(clause) => clause.explain.then_some(&*clause.text),
            Refusal::NotAllowed(none) => none.told.as_deref(),
            Refusal::Unclear(_) => None,
        }
    }

    /// What the caller is told beside it; empty = nothing. What is wrong with its own request is no secret.
    pub fn detail(&self) -> &'static str {
        match self {
            Refusal::Denied(_) | Refusal::NotAllowed(_) => "",
            Refusal::Unclear(why) => why.describe(),
        }
    }

    /// The rules it is counted under.
    pub fn labels(&self) -> impl Iterator<Item = &'r str> + use<'r> {
        let (one, many): (_, &'r [Arc<str>]) = match self {
            Refusal::Denied(clause) => (Some(&*clause.rule), &[]),
            Refusal::NotAllowed(none) => (None, &none.labels),
            Refusal::Unclear(_) => (Some(UNCLEAR), &[]),
        };
        one.into_iter().chain(many.iter().map(|name| &**name))
    }
}
