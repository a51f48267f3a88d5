//! CDS.
use super::super::{GROUP, METADATA, ServiceView, UNIT};
use super::subset::Subset;
use super::{ads, any, duration, list, metadata, object, text, uint};
use envoy_types::pb::envoy::config::cluster::v3::circuit_breakers::{Thresholds, thresholds::RetryBudget};
use envoy_types::pb::envoy::config::cluster::v3::cluster::lb_subset_config::{
    LbSubsetFallbackPolicy, LbSubsetSelector, lb_subset_selector::LbSubsetSelectorFallbackPolicy,
};
use envoy_types::pb::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, CommonLbConfig, DiscoveryType, EdsClusterConfig, LbPolicy, LbSubsetConfig,
};
use envoy_types::pb::envoy::config::cluster::v3::{CircuitBreakers, Cluster, OutlierDetection};
use envoy_types::pb::envoy::config::core::v3::health_check::{
    GrpcHealthCheck, HealthChecker, HttpHealthCheck, TcpHealthCheck,
};
use envoy_types::pb::envoy::config::core::v3::{
    self as core, HealthCheck, Http1ProtocolOptions, Http2ProtocolOptions,
};
use envoy_types::pb::envoy::extensions::upstreams::http::v3::HttpProtocolOptions;
use envoy_types::pb::envoy::extensions::upstreams::http::v3::http_protocol_options::{
    ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
    explicit_http_config::ProtocolConfig,
};
use envoy_types::pb::envoy::r#type::v3::{Int64Range, Percent};
use envoy_types::pb::google::protobuf::Any;
use raddle_model::{Balancer, CheckKind, PolicySettings};
use std::collections::BTreeSet;

/// Most label keys by which Envoy can be told to make subsets.
const LABELS: usize = 6;

/// CDS: a service, for sidecars and Envoy. `policy` is what holds for the peer.
pub fn cluster(service: &ServiceView<'_>, policy: &PolicySettings) -> Cluster {
    let mut cluster = basics(service.name.to_owned(), policy);
    cluster.lb_policy = balancer(&policy.balancer) as i32;
    cluster.lb_subset_config = Some(subsets(service));
    cluster.outlier_detection = Some(OutlierDetection::default());
    cluster.health_checks = policy.health_check.iter().map(health_check).collect();
    cluster.metadata = Some(metadata(vec![(METADATA, own(service))]));
    if let Some(options) = protocol(service.protocol, policy) {
        let name = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        cluster.typed_extension_protocol_options = [(name.to_owned(), options)].into_iter().collect();
    }
    cluster
}

/// CDS: a subset of a service under a name of its own, for gRPC's clients.
pub fn subset_cluster(service: &ServiceView<'_>, subset: &Subset, policy: &PolicySettings) -> Cluster {
    let mut cluster = basics(subset.name(service.name), policy);
    // Others than these two are refused by some of gRPC's clients.
    cluster.lb_policy = match balancer(&policy.balancer) {
        LbPolicy::RingHash => LbPolicy::RingHash,
        _ => LbPolicy::RoundRobin,
    } as i32;
    cluster
}

fn basics(name: String, policy: &PolicySettings) -> Cluster {
    let panic = (policy.panic_threshold * 100.0).clamp(0.0, 100.0);
    Cluster {
        connect_timeout: Some(duration(policy.timeouts.connect)),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        eds_cluster_config: Some(EdsClusterConfig { eds_config: Some(ads()), service_name: name.clone() }),
        circuit_breakers: Some(CircuitBreakers {
            thresholds: vec![thresholds(policy)],
            ..CircuitBreakers::default()
        }),
        common_lb_config: Some(CommonLbConfig {
            healthy_panic_threshold: Some(Percent { value: panic }),
            ..CommonLbConfig::default()
        }),
        name,
        ..Cluster::default()
    }
}

fn balancer(balancer: &Balancer) -> LbPolicy {
    match balancer {
        Balancer::RoundRobin => LbPolicy::RoundRobin,
        Balancer::P2cEwma | Balancer::LeastRequest => LbPolicy::LeastRequest,
        Balancer::Random => LbPolicy::Random,
        Balancer::ConsistentHash { .. } => LbPolicy::RingHash,
    }
}

fn thresholds(policy: &PolicySettings) -> Thresholds {
    let pool = &policy.pool;
    // Without a word from us, Envoy and gRPC's clients bound everything to 1,024.
    let most = if pool.max_outstanding == 0 { u32::MAX } else { pool.max_outstanding };
    Thresholds {
        max_connections: Some(uint(u32::MAX)),
        max_requests: Some(uint(most)),
        max_pending_requests: Some(uint(pool.max_pending)),
        retry_budget: policy.retry.as_ref().map(|retry| RetryBudget {
            budget_percent: Some(Percent { value: (retry.budget * 100.0).clamp(0.0, 100.0) }),
            ..RetryBudget::default()
        }),
        ..Thresholds::default()
    }
}

/// By what keys routes may pick: the group, with or without unit, with none, one or two labels. Who names none of it
/// gets the default group; what names an empty subset fails.
fn subsets(service: &ServiceView<'_>) -> LbSubsetConfig {
    let mut keys: BTreeSet<&str> =
        service.endpoints.iter().flat_map(|e| e.labels.keys().map(String::as_str)).collect();
    if service.endpoints.iter().any(|e| !e.version.is_empty()) {
        keys.insert("version");
    }
    let keys: Vec<&str> = keys.into_iter().take(LABELS).collect();
    let mut sets: Vec<Vec<&str>> = vec![vec![]];
    for (i, a) in keys.iter().enumerate() {
        sets.push(vec![a]);
        sets.extend(keys[i + 1..].iter().map(|b| vec![*a, *b]));
    }
    let selectors =
        sets.iter().flat_map(|labels| [&[GROUP][..], &[GROUP, UNIT][..]].map(|own| (own, labels)));
    LbSubsetConfig {
        fallback_policy: LbSubsetFallbackPolicy::DefaultSubset as i32,
        default_subset: Some(object([(GROUP.to_owned(), text("default"))])),
        subset_selectors: selectors
            .map(|(own, labels)| LbSubsetSelector {
                keys: own.iter().chain(labels).map(ToString::to_string).collect(),
                fallback_policy: LbSubsetSelectorFallbackPolicy::NoFallback as i32,
                ..LbSubsetSelector::default()
            })
            .collect(),
        ..LbSubsetConfig::default()
    }
}

/// What only Raddle reads.
fn own(service: &ServiceView<'_>) -> envoy_types::pb::google::protobuf::Struct {
    use envoy_types::pb::google::protobuf::{Value, value::Kind};
    let free = object(service.metadata.iter().map(|(k, v)| (k.clone(), text(v))));
    object([
        ("app".to_owned(), text(service.app)),
        ("protocol".to_owned(), text(service.protocol)),
        ("hosts".to_owned(), list(service.hosts.iter().map(|h| text(h)))),
        ("metadata".to_owned(), Value { kind: Some(Kind::StructValue(free)) }),
    ])
}

/// How Envoy speaks HTTP to it; `None` = not at all.
fn protocol(protocol: &str, policy: &PolicySettings) -> Option<Any> {
    let h2 = Http2ProtocolOptions {
        max_concurrent_streams: Some(uint(policy.pool.max_streams.clamp(1, i32::MAX as u32))),
        ..Http2ProtocolOptions::default()
    };
    let explicit = |config| {
        UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config: Some(config) })
    };
    let options = match protocol {
        "http2" | "grpc" | "triple" | "http/2" => explicit(ProtocolConfig::Http2ProtocolOptions(h2)),
        "http" | "http/1.1" => explicit(ProtocolConfig::HttpProtocolOptions(Http1ProtocolOptions::default())),
        "" => UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
            http_protocol_options: Some(Http1ProtocolOptions::default()),
            http2_protocol_options: Some(h2),
            ..UseDownstreamHttpConfig::default()
        }),
        _ => return None,
    };
    let common = policy.pool.idle_timeout.map(|idle| core::HttpProtocolOptions {
        idle_timeout: Some(duration(idle)),
        ..core::HttpProtocolOptions::default()
    });
    Some(any(&HttpProtocolOptions {
        common_http_protocol_options: common,
        upstream_protocol_options: Some(options),
        ..HttpProtocolOptions::default()
    }))
}

fn health_check(check: &raddle_model::HealthCheck) -> HealthCheck {
    let checker = match &check.kind {
        // Envoy knows neither heartbeat: that a connection can be made must do.
        CheckKind::Tcp | CheckKind::Bolt | CheckKind::Dubbo => {
            HealthChecker::TcpHealthCheck(TcpHealthCheck::default())
        }
        CheckKind::Http { path } => HealthChecker::HttpHealthCheck(HttpHealthCheck {
            path: path.clone(),
            expected_statuses: vec![Int64Range { start: 200, end: 400 }],
            ..HttpHealthCheck::default()
        }),
        CheckKind::Grpc { service } => HealthChecker::GrpcHealthCheck(GrpcHealthCheck {
            service_name: service.clone(),
            ..GrpcHealthCheck::default()
        }),
    };
    HealthCheck {
        timeout: Some(duration(check.timeout)),
        interval: Some(duration(check.interval)),
        unhealthy_threshold: Some(uint(u32::from(check.unhealthy_after.max(1)))),
        healthy_threshold: Some(uint(u32::from(check.healthy_after.max(1)))),
        health_checker: Some(checker),
        ..HealthCheck::default()
    }
}
