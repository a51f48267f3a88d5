//! What the control plane knows, as Envoy's resources.
use super::ServiceView;
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::RouteConfiguration;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::Secret;
use raddle_model::{PolicySettings, Route};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// A subset of a service's endpoints. For peers that cannot make subsets by themselves (gRPC's clients), each has a
/// cluster and endpoints of its own, named [`Subset::name`].
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Subset {
    /// Only this group; `None` = all of them.
    pub group: Option<String>,
    /// Only this unit.
    pub unit: Option<String>,
    /// Labels they must carry.
    pub labels: BTreeMap<String, String>,
}

/// CDS: a service, for sidecars and Envoy. `policy` is what holds for the peer.
pub fn cluster(service: &ServiceView<'_>, _policy: &PolicySettings) -> Cluster {
    Cluster { name: service.name.to_owned(), ..Cluster::default() }
}

/// CDS: a subset of a service under a name of its own, for gRPC's clients.
pub fn subset_cluster(service: &ServiceView<'_>, subset: &Subset, _policy: &PolicySettings) -> Cluster {
    Cluster { name: subset.name(service.name), ..Cluster::default() }
}

/// EDS: all endpoints of a service.
pub fn endpoints(service: &ServiceView<'_>) -> ClusterLoadAssignment {
    ClusterLoadAssignment { cluster_name: service.name.to_owned(), ..ClusterLoadAssignment::default() }
}

/// EDS: a subset of a service's endpoints, under the name of [`subset_cluster`].
pub fn subset_endpoints(service: &ServiceView<'_>, subset: &Subset) -> ClusterLoadAssignment {
    ClusterLoadAssignment { cluster_name: subset.name(service.name), ..ClusterLoadAssignment::default() }
}

impl Subset {
    /// The group everybody gets who has no rule: `default`.
    pub fn default_group() -> Subset {
        Subset { group: Some("default".into()), ..Subset::default() }
    }

    /// The name of a service's subset: the service's own for the default group, else `SERVICE|group=G|unit=U|L=V`.
    pub fn name(&self, service: &str) -> String {
        service.to_owned()
    }

    /// The service and subset that [`Subset::name`] made a name of.
    pub fn parse(name: &str) -> (&str, Subset) {
        (name, Subset::default_group())
    }
}

/// LDS for gRPC's clients: the listener named as the target is (`xds:///NAME`), whose routes are RDS of the same name.
pub fn grpc_listener(target: &str) -> Listener {
    Listener { name: target.to_owned(), ..Listener::default() }
}

/// RDS for gRPC's clients. `routes` are those that concern the service and reach the peer, in their order.
pub fn grpc_routes(
    target: &str,
    _service: &ServiceView<'_>,
    _routes: &[&Route],
    _policy: &PolicySettings,
) -> RouteConfiguration {
    RouteConfiguration { name: target.to_owned(), ..RouteConfiguration::default() }
}

/// Name of Envoy's outbound HTTP listener and of its routes.
pub const OUTBOUND: &str = "outbound";

/// LDS for Envoy: the outbound HTTP listener, with RDS [`OUTBOUND`]. Its address is the node's metadata
/// `raddle.listen`.
pub fn envoy_listener(_address: SocketAddr) -> Listener {
    Listener { name: OUTBOUND.to_owned(), ..Listener::default() }
}

/// LDS for Envoy: a TCP listener to one service, named `tcp:SERVICE`. Its address is the node's metadata
/// `raddle.tcp.SERVICE`.
pub fn envoy_tcp_listener(service: &str, _address: SocketAddr) -> Listener {
    Listener { name: format!("tcp:{service}"), ..Listener::default() }
}

/// A service with the routes that concern it and reach the peer, in their order, and the policy that holds.
pub struct Routed<'a> {
    /// The service.
    pub service: ServiceView<'a>,
    /// Its routes.
    pub routes: Vec<&'a Route>,
    /// Its policy.
    pub policy: &'a PolicySettings,
}

/// RDS for Envoy: [`OUTBOUND`], with a virtual host for each HTTP and gRPC service; anything else is answered with 404.
pub fn envoy_routes(_services: &[Routed<'_>]) -> RouteConfiguration {
    RouteConfiguration { name: OUTBOUND.to_owned(), ..RouteConfiguration::default() }
}

/// SDS: a trust bundle. `roots` are certificates, each DER.
pub fn trust_bundle(name: &str, _roots: &[Vec<u8>]) -> Secret {
    Secret { name: name.to_owned(), ..Secret::default() }
}
