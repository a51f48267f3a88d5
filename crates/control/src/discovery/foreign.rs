//! What Envoy and gRPC's own clients get: routes and policies are translated for them.
use super::view::Seen;
use crate::rules::{RuleBook, RuleRevision};
use raddle_model::{LoadOptions, Route, Source, Target, TrafficPolicy};
use raddle_xds::resource::{Resource, fnv};
use raddle_xds::server::Software;
use raddle_xds::translate::outward::{self, OUTBOUND, Routed, Subset};
use raddle_xds::types::Kind;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

/// Key of the node's metadata that says where Envoy's outbound HTTP listener listens.
const LISTEN: &str = "raddle.listen";
/// Prefix of the key that says where a TCP listener to a service listens.
const TCP: &str = "raddle.tcp.";

/// A rule as the model knows it.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    routes: Vec<Route>,
    policies: Vec<TrafficPolicy>,
}

impl Parsed {
    /// All revisions of a book, those that were parsed before taken over.
    pub(super) fn all(
        book: &RuleBook,
        old: &HashMap<Arc<str>, Arc<Parsed>>,
    ) -> HashMap<Arc<str>, Arc<Parsed>> {
        let revisions = book.rules.values().flat_map(|e| {
            let candidate = e.candidate.as_ref().and_then(|(revision, _)| revision.as_ref());
            e.stable.iter().chain(candidate)
        });
        let parse = |r: &Arc<RuleRevision>| {
            let parsed = old.get(&r.hash).cloned().unwrap_or_else(|| Arc::new(Parsed::of(r)));
            (r.hash.clone(), parsed)
        };
        revisions.map(parse).collect()
    }

    fn of(revision: &RuleRevision) -> Parsed {
        let source = Source { name: revision.resource.name.to_string(), text: revision.document.to_string() };
        // Documents were checked when they were applied.
        match raddle_model::load(&[source], LoadOptions::rules_only()) {
            Ok((resources, _)) => Parsed { routes: resources.routes, policies: resources.policies },
            Err(_) => Parsed::default(),
        }
    }
}

/// The rules that hold for a peer.
struct Holding<'a> {
    rules: Vec<(&'a RuleRevision, &'a Parsed)>,
}

impl<'a> Holding<'a> {
    fn of(seen: &'a Seen) -> Holding<'a> {
        let entries = seen.snapshot.rules.rules.values();
        let revisions = entries.filter_map(|e| seen.revision(e));
        Holding {
            rules: revisions.filter_map(|r| Some((&**r, &**seen.snapshot.parsed.get(&r.hash)?))).collect(),
        }
    }

    /// Routes and policy of a service, and a hash of what they are.
    fn of_service(&self, service: &str, app: &str) -> (Vec<&'a Route>, raddle_model::PolicySettings, u64) {
        let covers = |t: &Target| t.covers(service, app);
        let mut routes = Vec::new();
        let mut policy: Option<(&TrafficPolicy, &RuleRevision)> = None;
        let mut hashes = String::new();
        for (revision, parsed) in &self.rules {
            for route in parsed.routes.iter().filter(|r| covers(&r.to)) {
                routes.push(route);
                hashes.push_str(&revision.hash);
            }
            for p in parsed.policies.iter().filter(|p| covers(&p.to)) {
                let rank = |p: &TrafficPolicy| (p.to.specificity(), p.scope.specificity());
                if policy.is_none_or(|(best, _)| rank(p) > rank(best)) {
                    policy = Some((p, revision));
                }
            }
        }
        hashes.push('/');
        hashes.push_str(policy.map_or("", |(_, r)| &r.hash));
        (routes, policy.map(|(p, _)| p.settings.clone()).unwrap_or_default(), fnv(hashes.as_bytes()))
    }
}

/// A resource by name.
pub(super) fn get(seen: &Seen, kind: Kind, name: &str) -> Option<Arc<Resource>> {
    let holding = Holding::of(seen);
    match (kind, seen.peer.software) {
        (Kind::Cluster, Software::Envoy) => cluster(seen, &holding, name, None),
        (Kind::Cluster, _) => {
            let (service, subset) = Subset::parse(name);
            cluster(seen, &holding, service, Some(subset))
        }
        (Kind::Listener, Software::Envoy) => listeners(seen).into_iter().find(|l| &*l.name == name),
        (Kind::Routes, Software::Envoy) => (name == OUTBOUND).then(|| routes(seen, &holding)),
        (Kind::Listener, _) => {
            let card = seen.snapshot.cards.get(name)?;
            let make = || Resource::new(kind, name, &outward::grpc_listener(name));
            Some(card.variant(kind, name, 0, make))
        }
        (Kind::Routes, _) => {
            let card = seen.snapshot.cards.get(name)?;
            let (routes, policy, on) = holding.of_service(name, &card.listed.app);
            let make =
                || Resource::new(kind, name, &outward::grpc_routes(name, &card.view(&[]), &routes, &policy));
            Some(card.variant(kind, name, on, make))
        }
        _ => None,
    }
}

/// All of a kind.
pub(super) fn all(seen: &Seen, kind: Kind) -> Vec<Arc<Resource>> {
    let names = seen.snapshot.cards.keys();
    match (kind, seen.peer.software) {
        (Kind::Cluster, Software::Envoy) => {
            let holding = Holding::of(seen);
            names.filter_map(|name| cluster(seen, &holding, name, None)).collect()
        }
        (Kind::Listener, Software::Envoy) => listeners(seen),
        (Kind::Routes, Software::Envoy) => vec![routes(seen, &Holding::of(seen))],
        (Kind::Cluster | Kind::Listener | Kind::Routes, _) => {
            names.filter_map(|name| get(seen, kind, name)).collect()
        }
        _ => Vec::new(),
    }
}

fn cluster(
    seen: &Seen,
    holding: &Holding<'_>,
    service: &str,
    subset: Option<Subset>,
) -> Option<Arc<Resource>> {
    let card = seen.snapshot.cards.get(service)?;
    let (_, policy, on) = holding.of_service(service, &card.listed.app);
    let name = subset.as_ref().map_or_else(|| service.to_owned(), |s| s.name(service));
    let on = on ^ u64::from(subset.is_some());
    let view = card.view(&[]);
    Some(card.variant(Kind::Cluster, &name, on, || match &subset {
        Some(subset) => {
            Resource::new(Kind::Cluster, name.clone(), &outward::subset_cluster(&view, subset, &policy))
        }
        None => Resource::new(Kind::Cluster, name.clone(), &outward::cluster(&view, &policy)),
    }))
}

/// Envoy's listeners, as its metadata asks for them.
fn listeners(seen: &Seen) -> Vec<Arc<Resource>> {
    let listener = |(key, value): &(String, String)| {
        let address: SocketAddr = value.parse().ok()?;
        let listener = match key.strip_prefix(TCP) {
            Some(service) => outward::envoy_tcp_listener(service, address),
            None if key == LISTEN => outward::envoy_listener(address),
            None => return None,
        };
        Some(Arc::new(Resource::new(Kind::Listener, listener.name.clone(), &listener)))
    };
    seen.peer.metadata.iter().filter_map(listener).collect()
}

/// Envoy's routes to all HTTP services.
fn routes(seen: &Seen, holding: &Holding<'_>) -> Arc<Resource> {
    let parts: Vec<_> = seen
        .snapshot
        .cards
        .values()
        .map(|c| (c, holding.of_service(&c.listed.name, &c.listed.app)))
        .collect();
    let routed: Vec<_> = parts
        .iter()
        .map(|(card, (routes, policy, _))| Routed { service: card.view(&[]), routes: routes.clone(), policy })
        .collect();
    Arc::new(Resource::new(Kind::Routes, OUTBOUND, &outward::envoy_routes(&routed)))
}
