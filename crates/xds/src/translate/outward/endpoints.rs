//! EDS.
use super::super::{EndpointView, GROUP, LB_METADATA, METADATA, ServiceView, UNIT, VERSION};
use super::subset::{Subset, group};
use super::{boolean, metadata, number, object, text, uint};
use envoy_types::pb::envoy::config::core::v3::{
    Address, HealthStatus, Locality, Metadata, SocketAddress, address, socket_address,
};
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint,
};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// EDS: all endpoints of a service.
pub fn endpoints(service: &ServiceView<'_>) -> ClusterLoadAssignment {
    assignment(service.name.to_owned(), service.endpoints.iter())
}

/// EDS: a subset of a service's endpoints, under the name of [`subset_cluster`](super::subset_cluster).
pub fn subset_endpoints(service: &ServiceView<'_>, subset: &Subset) -> ClusterLoadAssignment {
    assignment(subset.name(service.name), service.endpoints.iter().filter(|e| subset.covers(e)))
}

/// A locality for each unit. Its weight is the sum of its endpoints', since gRPC's clients take none without.
fn assignment<'e, 'v: 'e>(
    name: String,
    endpoints: impl Iterator<Item = &'e EndpointView<'v>>,
) -> ClusterLoadAssignment {
    let mut units: BTreeMap<&str, Vec<&EndpointView<'_>>> = BTreeMap::new();
    for endpoint in endpoints {
        units.entry(endpoint.unit).or_default().push(endpoint);
    }
    let localities = units.into_iter().map(|(unit, list)| LocalityLbEndpoints {
        locality: Some(Locality { zone: unit.to_owned(), ..Locality::default() }),
        load_balancing_weight: Some(uint(sum(&list))),
        lb_endpoints: list.into_iter().map(endpoint).collect(),
        ..LocalityLbEndpoints::default()
    });
    ClusterLoadAssignment { cluster_name: name, endpoints: localities.collect(), ..Default::default() }
}

fn sum(endpoints: &[&EndpointView<'_>]) -> u32 {
    let sum: u64 = endpoints.iter().map(|e| u64::from(e.weight)).sum();
    // Envoy wants those of all units together below 2³².
    sum.clamp(1, 1 << 24) as u32
}

fn endpoint(e: &EndpointView<'_>) -> LbEndpoint {
    // Envoy knows no weight of 0, but endpoints that are leaving and get nothing.
    let health = if e.weight == 0 { HealthStatus::Draining } else { HealthStatus::Unknown };
    LbEndpoint {
        health_status: health as i32,
        load_balancing_weight: Some(uint(e.weight.max(1))),
        metadata: Some(marks(e)),
        host_identifier: Some(lb_endpoint::HostIdentifier::Endpoint(Endpoint {
            address: Some(socket(e.address, e.port)),
            ..Endpoint::default()
        })),
    }
}

pub(super) fn socket(ip: IpAddr, port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: ip.to_string(),
            port_specifier: Some(socket_address::PortSpecifier::PortValue(u32::from(port))),
            ..SocketAddress::default()
        })),
    }
}

fn marks(e: &EndpointView<'_>) -> Metadata {
    let mut lb: BTreeMap<&str, &str> = BTreeMap::new();
    // Rules ask for a version as a label; a label of that name is meant first.
    if !e.version.is_empty() {
        lb.insert("version", e.version);
        lb.insert(VERSION, e.version);
    }
    lb.extend(e.labels.iter().map(|(k, v)| (k.as_str(), v.as_str())));
    lb.insert(GROUP, group(e));
    if !e.unit.is_empty() {
        lb.insert(UNIT, e.unit);
    }
    let own = [
        ("instance", text(e.instance)),
        ("group", text(group(e))),
        ("weight", number(e.weight)),
        ("tls", boolean(e.tls)),
        ("tlsRequired", boolean(e.tls && e.tls_required)),
        ("kept", boolean(e.kept)),
    ];
    metadata(vec![
        (LB_METADATA, object(lb.into_iter().map(|(k, v)| (k.to_owned(), text(v))))),
        (METADATA, object(own.map(|(k, v)| (k.to_owned(), v)))),
    ])
}
