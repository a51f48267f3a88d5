//! Servers that are not Raddle's: listeners, routes and clusters make services.
use super::*;
use crate::translate::inward::label;
use envoy_types::pb::envoy::config::listener::v3 as listener;
use envoy_types::pb::envoy::config::route::v3 as route;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3 as manager;
use raddle_model::Balancer;

fn listening(variant: Variant) -> Rig {
    let mut rig = Rig::new(variant, Settings { listen: true, ..settings() });
    rig.said();
    rig
}

pub(in crate::client) fn plain_cluster(name: &str, policy: i32) -> Vec<u8> {
    use envoy_types::pb::envoy::config::cluster::v3::cluster::DiscoveryType;
    Cluster {
        name: name.into(),
        lb_policy: policy,
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds as i32)),
        ..Cluster::default()
    }
    .encode_to_vec()
}

pub(in crate::client) fn http_listener(name: &str, rds: &str) -> Vec<u8> {
    let rds = manager::Rds { route_config_name: rds.into(), ..Default::default() };
    let manager = manager::HttpConnectionManager {
        route_specifier: Some(manager::http_connection_manager::RouteSpecifier::Rds(rds)),
        ..Default::default()
    };
    let filter = listener::Filter {
        name: "http".into(),
        config_type: Some(listener::filter::ConfigType::TypedConfig(envoy_types::util::pack_any(manager))),
    };
    let chain = listener::FilterChain { filters: vec![filter], ..Default::default() };
    listener::Listener { name: name.into(), filter_chains: vec![chain], ..Default::default() }.encode_to_vec()
}

pub(in crate::client) fn routes(name: &str, clusters: &[(&str, u32)]) -> Vec<u8> {
    use route::weighted_cluster::ClusterWeight;
    let clusters = clusters.iter().map(|(name, weight)| ClusterWeight {
        name: (*name).into(),
        weight: Some(UInt32Value { value: *weight }),
        ..Default::default()
    });
    let weighted = route::WeightedCluster { clusters: clusters.collect(), ..Default::default() };
    let action = route::RouteAction {
        cluster_specifier: Some(route::route_action::ClusterSpecifier::WeightedClusters(weighted)),
        ..Default::default()
    };
    let one = route::Route {
        r#match: Some(route::RouteMatch {
            path_specifier: Some(route::route_match::PathSpecifier::Prefix("/".into())),
            ..Default::default()
        }),
        action: Some(route::route::Action::Route(action)),
        ..Default::default()
    };
    let host = route::VirtualHost {
        name: "shop:80".into(),
        domains: vec!["shop.internal".into(), "shop.internal:80".into(), "shop".into()],
        routes: vec![one],
        ..Default::default()
    };
    route::RouteConfiguration { name: name.into(), virtual_hosts: vec![host], ..Default::default() }
        .encode_to_vec()
}

#[test]
fn a_wildcard_begins_with_an_empty_request_and_routes_follow_listeners() {
    for variant in BOTH {
        let mut rig = Rig::new(variant, Settings { listen: true, ..settings() });
        let said = rig.said();
        assert_eq!(said.len(), 2, "clusters and listeners");
        for message in &said {
            match message {
                Message::Delta(m) => assert!(m.resource_names_subscribe.is_empty()),
                Message::Sotw(m) => assert!(m.resource_names.is_empty()),
            }
        }
        rig.send(variant, Kind::Listener, &[("out", http_listener("out", "80"))]);
        let asked = rig.said().iter().any(|m| match m {
            Message::Delta(m) => m.resource_names_subscribe == ["80"],
            Message::Sotw(m) => m.resource_names == ["80"],
        });
        assert!(asked);
    }
}

#[test]
fn a_virtual_host_is_a_service_of_all_its_clusters_when_they_are_there() {
    for variant in BOTH {
        let mut rig = listening(variant);
        rig.send(variant, Kind::Cluster, &[("v1", plain_cluster("v1", 0)), ("v2", plain_cluster("v2", 0))]);
        rig.send(variant, Kind::Listener, &[("out", http_listener("out", "80"))]);
        rig.said();
        rig.send(variant, Kind::Routes, &[("80", routes("80", &[("v1", 90), ("v2", 10)]))]);
        rig.send(variant, Kind::Endpoints, &[("v1", endpoints("v1", &[1, 2]))]);
        assert_eq!(rig.world.sizes(), BTreeMap::from([("v1", 2)]), "the routes wait for v2");
        rig.send(
            variant,
            Kind::Endpoints,
            &[("v1", endpoints("v1", &[1, 2])), ("v2", endpoints("v2", &[2, 3]))],
        );
        assert_eq!(rig.world.sizes(), BTreeMap::from([("shop.internal", 3), ("v1", 2), ("v2", 2)]));
        let service = &rig.world.services["shop.internal"];
        assert_eq!(service.hosts, ["shop"]);
        let both = service.endpoints.iter().find(|e| e.address.port() == 2).expect("an endpoint");
        assert!(both.labels.contains_key(&label("v1")) && both.labels.contains_key(&label("v2")));
        let last = rig.world.updates.last().expect("an update");
        let (_, route) = &last.routes[0];
        let send = &route.as_ref().expect("a route").rules[0].send;
        assert_eq!(send.iter().map(|d| d.weight).collect::<Vec<_>>(), [90, 10]);
        let policy = last.policies.iter().find(|(name, _)| &**name == "shop.internal").expect("a policy");
        let settings = &policy.1.as_ref().expect("a policy").settings;
        assert_eq!(settings.balancer, Balancer::RoundRobin);
        // Listener gone: so is the virtual host, and its clusters stay.
        match variant {
            Variant::Delta => drop(rig.delta(Kind::Listener, &[], &["out"])),
            Variant::Sotw => drop(rig.sotw(Kind::Listener, "2", &[])),
        }
        rig.pass(Duration::ZERO);
        assert_eq!(rig.world.sizes(), BTreeMap::from([("v1", 2), ("v2", 2)]));
    }
}

#[test]
fn a_virtual_host_named_like_a_cluster_takes_its_place_and_gives_it_back() {
    let mut rig = listening(Variant::Delta);
    rig.delta(Kind::Cluster, &[("shop.internal", "1", plain_cluster("shop.internal", 2))], &[]);
    rig.said();
    rig.delta(Kind::Endpoints, &[("shop.internal", "1", endpoints("shop.internal", &[1]))], &[]);
    assert!(rig.world.services["shop.internal"].hosts.is_empty());
    rig.delta(Kind::Listener, &[("out", "1", http_listener("out", "80"))], &[]);
    rig.said();
    rig.delta(Kind::Routes, &[("80", "1", routes("80", &[("shop.internal", 1)]))], &[]);
    assert_eq!(rig.world.services["shop.internal"].hosts, ["shop"]);
    rig.delta(Kind::Endpoints, &[("shop.internal", "2", endpoints("shop.internal", &[1, 2]))], &[]);
    assert_eq!(rig.world.services["shop.internal"].endpoints.len(), 2);
    rig.delta(Kind::Listener, &[], &["out"]);
    rig.pass(Duration::ZERO);
    assert!(rig.world.services["shop.internal"].hosts.is_empty());
    assert_eq!(rig.world.services["shop.internal"].endpoints.len(), 2);
}

#[test]
fn routes_whose_clusters_never_come_go_live_after_a_bounded_wait() {
    let mut rig = listening(Variant::Delta);
    rig.delta(Kind::Listener, &[("out", "1", http_listener("out", "80"))], &[]);
    rig.said();
    rig.delta(Kind::Routes, &[("80", "1", routes("80", &[("nowhere", 1)]))], &[]);
    assert!(rig.world.services.is_empty());
    rig.pass(WARM);
    assert_eq!(rig.world.sizes(), BTreeMap::from([("shop.internal", 0)]));
}
