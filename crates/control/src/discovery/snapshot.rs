//! All there is at one generation, and what changed on the way to it.
use super::card::Card;
use super::foreign::Parsed;
use crate::registry::Directory;
use crate::rules::RuleBook;
use raddle_xds::resource::Resource;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// Generations whose changes are remembered.
const HISTORY: usize = 512;
/// Changes remembered.
const CHANGES: usize = 100_000;

/// What can change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Changed {
    Service(Arc<str>),
    Rule(Arc<str>),
    Trust,
}

/// All there is at one generation.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    pub(super) generation: u64,
    pub(super) directory: Arc<Directory>,
    pub(super) rules: Arc<RuleBook>,
    pub(super) trust: Option<Arc<Resource>>,
    pub(super) cards: BTreeMap<Arc<str>, Arc<Card>>,
    /// Names of services by app.
    pub(super) by_app: HashMap<Arc<str>, Vec<Arc<str>>>,
    /// Rules as foreign peers' resources are made of them, by revision.
    pub(super) parsed: HashMap<Arc<str>, Arc<Parsed>>,
    history: VecDeque<(u64, Arc<[Changed]>)>,
}

impl Snapshot {
    /// The next one; `None` = it would be the same. What did not change is shared.
    pub(super) fn next(
        &self,
        directory: Arc<Directory>,
        rules: Arc<RuleBook>,
        trust: Option<Arc<Resource>>,
    ) -> Option<Snapshot> {
        let mut changed = Vec::new();
        let services = differences(&self.directory.services, &directory.services);
        let ids = differences(&self.rules.rules, &rules.rules);
        if trust.as_ref().map(|t| &t.version) != self.trust.as_ref().map(|t| &t.version) {
            changed.push(Changed::Trust);
        }
        let mut cards = self.cards.clone();
        for name in &services {
            match directory.services.get(name) {
                Some(listed) => cards.insert(name.clone(), Arc::new(Card::new(listed.clone()))),
                None => cards.remove(name),
            };
        }
        let by_app = if services.is_empty() { self.by_app.clone() } else { by_app(&directory) };
        let parsed = if ids.is_empty() { self.parsed.clone() } else { Parsed::all(&rules, &self.parsed) };
        changed.extend(services.into_iter().map(Changed::Service));
        changed.extend(ids.into_iter().map(Changed::Rule));
        if changed.is_empty() {
            return None;
        }
        let generation = self.generation + 1;
        let mut history = self.history.clone();
        history.push_back((generation, changed.into()));
        while history.len() > HISTORY || history.iter().map(|(_, c)| c.len()).sum::<usize>() > CHANGES {
            history.pop_front();
        }
        Some(Snapshot { generation, directory, rules, trust, cards, by_app, parsed, history })
    }

    /// What changed after a generation; `None` = that is forgotten.
    pub(super) fn changed(&self, since: u64) -> Option<Vec<&Changed>> {
        if since >= self.generation {
            return Some(Vec::new());
        }
        let first = self.history.front()?.0;
        if first > since + 1 {
            return None;
        }
        let mut changed: Vec<_> =
            self.history.iter().filter(|(g, _)| *g > since).flat_map(|(_, changed)| changed.iter()).collect();
        changed.sort_unstable();
        changed.dedup();
        Some(changed)
    }
}

/// Keys whose values are not the same objects.
fn differences<V>(old: &BTreeMap<Arc<str>, Arc<V>>, new: &BTreeMap<Arc<str>, Arc<V>>) -> Vec<Arc<str>> {
    let mut changed = Vec::new();
    let (mut olds, mut news) = (old.iter().peekable(), new.iter().peekable());
    loop {
        match (olds.peek(), news.peek()) {
            (None, None) => return changed,
            (Some((k, _)), n) if n.is_none_or(|(other, _)| k < other) => {
                changed.push((*k).clone());
                olds.next();
            }
            (o, Some((k, _))) if o.is_none_or(|(other, _)| k < other) => {
                changed.push((*k).clone());
                news.next();
            }
            (Some((k, old)), Some((_, new))) => {
                if !Arc::ptr_eq(old, new) {
                    changed.push((*k).clone());
                }
                olds.next();
                news.next();
            }
            // The first two arms took these.
            (Some(_), None) | (None, Some(_)) => return changed,
        }
    }
}

fn by_app(directory: &Directory) -> HashMap<Arc<str>, Vec<Arc<str>>> {
    let mut all: HashMap<Arc<str>, Vec<Arc<str>>> = HashMap::new();
    for (name, listed) in &directory.services {
        all.entry(listed.app.clone()).or_default().push(name.clone());
    }
    all
}
