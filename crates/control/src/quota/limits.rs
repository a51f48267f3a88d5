//! The rates that hold for all sidecars together, out of the rule book.
use crate::rules::RuleBook;
use raddle_model::{Bound, LoadOptions, RateLimit, Reach, Source};
use raddle_policy::quota::Limit;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The rules by name, read once for each revision.
#[derive(Debug, Default)]
pub(super) struct Limits {
    rules: BTreeMap<Arc<str>, Entry>,
}

#[derive(Debug)]
struct Entry {
    hash: Arc<str>,
    /// Nothing if the rule is not counted for all together.
    rule: Option<(Limit, Arc<RateLimit>)>,
}

impl Limits {
    /// The rules that are in force now. Of a rule that is being rolled out, the revision that most will have counts: the
    /// stable one, or if there is none the candidate.
    pub(super) fn follow(&mut self, book: &RuleBook) {
        let mut rules = BTreeMap::new();
        for (id, entry) in &book.rules {
            let Some(name) = id.strip_prefix("RateLimit/") else { continue };
            let candidate = entry.candidate.as_ref().and_then(|(revision, _)| revision.as_ref());
            let Some(revision) = entry.stable.as_ref().or(candidate) else { continue };
            let known = self.rules.remove(name).filter(|known| known.hash == revision.hash);
            let entry = known
                .unwrap_or_else(|| Entry { hash: revision.hash.clone(), rule: read(id, &revision.document) });
            rules.insert(name.into(), entry);
        }
        self.rules = rules;
    }

    pub(super) fn has(&self, rule: &str) -> bool {
        self.rules.get(rule).is_some_and(|e| e.rule.is_some())
    }

    /// All rules that are counted for all together.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Arc<str>, Limit)> {
        self.rules.iter().filter_map(|(name, e)| Some((name, e.rule.as_ref()?.0)))
    }

    /// The same, as people wrote them.
    pub(super) fn rules(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<RateLimit>)> {
        self.rules.iter().filter_map(|(name, e)| Some((name, &e.rule.as_ref()?.1)))
    }
}

fn read(id: &str, document: &str) -> Option<(Limit, Arc<RateLimit>)> {
    let source = Source { name: id.to_owned(), text: document.to_owned() };
    let (resources, _) = raddle_model::load(&[source], LoadOptions::rules_only()).ok()?;
    let rule = resources.rates.into_iter().next()?;
    match &rule.bound {
        Bound::Rate(rate) if rate.reach == Reach::Cluster => {
            let limit = Limit { per_second: rate.per_second, burst: rate.burst };
            Some((limit, Arc::new(rule)))
        }
        _ => None,
    }
}
