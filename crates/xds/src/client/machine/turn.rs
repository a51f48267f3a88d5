//! What one event changes: taken into the state, given to the sink, and taken back where the sink refuses.
use super::lane::{Held, Refusal};
use super::{Apply, Machine, Timer};
use crate::client::assembly::Node;
use crate::client::routing::Config;
use crate::client::sink::{Refused, Update};
use crate::translate::inward::{self, Endpoints, Listener, Parsed};
use crate::types::Kind;
use bytes::Bytes;
use raddle_core::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What one event changes.
#[derive(Debug, Default)]
pub(super) struct Turn {
    /// The type of the response; `None` = time, or the cache.
    pub(super) kind: Option<Kind>,
    pub(super) cached: bool,
    pub(super) update: Update,
    /// Resources that were there before, by kind and name, to go back to.
    pub(super) before: BTreeMap<(Kind, Arc<str>), Before>,
    /// What is refused: kind and name, or no name, and why.
    pub(super) faults: Vec<(Option<Arc<str>>, String)>,
}

#[derive(Debug, Default)]
pub(super) struct Before {
    held: Option<Held>,
    /// The cluster itself, or all that use the endpoints.
    nodes: Vec<(Arc<str>, Option<Node>)>,
    list: Option<Arc<Endpoints>>,
    listener: Option<Arc<Listener>>,
    config: Option<Config>,
    /// The version that came.
    version: Arc<str>,
}

impl Machine {
    /// Takes a resource into the state, or says why not.
    pub(super) fn take(
        &mut self,
        kind: Kind,
        name: &Arc<str>,
        version: &Arc<str>,
        value: &Bytes,
        now: Time,
        turn: &mut Turn,
    ) -> Result<(), String> {
        let parsed = inward::parse(kind, value)?;
        let mut before = Before { version: Arc::clone(version), ..Before::default() };
        match parsed {
            Parsed::Cluster(cluster) => {
                before.nodes.push((Arc::clone(name), self.assembly.node(name)));
                if let Some((until, name)) = self.assembly.cluster(name, cluster, now) {
                    self.timers.insert((until, Timer::Warm(name)));
                }
            }
            Parsed::Endpoints(list) => {
                let users: Vec<_> = self.assembly.users(name).cloned().collect();
                before.nodes =
                    users.into_iter().map(|user| (Arc::clone(&user), self.assembly.node(&user))).collect();
                before.list = self.assembly.list(name);
                self.assembly.endpoints(name, list);
            }
            Parsed::Listener(listener) => {
                before.listener = self.routing.held_listener(name);
                for (until, routes) in self.routing.listener(name, listener, now) {
                    self.timers.insert((until, Timer::WarmRoutes(routes)));
                }
            }
            Parsed::Routes(routes) => {
                before.config = self.routing.held_config(name);
                let (until, routes) = self.routing.routes(name, routes, now);
                self.timers.insert((until, Timer::WarmRoutes(routes)));
            }
            Parsed::Bundle(roots) => turn.update.roots = Some(roots),
            Parsed::Rule(rule) => turn.update.rules.push((Arc::clone(name), Some(rule))),
        }
        let held = Held { version: Arc::clone(version), value: value.clone() };
        before.held = self.hold(kind, name, held);
        turn.before.insert((kind, Arc::clone(name)), before);
        Ok(())
    }

    /// Notes a resource as in force; returns what was.
    pub(super) fn hold(&mut self, kind: Kind, name: &Arc<str>, held: Held) -> Option<Held> {
        self.changes.push((kind, Arc::clone(name), Some(Arc::clone(&held.version))));
        self.stale |= kind != Kind::Secret;
        if kind == Kind::Cluster {
            self.missing.remove(name);
        }
        let lane = self.lane(kind);
        if let Some(asked) = lane.names.get_mut(name) {
            *asked = super::lane::Asked::default();
        }
        lane.refused.remove(name);
        lane.held.insert(Arc::clone(name), held)
    }

    /// Notes that a resource is not in force any more.
    pub(super) fn forget(&mut self, kind: Kind, name: &Arc<str>) {
        let lane = self.lane(kind);
        lane.refused.remove(name);
        if lane.held.remove(name).is_some() {
            self.changes.push((kind, Arc::clone(name), None));
            self.stale |= kind != Kind::Secret;
        }
    }

    /// The server says that a resource it was asked for does not exist.
    pub(super) fn missing(&mut self, kind: Kind, name: &Arc<str>, turn: &mut Turn) {
        if let Some(asked) = self.lane(kind).names.get_mut(name) {
            asked.deadline = None;
            asked.missing = true;
            match kind {
                Kind::Cluster => {
                    if self.missing.insert(Arc::clone(name)) {
                        turn.update.missing.push(Arc::clone(name));
                    }
                }
                Kind::Endpoints => self.assembly.absent(name),
                Kind::Listener | Kind::Routes | Kind::Secret | Kind::Rule => {}
            }
        }
    }

    /// A resource is gone.
    pub(super) fn remove(&mut self, kind: Kind, name: &Arc<str>, turn: &mut Turn) {
        let was = self.lane(kind).held.contains_key(name);
        self.forget(kind, name);
        match kind {
            Kind::Cluster => self.assembly.remove_cluster(name),
            Kind::Rule if was => turn.update.rules.push((Arc::clone(name), None)),
            // Roots that are in force stay: to trust nobody would cut every link there is.
            Kind::Listener => self.routing.remove_listener(name),
            // Routes that are in force stay while a listener has them, as endpoints do while their cluster does.
            Kind::Rule | Kind::Secret | Kind::Endpoints | Kind::Routes => {}
        }
        self.missing(kind, name, turn);
    }

    /// Gives the sink what changed, and takes back what it refuses.
    pub(super) fn flush(&mut self, mut turn: Turn, sink: Apply<'_>) -> Turn {
        self.routing.settle(&self.assembly);
        let routed = self.routing.collect(&mut self.assembly, &mut turn.update);
        let given = self.assembly.collect(&mut turn.update, &|name| self.routing.has(name));
        turn.update.cached = turn.cached;
        let mut refused_services = BTreeSet::new();
        if !turn.update.is_empty() {
            for refused in sink(std::mem::take(&mut turn.update)) {
                if refused.kind != Kind::Rule {
                    refused_services.insert(Arc::clone(&refused.name));
                }
                self.take_back(refused, &mut turn);
            }
        }
        for given in given {
            if !refused_services.contains(&given.0) {
                self.assembly.taken(given);
            }
        }
        for given in routed {
            if !refused_services.contains(&given.0) {
                self.routing.taken(given);
            }
        }
        self.follow();
        turn
    }

    /// Subscribes what is needed now, and unsubscribes what is not any more.
    pub(super) fn follow(&mut self) {
        for (eds, wanted) in self.assembly.asks() {
            if wanted {
                self.lane(Kind::Endpoints).add(&eds);
            } else {
                self.forget(Kind::Endpoints, &eds);
                self.lane(Kind::Endpoints).remove(&eds);
            }
        }
        for (rds, wanted) in self.routing.asks() {
            if wanted {
                self.lane(Kind::Routes).add(&rds);
            } else {
                self.forget(Kind::Routes, &rds);
                self.lane(Kind::Routes).remove(&rds);
            }
        }
    }

    fn take_back(&mut self, refused: Refused, turn: &mut Turn) {
        let Refused { kind, name, reason } = refused;
        let blamed: Vec<(Kind, Arc<str>)> = match (kind, turn.kind) {
            (Kind::Rule, _) => vec![(Kind::Rule, Arc::clone(&name))],
            // Several lists may have changed; a service is put together from its own.
            (_, Some(Kind::Endpoints)) => {
                let of = |(key, before): (&(Kind, Arc<str>), &Before)| {
                    before.nodes.iter().any(|(user, _)| *user == name).then(|| key.clone())
                };
                turn.before.iter().filter_map(of).collect()
            }
            (_, Some(Kind::Routes | Kind::Listener)) => self.routing.owner(&name).into_iter().collect(),
            _ => vec![(Kind::Cluster, Arc::clone(&name))],
        };
        // Nothing of this response is to blame, or the response of another type: it is told in the status alone.
        let blamed = if blamed.is_empty() { vec![(Kind::Cluster, name)] } else { blamed };
        for (kind, name) in blamed {
            let version = match turn.before.remove(&(kind, Arc::clone(&name))) {
                Some(before) => self.go_back(kind, &name, before),
                None => Arc::from(""),
            };
            self.lane(kind).refused.insert(Arc::clone(&name), Refusal { version, reason: reason.clone() });
            if turn.kind == Some(kind) {
                turn.faults.push((Some(name), reason.clone()));
            }
        }
    }

    /// Restores what was there before a resource came; returns the version that came.
    fn go_back(&mut self, kind: Kind, name: &Arc<str>, before: Before) -> Arc<str> {
        match before.held {
            Some(held) => drop(self.hold(kind, name, held)),
            None => self.forget(kind, name),
        }
        for (user, node) in before.nodes {
            self.assembly.restore(&user, node);
        }
        match kind {
            Kind::Endpoints => self.assembly.restore_list(name, before.list),
            Kind::Listener => self.routing.restore_listener(name, before.listener),
            Kind::Routes => self.routing.restore_config(name, before.config),
            Kind::Cluster | Kind::Secret | Kind::Rule => {}
        }
        before.version
    }
}
