//! CDS.
use super::{Endpoints, Faults, endpoints, policy, values};
use crate::translate::METADATA;
use envoy_types::pb::envoy::config::cluster::v3 as envoy;
use envoy_types::pb::envoy::config::core::v3::{ConfigSource, config_source::ConfigSourceSpecifier};
use envoy_types::pb::google::protobuf::Struct;
use raddle_core::Protocol;
use raddle_model::PolicySettings;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A cluster: a service without its endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Cluster {
    /// Its name: the service's.
    pub name: String,
    /// The app that publishes it; empty = not said.
    pub app: String,
    /// What its endpoints speak; `None` = the request's.
    pub protocol: Option<Protocol>,
    /// Further HTTP hosts.
    pub hosts: Vec<String>,
    /// The framework's metadata.
    pub metadata: BTreeMap<String, String>,
    /// Whether the list of endpoints is the last good one.
    pub kept: bool,
    /// Where its endpoints come from.
    pub discovery: Discovery,
    /// How callers treat it, from a server other than Raddle's.
    pub policy: Option<PolicySettings>,
    /// Whether the balancer hashes what its routes say.
    pub hashes: bool,
}

/// Where a cluster's endpoints come from.
#[derive(Clone, Debug, PartialEq)]
pub enum Discovery {
    /// EDS, by this name.
    Eds(Arc<str>),
    /// The cluster itself.
    Inline(Arc<Endpoints>),
}

impl Cluster {
    /// The name of its EDS resource, if it has one.
    pub fn eds(&self) -> Option<&Arc<str>> {
        match &self.discovery {
            Discovery::Eds(name) => Some(name),
            Discovery::Inline(_) => None,
        }
    }
}

pub(super) fn read(cluster: envoy::Cluster, faults: &mut Faults) -> Option<Cluster> {
    if !values::is_name(&cluster.name) {
        faults.add("name", "is no name; give 1..=512 bytes without spaces");
        return None;
    }
    let own = values::metadata(cluster.metadata.as_ref(), METADATA).cloned();
    match own {
        Some(own) => native(cluster, &own, faults),
        None => foreign(cluster, faults),
    }
}

/// From Raddle's control plane: what is beside the metadata is for Envoy.
fn native(cluster: envoy::Cluster, own: &Struct, faults: &mut Faults) -> Option<Cluster> {
    let protocol = match values::text(own, "protocol").filter(|p| !p.is_empty()).map(str::parse) {
        None => None,
        Some(Ok(protocol)) => Some(protocol),
        Some(Err(e)) => {
            faults.add("metadata.raddle.protocol", e);
            None
        }
    };
    let hosts = values::texts(own, "hosts");
    for host in hosts.iter().filter(|host| !values::is_host(host)) {
        faults
            .add("metadata.raddle.hosts", format_args!("{host:?} is no host; give lower case, without port"));
    }
    let app = values::text(own, "app").unwrap_or_default().to_owned();
    if !app.is_empty() && !values::is_name(&app) {
        faults.add("metadata.raddle.app", "is no name");
    }
    let metadata = values::object(own, "metadata").map(|object| {
        object.fields.iter().filter_map(|(k, v)| Some((k.clone(), values::scalar(v)?))).collect()
    });
    Some(Cluster {
        app,
        protocol,
        hosts,
        metadata: metadata.unwrap_or_default(),
        kept: values::boolean(own, "kept"),
        discovery: discovery(&cluster, faults)?,
        policy: None,
        hashes: false,
        name: cluster.name,
    })
}

fn foreign(cluster: envoy::Cluster, faults: &mut Faults) -> Option<Cluster> {
    let discovery = discovery(&cluster, faults);
    let name = cluster.name.clone();
    let policy = policy::read(cluster, faults)?;
    Some(Cluster {
        name,
        app: String::new(),
        protocol: policy.protocol,
        hosts: Vec::new(),
        metadata: BTreeMap::new(),
        kept: false,
        discovery: discovery?,
        policy: Some(policy.settings),
        hashes: policy.hashes,
    })
}

fn discovery(cluster: &envoy::Cluster, faults: &mut Faults) -> Option<Discovery> {
    use envoy::cluster::{ClusterDiscoveryType, DiscoveryType};
    let kind = match &cluster.cluster_discovery_type {
        None => DiscoveryType::Static,
        Some(ClusterDiscoveryType::Type(kind)) => match DiscoveryType::try_from(*kind) {
            Ok(kind) => kind,
            Err(_) => {
                faults.add("type", format_args!("{kind} is not known"));
                return None;
            }
        },
        Some(ClusterDiscoveryType::ClusterType(custom)) => {
            faults.add("cluster_type", format_args!("{} is not supported; give EDS or STATIC", custom.name));
            return None;
        }
    };
    match kind {
        DiscoveryType::Eds => {
            let eds = cluster.eds_cluster_config.clone().unwrap_or_default();
            if !over_ads(eds.eds_config.as_ref()) {
                faults.add("eds_cluster_config.eds_config", "is not supported; give ads or self");
            }
            let name = if eds.service_name.is_empty() { &cluster.name } else { &eds.service_name };
            if !values::is_name(name) {
                faults.add("eds_cluster_config.service_name", "is no name");
            }
            Some(Discovery::Eds(name.as_str().into()))
        }
        DiscoveryType::Static | DiscoveryType::StrictDns | DiscoveryType::LogicalDns => {
            let mut assignment = cluster.load_assignment.clone().unwrap_or_default();
            assignment.cluster_name.clone_from(&cluster.name);
            let mut inner = Faults::default();
            let inline = endpoints::read(assignment, &mut inner);
            for fault in inner.0 {
                faults.add("", format_args!("load_assignment.{fault}"));
            }
            inline.map(|inline| Discovery::Inline(Arc::new(inline)))
        }
        DiscoveryType::OriginalDst => {
            faults.add("type", "ORIGINAL_DST is not supported; give EDS or STATIC");
            None
        }
    }
}

/// Whether a resource is to be asked for on this same stream.
pub(super) fn over_ads(source: Option<&ConfigSource>) -> bool {
    matches!(
        source.map(|s| s.config_source_specifier.as_ref()),
        None | Some(None | Some(ConfigSourceSpecifier::Ads(_) | ConfigSourceSpecifier::Self_(_)))
    )
}
