//! EDS.
use super::{Faults, values};
use crate::translate::{GROUP, LB_METADATA, METADATA, UNIT, VERSION};
use envoy_types::pb::envoy::config::core::v3::HealthStatus;
use envoy_types::pb::envoy::config::endpoint::v3::{
    ClusterLoadAssignment, LbEndpoint, LocalityLbEndpoints, lb_endpoint,
};
use raddle_model::{Endpoint, EndpointTls, Labels};
use std::collections::HashSet;

/// The endpoints of a cluster.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Endpoints {
    /// The cluster, or the name its EDS goes by.
    pub name: String,
    /// Those that may be used, in the server's order; an address occurs once.
    pub endpoints: Vec<Endpoint>,
    /// Whether some are there only because too many vanished at once.
    pub kept: bool,
}

/// Largest weight of the model.
const HEAVIEST: u32 = 10_000;
/// Most addresses whose faults are looked for; the first few tell enough.
const MOST_BAD: usize = 8;

pub(super) fn read(assignment: ClusterLoadAssignment, faults: &mut Faults) -> Option<Endpoints> {
    let mut out = Endpoints { name: assignment.cluster_name, ..Endpoints::default() };
    if !values::is_name(&out.name) {
        faults.add("cluster_name", "is no name; give 1..=512 bytes without spaces");
    }
    let drops = assignment.policy.iter().flat_map(|p| &p.drop_overloads);
    if drops.filter_map(|d| d.drop_percentage).any(|p| p.numerator > 0) {
        faults.add("policy.drop_overloads", "is not supported; give none");
    }
    // Envoy uses a later priority when those before it are not healthy enough. The model has no such order: the
    // first with an endpoint that may be used is the one.
    let usable = |l: &&LocalityLbEndpoints| l.lb_endpoints.iter().any(healthy);
    let first = assignment.endpoints.iter().filter(usable).map(|l| l.priority).min();
    let mut seen = HashSet::new();
    let mut bad = 0;
    for (i, locality) in assignment.endpoints.iter().enumerate() {
        if locality.lb_config.is_some() {
            faults.add(
                &format!("endpoints[{i}]"),
                "leds_cluster_locality_config is not supported; give lb_endpoints",
            );
        }
        if Some(locality.priority) != first {
            continue;
        }
        for (j, given) in locality.lb_endpoints.iter().enumerate().filter(|(_, e)| healthy(e)) {
            match endpoint(locality, given) {
                Ok((endpoint, kept)) => {
                    if seen.insert(endpoint.address) {
                        out.kept |= kept;
                        out.endpoints.push(endpoint);
                    }
                }
                Err(problem) if bad < MOST_BAD => {
                    bad += 1;
                    faults.add(&format!("endpoints[{i}].lb_endpoints[{j}].endpoint.address"), problem);
                }
                Err(_) => {}
            }
        }
    }
    scale(&mut out.endpoints);
    Some(out)
}

fn healthy(endpoint: &LbEndpoint) -> bool {
    matches!(
        HealthStatus::try_from(endpoint.health_status),
        Ok(HealthStatus::Unknown | HealthStatus::Healthy | HealthStatus::Degraded)
    )
}

/// An endpoint, and whether it is only kept by self-protection.
fn endpoint(locality: &LocalityLbEndpoints, given: &LbEndpoint) -> Result<(Endpoint, bool), String> {
    let Some(lb_endpoint::HostIdentifier::Endpoint(host)) = &given.host_identifier else {
        return Err("is given by name; give it here".into());
    };
    let address = values::socket(host.address.as_ref())?;
    let own = values::metadata(given.metadata.as_ref(), METADATA);
    let lb = values::metadata(given.metadata.as_ref(), LB_METADATA);
    let mut labels = Labels::new();
    for (key, value) in lb.iter().flat_map(|s| &s.fields) {
        if ![GROUP, VERSION, UNIT].contains(&key.as_str())
            && let Some(value) = values::scalar(value)
        {
            labels.insert(key.clone(), value);
        }
    }
    // A version is a label to the model.
    if let Some(version) = lb.and_then(|s| values::text(s, VERSION)).filter(|v| !v.is_empty()) {
        labels.entry("version".into()).or_insert_with(|| version.to_owned());
    }
    let unit = lb
        .and_then(|s| values::text(s, UNIT))
        .or_else(|| locality.locality.as_ref().map(|l| l.zone.as_str()))
        .filter(|unit| values::is_name(unit));
    let group = own
        .and_then(|s| values::text(s, "group"))
        .or_else(|| lb.and_then(|s| values::text(s, GROUP)))
        .filter(|group| values::is_name(group))
        .unwrap_or("default");
    // Envoy knows no weight of 0, so Raddle's server says it beside; without one, all are alike.
    let weight = match own.and_then(|s| values::number(s, "weight")) {
        Some(weight) => weight.clamp(0.0, f64::from(HEAVIEST)) as u32,
        None => given.load_balancing_weight.map_or(if own.is_some() { 100 } else { 1 }, |w| w.value),
    };
    let says = |name| own.is_some_and(|s| values::boolean(s, name));
    let tls = says("tls").then(|| EndpointTls { required: says("tlsRequired"), ids: Vec::new() });
    let endpoint =
        Endpoint { address, unit: unit.map(str::to_owned), group: group.to_owned(), weight, labels, tls };
    Ok((endpoint, says("kept")))
}

/// Envoy's weights go to 2³²; ratios count, so large ones are scaled together.
fn scale(endpoints: &mut [Endpoint]) {
    let heaviest = endpoints.iter().map(|e| e.weight).max().unwrap_or(0);
    if heaviest <= HEAVIEST {
        return;
    }
    for endpoint in endpoints.iter_mut().filter(|e| e.weight > 0) {
        let scaled = u64::from(endpoint.weight) * u64::from(HEAVIEST) / u64::from(heaviest);
        endpoint.weight = (scaled as u32).max(1);
    }
}
