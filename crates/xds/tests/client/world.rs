//! What a sink was given, and resources to give it.
use envoy_types::pb::envoy::config::cluster::v3 as envoy;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::google::protobuf::{Struct, Value, value};
use raddle_xds::client::{BackoffOptions, Options, Refused, Target, Update};
use raddle_xds::proto;
use raddle_xds::resource::Resource;
use raddle_xds::types::Kind;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[derive(Clone, Default)]
pub(crate) struct World(pub(crate) Arc<Mutex<Given>>);

#[derive(Default)]
pub(crate) struct Given {
    /// Ports of every service.
    pub(crate) services: BTreeMap<String, Vec<u16>>,
    pub(crate) rules: BTreeMap<String, String>,
    pub(crate) missing: Vec<String>,
    pub(crate) cached: usize,
    pub(crate) refuse: Vec<String>,
}

impl World {
    /// The sink.
    pub(crate) fn sink(&self) -> impl FnMut(Update) -> Vec<Refused> + Send + 'static {
        let given = Arc::clone(&self.0);
        move |update| {
            let mut given = given.lock().expect("no panic");
            let mut refused = Vec::new();
            given.cached += usize::from(update.cached);
            for (name, service) in update.services {
                if given.refuse.iter().any(|n| **n == *name) {
                    refused.push(Refused { kind: Kind::Cluster, name, reason: "not this one".into() });
                } else if let Some(service) = service {
                    let ports = service.endpoints.iter().map(|e| e.address.port()).collect();
                    given.services.insert(name.to_string(), ports);
                } else {
                    given.services.remove(&*name);
                }
            }
            for (name, rule) in update.rules {
                match rule {
                    Some(rule) => drop(given.rules.insert(name.to_string(), rule.revision.to_string())),
                    None => drop(given.rules.remove(&*name)),
                }
            }
            given.missing.extend(update.missing.iter().map(ToString::to_string));
            refused
        }
    }

    pub(crate) fn see<T>(&self, look: impl FnOnce(&Given) -> T) -> T {
        look(&self.0.lock().expect("no panic"))
    }

    /// Waits until it is so.
    pub(crate) async fn until(&self, what: &str, mut so: impl FnMut(&Given) -> bool) {
        until(what, || self.see(&mut so)).await;
    }
}

pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < deadline, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn options(address: SocketAddr) -> Options {
    Options {
        targets: vec![Target::plain(format!("http://{address}"))],
        node: proto::Node { id: "me".into(), app: "shop".into(), ..Default::default() },
        backoff: BackoffOptions { first: Duration::from_millis(20), longest: Duration::from_millis(200) },
        ..Options::default()
    }
}

pub(crate) fn cluster(name: &str) -> Resource {
    let app = Value { kind: Some(value::Kind::StringValue("app".into())) };
    let own = Struct { fields: HashMap::from([("app".to_owned(), app)]) };
    let metadata =
        core::Metadata { filter_metadata: HashMap::from([("raddle".to_owned(), own)]), ..Default::default() };
    let kind = envoy::cluster::DiscoveryType::Eds as i32;
    let message = envoy::Cluster {
        name: name.into(),
        cluster_discovery_type: Some(envoy::cluster::ClusterDiscoveryType::Type(kind)),
        metadata: Some(metadata),
        ..Default::default()
    };
    Resource::new(Kind::Cluster, name, &message)
}

pub(crate) fn endpoints(name: &str, ports: &[u16]) -> Resource {
    let one = |port: &u16| {
        let socket = core::SocketAddress {
            address: "10.0.0.1".into(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(u32::from(*port))),
            ..Default::default()
        };
        let address = core::Address { address: Some(core::address::Address::SocketAddress(socket)) };
        let host = endpoint::Endpoint { address: Some(address), ..Default::default() };
        endpoint::LbEndpoint {
            host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(host)),
            ..Default::default()
        }
    };
    let locality =
        endpoint::LocalityLbEndpoints { lb_endpoints: ports.iter().map(one).collect(), ..Default::default() };
    let message = endpoint::ClusterLoadAssignment {
        cluster_name: name.into(),
        endpoints: vec![locality],
        ..Default::default()
    };
    Resource::new(Kind::Endpoints, name, &message)
}

pub(crate) fn rule(name: &str, revision: &str) -> Resource {
    let document = format!("{{\"kind\":\"Route\",\"metadata\":{{\"name\":\"{name}\"}}}}").into_bytes();
    let message = proto::Rule {
        kind: "Route".into(),
        name: name.into(),
        revision: revision.into(),
        document: document.into(),
    };
    Resource::new(Kind::Rule, format!("Route/{name}"), &message)
}
