//! What the control plane sends, and whether Envoy takes it.
use envoy_types::pb::envoy::config::bootstrap::v3::{
    Bootstrap,
    bootstrap::{DynamicResources, StaticResources},
};
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType, LbPolicy};
use envoy_types::pb::envoy::config::core::v3::{
    ApiConfigSource, ApiVersion, GrpcService, HealthStatus, Node, api_config_source::ApiType, grpc_service,
};
use envoy_types::pb::envoy::config::listener::v3::{Listener, filter};
use envoy_types::pb::envoy::config::route::v3::route_action::ClusterSpecifier;
use envoy_types::pb::envoy::config::route::v3::{RouteConfiguration, route};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use envoy_types::pb::google::protobuf::value::Kind as Value;
use prost::Message;
use raddle_model::{LoadOptions, PolicySettings, Resources, Source, load};
use raddle_xds::translate::outward::{self, Routed, Subset};
use raddle_xds::translate::{EndpointView, GROUP, LB_METADATA, METADATA, ServiceView};
use std::collections::BTreeMap;
use std::process::Command;
use std::sync::Arc;

const RULES: &str = r#"
apiVersion: raddle.io/v1
kind: Route
metadata: {name: pay}
spec:
  to: {services: [pay]}
  rules:
    - name: canary
      when: {header: {x-user: {in: [ann, "b.o+b"]}}, path: {prefix: /v2}}
      percent: 12.5
      send: [{group: canary, weight: 30}, {unit: u1, labels: {version: "2"}, weight: 70}]
      timeout: 3s
    - name: old
      when: {path: /old}
      redirect: {path: /new, status: 308, authority: "other.example:8443"}
    - name: changed
      when: {path: {regex: "/x/[0-9]+"}, query: {q: {in: [a, b]}}, authority: pay.example, method: {notEquals: GET}}
      rewrite: {path: {prefix: /x, to: /y}, authority: inner}
      headers: {request: {remove: [x-a], set: {x-b: "1%"}, add: {x-c: [a, b]}}, response: {set: {x-d: d}}}
      mirror: {service: any, percent: 5}
      retry: {attempts: 2, on: [overloaded, timeout], idempotentMethods: [PUT]}
    - name: whole
      when: {header: {x-n: {range: [1, 5]}, x-no: {notIn: [a]}}}
      rewrite: {path: /one}
      send: {group: canary, labels: {tier: core, zone: z}}
    - name: stop
      when: {header: {x-stop: {exists: true}}}
      respond: {status: 503, body: "100 % closed", headers: {x-why: "100 %"}}
"#;

static NONE: BTreeMap<String, String> = BTreeMap::new();

fn rules(text: &str) -> Resources {
    let source = Source { name: "test.yaml".into(), text: text.into() };
    load(&[source], LoadOptions { require_sidecar: false, ..LoadOptions::default() })
        .unwrap_or_else(|report| panic!("{report}"))
        .0
}

fn endpoint<'a>(
    instance: &'a str,
    unit: &'a str,
    group: &'a str,
    weight: u32,
    labels: &'a BTreeMap<String, String>,
) -> EndpointView<'a> {
    EndpointView {
        instance,
        address: [10, 0, 0, 7].into(),
        port: 8080,
        weight,
        unit,
        group,
        version: "2",
        labels,
        tls: true,
        tls_required: false,
        kept: false,
    }
}

fn service<'a>(
    name: &'a str,
    protocol: &'a str,
    hosts: &'a [Arc<str>],
    endpoints: Vec<EndpointView<'a>>,
) -> ServiceView<'a> {
    ServiceView { name, app: "shop", protocol, hosts, metadata: &NONE, endpoints }
}

#[test]
fn endpoints_are_grouped_by_unit_and_carry_what_rules_ask_for() {
    let tier = [("tier".to_owned(), "core".to_owned())].into_iter().collect();
    let list = vec![
        endpoint("a", "u1", "", 100, &tier),
        endpoint("b", "u2", "canary", 50, &NONE),
        endpoint("c", "u1", "", 0, &NONE),
    ];
    let view = service("pay", "grpc", &[], list);
    let assignment = outward::endpoints(&view);
    assert_eq!(assignment.cluster_name, "pay");
    let zones: Vec<_> = assignment
        .endpoints
        .iter()
        .map(|l| {
            (l.locality.clone().unwrap().zone, l.load_balancing_weight.unwrap().value, l.lb_endpoints.len())
        })
        .collect();
    assert_eq!(zones, [("u1".into(), 100, 2), ("u2".into(), 50, 1)]);
    let first = &assignment.endpoints[0].lb_endpoints[0];
    let marks = &first.metadata.as_ref().unwrap().filter_metadata;
    let text = |part: &str, key: &str| match &marks[part].fields[key].kind {
        Some(Value::StringValue(s)) => s.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(text(LB_METADATA, "tier"), "core");
    assert_eq!(text(LB_METADATA, "version"), "2");
    assert_eq!(text(LB_METADATA, GROUP), "default");
    assert_eq!(text(METADATA, "instance"), "a");
    assert_eq!(marks[METADATA].fields["tls"].kind, Some(Value::BoolValue(true)));
    let idle = &assignment.endpoints[0].lb_endpoints[1];
    assert_eq!(idle.health_status, HealthStatus::Draining as i32, "weight 0 gets nothing");
}

#[test]
fn a_subset_has_its_own_cluster_with_its_endpoints() {
    let list = vec![endpoint("a", "u1", "", 100, &NONE), endpoint("b", "u2", "canary", 50, &NONE)];
    let view = service("pay", "grpc", &[], list);
    let canary = Subset { group: Some("canary".into()), ..Subset::default() };
    let cluster = outward::subset_cluster(&view, &canary, &PolicySettings::default());
    let endpoints = outward::subset_endpoints(&view, &canary);
    assert_eq!(cluster.name, endpoints.cluster_name);
    assert_eq!(cluster.eds_cluster_config.unwrap().service_name, cluster.name);
    assert_eq!(cluster.lb_policy, LbPolicy::RoundRobin as i32);
    assert_eq!(endpoints.endpoints.len(), 1);
    let default = outward::subset_endpoints(&view, &Subset::default_group());
    assert_eq!((default.cluster_name.as_str(), default.endpoints.len()), ("pay", 1));
}

#[test]
fn grpc_clients_get_a_listener_and_routes_of_the_targets_name() {
    let listener = outward::grpc_listener("pay");
    let api = listener.api_listener.unwrap().api_listener.unwrap();
    let manager = HttpConnectionManager::decode(&*api.value).unwrap();
    let Some(RouteSpecifier::Rds(rds)) = manager.route_specifier else { panic!("no RDS") };
    assert_eq!((listener.name.as_str(), rds.route_config_name.as_str()), ("pay", "pay"));
    let loaded = rules(RULES);
    let view = service("pay", "grpc", &[], Vec::new());
    let all: Vec<_> = loaded.routes.iter().collect();
    let config = outward::grpc_routes("pay", &view, &all, &PolicySettings::default());
    let routes = &config.virtual_hosts[0].routes;
    let names: Vec<_> = routes.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["pay/canary", "pay/whole", "default"], "its clients cannot redirect or respond");
    let Some(route::Action::Route(action)) = &routes[0].action else { panic!("no route") };
    let Some(ClusterSpecifier::WeightedClusters(weighted)) = &action.cluster_specifier else {
        panic!("no weights")
    };
    let clusters: Vec<_> =
        weighted.clusters.iter().map(|c| (c.name.as_str(), c.weight.unwrap().value)).collect();
    assert_eq!(clusters, [("pay|group=canary", 30), ("pay|group=default|unit=u1|l.version=2", 70)]);
    for (name, _) in clusters {
        assert_eq!(Subset::parse(name).0, "pay");
    }
}

#[test]
fn envoy_gets_a_host_for_each_http_service_and_404_for_all_others() {
    let hosts: [Arc<str>; 2] = ["pay.example".into(), "shared.example".into()];
    let other: [Arc<str>; 1] = ["shared.example".into()];
    let policy = PolicySettings::default();
    let routed = |service| Routed { service, routes: Vec::new(), policy: &policy };
    let config = outward::envoy_routes(&[
        routed(service("pay", "grpc", &hosts, Vec::new())),
        routed(service("web", "http", &other, Vec::new())),
        routed(service("bolt", "bolt", &[], Vec::new())),
    ]);
    let hosts: Vec<_> = config.virtual_hosts.iter().map(|h| (h.name.as_str(), h.domains.join(" "))).collect();
    assert_eq!(
        hosts,
        [("pay", "pay pay.example shared.example".into()), ("web", "web".into()), ("nobody", "*".into())]
    );
    let Some(route::Action::DirectResponse(direct)) = &config.virtual_hosts[2].routes[0].action else {
        panic!("no answer")
    };
    assert_eq!(direct.status, 404);
}

#[test]
fn what_cannot_be_said_is_left_out_and_the_rest_stays() {
    let loaded = rules(
        r"
apiVersion: raddle.io/v1
kind: Route
metadata: {name: r}
spec:
  to: {services: [pay]}
  rules:
    - {name: own, send: {group: same}}
    - {name: mark, when: {loadTest: true}, send: {group: shadow}}
    - {name: other, when: {service: other}, send: {group: x}}
    - {name: this, when: {service: pay}, send: {group: x}}
",
    );
    let view = service("pay", "http", &[], Vec::new());
    let policy = PolicySettings::default();
    let routed = Routed { service: view, routes: loaded.routes.iter().collect(), policy: &policy };
    let config = outward::envoy_routes(&[routed]);
    let names: Vec<_> = config.virtual_hosts[0].routes.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["r/this", "default"]);
}

/// Nothing of what is made is refused by Envoy, all of it in one bootstrap.
#[test]
fn envoy_takes_everything_that_is_made() {
    if Command::new("envoy").arg("--version").output().is_err() {
        eprintln!("there is no envoy here: not tried");
        return;
    }
    let loaded = rules(RULES);
    let labels =
        [("tier", "core"), ("zone", "z")].map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter().collect();
    let hosts: [Arc<str>; 2] = ["pay.example".into(), "*.pay.example".into()];
    let list = || vec![endpoint("a", "u1", "", 100, &labels), endpoint("b", "", "canary", 0, &NONE)];
    let policy = policy();
    let mut clusters = vec![server()];
    let mut routed = Vec::new();
    for (name, protocol) in
        [("pay", "http"), ("com.x.Grpc:1.0", "grpc"), ("h2", "http2"), ("any", ""), ("b", "bolt")]
    {
        let hosts = if name == "pay" { &hosts[..] } else { &[] };
        let view = service(name, protocol, hosts, list());
        clusters.push(outward::cluster(&view, &policy));
        // The endpoints, in a cluster that is told them at once.
        let mut fixed = outward::cluster(&view, &PolicySettings::default());
        fixed.name = format!("fixed {name}");
        fixed.eds_cluster_config = None;
        fixed.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32));
        fixed.load_assignment = Some(outward::endpoints(&view));
        clusters.push(fixed);
        clusters.push(outward::subset_cluster(&view, &Subset::default(), &policy));
        routed.push(Routed { service: view, routes: loaded.routes.iter().collect(), policy: &policy });
    }
    let routes = outward::envoy_routes(&routed);
    let listeners = vec![
        outward::envoy_listener("127.0.0.1:18080".parse().unwrap()),
        outward::envoy_tcp_listener("pay", "127.0.0.1:18081".parse().unwrap()),
        with_routes(routes, 18082),
    ];
    validate(clusters, listeners);
}

fn policy() -> PolicySettings {
    let text = r"
apiVersion: raddle.io/v1
kind: TrafficPolicy
metadata: {name: p}
spec:
  to: {services: [pay]}
  balancer: {consistentHash: {header: x-user}}
  timeouts: {request: 2s}
  retry: {attempts: 2, on: [connectFailure, serverError], perTryTimeout: 1s}
  healthCheck: {kind: http, path: /health, interval: 5s}
";
    rules(text).policies[0].settings.clone()
}

fn server() -> Cluster {
    let view = service("control", "grpc", &[], Vec::new());
    let mut server = outward::cluster(&view, &PolicySettings::default());
    server.eds_cluster_config = None;
    server.lb_subset_config = None;
    server.cluster_discovery_type = Some(ClusterDiscoveryType::Type(DiscoveryType::Static as i32));
    server.load_assignment = Some(outward::endpoints(&view));
    server
}

/// The outbound listener with its routes in it.
fn with_routes(routes: RouteConfiguration, port: u16) -> Listener {
    let mut listener = outward::envoy_listener(([127, 0, 0, 1], port).into());
    listener.name = "with routes".into();
    let filter = &mut listener.filter_chains[0].filters[0];
    let Some(filter::ConfigType::TypedConfig(config)) = &mut filter.config_type else { panic!("no filter") };
    let mut manager = HttpConnectionManager::decode(&*config.value).unwrap();
    manager.route_specifier = Some(RouteSpecifier::RouteConfig(routes));
    config.value = manager.encode_to_vec();
    listener
}

fn validate(clusters: Vec<Cluster>, listeners: Vec<Listener>) {
    let stream = GrpcService {
        target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(grpc_service::EnvoyGrpc {
            cluster_name: "control".into(),
            ..Default::default()
        })),
        ..GrpcService::default()
    };
    let bootstrap = Bootstrap {
        node: Some(Node { id: "n".into(), cluster: "c".into(), ..Node::default() }),
        static_resources: Some(StaticResources {
            clusters,
            listeners,
            secrets: vec![outward::trust_bundle("roots", &[])],
        }),
        dynamic_resources: Some(DynamicResources {
            ads_config: Some(ApiConfigSource {
                api_type: ApiType::Grpc as i32,
                transport_api_version: ApiVersion::V3 as i32,
                grpc_services: vec![stream],
                ..ApiConfigSource::default()
            }),
            ..DynamicResources::default()
        }),
        ..Bootstrap::default()
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bootstrap.pb");
    std::fs::write(&path, bootstrap.encode_to_vec()).unwrap();
    let out =
        Command::new("envoy").args(["--mode", "validate", "-l", "warn", "-c"]).arg(&path).output().unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success(), "{said}");
}
