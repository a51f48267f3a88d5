//! Virtual hosts of foreign servers, put together as services: listeners name route configurations, these name
//! clusters, and nothing is replaced before what it needs is there.
use super::assembly::{Assembly, Given, Waiting, fingerprint, policy};
use super::sink::{Marks, Update};
use crate::translate::inward::{Listener, Routes, VirtualHost, label};
use crate::types::Kind;
use raddle_core::Time;
use raddle_model::{Balancer, Endpoint, Metadata, Route, Scope, Service, Target, TrafficPolicy};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A route configuration: what is in force, and what waits for its clusters.
#[derive(Clone, Debug, Default)]
pub(super) struct Config {
    live: Option<Arc<Routes>>,
    next: Option<(Arc<Routes>, Time)>,
}

#[derive(Debug, Default)]
pub(super) struct Routing {
    listeners: BTreeMap<Arc<str>, Arc<Listener>>,
    /// By name; those within listeners as `LISTENER#INDEX`.
    configs: BTreeMap<Arc<str>, Config>,
    /// Those asked for by name.
    asked: BTreeSet<Arc<str>>,
    /// Services made of virtual hosts: which configuration each is from.
    owners: BTreeMap<Arc<str>, Arc<str>>,
    /// What the sink has, by fingerprint.
    given: HashMap<Arc<str>, u64>,
    changed: bool,
    warm: Duration,
}

impl Routing {
    pub(super) fn new(warm: Duration) -> Routing {
        Routing { warm, ..Routing::default() }
    }

    /// A listener as the server has it now. Returns which of its own routes wait, and until when.
    pub(super) fn listener(&mut self, name: &Arc<str>, listener: Arc<Listener>, now: Time) -> Vec<Waiting> {
        let inline = listener.inline.clone();
        let old = self.listeners.insert(Arc::clone(name), listener).map_or(0, |old| old.inline.len());
        for i in inline.len()..old {
            self.configs.remove(&inner(name, i));
        }
        self.changed = true;
        inline.into_iter().enumerate().map(|(i, routes)| self.routes(&inner(name, i), routes, now)).collect()
    }

    pub(super) fn remove_listener(&mut self, name: &Arc<str>) {
        if let Some(old) = self.listeners.remove(name) {
            for i in 0..old.inline.len() {
                self.configs.remove(&inner(name, i));
            }
            self.changed = true;
        }
    }

    /// Routes as the server has them now; they wait for their clusters until the time that is returned.
    pub(super) fn routes(&mut self, name: &Arc<str>, routes: Arc<Routes>, now: Time) -> Waiting {
        let until = now + self.warm;
        let config = self.configs.entry(Arc::clone(name)).or_default();
        // What waits already does not begin to wait anew.
        let until = config.next.as_ref().map_or(until, |(_, earlier)| *earlier);
        config.next = Some((routes, until));
        (until, Arc::clone(name))
    }

    /// The time of waiting routes is over: they go live, and clusters that are not there have no endpoints.
    pub(super) fn expire(&mut self, name: &str, now: Time) {
        if let Some(config) = self.configs.get_mut(name)
            && config.next.as_ref().is_some_and(|(_, until)| *until <= now)
        {
            config.live = config.next.take().map(|(next, _)| next);
            self.changed = true;
        }
    }

    /// Routes whose clusters are all there go live.
    pub(super) fn settle(&mut self, assembly: &Assembly) {
        for config in self.configs.values_mut() {
            let there = |routes: &Routes| {
                routes.hosts.iter().flat_map(|host| &host.clusters).all(|name| assembly.live(name).is_some())
            };
            if config.next.as_ref().is_some_and(|(next, _)| there(next)) {
                config.live = config.next.take().map(|(next, _)| next);
                self.changed = true;
            }
        }
    }

    /// Takes which route configurations are needed by name since the last call, and which are not any more.
    pub(super) fn asks(&mut self) -> Vec<(Arc<str>, bool)> {
        let needed: BTreeSet<Arc<str>> =
            self.listeners.values().flat_map(|listener| listener.rds.iter().cloned()).collect();
        let mut asks: Vec<_> = needed.difference(&self.asked).map(|name| (Arc::clone(name), true)).collect();
        for gone in self.asked.difference(&needed) {
            asks.push((Arc::clone(gone), false));
            self.configs.remove(gone);
            self.changed = true;
        }
        self.asked = needed;
        asks
    }

    /// Whether a name is a virtual host's.
    pub(super) fn has(&self, name: &str) -> bool {
        self.owners.contains_key(name)
    }

    /// The resource a virtual host's service is from.
    pub(super) fn owner(&self, service: &str) -> Option<(Kind, Arc<str>)> {
        let config = self.owners.get(service)?;
        Some(match config.rsplit_once('#') {
            Some((listener, _)) if self.listeners.contains_key(listener) => (Kind::Listener, listener.into()),
            _ => (Kind::Routes, Arc::clone(config)),
        })
    }

    pub(super) fn held_listener(&self, name: &str) -> Option<Arc<Listener>> {
        self.listeners.get(name).cloned()
    }

    pub(super) fn held_config(&self, name: &str) -> Option<Config> {
        self.configs.get(name).cloned()
    }

    /// Goes back.
    pub(super) fn restore_listener(&mut self, name: &Arc<str>, listener: Option<Arc<Listener>>) {
        self.remove_listener(name);
        if let Some(listener) = listener {
            for (i, routes) in listener.inline.iter().enumerate() {
                self.configs.insert(inner(name, i), Config { live: Some(Arc::clone(routes)), next: None });
            }
            self.listeners.insert(Arc::clone(name), listener);
        }
    }

    /// Goes back.
    pub(super) fn restore_config(&mut self, name: &Arc<str>, config: Option<Config>) {
        match config {
            Some(config) => self.configs.insert(Arc::clone(name), config),
            None => self.configs.remove(name),
        };
        self.changed = true;
    }

    /// Adds what changed to an update; see [`Assembly::collect`].
    pub(super) fn collect(&mut self, assembly: &mut Assembly, update: &mut Update) -> Vec<Given> {
        if !self.changed && (self.owners.is_empty() || !assembly.changed()) {
            return Vec::new();
        }
        self.changed = false;
        let mut given = Vec::new();
        let mut owners = BTreeMap::new();
        for Claim { name, config, host, others } in self.hosts() {
            let (service, policy, route) = compose(&name, host, others, assembly);
            owners.insert(Arc::clone(&name), config);
            let print = fingerprint(&(&service, &policy, &route), &Marks::default());
            if self.given.get(&name) == Some(&print) {
                continue;
            }
            update.services.push((Arc::clone(&name), Some(service)));
            update.policies.push((Arc::clone(&name), policy));
            update.routes.push((Arc::clone(&name), Some(route)));
            given.push((name, Some(print)));
        }
        for gone in self.given.keys().filter(|name| !owners.contains_key(*name)) {
            if assembly.live(gone).is_some() {
                // A cluster of that name comes to light again.
                assembly.touch(gone);
            } else {
                update.services.push((Arc::clone(gone), None));
                update.policies.push((Arc::clone(gone), None));
            }
            update.routes.push((Arc::clone(gone), None));
            given.push((Arc::clone(gone), None));
        }
        self.owners = owners;
        given
    }

    /// The sink took this.
    pub(super) fn taken(&mut self, given: Given) {
        match given {
            (name, Some(print)) => drop(self.given.insert(name, print)),
            (name, None) => drop(self.given.remove(&name)),
        }
    }

    /// Every virtual host in force. A host belongs to the first that names it: the model knows no ports, by which servers repeat them.
    fn hosts(&self) -> Vec<Claim<'_>> {
        let mut claimed = BTreeSet::new();
        let mut out = Vec::new();
        for (config, routes) in self.configs.iter().filter_map(|(name, c)| Some((name, c.live.as_ref()?))) {
            for host in &routes.hosts {
                let free: Vec<String> =
                    host.hosts.iter().filter(|h| claimed.insert((*h).clone())).cloned().collect();
                let first = free.iter().find(|h| !h.starts_with('*'));
                if let Some(name) = first.or_else(|| free.first().map(|_| &host.name)) {
                    let others = free.iter().filter(|h| *h != name).cloned().collect();
                    out.push(Claim { name: name.as_str().into(), config: Arc::clone(config), host, others });
                }
            }
        }
        out
    }
}

/// A virtual host in force, and what it gets of its hosts.
struct Claim<'r> {
    /// Of its service.
    name: Arc<str>,
    config: Arc<str>,
    host: &'r VirtualHost,
    /// Hosts beside the name.
    others: Vec<String>,
}

/// The name of routes within a listener.
fn inner(listener: &str, index: usize) -> Arc<str> {
    format!("{listener}#{index}").into()
}

/// A virtual host as a service with the endpoints of all its clusters, its policy, and its routes.
fn compose(
    name: &str,
    host: &VirtualHost,
    hosts: Vec<String>,
    assembly: &Assembly,
) -> (Service, Option<TrafficPolicy>, Route) {
    let mut by_address: BTreeMap<SocketAddr, Endpoint> = BTreeMap::new();
    let (mut protocols, mut settings) = (BTreeSet::new(), None);
    for cluster_name in &host.clusters {
        let Some((cluster, list)) = assembly.live(cluster_name) else { continue };
        protocols.insert(cluster.protocol);
        // A service has one policy: of clusters that differ, the first by name has its way.
        if settings.is_none() {
            settings.clone_from(&cluster.policy);
            if let (Some(settings), true, Some(on)) = (&mut settings, cluster.hashes, &host.hash) {
                settings.balancer = Balancer::ConsistentHash { on: on.clone() };
            }
        }
        for endpoint in list.into_iter().flat_map(|list| &list.endpoints) {
            let merged = by_address.entry(endpoint.address).or_insert_with(|| endpoint.clone());
            merged.labels.insert(label(cluster_name), "true".into());
        }
    }
    let metadata = Metadata { name: name.to_owned(), ..Metadata::default() };
    let mut service = Service {
        metadata: metadata.clone(),
        app: name.to_owned(),
        protocol: protocols.pop_first().filter(|_| protocols.is_empty()).flatten(),
        hosts,
        endpoints: by_address.into_values().collect(),
    };
    service.metadata.fingerprint = fingerprint(&service, &Marks::default());
    let to = Target { services: vec![name.to_owned()], ..Target::default() };
    let mut route = Route { metadata, scope: Scope::default(), rollout: None, to, rules: host.rules.clone() };
    route.metadata.fingerprint = fingerprint(&route, &Marks::default());
    (service, settings.map(|settings| policy(name, settings)), route)
}
