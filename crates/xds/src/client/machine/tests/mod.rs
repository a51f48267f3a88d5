//! The protocol's rules, each told by a test, in both variants where both have it.
mod delta;
pub(in crate::client) mod foreign;
mod life;
mod model;
mod sotw;

use super::{MISSING_AFTER, Machine, Message, Settings, Variant};
use crate::client::sink::{Refused, Update};
use crate::proto;
use crate::types::Kind;
use envoy_types::pb::envoy::config::cluster::v3::{Cluster, cluster::ClusterDiscoveryType};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use envoy_types::pb::google::protobuf::{Any, Struct, UInt32Value, Value, value};
use prost::Message as _;
use raddle_core::Time;
use raddle_model::Service;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

pub(super) const WARM: Duration = Duration::from_secs(5);
pub(super) const IDLE: Duration = Duration::from_mins(10);

/// A machine with a clock and a sink that remembers.
pub(super) struct Rig {
    pub(super) machine: Machine,
    pub(super) now: Time,
    pub(super) world: World,
    nonce: u64,
}

/// What a sink has been given.
#[derive(Default)]
pub(super) struct World {
    pub(super) services: BTreeMap<String, Service>,
    pub(super) rules: BTreeMap<String, String>,
    pub(super) missing: Vec<String>,
    pub(super) updates: Vec<Update>,
    /// Services and rules that are refused, with the reason.
    pub(super) refuse: HashMap<String, String>,
}

impl World {
    pub(in crate::client) fn apply(&mut self, update: Update) -> Vec<Refused> {
        let mut refused = Vec::new();
        for (name, service) in &update.services {
            if let Some(reason) = self.refuse.get(&**name) {
                refused.push(Refused { kind: Kind::Cluster, name: Arc::clone(name), reason: reason.clone() });
                continue;
            }
            match service {
                Some(service) => drop(self.services.insert(name.to_string(), service.clone())),
                None => drop(self.services.remove(&**name)),
            }
        }
        for (name, rule) in &update.rules {
            if let Some(reason) = self.refuse.get(&**name) {
                refused.push(Refused { kind: Kind::Rule, name: Arc::clone(name), reason: reason.clone() });
                continue;
            }
            match rule {
                Some(rule) => drop(self.rules.insert(name.to_string(), rule.revision.to_string())),
                None => drop(self.rules.remove(&**name)),
            }
        }
        self.missing.extend(update.missing.iter().map(ToString::to_string));
        self.updates.push(update);
        refused
    }

    /// Name and number of endpoints of every service.
    pub(in crate::client) fn sizes(&self) -> BTreeMap<&str, usize> {
        self.services.iter().map(|(name, service)| (name.as_str(), service.endpoints.len())).collect()
    }
}

pub(in crate::client) fn settings() -> Settings {
    Settings {
        node: core::Node { id: "me".into(), ..core::Node::default() },
        unsubscribe_after: IDLE,
        warm: WARM,
        ..Settings::default()
    }
}

impl Rig {
    pub(in crate::client) fn new(variant: Variant, settings: Settings) -> Rig {
        let mut machine = Machine::new(settings);
        machine.connected(variant);
        Rig { machine, now: Time::ZERO, world: World::default(), nonce: 0 }
    }

    pub(in crate::client) fn plain(variant: Variant) -> Rig {
        Rig::new(variant, settings())
    }

    pub(in crate::client) fn want(&mut self, name: &str) {
        self.machine.wish(&name.into(), true, self.now);
    }

    pub(in crate::client) fn unwant(&mut self, name: &str) {
        self.machine.wish(&name.into(), false, self.now);
    }

    pub(in crate::client) fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        let world = &mut self.world;
        self.machine.tick(self.now, &mut |update| world.apply(update));
    }

    /// All messages there are to send.
    pub(in crate::client) fn said(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.machine.next_message(self.now)).collect()
    }

    pub(in crate::client) fn said_delta(&mut self) -> Vec<discovery::DeltaDiscoveryRequest> {
        let only = |message| match message {
            Message::Delta(request) => request,
            Message::Sotw(request) => panic!("of the other variant: {request:?}"),
        };
        self.said().into_iter().map(only).collect()
    }

    pub(in crate::client) fn said_sotw(&mut self) -> Vec<discovery::DiscoveryRequest> {
        let only = |message| match message {
            Message::Sotw(request) => request,
            Message::Delta(request) => panic!("of the other variant: {request:?}"),
        };
        self.said().into_iter().map(only).collect()
    }

    /// A response of the variant the resources are for; returns its nonce.
    pub(in crate::client) fn delta(
        &mut self,
        kind: Kind,
        resources: &[(&str, &str, Vec<u8>)],
        removed: &[&str],
    ) -> String {
        let response = discovery::DeltaDiscoveryResponse {
            type_url: kind.type_url().into(),
            nonce: self.next_nonce(),
            resources: resources
                .iter()
                .map(|(name, version, value)| discovery::Resource {
                    name: (*name).into(),
                    version: (*version).into(),
                    resource: Some(any(kind, value)),
                    ..Default::default()
                })
                .collect(),
            removed_resources: removed.iter().map(ToString::to_string).collect(),
            ..Default::default()
        };
        let nonce = response.nonce.clone();
        let world = &mut self.world;
        self.machine.response(response, self.now, &mut |update| world.apply(update));
        nonce
    }

    pub(in crate::client) fn sotw(&mut self, kind: Kind, version: &str, resources: &[Vec<u8>]) -> String {
        let response = discovery::DiscoveryResponse {
            type_url: kind.type_url().into(),
            nonce: self.next_nonce(),
            version_info: version.into(),
            resources: resources.iter().map(|value| any(kind, value)).collect(),
            ..Default::default()
        };
        let nonce = response.nonce.clone();
        let world = &mut self.world;
        self.machine.response(response, self.now, &mut |update| world.apply(update));
        nonce
    }

    /// Resources in either variant.
    pub(in crate::client) fn send(
        &mut self,
        variant: Variant,
        kind: Kind,
        resources: &[(&str, Vec<u8>)],
    ) -> String {
        match variant {
            Variant::Delta => {
                let resources: Vec<_> =
                    resources.iter().map(|(name, value)| (*name, "1", value.clone())).collect();
                self.delta(kind, &resources, &[])
            }
            Variant::Sotw => {
                let resources: Vec<_> = resources.iter().map(|(_, value)| value.clone()).collect();
                self.sotw(kind, "1", &resources)
            }
        }
    }

    fn next_nonce(&mut self) -> String {
        self.nonce += 1;
        format!("n{}", self.nonce)
    }
}

fn any(kind: Kind, value: &[u8]) -> Any {
    Any { type_url: kind.type_url().into(), value: value.to_vec() }
}

/// Error details and nonces of a message, whichever variant.
pub(in crate::client) fn answer(message: &Message) -> (String, Option<String>) {
    let told =
        |status: &Option<envoy_types::pb::google::rpc::Status>| status.as_ref().map(|s| s.message.clone());
    match message {
        Message::Delta(request) => (request.response_nonce.clone(), told(&request.error_detail)),
        Message::Sotw(request) => (request.response_nonce.clone(), told(&request.error_detail)),
    }
}

fn metadata(fields: &[(&str, value::Kind)]) -> Option<core::Metadata> {
    let fields = fields.iter().map(|(k, v)| ((*k).to_owned(), Value { kind: Some(v.clone()) })).collect();
    let filter_metadata = HashMap::from([("raddle".to_owned(), Struct { fields })]);
    Some(core::Metadata { filter_metadata, ..Default::default() })
}

/// A cluster as Raddle's server writes it.
pub(in crate::client) fn cluster(name: &str) -> Vec<u8> {
    cluster_of(name, "app", "")
}

pub(in crate::client) fn cluster_of(name: &str, app: &str, eds: &str) -> Vec<u8> {
    use envoy_types::pb::envoy::config::cluster::v3::cluster::{DiscoveryType, EdsClusterConfig};
    let eds = EdsClusterConfig { service_name: eds.into(), ..Default::default() };
    Cluster {
        name: name.into(),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(eds),
        metadata: metadata(&[("app", value::Kind::StringValue(app.into()))]),
        ..Cluster::default()
    }
    .encode_to_vec()
}

/// A cluster that no model can say.
pub(in crate::client) fn bad_cluster(name: &str) -> Vec<u8> {
    Cluster {
        name: name.into(),
        metadata: metadata(&[("protocol", value::Kind::StringValue("smoke".into()))]),
        ..Cluster::default()
    }
    .encode_to_vec()
}

pub(in crate::client) fn endpoints(name: &str, ports: &[u32]) -> Vec<u8> {
    let one = |port: &u32| {
        let address = core::SocketAddress {
            address: "10.0.0.1".into(),
            port_specifier: Some(core::socket_address::PortSpecifier::PortValue(*port)),
            ..Default::default()
        };
        let address = core::Address { address: Some(core::address::Address::SocketAddress(address)) };
        endpoint::LbEndpoint {
            load_balancing_weight: Some(UInt32Value { value: 100 }),
            host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(endpoint::Endpoint {
                address: Some(address),
                ..Default::default()
            })),
            ..Default::default()
        }
    };
    endpoint::ClusterLoadAssignment {
        cluster_name: name.into(),
        endpoints: vec![endpoint::LocalityLbEndpoints {
            lb_endpoints: ports.iter().map(one).collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
    .encode_to_vec()
}

pub(in crate::client) fn rule(name: &str, revision: &str) -> Vec<u8> {
    let document = format!("{{\"kind\":\"Route\",\"name\":\"{name}\"}}").into_bytes();
    proto::Rule {
        kind: "Route".into(),
        name: name.into(),
        revision: revision.into(),
        document: document.into(),
    }
    .encode_to_vec()
}

pub(super) const BOTH: [Variant; 2] = [Variant::Delta, Variant::Sotw];
