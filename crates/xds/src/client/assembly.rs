//! Services, put together from what the resources say of them; nothing goes live before what it needs is there.
use super::sink::{Marks, Update};
use crate::resource::fnv;
use crate::translate::inward::{Cluster, Discovery, Endpoints};
use raddle_core::Time;
use raddle_model::{Metadata, PolicySettings, Scope, Service, Target, TrafficPolicy};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// A cluster: what is in force, and what waits for its endpoints.
#[derive(Clone, Debug, Default)]
pub(super) struct Node {
    live: Option<Arc<Cluster>>,
    next: Option<(Arc<Cluster>, Time)>,
}

#[derive(Debug, Default)]
pub(super) struct Assembly {
    clusters: BTreeMap<Arc<str>, Node>,
    endpoints: HashMap<Arc<str>, Arc<Endpoints>>,
    /// Which clusters take their endpoints from an EDS resource, live or waiting.
    users: HashMap<Arc<str>, BTreeSet<Arc<str>>>,
    /// EDS resources the server says do not exist: nobody waits for them.
    absent: BTreeSet<Arc<str>>,
    /// Clusters to look at anew.
    dirty: BTreeSet<Arc<str>>,
    /// What the sink has, by fingerprint.
    given: HashMap<Arc<str>, u64>,
    /// Of which it has a policy too.
    policed: BTreeSet<Arc<str>>,
    asks: Vec<(Arc<str>, bool)>,
    warm: Duration,
}

/// A cluster that waits, and until when.
pub(super) type Waiting = (Time, Arc<str>);

impl Assembly {
    pub(super) fn new(warm: Duration) -> Assembly {
        Assembly { warm, ..Assembly::default() }
    }

    /// A cluster as the server has it now. Returns until when it waits for its endpoints, if it does.
    pub(super) fn cluster(&mut self, name: &Arc<str>, cluster: Arc<Cluster>, now: Time) -> Option<Waiting> {
        let ready = match &cluster.discovery {
            Discovery::Inline(_) => true,
            Discovery::Eds(eds) => self.endpoints.contains_key(eds) || self.absent.contains(eds),
        };
        let before = self.uses(name);
        let node = self.clusters.entry(Arc::clone(name)).or_default();
        self.dirty.insert(Arc::clone(name));
        let until = now + self.warm;
        if ready {
            node.next = None;
            node.live = Some(cluster);
        } else {
            // What waits already does not begin to wait anew.
            let until = node.next.as_ref().map_or(until, |(_, earlier)| *earlier);
            node.next = Some((cluster, until));
        }
        let waits = node.next.as_ref().map(|(_, until)| (*until, Arc::clone(name)));
        self.track(name, &before);
        waits
    }

    /// A cluster that is gone: nothing of it is kept.
    pub(super) fn remove_cluster(&mut self, name: &Arc<str>) {
        let before = self.uses(name);
        if self.clusters.remove(name).is_some() {
            self.dirty.insert(Arc::clone(name));
            self.track(name, &before);
        }
    }

    /// Endpoints as the server has them now.
    pub(super) fn endpoints(&mut self, name: &Arc<str>, endpoints: Arc<Endpoints>) {
        self.absent.remove(name);
        self.endpoints.insert(Arc::clone(name), endpoints);
        self.arrived(name);
    }

    /// The server says that there are no such endpoints. Those that are in force stay: a service that is to have
    /// none is told so by an empty list, or by the removal of its cluster.
    pub(super) fn absent(&mut self, name: &Arc<str>) {
        if self.users.contains_key(name) && self.absent.insert(Arc::clone(name)) {
            self.arrived(name);
        }
    }

    /// The time of a waiting cluster is over: it goes live with what there is.
    pub(super) fn expire(&mut self, name: &Arc<str>, now: Time) {
        let before = self.uses(name);
        if let Some(node) = self.clusters.get_mut(name)
            && node.next.as_ref().is_some_and(|(_, until)| *until <= now)
            && let Some((next, _)) = node.next.take()
        {
            node.live = Some(next);
            self.dirty.insert(Arc::clone(name));
            self.track(name, &before);
        }
    }

    fn arrived(&mut self, eds: &Arc<str>) {
        for name in self.users.get(eds).cloned().unwrap_or_default() {
            self.dirty.insert(Arc::clone(&name));
            let before = self.uses(&name);
            if let Some(node) = self.clusters.get_mut(&name)
                && node.next.as_ref().is_some_and(|(next, _)| next.eds() == Some(eds))
                && let Some((next, _)) = node.next.take()
            {
                node.live = Some(next);
                self.track(&name, &before);
            }
        }
    }

    /// Keeps `users` true for a cluster, and drops endpoints that nobody uses.
    fn track(&mut self, name: &Arc<str>, before: &[Arc<str>]) {
        let wanted = self.clusters.get(name).map(Node::eds).unwrap_or_default();
        for eds in wanted.iter().filter(|eds| !before.contains(eds)) {
            let users = self.users.entry(Arc::clone(eds)).or_default();
            if users.is_empty() {
                self.asks.push((Arc::clone(eds), true));
            }
            users.insert(Arc::clone(name));
        }
        for eds in before.iter().filter(|eds| !wanted.contains(eds)) {
            let Some(users) = self.users.get_mut(eds) else { continue };
            users.remove(name);
            if users.is_empty() {
                self.users.remove(eds);
                self.endpoints.remove(eds);
                self.absent.remove(eds);
                self.asks.push((Arc::clone(eds), false));
            }
        }
    }

    fn uses(&self, name: &str) -> Vec<Arc<str>> {
        self.clusters.get(name).map(Node::eds).unwrap_or_default()
    }

    /// Takes what EDS resources are needed since the last call (true), and which are not any more (false).
    pub(super) fn asks(&mut self) -> Vec<(Arc<str>, bool)> {
        std::mem::take(&mut self.asks)
    }

    /// Looks at a cluster anew.
    pub(super) fn touch(&mut self, name: &Arc<str>) {
        self.dirty.insert(Arc::clone(name));
    }

    /// Whether something changed that was not collected yet.
    pub(super) fn changed(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The clusters that take their endpoints from an EDS resource.
    pub(super) fn users(&self, eds: &str) -> impl Iterator<Item = &Arc<str>> {
        self.users.get(eds).into_iter().flatten()
    }

    /// A cluster as it is, to go back to it.
    pub(super) fn node(&self, name: &str) -> Option<Node> {
        self.clusters.get(name).cloned()
    }

    /// Goes back.
    pub(super) fn restore(&mut self, name: &Arc<str>, node: Option<Node>) {
        let before = self.uses(name);
        match node {
            Some(node) => self.clusters.insert(Arc::clone(name), node),
            None => self.clusters.remove(name),
        };
        self.track(name, &before);
    }

    /// Endpoints as they are, to go back to them.
    pub(super) fn list(&self, eds: &str) -> Option<Arc<Endpoints>> {
        self.endpoints.get(eds).cloned()
    }

    /// Goes back.
    pub(super) fn restore_list(&mut self, eds: &Arc<str>, list: Option<Arc<Endpoints>>) {
        match list {
            Some(list) => self.endpoints.insert(Arc::clone(eds), list),
            None => self.endpoints.remove(eds),
        };
    }

    /// A cluster in force and its endpoints.
    pub(super) fn live(&self, name: &str) -> Option<(&Arc<Cluster>, Option<&Arc<Endpoints>>)> {
        let cluster = self.clusters.get(name)?.live.as_ref()?;
        let endpoints = match &cluster.discovery {
            Discovery::Inline(endpoints) => Some(endpoints),
            Discovery::Eds(eds) => self.endpoints.get(eds),
        };
        Some((cluster, endpoints))
    }

    /// Adds what changed to an update. The sink has not taken it yet: see [`Assembly::taken`].
    /// Names of `hidden` are somebody else's.
    pub(super) fn collect(&mut self, update: &mut Update, hidden: &dyn Fn(&str) -> bool) -> Vec<Given> {
        let mut given = Vec::new();
        for name in std::mem::take(&mut self.dirty) {
            if hidden(&name) {
                self.given.remove(&name);
                self.policed.remove(&name);
                continue;
            }
            match self.service(&name) {
                Some((service, marks, policy)) => {
                    let fingerprint = service.metadata.fingerprint;
                    if self.given.get(&name) == Some(&fingerprint) {
                        continue;
                    }
                    update.services.push((Arc::clone(&name), Some(service)));
                    if marks != Marks::default() {
                        update.marks.push((Arc::clone(&name), marks));
                    }
                    if policy.is_some() || self.policed.contains(&name) {
                        update.policies.push((Arc::clone(&name), policy));
                    }
                    given.push((name, Some(fingerprint)));
                }
                // What is there but waits for the first time was never given; what is gone was.
                None if self.given.contains_key(&name) => {
                    update.services.push((Arc::clone(&name), None));
                    if self.policed.contains(&name) {
                        update.policies.push((Arc::clone(&name), None));
                    }
                    given.push((name, None));
                }
                None => {}
            }
        }
        given
    }

    /// The sink took this.
    pub(super) fn taken(&mut self, given: Given) {
        let (name, fingerprint) = given;
        let policed = self.live(&name).is_some_and(|(cluster, _)| cluster.policy.is_some());
        match fingerprint {
            Some(fingerprint) => {
                if policed {
                    self.policed.insert(Arc::clone(&name));
                } else {
                    self.policed.remove(&name);
                }
                self.given.insert(name, fingerprint);
            }
            None => {
                self.policed.remove(&name);
                self.given.remove(&name);
            }
        }
    }

    fn service(&self, name: &str) -> Option<(Service, Marks, Option<TrafficPolicy>)> {
        let (cluster, list) = self.live(name)?;
        let marks = Marks {
            kept: cluster.kept || list.is_some_and(|list| list.kept),
            metadata: cluster.metadata.clone(),
        };
        let metadata = Metadata { name: name.to_owned(), ..Metadata::default() };
        let mut service = Service {
            metadata,
            app: if cluster.app.is_empty() { name.to_owned() } else { cluster.app.clone() },
            protocol: cluster.protocol,
            hosts: cluster.hosts.clone(),
            endpoints: list.map(|list| list.endpoints.clone()).unwrap_or_default(),
        };
        let policy = cluster.policy.as_ref().map(|settings| policy(name, settings.clone()));
        service.metadata.fingerprint = fingerprint(&(&service, &policy), &marks);
        Some((service, marks, policy))
    }
}

/// A service, and the fingerprint of what the sink gets of it; `None` = it is gone.
pub(super) type Given = (Arc<str>, Option<u64>);

/// A policy for one service.
pub(super) fn policy(name: &str, settings: PolicySettings) -> TrafficPolicy {
    let metadata = Metadata { name: name.to_owned(), ..Metadata::default() };
    let to = Target { services: vec![name.to_owned()], ..Target::default() };
    let mut policy = TrafficPolicy { metadata, scope: Scope::default(), rollout: None, to, settings };
    policy.metadata.fingerprint = fingerprint(&policy, &Marks::default());
    policy
}

/// Hash of what is serialised, and of the marks.
pub(super) fn fingerprint<T: Serialize>(value: &T, marks: &Marks) -> u64 {
    // Plain values with string keys always serialise; were one not to, it would look changed every time.
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.extend_from_slice(format!("{marks:?}").as_bytes());
    fnv(&bytes)
}

impl Node {
    /// The EDS resources it needs.
    fn eds(&self) -> Vec<Arc<str>> {
        let next = self.next.as_ref().map(|(next, _)| next);
        self.live.iter().chain(next).filter_map(|cluster| cluster.eds().cloned()).collect()
    }
}
