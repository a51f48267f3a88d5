//! How callers treat a cluster, from Envoy's own fields.
use super::{Faults, model, values};
use envoy_types::pb::envoy::config::cluster::v3 as envoy;
use envoy_types::pb::envoy::config::core::v3::{HealthCheck, TransportSocket, health_check::HealthChecker};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::{
    HttpProtocolOptions,
    http_protocol_options::{UpstreamProtocolOptions, explicit_http_config::ProtocolConfig},
};
use envoy_types::pb::google::protobuf::Any;
use prost::Message;
use raddle_core::Protocol;
use raddle_model::PolicySettings;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

pub(super) struct Policy {
    pub(super) settings: PolicySettings,
    pub(super) protocol: Option<Protocol>,
    /// Balances by a hash, of which its routes say what it is over.
    pub(super) hashes: bool,
}

/// Where an extension keeps a cluster's HTTP options.
const HTTP: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// Numbers of Envoy that mean "no bound" are larger than the model takes.
const MOST_REQUESTS: u32 = 10_000_000;

#[allow(deprecated, reason = "servers send deprecated fields for years")]
pub(super) fn read(cluster: envoy::Cluster, faults: &mut Faults) -> Option<Policy> {
    let envoy::Cluster {
        name,
        connect_timeout,
        lb_policy,
        load_balancing_policy,
        lb_config,
        circuit_breakers,
        health_checks,
        common_lb_config,
        typed_extension_protocol_options,
        http2_protocol_options,
        transport_socket,
        transport_socket_matches,
        transport_socket_matcher,
        filters,
        upstream_bind_config,
        upstream_config,
        // Read before: where its endpoints come from.
        cluster_discovery_type: _,
        eds_cluster_config: _,
        load_assignment: _,
        // Names and counters.
        alt_stat_name: _,
        stats_matcher: _,
        track_timeout_budgets: _,
        track_cluster_stats: _,
        metadata: _,
        lrs_server: _,
        lrs_report_endpoint_metrics: _,
        // How names are resolved: they are not.
        dns_refresh_rate: _,
        dns_jitter: _,
        dns_failure_refresh_rate: _,
        respect_dns_ttl: _,
        dns_lookup_family: _,
        dns_resolvers: _,
        use_tcp_for_dns_lookups: _,
        dns_resolution_config: _,
        typed_dns_resolver_config: _,
        // The sidecar's own ways of doing the same, or without effect on where requests go.
        per_connection_buffer_limit_bytes: _,
        per_connection_buffer_high_watermark_timeout: _,
        max_requests_per_connection: _,
        upstream_http_protocol_options: _,
        common_http_protocol_options: _,
        http_protocol_options: _,
        wait_for_warm_on_init: _,
        cleanup_interval: _,
        upstream_connection_options: _,
        close_connections_on_host_health_failure: _,
        ignore_health_on_host_removal: _,
        preconnect_policy: _,
        connection_pool_per_downstream_connection: _,
        queuing_policies: _,
        protocol_selection: _,
        // Subsets matter only to routes that choose by metadata; those are refused where they are.
        lb_subset_config: _,
        // The model has no outlier detection yet: endpoints are ejected by the sidecar's own rules.
        outlier_detection: _,
    } = cluster;
    socket(transport_socket.as_ref(), &transport_socket_matches, faults);
    for (given, field) in [
        (transport_socket_matcher.is_some(), "transport_socket_matcher"),
        (!filters.is_empty(), "filters"),
        (upstream_bind_config.is_some(), "upstream_bind_config"),
        (upstream_config.is_some(), "upstream_config"),
    ] {
        if given {
            faults.add(field, "is not supported; leave it out");
        }
    }
    let mut spec = Map::new();
    spec.insert("to".into(), json!({ "services": [name] }));
    let (balancer, hashes) = balancer(lb_policy, load_balancing_policy.as_ref(), faults)?;
    spec.insert("balancer".into(), balancer.into());
    let connect = connect_timeout.map_or(Some(std::time::Duration::from_secs(5)), values::duration);
    match connect {
        Some(connect) => {
            spec.insert("timeouts".into(), json!({ "connect": millis(connect, 60_000) }));
        }
        None => faults.add("connect_timeout", "is no duration; give one over 0"),
    }
    let mut pool = Map::new();
    let (protocol, idle) =
        http(&typed_extension_protocol_options, http2_protocol_options.is_some(), &mut pool, faults);
    if let Some(idle) = idle {
        pool.insert("idleTimeout".into(), idle.into());
    }
    bounds(circuit_breakers, &mut pool);
    if !pool.is_empty() {
        spec.insert("pool".into(), pool.into());
    }
    if let Some(panic) = common_lb_config.and_then(|c| c.healthy_panic_threshold) {
        spec.insert("panicThreshold".into(), json!((panic.value / 100.0).clamp(0.0, 1.0)));
    }
    if let Some(window) = slow_start(lb_config) {
        spec.insert("slowStart".into(), json!({ "window": window }));
    }
    match health_checks.as_slice() {
        [] => {}
        [check] => {
            if let Some(check) = health_check(check, faults) {
                spec.insert("healthCheck".into(), check);
            }
        }
        _ => faults.add("health_checks", "more than one is not supported; give one"),
    }
    let document = json!({
        "apiVersion": "raddle.io/v1", "kind": "TrafficPolicy", "metadata": { "name": name }, "spec": spec,
    });
    let settings = model(&document, faults)?.policies.pop()?.settings;
    Some(Policy { settings, protocol, hashes })
}

fn millis(duration: std::time::Duration, most: u128) -> String {
    format!("{}ms", duration.as_millis().clamp(1, most))
}

const RAW: &str = "envoy.transport_sockets.raw_buffer";

/// Links are encrypted as Raddle does it; a server that demands its own TLS gets a clear no.
fn socket(
    socket: Option<&TransportSocket>,
    matches: &[envoy::cluster::TransportSocketMatch],
    faults: &mut Faults,
) {
    if let Some(socket) = socket.filter(|socket| socket.name != RAW && !socket.name.is_empty()) {
        faults.add("transport_socket", format_args!("{} is not supported; give none, or {RAW}", socket.name));
    }
    // Istio lets endpoints choose; those without a wish get plaintext, and so do all from here.
    let plain = |m: &envoy::cluster::TransportSocketMatch| {
        m.r#match.as_ref().is_none_or(|s| s.fields.is_empty())
            && m.transport_socket.as_ref().is_none_or(|s| s.name == RAW)
    };
    if !matches.is_empty() && !matches.iter().any(plain) {
        faults.add(
            "transport_socket_matches",
            format_args!("none allows plaintext; give one of {RAW} that matches all"),
        );
    }
}

fn balancer(
    policy: i32,
    typed: Option<&envoy::LoadBalancingPolicy>,
    faults: &mut Faults,
) -> Option<(&'static str, bool)> {
    use envoy::cluster::LbPolicy;
    if let Some(typed) = typed {
        let mut names = Vec::new();
        for extension in typed.policies.iter().filter_map(|p| p.typed_extension_config.as_ref()) {
            let any = extension.typed_config.clone().unwrap_or_default();
            let kind = any.type_url.rsplit('.').next().unwrap_or_default().to_owned();
            match kind.as_str() {
                "RoundRobin" | "WrrLocality" | "ClientSideWeightedRoundRobin" => {
                    return Some(("roundRobin", false));
                }
                "LeastRequest" => return Some(("leastRequest", false)),
                "Random" => return Some(("random", false)),
                "RingHash" | "Maglev" => return Some(("random", true)),
                _ => names.push(extension.name.clone()),
            }
        }
        faults.add(
            "load_balancing_policy",
            format_args!(
                "none of [{}] is supported; give round_robin, least_request, random, ring_hash or maglev",
                names.join(", ")
            ),
        );
        return None;
    }
    match LbPolicy::try_from(policy) {
        Ok(LbPolicy::RoundRobin) => Some(("roundRobin", false)),
        Ok(LbPolicy::LeastRequest) => Some(("leastRequest", false)),
        Ok(LbPolicy::Random) => Some(("random", false)),
        Ok(LbPolicy::RingHash | LbPolicy::Maglev) => Some(("random", true)),
        Ok(other) => {
            faults.add(
                "lb_policy",
                format_args!("{} is not supported; give ROUND_ROBIN or LEAST_REQUEST", other.as_str_name()),
            );
            None
        }
        Err(_) => {
            faults.add("lb_policy", format_args!("{policy} is not known"));
            None
        }
    }
}

fn http(
    options: &HashMap<String, Any>,
    legacy: bool,
    pool: &mut Map<String, Value>,
    faults: &mut Faults,
) -> (Option<Protocol>, Option<String>) {
    let mut protocol = legacy.then_some(Protocol::Http2);
    let mut idle = None;
    for (name, any) in options {
        if name != HTTP {
            // Of other protocols (TCP, Redis): without a meaning to requests.
            continue;
        }
        let Ok(http) = HttpProtocolOptions::decode(&*any.value) else {
            faults.add("typed_extension_protocol_options", format_args!("{name} does not decode"));
            continue;
        };
        idle = http
            .common_http_protocol_options
            .and_then(|common| values::duration(common.idle_timeout?))
            .filter(|idle| !idle.is_zero())
            .map(|idle| millis(idle.max(std::time::Duration::from_secs(1)), 7 * 86_400_000));
        let Some(UpstreamProtocolOptions::ExplicitHttpConfig(explicit)) = http.upstream_protocol_options
        else {
            continue;
        };
        match explicit.protocol_config {
            Some(ProtocolConfig::Http2ProtocolOptions(h2)) => {
                protocol = Some(Protocol::Http2);
                if let Some(streams) = h2.max_concurrent_streams {
                    pool.insert("maxStreams".into(), streams.value.clamp(1, 1_000_000).into());
                }
            }
            Some(ProtocolConfig::Http3ProtocolOptions(_)) => {
                faults.add("typed_extension_protocol_options", "HTTP/3 is not supported; give HTTP/2");
            }
            Some(ProtocolConfig::HttpProtocolOptions(_)) | None => protocol = Some(Protocol::Http),
        }
    }
    (protocol, idle)
}

fn bounds(breakers: Option<envoy::CircuitBreakers>, pool: &mut Map<String, Value>) {
    // Connections are counted for a cluster there and for an endpoint here: that bound cannot be said.
    let default = breakers.into_iter().flat_map(|b| b.thresholds).find(|t| t.priority == 0);
    let Some(default) = default else { return };
    if let Some(most) = default.max_requests {
        let bound = if most.value > MOST_REQUESTS { 0 } else { most.value.max(1) };
        pool.insert("maxOutstanding".into(), bound.into());
    }
    if let Some(most) = default.max_pending_requests {
        pool.insert("maxPending".into(), most.value.min(MOST_REQUESTS).into());
    }
}

fn slow_start(config: Option<envoy::cluster::LbConfig>) -> Option<String> {
    use envoy::cluster::LbConfig;
    let slow = match config? {
        LbConfig::RoundRobinLbConfig(config) => config.slow_start_config?,
        LbConfig::LeastRequestLbConfig(config) => config.slow_start_config?,
        LbConfig::RingHashLbConfig(_) | LbConfig::MaglevLbConfig(_) | LbConfig::OriginalDstLbConfig(_) => {
            return None;
        }
    };
    let window = values::duration(slow.slow_start_window?).filter(|w| !w.is_zero())?;
    Some(millis(window.max(std::time::Duration::from_millis(100)), 3_600_000))
}

fn health_check(check: &HealthCheck, faults: &mut Faults) -> Option<Value> {
    let mut out = match &check.health_checker {
        Some(HealthChecker::TcpHealthCheck(_)) => json!({ "kind": "tcp" }),
        Some(HealthChecker::HttpHealthCheck(http)) => json!({ "kind": "http", "path": http.path }),
        Some(HealthChecker::GrpcHealthCheck(grpc)) if grpc.service_name.is_empty() => {
            json!({ "kind": "grpc" })
        }
        Some(HealthChecker::GrpcHealthCheck(grpc)) => json!({ "kind": "grpc", "service": grpc.service_name }),
        Some(HealthChecker::CustomHealthCheck(custom)) => {
            faults.add(
                "health_checks[0]",
                format_args!("{} is not supported; give tcp, http or grpc", custom.name),
            );
            return None;
        }
        None => return None,
    };
    let fields = out.as_object_mut()?;
    let interval = check.interval.and_then(values::duration).unwrap_or(std::time::Duration::from_secs(5));
    let interval =
        interval.clamp(std::time::Duration::from_millis(100), std::time::Duration::from_secs(3600));
    let timeout =
        check.timeout.and_then(values::duration).unwrap_or(std::time::Duration::from_secs(1)).min(interval);
    fields.insert("interval".into(), millis(interval, 3_600_000).into());
    fields.insert("timeout".into(), millis(timeout, 600_000).into());
    for (name, threshold) in
        [("unhealthyAfter", check.unhealthy_threshold), ("healthyAfter", check.healthy_threshold)]
    {
        if let Some(threshold) = threshold {
            fields.insert(name.into(), threshold.value.clamp(1, 100).into());
        }
    }
    Some(out)
}
