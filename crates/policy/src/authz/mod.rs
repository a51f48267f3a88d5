//! Who may call what of the app beside the sidecar: `kind: Authorization`, compiled and decided.
//!
//! Rules that `deny` come first: the first clause that takes a request refuses it. Then, if there is any rule that
//! `allow`s, a clause of one must take it. Rules in `mode: observe` refuse nothing and count for nothing there; what
//! they *would* refuse is told beside the verdict. All conditions of a clause must hold, and of a rule one clause.
//!
//! What is not known for sure never helps a request: a condition on the caller's identity holds for nobody without a
//! certificate, whatever it asks; and a request whose names or path an application might read otherwise than the rules
//! did is refused where rules look at them ([`Unclear`]).
//!
//! Judging costs the same for ten rules and ten thousand ([`Cost`] says what it cost) as long as clauses ask for
//! *exact* things: equality, `in`, prefixes, blocks of addresses. Clauses of which no condition does are tested one by
//! one.
//!
//! Start with [`Rules::judge`].
mod asked;
mod clause;
pub mod explain;
mod facts;
mod index;
mod same;
mod verdict;

pub use asked::{Asked, Identity, hosts};
pub use explain::Explained;
pub use facts::{Caller, Facts, Names, Unclear, is_plain};
pub use index::Cost;
pub use verdict::{ClauseRef, NO_ALLOW_RULE, NotAllowed, Refusal, UNCLEAR, Verdict};

use clause::{Clause, Cond};
use index::Index;
use raddle_model::{AuthAction, AuthSubject, Authorization, Member, RuleMode};
use std::sync::Arc;

/// The rules that reach a sidecar.
#[derive(Debug, Default)]
pub struct Rules {
    /// What they were compiled from.
    sources: Box<[Authorization]>,
    enforced: Side,
    observed: Side,
}

/// The rules of one mode.
#[derive(Debug, Default)]
struct Side {
    deny: Index,
    allow: Index,
    /// `None` = no rule allows, so none needs to.
    none: Option<NotAllowed>,
}

impl Rules {
    /// Those of `rules` that reach a sidecar, compiled.
    pub fn reaching(rules: &[Authorization], sidecar: &impl Member) -> Rules {
        Rules::new(rules.iter().filter(|r| r.scope.covers(sidecar)).collect())
    }

    /// All of these, whatever their scope.
    pub(crate) fn new(rules: Vec<&Authorization>) -> Rules {
        Rules {
            enforced: Side::new(&rules, RuleMode::Enforce),
            observed: Side::new(&rules, RuleMode::Observe),
            sources: rules.into_iter().cloned().collect(),
        }
    }

    /// Whether there are none: then everything passes, and nothing needs to be judged.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sources.len()
    }

    /// Whether these are just what this was compiled from.
    pub(crate) fn same(&self, rules: &[&Authorization]) -> bool {
        self.sources.len() == rules.len() && self.sources.iter().zip(rules).all(|(a, b)| same::rule(a, b))
    }

    /// Judges a request. Allocates nothing.
    pub fn judge(&self, facts: &impl Facts) -> Verdict<'_> {
        self.judge_at(facts, &mut Cost::default())
    }

    /// The same, and what it cost is added to `cost`.
    pub fn judge_at(&self, facts: &impl Facts, cost: &mut Cost) -> Verdict<'_> {
        let by = match self.enforced.judge(facts, false, cost) {
            Ok(by) => by.map(|clause| &clause.name),
            Err(refusal) => return Verdict::Refuse(refusal),
        };
        let observed = self.observed.judge(facts, by.is_some(), cost).err();
        Verdict::Pass { by, observed }
    }
}

impl Side {
    fn new(rules: &[&Authorization], mode: RuleMode) -> Side {
        let of = |action| rules.iter().filter(move |r| r.mode == mode && r.action == action);
        let index = |action| Index::new(of(action).flat_map(|r| clauses(r)).collect());
        let allows: Vec<_> =
            of(AuthAction::Allow).map(|r| (Arc::from(r.metadata.name.as_str()), r.explain)).collect();
        Side {
            deny: index(AuthAction::Deny),
            allow: index(AuthAction::Allow),
            none: NotAllowed::of(&allows, mode == RuleMode::Enforce),
        }
    }

    /// The clause that allows a request, if one has to and `allowed` does not say that another one did.
    fn judge(
        &self,
        facts: &impl Facts,
        allowed: bool,
        cost: &mut Cost,
    ) -> Result<Option<&Clause>, Refusal<'_>> {
        if self.deny.clauses.is_empty() && self.none.is_none() {
            return Ok(None);
        }
        let (deny, allow) = (&self.deny, &self.allow);
        let names = match deny.service || deny.method || allow.service || allow.method {
            true => facts.names(),
            false => Names::Clear,
        };
        match names {
            Names::Differ => return Err(Refusal::Unclear(Unclear::Differ)),
            Names::Hidden if deny.service || deny.method => return Err(Refusal::Unclear(Unclear::Hidden)),
            Names::NoMethod if deny.method => return Err(Refusal::Unclear(Unclear::Hidden)),
            Names::Hidden | Names::NoMethod | Names::Clear => {}
        }
        if (self.deny.path || self.allow.path) && !has_plain_path(facts) {
            return Err(Refusal::Unclear(Unclear::Path));
        }
        let asked = clause::Asked { facts, names };
        if let Some(clause) = self.deny.first(&asked, cost).map_err(Refusal::Unclear)? {
            return Err(Refusal::Denied(&clause.name));
        }
        match &self.none {
            Some(none) if !allowed => match self.allow.first(&asked, cost).map_err(Refusal::Unclear)? {
                None => Err(Refusal::NotAllowed(none)),
                found => Ok(found),
            },
            _ => Ok(None),
        }
    }
}

fn has_plain_path(facts: &impl Facts) -> bool {
    let mut plain = true;
    facts.values(&AuthSubject::Path, &mut |path| plain &= is_plain(path));
    plain
}

fn clauses(rule: &Authorization) -> impl Iterator<Item = Clause> {
    let name: Arc<str> = rule.metadata.name.as_str().into();
    rule.rules.iter().enumerate().map(move |(i, clause)| {
        let label = clause.name.clone().unwrap_or_else(|| i.to_string());
        Clause {
            name: ClauseRef {
                text: format!("Authorization/{name}/{label}").into(),
                rule: name.clone(),
                clause: label.into(),
                explain: rule.explain,
            },
            conds: clause.when.iter().map(Cond::new).collect(),
        }
    })
}
