//! Incremental.
use super::*;

#[test]
fn the_first_request_has_the_node_and_no_nonce_and_later_ones_neither() {
    let mut rig = Rig::plain(Variant::Delta);
    assert!(
        rig.said().is_empty(),
        "nothing is wanted, so nothing is said: an empty request would mean everything"
    );
    rig.want("shop");
    let said = rig.said_delta();
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].node.as_ref().map(|n| n.id.as_str()), Some("me"));
    assert_eq!(said[0].resource_names_subscribe, ["shop"]);
    assert!(said[0].response_nonce.is_empty());
    rig.want("pay");
    let said = rig.said_delta();
    assert_eq!((said.len(), &said[0].node), (1, &None));
    assert_eq!(said[0].resource_names_subscribe, ["pay"]);
    assert!(said[0].response_nonce.is_empty() && said[0].initial_resource_versions.is_empty());
}

#[test]
fn a_nack_names_the_bad_and_the_good_beside_it_is_applied() {
    let mut rig = Rig::plain(Variant::Delta);
    rig.want("good");
    rig.want("bad");
    rig.said();
    let nonce =
        rig.delta(Kind::Cluster, &[("bad", "1", bad_cluster("bad")), ("good", "1", cluster("good"))], &[]);
    let said = rig.said();
    assert_eq!(answer(&said[0]).0, nonce);
    let told = answer(&said[0]).1.expect("a refusal");
    assert!(told.starts_with("cluster bad: metadata.raddle.protocol: expected one of bolt"), "{told}");
    assert!(!told.contains("good"), "{told}");
    rig.delta(Kind::Endpoints, &[("good", "1", endpoints("good", &[1]))], &[]);
    assert_eq!(rig.world.sizes(), BTreeMap::from([("good", 1)]));
}

// grpc-go #7692: the watcher was not told when the old content came back after a refusal.
#[test]
fn content_that_comes_back_after_a_refusal_is_no_refusal_any_more() {
    let mut rig = Rig::plain(Variant::Delta);
    rig.want("shop");
    rig.said();
    rig.delta(Kind::Cluster, &[("shop", "1", cluster("shop"))], &[]);
    rig.delta(Kind::Cluster, &[("shop", "2", bad_cluster("shop"))], &[]);
    let mut status = Default::default();
    rig.machine.report(&mut status);
    assert_eq!(status.refused.len(), 1);
    assert_eq!(&*status.versions[&Kind::Cluster]["shop"], "1");
    rig.said();
    let nonce = rig.delta(Kind::Cluster, &[("shop", "3", cluster("shop"))], &[]);
    rig.machine.report(&mut status);
    assert!(status.refused.is_empty());
    assert_eq!(&*status.versions[&Kind::Cluster]["shop"], "3");
    assert_eq!(answer(&rig.said()[0]), (nonce, None));
}

// istio #41494, kmesh #415: what was removed meanwhile stayed for ever.
#[test]
fn a_reconnect_says_what_is_held_and_takes_the_removals() {
    let mut rig = Rig::new(Variant::Delta, Settings { rules: true, ..settings() });
    rig.want("shop");
    rig.want("pay");
    rig.said();
    rig.delta(Kind::Cluster, &[("shop", "1", cluster("shop")), ("pay", "7", cluster("pay"))], &[]);
    rig.delta(Kind::Rule, &[("Route/a", "r1", rule("a", "r1")), ("Route/b", "r2", rule("b", "r2"))], &[]);
    rig.said();
    rig.delta(
        Kind::Endpoints,
        &[("shop", "2", endpoints("shop", &[1])), ("pay", "3", endpoints("pay", &[2]))],
        &[],
    );
    rig.said();
    rig.machine.disconnected();
    assert!(rig.said().is_empty());
    assert_eq!(
        rig.world.sizes(),
        BTreeMap::from([("pay", 1), ("shop", 1)]),
        "a dead server takes nothing away"
    );
    rig.machine.connected(Variant::Delta);
    let said = rig.said_delta();
    let clusters = &said[0];
    assert!(clusters.node.is_some() && clusters.response_nonce.is_empty());
    assert_eq!(clusters.resource_names_subscribe, ["pay", "shop"]);
    assert_eq!(clusters.initial_resource_versions["pay"], "7");
    let rules = said.iter().find(|m| m.type_url == Kind::Rule.type_url()).expect("asked for rules");
    assert!(rules.resource_names_subscribe.is_empty());
    assert_eq!(rules.initial_resource_versions["Route/b"], "r2");
    assert!(said.iter().any(|m| m.initial_resource_versions.get("shop").is_some_and(|v| v == "2")));
    rig.delta(Kind::Cluster, &[], &["pay"]);
    rig.delta(Kind::Rule, &[], &["Route/a"]);
    assert_eq!(rig.world.sizes(), BTreeMap::from([("shop", 1)]));
    assert_eq!(rig.world.rules.keys().collect::<Vec<_>>(), ["Route/b"]);
    let eds = rig.said_delta();
    let eds = eds.iter().find(|m| m.type_url == Kind::Endpoints.type_url()).expect("endpoints are left");
    assert_eq!(eds.resource_names_unsubscribe, ["pay"]);
}

// go-control-plane #488: a removal of what was not there yet ended the subscription.
#[test]
fn a_name_that_does_not_exist_is_told_at_once_and_stays_subscribed() {
    let mut rig = Rig::plain(Variant::Delta);
    rig.want("ghost");
    rig.said();
    rig.delta(Kind::Cluster, &[], &["ghost"]);
    rig.delta(Kind::Cluster, &[], &["ghost"]);
    assert_eq!(rig.world.missing, ["ghost"], "told once");
    let said = rig.said_delta();
    assert!(said.iter().all(|m| m.resource_names_unsubscribe.is_empty() && !m.response_nonce.is_empty()));
    rig.delta(Kind::Cluster, &[("ghost", "1", cluster("ghost"))], &[]);
    rig.delta(Kind::Endpoints, &[], &["ghost"]);
    assert_eq!(rig.world.sizes(), BTreeMap::new(), "endpoints were not asked for yet");
    rig.said();
    rig.delta(Kind::Endpoints, &[], &["ghost"]);
    assert_eq!(
        rig.world.sizes(),
        BTreeMap::from([("ghost", 0)]),
        "nobody waits for endpoints that are not there"
    );
    rig.delta(Kind::Endpoints, &[("ghost", "1", endpoints("ghost", &[1, 2]))], &[]);
    assert_eq!(rig.world.sizes(), BTreeMap::from([("ghost", 2)]));
}

// go-control-plane #431, #583: a resource was not sent again.
#[test]
fn what_is_unsubscribed_and_wanted_again_before_anything_was_sent_is_asked_for_anew() {
    let mut rig = Rig::plain(Variant::Delta);
    rig.want("shop");
    rig.said();
    rig.delta(Kind::Cluster, &[("shop", "1", cluster("shop"))], &[]);
    rig.said();
    rig.delta(Kind::Endpoints, &[("shop", "1", endpoints("shop", &[1]))], &[]);
    rig.said();
    rig.unwant("shop");
    rig.pass(IDLE);
    assert!(rig.world.services.is_empty());
    rig.want("shop");
    let said = rig.said_delta();
    let said: Vec<_> = said.iter().filter(|m| m.type_url == Kind::Cluster.type_url()).collect();
    assert_eq!(said.len(), 2);
    assert_eq!(said[0].resource_names_unsubscribe, ["shop"]);
    assert!(said[0].resource_names_subscribe.is_empty());
    assert_eq!(said[1].resource_names_subscribe, ["shop"]);
}

#[test]
fn a_sign_of_life_without_content_changes_nothing() {
    let mut rig = Rig::plain(Variant::Delta);
    rig.want("shop");
    rig.said();
    rig.delta(Kind::Cluster, &[("shop", "1", cluster("shop"))], &[]);
    rig.said();
    rig.delta(Kind::Endpoints, &[("shop", "1", endpoints("shop", &[1]))], &[]);
    let updates = rig.world.updates.len();
    let beat = discovery::Resource { name: "shop".into(), version: "1".into(), ..Default::default() };
    let response = discovery::DeltaDiscoveryResponse {
        type_url: Kind::Cluster.type_url().into(),
        nonce: "beat".into(),
        resources: vec![beat],
        ..Default::default()
    };
    let world = &mut rig.world;
    rig.machine.response(response, rig.now, &mut |update| world.apply(update));
    assert_eq!(rig.world.updates.len(), updates);
    assert!(rig.said().iter().any(|m| answer(m) == ("beat".into(), None)));
}

#[test]
fn endpoints_that_are_said_to_be_gone_stay_while_their_cluster_does() {
    let mut rig = Rig::plain(Variant::Delta);
    rig.want("shop");
    rig.said();
    rig.delta(Kind::Cluster, &[("shop", "1", cluster("shop"))], &[]);
    rig.said();
    rig.delta(Kind::Endpoints, &[("shop", "1", endpoints("shop", &[1]))], &[]);
    rig.delta(Kind::Endpoints, &[], &["shop"]);
    assert_eq!(rig.world.sizes(), BTreeMap::from([("shop", 1)]));
    rig.delta(Kind::Cluster, &[], &["shop"]);
    assert!(rig.world.services.is_empty());
    assert_eq!(rig.world.missing, ["shop"]);
}
