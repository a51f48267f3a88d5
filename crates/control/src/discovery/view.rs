//! What one peer sees.
use super::foreign;
use super::slice::slice;
use super::snapshot::{Changed, Snapshot};
use crate::rules::{RuleEntry, RuleRevision};
use raddle_xds::resource::Resource;
use raddle_xds::server::{Peer, Software, View};
use raddle_xds::translate::outward::Subset;
use raddle_xds::types::Kind;
use std::sync::Arc;

/// The name under which trust bundles are asked for.
pub const TRUST: &str = "raddle-trust";

/// What one peer sees at one generation.
pub(super) struct Seen {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) peer: Peer,
    /// Endpoints it gets of a large service; 0 = all.
    pub(super) slice: usize,
}

impl View for Seen {
    fn generation(&self) -> u64 {
        self.snapshot.generation
    }

    fn get(&self, kind: Kind, name: &str) -> Option<Arc<Resource>> {
        match (kind, self.peer.software) {
            (Kind::Rule, _) => {
                self.revision(self.snapshot.rules.rules.get(name)?).map(|r| r.resource.clone())
            }
            (Kind::Secret, _) => self.snapshot.trust.clone().filter(|t| &*t.name == name),
            (Kind::Cluster, Software::Raddle) => Some(self.snapshot.cards.get(name)?.cluster()),
            (Kind::Endpoints, Software::Raddle | Software::Envoy) => self.endpoints(name),
            (Kind::Endpoints, _) => {
                let (service, subset) = Subset::parse(name);
                Some(self.snapshot.cards.get(service)?.subset(&subset))
            }
            (_, Software::Raddle) => None,
            (kind, _) => foreign::get(self, kind, name),
        }
    }

    fn all(&self, kind: Kind, services: &dyn Fn(&str) -> bool) -> Vec<Arc<Resource>> {
        match (kind, self.peer.software) {
            (Kind::Rule, _) => self.rules(services).map(|r| r.resource.clone()).collect(),
            (Kind::Secret, _) => self.snapshot.trust.iter().cloned().collect(),
            (Kind::Cluster, Software::Raddle) => self.snapshot.cards.values().map(|c| c.cluster()).collect(),
            (Kind::Endpoints, Software::Raddle | Software::Envoy) => {
                self.snapshot.cards.keys().filter_map(|name| self.endpoints(name)).collect()
            }
            (_, Software::Raddle) => Vec::new(),
            (kind, _) => foreign::all(self, kind),
        }
    }

    fn changed(&self, since: u64) -> Option<Vec<(Kind, Arc<str>)>> {
        let changed = self.snapshot.changed(since)?;
        let mut names = Vec::with_capacity(changed.len() * 2);
        for change in changed {
            match change {
                Changed::Service(name) if self.peer.software == Software::Raddle => {
                    names.extend([(Kind::Cluster, name.clone()), (Kind::Endpoints, name.clone())]);
                }
                Changed::Rule(id) if self.peer.software == Software::Raddle => {
                    names.push((Kind::Rule, id.clone()));
                }
                // Of other peers' resources, routes hold many services, and rules may change any of them.
                Changed::Service(_) | Changed::Rule(_) => return None,
                Changed::Trust => {
                    names.extend(self.snapshot.trust.iter().map(|t| (Kind::Secret, t.name.clone())));
                }
            }
        }
        Some(names)
    }
}

impl Seen {
    /// Endpoints of a service: all, or the peer's slice of them.
    fn endpoints(&self, name: &str) -> Option<Arc<Resource>> {
        let card = self.snapshot.cards.get(name)?;
        let all = &card.listed.endpoints;
        if self.slice == 0 || all.len() <= self.slice {
            return Some(card.endpoints());
        }
        let chosen = slice(&self.peer.node.id, all, self.slice, |e| (&*e.instance.id, &*e.instance.group));
        Some(if chosen.len() == all.len() { card.endpoints() } else { card.slice(&chosen) })
    }

    /// The revision of a rule that the peer gets, whatever it concerns.
    pub(super) fn revision<'a>(&self, entry: &'a RuleEntry) -> Option<&'a Arc<RuleRevision>> {
        self.snapshot.rules.select(entry, &self.peer.node)
    }

    /// Rules that reach the peer and concern it: everybody, its own app, or a service it subscribed to.
    pub(super) fn rules<'a>(
        &'a self,
        services: &'a dyn Fn(&str) -> bool,
    ) -> impl Iterator<Item = &'a Arc<RuleRevision>> {
        let reach = self.snapshot.rules.rules.values().filter_map(|e| self.revision(e));
        reach.filter(move |r| self.concerns(r, services))
    }

    fn concerns(&self, rule: &RuleRevision, services: &dyn Fn(&str) -> bool) -> bool {
        let Some(target) = &rule.target else { return true };
        let own = &*self.peer.node.app;
        match (&target.app, &target.services[..]) {
            (None, []) => true,
            (Some(app), _) if app == own => true,
            (Some(app), []) => {
                self.snapshot.by_app.get(&**app).is_some_and(|names| names.iter().any(|n| services(n)))
            }
            (_, names) => names.iter().any(|n| services(n) || self.publishes(n)),
        }
    }

    /// Whether the peer's own app publishes the service.
    fn publishes(&self, service: &str) -> bool {
        self.snapshot.cards.get(service).is_some_and(|c| *c.listed.app == *self.peer.node.app)
    }
}
