//! A clause of a rule, compiled so that testing a request allocates nothing.
use super::facts::{Facts, Names};
use super::verdict::ClauseRef;
use crate::route::matcher::Test;
use raddle_model::{AuthCondition, AuthSubject, Cidr, Matcher};

/// A compiled clause.
#[derive(Debug)]
pub(super) struct Clause {
    pub(super) name: ClauseRef,
    pub(super) conds: Box<[Cond]>,
}

/// A compiled condition.
#[derive(Debug)]
pub(super) enum Cond {
    /// On a text.
    Text { subject: AuthSubject, matcher: Matcher, test: Test },
    /// On the address the connection came from.
    Source { blocks: Box<[Cidr]>, inside: bool },
}

/// A request, and what can be told of its names.
pub(super) struct Asked<'a, F> {
    pub(super) facts: &'a F,
    pub(super) names: Names,
}

impl<F: Facts> Asked<'_, F> {
    /// Calls `f` with every value of a subject; with none where it is not to be relied on.
    pub(super) fn each(&self, subject: &AuthSubject, f: &mut dyn FnMut(&[u8])) {
        if subject.needs_identity() {
            if let Some(part) = self.facts.caller().as_ref().and_then(|c| c.part(subject)) {
                f(part.as_bytes());
            }
        } else if !self.hides(subject) {
            self.facts.values(subject, f);
        }
    }

    /// Whether nothing that is asked of the subject holds, whatever is asked.
    pub(super) fn hides(&self, subject: &AuthSubject) -> bool {
        match subject {
            AuthSubject::Service => matches!(self.names, Names::Hidden | Names::Differ),
            AuthSubject::Method => self.names != Names::Clear,
            AuthSubject::CallerApp | AuthSubject::CallerUnit | AuthSubject::CallerId => {
                self.facts.caller().as_ref().and_then(|c| c.part(subject)).is_none()
            }
            _ => false,
        }
    }
}

impl Clause {
    pub(super) fn takes(&self, asked: &Asked<'_, impl Facts>) -> bool {
        self.conds.iter().all(|c| c.holds(asked))
    }
}

impl Cond {
    pub(super) fn new(condition: &AuthCondition) -> Cond {
        match condition {
            AuthCondition::Text { subject, matcher } => {
                let matcher = canonical(subject, matcher);
                Cond::Text { subject: subject.clone(), test: Test::new(&matcher), matcher }
            }
            AuthCondition::Source { blocks, inside } => {
                Cond::Source { blocks: blocks.as_slice().into(), inside: *inside }
            }
        }
    }

    /// Whether it holds. Of several values one that is wanted is enough, and one that is not wanted too much.
    pub(super) fn holds(&self, asked: &Asked<'_, impl Facts>) -> bool {
        match self {
            Cond::Text { subject, .. } if asked.hides(subject) => false,
            Cond::Text { subject, matcher, test } => {
                let (mut any, mut all, mut some) = (false, true, false);
                asked.each(subject, &mut |value| {
                    let passes = test.passes(Some(value));
                    (any, all, some) = (any | passes, all & passes, true);
                });
                match (some, is_negative(matcher)) {
                    (false, _) => test.passes(None),
                    (true, true) => all,
                    (true, false) => any,
                }
            }
            Cond::Source { blocks, inside } => {
                asked.facts.source().is_some_and(|ip| blocks.iter().any(|b| b.contains(ip)) == *inside)
            }
        }
    }
}

/// Whether it speaks of what must not be.
fn is_negative(matcher: &Matcher) -> bool {
    matches!(matcher, Matcher::NotEquals(_) | Matcher::NotIn(_) | Matcher::Exists(false))
}

/// Hosts are the same in any letters: what is compared with them is in small ones. Expressions stay as they are.
fn canonical(subject: &AuthSubject, matcher: &Matcher) -> Matcher {
    if *subject != AuthSubject::Authority {
        return matcher.clone();
    }
    let all = |vs: &[String]| vs.iter().map(|v| v.to_ascii_lowercase()).collect();
    match matcher {
        Matcher::Equals(v) => Matcher::Equals(v.to_ascii_lowercase()),
        Matcher::NotEquals(v) => Matcher::NotEquals(v.to_ascii_lowercase()),
        Matcher::In(vs) => Matcher::In(all(vs)),
        Matcher::NotIn(vs) => Matcher::NotIn(all(vs)),
        Matcher::Prefix(v) => Matcher::Prefix(v.to_ascii_lowercase()),
        Matcher::Regex(_) | Matcher::Range { .. } | Matcher::Exists(_) => matcher.clone(),
    }
}
