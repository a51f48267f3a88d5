//! What of Envoy's resources is taken, and what is said of the rest.
use envoy_types::pb::envoy::config::cluster::v3 as cluster;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as endpoint;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::google::protobuf::{Duration, UInt32Value};
use prost::Message;
use raddle_model::{Balancer, IfEmpty, Matcher, PathRewrite, RouteRule, Subject};
use raddle_xds::translate::inward::{Discovery, Parsed, label, parse};
use raddle_xds::types::Kind;

fn refused(kind: Kind, message: &impl Message) -> String {
    parse(kind, &message.encode_to_vec()).expect_err("it is refused")
}

fn address(host: &str, port: u32) -> Option<core::Address> {
    let socket = core::SocketAddress {
        address: host.into(),
        port_specifier: Some(core::socket_address::PortSpecifier::PortValue(port)),
        ..Default::default()
    };
    Some(core::Address { address: Some(core::address::Address::SocketAddress(socket)) })
}

fn lb_endpoint(host: &str, port: u32, weight: u32, health: i32) -> endpoint::LbEndpoint {
    let host = endpoint::Endpoint { address: address(host, port), ..Default::default() };
    endpoint::LbEndpoint {
        health_status: health,
        load_balancing_weight: Some(UInt32Value { value: weight }),
        host_identifier: Some(endpoint::lb_endpoint::HostIdentifier::Endpoint(host)),
        ..Default::default()
    }
}

fn list(endpoints: Vec<endpoint::LbEndpoint>) -> endpoint::ClusterLoadAssignment {
    let locality = core::Locality { zone: "u1".into(), ..Default::default() };
    let endpoints = vec![endpoint::LocalityLbEndpoints {
        locality: Some(locality),
        lb_endpoints: endpoints,
        ..Default::default()
    }];
    endpoint::ClusterLoadAssignment { cluster_name: "pay".into(), endpoints, ..Default::default() }
}

fn of_type(kind: cluster::cluster::DiscoveryType) -> Option<cluster::cluster::ClusterDiscoveryType> {
    Some(cluster::cluster::ClusterDiscoveryType::Type(kind as i32))
}

#[test]
fn a_static_cluster_of_another_server_brings_its_endpoints_and_policy() {
    let thresholds = cluster::circuit_breakers::Thresholds {
        max_requests: Some(UInt32Value { value: 200 }),
        max_pending_requests: Some(UInt32Value { value: u32::MAX }),
        ..Default::default()
    };
    let message = cluster::Cluster {
        name: "pay".into(),
        cluster_discovery_type: of_type(cluster::cluster::DiscoveryType::StrictDns),
        load_assignment: Some(list(vec![
            lb_endpoint("10.0.0.1", 80, 3, 0),
            lb_endpoint("10.0.0.2", 80, 1, 2),
            lb_endpoint("10.0.0.1", 80, 9, 1),
        ])),
        connect_timeout: Some(Duration { seconds: 0, nanos: 250_000_000 }),
        lb_policy: cluster::cluster::LbPolicy::LeastRequest as i32,
        circuit_breakers: Some(cluster::CircuitBreakers {
            thresholds: vec![thresholds],
            ..Default::default()
        }),
        alt_stat_name: "harmless".into(),
        ..Default::default()
    };
    let Ok(Parsed::Cluster(parsed)) = parse(Kind::Cluster, &message.encode_to_vec()) else {
        panic!("a cluster")
    };
    let Discovery::Inline(list) = &parsed.discovery else { panic!("inline") };
    assert_eq!(list.endpoints.len(), 1, "the unhealthy and the repeated are left out");
    assert_eq!((list.endpoints[0].weight, list.endpoints[0].unit.as_deref()), (3, Some("u1")));
    let settings = parsed.policy.as_ref().expect("a policy");
    assert_eq!(settings.balancer, Balancer::LeastRequest);
    assert_eq!(settings.timeouts.connect.as_millis(), 250);
    assert_eq!((settings.pool.max_outstanding, settings.pool.max_pending), (200, 10_000_000));
}

#[test]
fn what_the_model_cannot_say_of_a_cluster_is_told_with_its_field() {
    use cluster::cluster::DiscoveryType;
    let base = || cluster::Cluster { name: "pay".into(), ..Default::default() };
    let quic = core::TransportSocket { name: "envoy.transport_sockets.quic".into(), ..Default::default() };
    let cases = vec![
        (
            cluster::Cluster { transport_socket: Some(quic), ..base() },
            "transport_socket: envoy.transport_sockets.quic is not supported",
        ),
        (
            cluster::Cluster { cluster_discovery_type: of_type(DiscoveryType::OriginalDst), ..base() },
            "type: ORIGINAL_DST is not supported; give EDS or STATIC",
        ),
        (
            cluster::Cluster {
                load_assignment: Some(list(vec![lb_endpoint("pay.internal", 80, 1, 0)])),
                ..base()
            },
            "load_assignment.endpoints[0].lb_endpoints[0].endpoint.address: \"pay.internal\" is no ip address",
        ),
        (
            cluster::Cluster { lb_policy: cluster::cluster::LbPolicy::ClusterProvided as i32, ..base() },
            "lb_policy: CLUSTER_PROVIDED is not supported",
        ),
        (cluster::Cluster { filters: vec![Default::default()], ..base() }, "filters: is not supported"),
        (cluster::Cluster::default(), "name: is no name"),
    ];
    for (message, told) in cases {
        let reason = refused(Kind::Cluster, &message);
        assert!(reason.starts_with(told), "{reason} is not {told}");
    }
}

#[test]
fn large_weights_keep_their_ratio_and_later_priorities_wait() {
    let mut message =
        list(vec![lb_endpoint("10.0.0.1", 1, 1_000_000, 0), lb_endpoint("10.0.0.2", 1, 500_000, 0)]);
    message.endpoints.push(endpoint::LocalityLbEndpoints {
        priority: 1,
        lb_endpoints: vec![lb_endpoint("10.0.0.3", 1, 1, 0)],
        ..Default::default()
    });
    let Ok(Parsed::Endpoints(parsed)) = parse(Kind::Endpoints, &message.encode_to_vec()) else {
        panic!("a list")
    };
    assert_eq!(parsed.endpoints.iter().map(|e| e.weight).collect::<Vec<_>>(), [10_000, 5_000]);
}

fn config(routes: Vec<route::Route>) -> route::RouteConfiguration {
    let host = route::VirtualHost {
        name: "shop".into(),
        domains: vec!["Shop.internal:8080".into(), "*.shop.internal".into()],
        routes,
        ..Default::default()
    };
    route::RouteConfiguration { name: "80".into(), virtual_hosts: vec![host], ..Default::default() }
}

fn rules(message: &route::RouteConfiguration) -> Vec<RouteRule> {
    match parse(Kind::Routes, &message.encode_to_vec()) {
        Ok(Parsed::Routes(routes)) => routes.hosts[0].rules.clone(),
        other => panic!("no routes: {other:?}"),
    }
}

fn to(path: route::route_match::PathSpecifier, action: route::RouteAction) -> route::Route {
    let matched = route::RouteMatch { path_specifier: Some(path), ..Default::default() };
    route::Route {
        r#match: Some(matched),
        action: Some(route::route::Action::Route(action)),
        ..Default::default()
    }
}

fn to_cluster(name: &str) -> route::RouteAction {
    let cluster_specifier = Some(route::route_action::ClusterSpecifier::Cluster(name.into()));
    route::RouteAction { cluster_specifier, ..Default::default() }
}

#[test]
fn routes_become_rules_with_conditions_destinations_times_and_rewrites() {
    use route::route_match::PathSpecifier;
    let retry = route::RetryPolicy {
        retry_on: "connect-failure,refused-stream,unavailable,cancelled".into(),
        num_retries: Some(UInt32Value { value: 2 }),
        ..Default::default()
    };
    let action = route::RouteAction {
        prefix_rewrite: "/v2/".into(),
        timeout: Some(Duration { seconds: 3, nanos: 0 }),
        retry_policy: Some(retry),
        ..to_cluster("pay")
    };
    let message = config(vec![to(PathSpecifier::Prefix("/api/".into()), action)]);
    let rules = rules(&message);
    assert_eq!(rules.len(), 2, "what no route takes gets 404");
    let rule = &rules[0];
    assert_eq!(rule.when.len(), 1);
    assert_eq!(rule.when[0].subject, Subject::Path);
    assert!(matches!(&rule.when[0].matcher, Matcher::Prefix(p) if p == "/api/"));
    assert_eq!(rule.send[0].labels.get(&label("pay")).map(String::as_str), Some("true"));
    assert_eq!(rule.if_empty, IfEmpty::Fail);
    assert_eq!(rule.timeout.map(|t| t.as_secs()), Some(3));
    assert_eq!(rule.retry.as_ref().map(|r| (r.attempts, r.on.len())), Some((2, 3)));
    let rewrite = rule.actions.rewrite.as_ref().and_then(|r| r.path.clone());
    assert_eq!(rewrite, Some(PathRewrite::Prefix { from: "/api/".into(), to: "/v2/".into() }));
    assert_eq!(rules[1].actions.respond.as_ref().map(|r| r.status), Some(404));
}

#[test]
fn what_the_model_cannot_say_of_a_route_is_told_with_its_field() {
    use route::route_match::PathSpecifier;
    let all = || PathSpecifier::Prefix("/".into());
    let variable = core::HeaderValueOption {
        header: Some(core::HeaderValue { key: "x-a".into(), value: "%REQ(x)%".into(), ..Default::default() }),
        ..Default::default()
    };
    let by_header = route::RouteAction {
        cluster_specifier: Some(route::route_action::ClusterSpecifier::ClusterHeader("x".into())),
        ..Default::default()
    };
    let regex = PathSpecifier::SafeRegex(envoy_types::pb::envoy::r#type::matcher::v3::RegexMatcher {
        regex: "/(".into(),
        ..Default::default()
    });
    let meta = route::RouteAction { metadata_match: Some(core::Metadata::default()), ..to_cluster("pay") };
    let cases = [
        (to(all(), by_header), "virtual_hosts[0].routes[0].route: its cluster is not given by name"),
        (to(all(), meta), "virtual_hosts[0].routes[0].route.metadata_match: is not supported"),
        (to(regex, to_cluster("pay")), "virtual_hosts[0]: spec.rules[0].when.path.regex: "),
        (
            route::Route { request_headers_to_add: vec![variable], ..to(all(), to_cluster("pay")) },
            "virtual_hosts[0].routes[0].request_headers_to_add: x-a: \"%REQ(x)%\" has a variable",
        ),
    ];
    for (route, told) in cases {
        let reason = refused(Kind::Routes, &config(vec![route]));
        assert!(reason.starts_with(told), "{reason} is not {told}");
    }
}

#[test]
fn what_no_service_takes_is_passed_over_and_a_star_with_a_purpose_is_not() {
    let star = |cluster: &str| {
        let mut message =
            config(vec![to(route::route_match::PathSpecifier::Prefix("/".into()), to_cluster(cluster))]);
        message.virtual_hosts[0].domains = vec!["*".into()];
        message
    };
    let Ok(Parsed::Routes(routes)) = parse(Kind::Routes, &star("PassthroughCluster").encode_to_vec()) else {
        panic!("routes")
    };
    assert!(routes.hosts.is_empty());
    let reason = refused(Kind::Routes, &star("pay"));
    assert!(reason.starts_with("virtual_hosts[0].domains: [*] names no host"), "{reason}");
}
