//! State of the world.
use super::*;

#[test]
fn an_acknowledgement_carries_version_nonce_and_all_names() {
    let mut rig = Rig::plain(Variant::Sotw);
    rig.want("shop");
    rig.want("pay");
    let said = rig.said_sotw();
    assert_eq!(said[0].resource_names, ["pay", "shop"]);
    assert!(said[0].version_info.is_empty() && said[0].response_nonce.is_empty() && said[0].node.is_some());
    let nonce = rig.sotw(Kind::Cluster, "v1", &[cluster("pay"), cluster("shop")]);
    let said = rig.said_sotw();
    assert_eq!((said[0].version_info.as_str(), &said[0].response_nonce), ("v1", &nonce));
    assert_eq!(said[0].resource_names, ["pay", "shop"]);
    assert_eq!(said[1].type_url, Kind::Endpoints.type_url());
    assert_eq!(said[1].resource_names, ["pay", "shop"]);
}

#[test]
fn a_refusal_names_the_bad_keeps_the_version_and_the_rest_is_applied() {
    let mut rig = Rig::plain(Variant::Sotw);
    rig.want("good");
    rig.want("bad");
    rig.said();
    rig.sotw(Kind::Cluster, "v1", &[cluster("bad"), cluster("good")]);
    rig.said();
    rig.sotw(Kind::Endpoints, "e1", &[endpoints("bad", &[1]), endpoints("good", &[1])]);
    rig.said();
    let nonce = rig.sotw(Kind::Cluster, "v2", &[bad_cluster("bad"), cluster_of("good", "new", "")]);
    let said = rig.said_sotw();
    assert_eq!((said[0].version_info.as_str(), &said[0].response_nonce), ("v1", &nonce));
    let told = &said[0].error_detail.as_ref().expect("a refusal").message;
    assert!(told.starts_with("cluster bad: ") && !told.contains("good"), "{told}");
    assert_eq!(rig.world.services["good"].app, "new");
    assert_eq!(rig.world.services["bad"].app, "app", "what was there stays");
}

#[test]
fn clusters_and_rules_that_are_absent_are_gone_and_endpoints_are_not() {
    let mut rig = Rig::new(Variant::Sotw, Settings { rules: true, ..settings() });
    rig.want("a");
    rig.want("b");
    rig.said();
    rig.sotw(Kind::Cluster, "1", &[cluster("a"), cluster("b")]);
    rig.sotw(Kind::Rule, "1", &[rule("x", "1"), rule("y", "1")]);
    rig.said();
    rig.sotw(Kind::Endpoints, "1", &[endpoints("a", &[1]), endpoints("b", &[1])]);
    rig.said();
    rig.sotw(Kind::Endpoints, "2", &[endpoints("a", &[1, 2])]);
    assert_eq!(rig.world.sizes(), BTreeMap::from([("a", 2), ("b", 1)]));
    rig.sotw(Kind::Cluster, "2", &[cluster("a")]);
    rig.sotw(Kind::Rule, "2", &[rule("y", "1")]);
    assert_eq!(rig.world.sizes(), BTreeMap::from([("a", 2)]));
    assert_eq!(rig.world.missing, ["b"]);
    assert_eq!(rig.world.rules.keys().collect::<Vec<_>>(), ["Route/y"]);
}

// grpc-java #8657: what was refused was then taken for absent.
#[test]
fn what_is_refused_is_not_absent_and_what_cannot_be_read_removes_nothing() {
    let mut rig = Rig::plain(Variant::Sotw);
    rig.want("a");
    rig.want("b");
    rig.said();
    rig.sotw(Kind::Cluster, "1", &[cluster("a"), bad_cluster("b")]);
    rig.said();
    rig.sotw(Kind::Endpoints, "1", &[endpoints("a", &[1])]);
    rig.pass(MISSING_AFTER * 2);
    assert!(rig.world.missing.is_empty(), "it exists, though it is of no use");
    rig.sotw(Kind::Cluster, "2", &[bad_cluster("a"), bad_cluster("b")]);
    rig.sotw(Kind::Cluster, "3", &[vec![0xff; 9]]);
    assert_eq!(rig.world.sizes(), BTreeMap::from([("a", 1)]));
    let said = rig.said_sotw();
    let last = said.iter().rev().find(|m| m.error_detail.is_some()).expect("a refusal");
    assert_eq!(
        last.error_detail.as_ref().map(|e| e.message.as_str()),
        Some("cluster: resources[0] has no name that can be read")
    );
}

#[test]
fn a_name_nothing_comes_for_is_missing_after_fifteen_seconds_of_a_stream() {
    let mut rig = Rig::plain(Variant::Sotw);
    rig.want("ghost");
    rig.said();
    rig.pass(MISSING_AFTER.saturating_sub(Duration::from_millis(1)));
    assert!(rig.world.missing.is_empty());
    rig.machine.disconnected();
    rig.pass(MISSING_AFTER * 3);
    assert!(rig.world.missing.is_empty(), "without a server nothing is known");
    rig.machine.connected(Variant::Sotw);
    rig.said();
    rig.pass(MISSING_AFTER);
    assert_eq!(rig.world.missing, ["ghost"]);
    rig.sotw(Kind::Cluster, "1", &[cluster("ghost")]);
    rig.pass(WARM);
    assert_eq!(rig.world.sizes(), BTreeMap::from([("ghost", 0)]));
}

// grpc-java #11232: with no name left, answers stopped and the nonce was forgotten.
#[test]
fn with_no_name_left_responses_are_still_answered_and_the_nonce_is_kept() {
    let mut rig = Rig::plain(Variant::Sotw);
    rig.want("a");
    rig.said();
    rig.sotw(Kind::Cluster, "1", &[cluster("a")]);
    rig.said();
    rig.sotw(Kind::Cluster, "2", &[]);
    let said = rig.said_sotw();
    let eds = said.iter().find(|m| m.type_url == Kind::Endpoints.type_url()).expect("endpoints are left");
    assert!(eds.resource_names.is_empty());
    let nonce = rig.sotw(Kind::Endpoints, "1", &[endpoints("a", &[1])]);
    let said = rig.said_sotw();
    assert_eq!((said.len(), &said[0].response_nonce), (1, &nonce));
    rig.sotw(Kind::Cluster, "3", &[cluster("a")]);
    let said = rig.said_sotw();
    let eds =
        said.iter().find(|m| m.type_url == Kind::Endpoints.type_url()).expect("endpoints are asked for");
    assert_eq!((&eds.response_nonce, eds.resource_names.as_slice()), (&nonce, ["a".to_owned()].as_slice()));
}

// grpc-java #11799: a response of a type that is not asked for has a nonce all the same.
#[test]
fn a_type_nobody_asked_for_gets_no_answer_but_its_nonce_counts() {
    let mut rig = Rig::plain(Variant::Sotw);
    let nonce = rig.sotw(Kind::Cluster, "1", &[cluster("a")]);
    assert!(rig.said().is_empty(), "an empty list would mean everything");
    assert!(rig.world.updates.is_empty());
    rig.want("a");
    assert_eq!(rig.said_sotw()[0].response_nonce, nonce);
}

#[test]
fn versions_survive_a_reconnect_and_nonces_do_not() {
    let mut rig = Rig::plain(Variant::Sotw);
    rig.want("a");
    rig.said();
    rig.sotw(Kind::Cluster, "v7", &[cluster("a")]);
    rig.said();
    rig.machine.disconnected();
    rig.machine.connected(Variant::Sotw);
    let said = rig.said_sotw();
    assert_eq!((said[0].version_info.as_str(), said[0].response_nonce.as_str()), ("v7", ""));
    assert_eq!(said[0].resource_names, ["a"]);
    assert_eq!(said[1].resource_names, ["a"], "endpoints are asked for without waiting for the cluster");
}

#[test]
fn what_is_dropped_and_wanted_again_is_unsubscribed_in_between() {
    let mut rig = Rig::plain(Variant::Sotw);
    rig.want("a");
    rig.want("b");
    rig.said();
    rig.sotw(Kind::Cluster, "1", &[cluster("a"), cluster("b")]);
    rig.said();
    rig.unwant("a");
    rig.pass(IDLE);
    rig.want("a");
    let said = rig.said_sotw();
    let names: Vec<_> = said
        .iter()
        .filter(|m| m.type_url == Kind::Cluster.type_url())
        .map(|m| m.resource_names.clone())
        .collect();
    assert_eq!(names, [vec!["b".to_owned()], vec!["a".into(), "b".into()]]);
}

#[test]
fn resources_in_envelopes_are_known_by_them_even_if_their_content_is_broken() {
    let mut rig = Rig::plain(Variant::Sotw);
    rig.want("a");
    rig.said();
    let wrapped = discovery::Resource {
        name: "a".into(),
        resource: Some(Any { type_url: Kind::Cluster.type_url().into(), value: vec![0xff; 9] }),
        ..Default::default()
    };
    let response = discovery::DiscoveryResponse {
        type_url: Kind::Cluster.type_url().into(),
        nonce: "n".into(),
        version_info: "1".into(),
        resources: vec![Any {
            type_url: "type.googleapis.com/envoy.service.discovery.v3.Resource".into(),
            value: wrapped.encode_to_vec(),
        }],
        ..Default::default()
    };
    let world = &mut rig.world;
    rig.machine.response(response, rig.now, &mut |update| world.apply(update));
    let told = answer(&rig.said()[0]).1.expect("a refusal");
    assert!(told.starts_with("cluster a: does not decode"), "{told}");
}
