//! A catalog whose content tests change, and clients that keep what they are told.
#![allow(dead_code, unreachable_pub, missing_docs)]
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::Node;
use envoy_types::pb::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_types::pb::google::rpc::Status;
use prost::Message;
use raddle_xds::resource::Resource;
use raddle_xds::server::delta::Delta;
use raddle_xds::server::sotw::Sotw;
use raddle_xds::server::{Catalog, Event, Limits, Peer, Response, View, Violation};
use raddle_xds::types::Kind;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

/// A resource of any kind: all the protocol sees is its name and that its content differs.
pub fn resource(kind: Kind, name: &str, content: u32) -> Resource {
    let message = Cluster { name: name.into(), alt_stat_name: content.to_string(), ..Cluster::default() };
    Resource::new(kind, name, &message)
}

#[derive(Clone, Default)]
pub struct World {
    inner: Arc<Mutex<Inner>>,
    generation: Arc<watch::Sender<u64>>,
}

#[derive(Default)]
struct Inner {
    generation: u64,
    resources: BTreeMap<(Kind, Arc<str>), Arc<Resource>>,
    changes: Vec<(u64, Kind, Arc<str>)>,
    /// Whether views know what changed.
    forgetful: bool,
}

pub struct Seen {
    generation: u64,
    resources: BTreeMap<(Kind, Arc<str>), Arc<Resource>>,
    changes: Vec<(u64, Kind, Arc<str>)>,
    forgetful: bool,
}

impl World {
    pub fn new() -> World {
        World::default()
    }

    /// A world whose views never know what changed.
    pub fn forgetful() -> World {
        let world = World::new();
        world.inner.lock().unwrap().forgetful = true;
        world
    }

    pub fn set(&self, kind: Kind, name: &str, content: u32) {
        self.turn(&[(kind, name, Some(content))]);
    }

    pub fn remove(&self, kind: Kind, name: &str) {
        self.turn(&[(kind, name, None)]);
    }

    /// Several changes in one generation.
    pub fn turn(&self, changes: &[(Kind, &str, Option<u32>)]) {
        let mut inner = self.inner.lock().unwrap();
        inner.generation += 1;
        let generation = inner.generation;
        for (kind, name, content) in changes {
            let name: Arc<str> = (*name).into();
            inner.changes.push((generation, *kind, Arc::clone(&name)));
            match content {
                Some(c) => {
                    inner.resources.insert((*kind, Arc::clone(&name)), Arc::new(resource(*kind, &name, *c)))
                }
                None => inner.resources.remove(&(*kind, name)),
            };
        }
        drop(inner);
        self.generation.send_replace(generation);
    }

    pub fn seen(&self) -> Seen {
        let inner = self.inner.lock().unwrap();
        Seen {
            generation: inner.generation,
            resources: inner.resources.clone(),
            changes: inner.changes.clone(),
            forgetful: inner.forgetful,
        }
    }

    /// Versions by name, of a kind.
    pub fn versions(&self, kind: Kind) -> BTreeMap<String, String> {
        let inner = self.inner.lock().unwrap();
        let of_kind = inner.resources.iter().filter(|((k, _), _)| *k == kind);
        of_kind.map(|((_, name), r)| (name.to_string(), r.version.to_string())).collect()
    }
}

impl Catalog for World {
    fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    fn view(&self, _: &Peer) -> Box<dyn View> {
        Box::new(self.seen())
    }
}

impl View for Seen {
    fn generation(&self) -> u64 {
        self.generation
    }

    fn get(&self, kind: Kind, name: &str) -> Option<Arc<Resource>> {
        self.resources.get(&(kind, name.into())).cloned()
    }

    /// Rules named `SERVICE/...` are for those who call the service, all others for everybody. Those named `SERVICE+/...`
    /// are for its app: whose it is, is known only when it is there.
    fn all(&self, kind: Kind, services: &dyn Fn(&str) -> bool) -> Vec<Arc<Resource>> {
        let wanted = |name: &str| match name.split_once('/').map(|(s, _)| (s, s.strip_suffix('+'))) {
            Some((_, Some(s))) => services(s) && self.get(Kind::Cluster, s).is_some(),
            Some((service, None)) => services(service),
            None => true,
        };
        let of_kind = self.resources.iter().filter(|((k, _), _)| *k == kind);
        of_kind
            .filter(|((_, name), _)| kind != Kind::Rule || wanted(name))
            .map(|(_, r)| Arc::clone(r))
            .collect()
    }

    fn changed(&self, since: u64) -> Option<Vec<(Kind, Arc<str>)>> {
        let later = self.changes.iter().filter(|(g, _, _)| *g > since);
        (!self.forgetful).then(|| later.map(|(_, k, n)| (*k, Arc::clone(n))).collect())
    }
}

pub fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(ToString::to_string).collect()
}

pub fn node() -> Option<Node> {
    Some(Node { id: "n1".into(), cluster: "shop".into(), user_agent_name: "envoy".into(), ..Node::default() })
}

pub fn error(message: &str) -> Option<Status> {
    Some(Status { code: 3, message: message.into(), details: Vec::new() })
}

/// What a response said, in words that are easy to compare.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    pub kind: Option<Kind>,
    pub names: Vec<String>,
    pub removed: Vec<String>,
    pub nonce: String,
    pub version: String,
    /// Versions by name.
    pub versions: BTreeMap<String, String>,
}

fn bytes(response: &Response) -> Vec<u8> {
    let mut out = Vec::new();
    response.encode(&mut out);
    assert_eq!(out.len(), response.encoded_len());
    out
}

fn version_of(kind: Kind, value: &[u8]) -> (String, String) {
    let message = Cluster::decode(value).expect("a resource");
    let version = Resource::new(kind, message.name.as_str(), &message).version.to_string();
    (message.name, version)
}

/// Reads a response's bytes as a client does.
pub fn read_sotw(bytes: &[u8]) -> Said {
    let r = DiscoveryResponse::decode(bytes).expect("a response");
    let kind = Kind::of(&r.type_url).expect("a kind");
    let versions: Vec<_> = r.resources.iter().map(|any| version_of(kind, &any.value)).collect();
    assert!(r.resources.iter().all(|any| any.type_url == r.type_url));
    said(Some(kind), versions, Vec::new(), r.nonce, r.version_info)
}

pub fn read_delta(bytes: &[u8]) -> Said {
    let r = DeltaDiscoveryResponse::decode(bytes).expect("a response");
    let kind = Kind::of(&r.type_url);
    let mut versions = Vec::new();
    for resource in r.resources {
        let any = resource.resource.expect("content");
        let (name, version) = version_of(kind.expect("a kind"), &any.value);
        assert_eq!((&name, &version), (&resource.name, &resource.version));
        versions.push((name, version));
    }
    said(kind, versions, r.removed_resources, r.nonce, r.system_version_info)
}

fn said(
    kind: Option<Kind>,
    versions: Vec<(String, String)>,
    removed: Vec<String>,
    nonce: String,
    version: String,
) -> Said {
    let mut names: Vec<String> = versions.iter().map(|(n, _)| n.clone()).collect();
    names.sort();
    let distinct: BTreeSet<&String> = names.iter().collect();
    assert_eq!(distinct.len(), names.len(), "a name twice in one response");
    Said { kind, names, removed, nonce, version, versions: versions.into_iter().collect() }
}

/// A state-of-the-world stream without sockets.
pub struct SotwStream {
    pub world: World,
    pub machine: Sotw,
}

impl SotwStream {
    pub fn new(world: &World) -> SotwStream {
        SotwStream::with(world, Limits::default())
    }

    pub fn with(world: &World, limits: Limits) -> SotwStream {
        SotwStream { world: world.clone(), machine: Sotw::new(limits, "raddle".into(), "t-".into()) }
    }

    pub fn try_send(&mut self, request: &DiscoveryRequest) -> Result<(Event, Vec<Said>), Violation> {
        let mut out = Vec::new();
        let event = self.machine.request(request, &self.world.seen(), 1000, &mut out)?;
        Ok((event, out.iter().map(|r| read_sotw(&bytes(r))).collect()))
    }

    pub fn send(&mut self, request: &DiscoveryRequest) -> Vec<Said> {
        self.try_send(request).expect("allowed").1
    }

    /// Asks for names, with a nonce and the version that goes with it.
    pub fn ask(&mut self, kind: Kind, list: &[&str], nonce: &str, version: &str) -> Vec<Said> {
        self.send(&sotw_request(kind, list, nonce, version))
    }

    /// Acknowledges, the names as they are.
    pub fn ack(&mut self, said: &Said, list: &[&str]) -> Vec<Said> {
        self.ask(said.kind.expect("a kind"), list, &said.nonce, &said.version)
    }

    pub fn nack(&mut self, said: &Said, list: &[&str], version: &str, why: &str) -> (Event, Vec<Said>) {
        let mut request = sotw_request(said.kind.expect("a kind"), list, &said.nonce, version);
        request.error_detail = error(why);
        self.try_send(&request).expect("allowed")
    }

    pub fn changed(&mut self) -> Vec<Said> {
        let mut out = Vec::new();
        self.machine.change(&self.world.seen(), &mut out);
        out.iter().map(|r| read_sotw(&bytes(r))).collect()
    }
}

pub fn sotw_request(kind: Kind, list: &[&str], nonce: &str, version: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        type_url: kind.type_url().into(),
        resource_names: names(list),
        response_nonce: nonce.into(),
        version_info: version.into(),
        node: node(),
        ..DiscoveryRequest::default()
    }
}

/// An incremental stream without sockets.
pub struct DeltaStream {
    pub world: World,
    pub machine: Delta,
}

impl DeltaStream {
    pub fn new(world: &World) -> DeltaStream {
        DeltaStream::with(world, Limits::default())
    }

    pub fn with(world: &World, limits: Limits) -> DeltaStream {
        DeltaStream { world: world.clone(), machine: Delta::new(limits, "raddle".into(), "t-".into()) }
    }

    pub fn try_send(&mut self, request: &DeltaDiscoveryRequest) -> Result<(Event, Vec<Said>), Violation> {
        let mut out = Vec::new();
        let event = self.machine.request(request, &self.world.seen(), 1000, &mut out)?;
        Ok((event, out.iter().map(|r| read_delta(&bytes(r))).collect()))
    }

    pub fn send(&mut self, request: &DeltaDiscoveryRequest) -> Vec<Said> {
        self.try_send(request).expect("allowed").1
    }

    pub fn subscribe(&mut self, kind: Kind, list: &[&str]) -> Vec<Said> {
        self.send(&delta_request(kind, list, &[]))
    }

    pub fn unsubscribe(&mut self, kind: Kind, list: &[&str]) -> Vec<Said> {
        self.send(&delta_request(kind, &[], list))
    }

    /// Begins a kind with what is known from before.
    pub fn resume(&mut self, kind: Kind, list: &[&str], known: &BTreeMap<String, String>) -> Vec<Said> {
        let mut request = delta_request(kind, list, &[]);
        request.initial_resource_versions = known.clone().into_iter().collect();
        self.send(&request)
    }

    pub fn ack(&mut self, said: &Said) -> Vec<Said> {
        let mut request = delta_request(said.kind.expect("a kind"), &[], &[]);
        request.response_nonce.clone_from(&said.nonce);
        self.send(&request)
    }

    pub fn nack(&mut self, said: &Said, why: &str) -> (Event, Vec<Said>) {
        let mut request = delta_request(said.kind.expect("a kind"), &[], &[]);
        request.response_nonce.clone_from(&said.nonce);
        request.error_detail = error(why);
        self.try_send(&request).expect("allowed")
    }

    pub fn changed(&mut self) -> Vec<Said> {
        let mut out = Vec::new();
        self.machine.change(&self.world.seen(), &mut out);
        out.iter().map(|r| read_delta(&bytes(r))).collect()
    }
}

pub fn delta_request(kind: Kind, subscribe: &[&str], unsubscribe: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: kind.type_url().into(),
        resource_names_subscribe: names(subscribe),
        resource_names_unsubscribe: names(unsubscribe),
        node: node(),
        ..DeltaDiscoveryRequest::default()
    }
}

/// The one response there is.
#[track_caller]
pub fn one(mut said: Vec<Said>) -> Said {
    assert_eq!(said.len(), 1, "{said:?}");
    said.remove(0)
}

/// The kinds of responses, in their order.
pub fn kinds(said: &[Said]) -> Vec<Kind> {
    said.iter().filter_map(|s| s.kind).collect()
}
