//! What both variants have: make before break, wishes, refusals by the sink, oddities, the cache.
use super::*;

fn each(test: impl Fn(Variant)) {
    BOTH.into_iter().for_each(test);
}

/// A rig in which `names` are live with one endpoint each.
fn live(variant: Variant, names: &[&str]) -> Rig {
    let mut rig = Rig::new(variant, Settings { rules: true, ..settings() });
    for name in names {
        rig.want(name);
    }
    rig.said();
    let clusters: Vec<_> = names.iter().map(|name| (*name, cluster(name))).collect();
    rig.send(variant, Kind::Cluster, &clusters);
    rig.said();
    let lists: Vec<_> = names.iter().map(|name| (*name, endpoints(name, &[1]))).collect();
    rig.send(variant, Kind::Endpoints, &lists);
    rig.said();
    rig
}

#[test]
fn a_service_goes_live_with_its_endpoints_or_after_a_bounded_wait() {
    each(|variant| {
        let mut rig = Rig::plain(variant);
        rig.want("a");
        rig.want("b");
        rig.said();
        rig.send(variant, Kind::Cluster, &[("a", cluster("a")), ("b", cluster("b"))]);
        assert!(rig.world.services.is_empty());
        rig.said();
        rig.send(variant, Kind::Endpoints, &[("a", endpoints("a", &[1, 2]))]);
        assert_eq!(rig.world.sizes(), BTreeMap::from([("a", 2)]));
        rig.pass(WARM.saturating_sub(Duration::from_millis(1)));
        assert_eq!(rig.world.sizes(), BTreeMap::from([("a", 2)]));
        rig.pass(Duration::from_millis(1));
        assert_eq!(rig.world.sizes(), BTreeMap::from([("a", 2), ("b", 0)]));
    });
}

#[test]
fn a_cluster_with_other_endpoints_replaces_the_old_when_they_are_there() {
    each(|variant| {
        let mut rig = live(variant, &["a"]);
        rig.send(variant, Kind::Cluster, &[("a", cluster_of("a", "new", "a-v2"))]);
        assert_eq!(rig.world.services["a"].app, "app", "the old one serves on");
        rig.said();
        rig.send(variant, Kind::Endpoints, &[("a", endpoints("a", &[1, 2, 3]))]);
        assert_eq!(rig.world.sizes()["a"], 3, "and is kept current");
        rig.send(variant, Kind::Endpoints, &[("a-v2", endpoints("a-v2", &[7]))]);
        assert_eq!((rig.world.services["a"].app.as_str(), rig.world.sizes()["a"]), ("new", 1));
        let left = rig.said().iter().any(|m| match m {
            Message::Delta(m) => m.resource_names_unsubscribe == ["a"],
            Message::Sotw(m) => m.type_url == Kind::Endpoints.type_url() && m.resource_names == ["a-v2"],
        });
        assert!(left, "the old endpoints are unsubscribed");
    });
}

#[test]
fn a_service_nobody_wants_goes_after_a_while_and_one_that_is_wanted_again_stays() {
    each(|variant| {
        let mut rig = live(variant, &["a", "b"]);
        rig.unwant("a");
        rig.unwant("b");
        rig.pass(IDLE.saturating_sub(Duration::from_secs(1)));
        rig.want("b");
        rig.pass(IDLE);
        assert_eq!(rig.world.sizes(), BTreeMap::from([("b", 1)]));
        assert!(rig.world.missing.is_empty());
        // What was on its way when it was left does not bring it back.
        rig.send(variant, Kind::Cluster, &[("a", cluster("a")), ("b", cluster("b"))]);
        rig.pass(WARM);
        assert_eq!(rig.world.sizes(), BTreeMap::from([("b", 1)]));
    });
}

#[test]
fn what_the_sink_refuses_is_refused_by_name_and_the_old_stays() {
    each(|variant| {
        let mut rig = live(variant, &["a", "b"]);
        rig.world.refuse.insert("a".into(), "no, thanks".into());
        rig.world.refuse.insert("Route/x".into(), "unknown field".into());
        let nonce = rig.send(
            variant,
            Kind::Cluster,
            &[("a", cluster_of("a", "new", "")), ("b", cluster_of("b", "new", ""))],
        );
        let said = rig.said();
        assert_eq!(answer(&said[0]), (nonce, Some("cluster a: no, thanks".into())));
        assert_eq!(
            (rig.world.services["a"].app.as_str(), rig.world.services["b"].app.as_str()),
            ("app", "new")
        );
        rig.send(variant, Kind::Endpoints, &[("a", endpoints("a", &[1, 2])), ("b", endpoints("b", &[1, 2]))]);
        assert_eq!(answer(&rig.said()[0]).1, Some("endpoints a: no, thanks".into()));
        rig.send(variant, Kind::Rule, &[("Route/x", rule("x", "1")), ("Route/y", rule("y", "1"))]);
        assert_eq!(answer(&rig.said()[0]).1, Some("rule Route/x: unknown field".into()));
        let mut status = Default::default();
        rig.machine.report(&mut status);
        assert_eq!(status.refused.len(), 3);
        assert!(!status.versions[&Kind::Rule].contains_key("Route/x"));
        // Mended, it is taken.
        rig.world.refuse.clear();
        rig.send(variant, Kind::Endpoints, &[("a", endpoints("a", &[1, 2, 3])), ("b", endpoints("b", &[1]))]);
        assert_eq!(rig.world.sizes(), BTreeMap::from([("a", 3), ("b", 1)]));
    });
}

#[test]
fn a_resource_that_is_there_twice_with_different_content_is_refused_and_an_equal_one_is_not() {
    each(|variant| {
        let mut rig = live(variant, &["a", "b"]);
        rig.send(
            variant,
            Kind::Cluster,
            &[
                ("a", cluster_of("a", "x", "")),
                ("a", cluster_of("a", "y", "")),
                ("b", cluster_of("b", "z", "")),
                ("b", cluster_of("b", "z", "")),
            ],
        );
        let told = answer(&rig.said()[0]).1;
        assert_eq!(told, Some("cluster a: is there twice, with different content".into()));
        assert_eq!(
            (rig.world.services["a"].app.as_str(), rig.world.services["b"].app.as_str()),
            ("app", "z")
        );
    });
}

// envoy #18292: what nobody subscribed to was kept, and asked for after a reconnect.
#[test]
fn names_and_types_nobody_asked_for_are_counted_and_not_kept() {
    each(|variant| {
        let mut rig = live(variant, &["a"]);
        rig.send(variant, Kind::Cluster, &[("a", cluster("a")), ("stranger", cluster("stranger"))]);
        rig.send(variant, Kind::Endpoints, &[("stranger", endpoints("stranger", &[1]))]);
        rig.send(variant, Kind::Listener, &[("l", cluster("l"))]);
        let told: Vec<_> = rig.said().iter().map(answer).collect();
        assert_eq!(told.len(), 2, "a type nobody asked for gets no answer");
        assert!(told.iter().all(|(_, refused)| refused.is_none()));
        let mut status = Default::default();
        rig.machine.report(&mut status);
        assert_eq!(status.oddities, 3);
        assert_eq!(rig.world.sizes(), BTreeMap::from([("a", 1)]));
        assert_eq!(rig.machine.stored().1.len(), 2);
    });
}

#[test]
fn a_server_that_goes_backwards_is_followed() {
    each(|variant| {
        let mut rig = live(variant, &["a"]);
        rig.send(variant, Kind::Endpoints, &[("a", endpoints("a", &[1, 2]))]);
        rig.send(variant, Kind::Endpoints, &[("a", endpoints("a", &[1]))]);
        assert_eq!(rig.world.sizes(), BTreeMap::from([("a", 1)]));
    });
}

#[test]
fn what_did_not_change_is_not_given_again() {
    each(|variant| {
        let mut rig = live(variant, &["a"]);
        let updates = rig.world.updates.len();
        rig.machine.disconnected();
        rig.machine.connected(variant);
        rig.said();
        rig.send(variant, Kind::Cluster, &[("a", cluster("a"))]);
        rig.send(variant, Kind::Endpoints, &[("a", endpoints("a", &[1]))]);
        assert_eq!(rig.world.updates.len(), updates);
    });
}

// envoy #33607, #13009: after a reconnect something that still waited was never asked for.
#[test]
fn what_waits_when_the_stream_ends_is_asked_for_on_the_next() {
    each(|variant| {
        let mut rig = Rig::plain(variant);
        rig.want("a");
        rig.said();
        rig.send(variant, Kind::Cluster, &[("a", cluster("a"))]);
        // The stream ends before its endpoints were asked for.
        rig.machine.disconnected();
        rig.machine.connected(variant);
        assert_eq!(rig.said().len(), 2);
        rig.send(variant, Kind::Endpoints, &[("a", endpoints("a", &[1]))]);
        assert_eq!(rig.world.sizes(), BTreeMap::from([("a", 1)]));
    });
}

#[test]
fn names_that_would_mean_something_else_are_not_asked_for() {
    each(|variant| {
        let mut rig = Rig::plain(variant);
        rig.want("*");
        rig.want("");
        assert!(rig.said().is_empty());
    });
}

#[test]
fn a_cache_brings_all_back_before_a_server_is_there_and_its_versions_are_told() {
    each(|variant| {
        let rig = {
            let mut rig = live(variant, &["a", "b"]);
            rig.send(variant, Kind::Rule, &[("Route/x", rule("x", "1"))]);
            rig
        };
        let (names, stored) = rig.machine.stored();
        let mut again = Rig::new(variant, Settings { rules: true, ..settings() });
        again.machine.disconnected();
        again.world.refuse.insert("b".into(), "not any more".into());
        let world = &mut again.world;
        again.machine.restore(&names, stored, again.now, &mut |update| world.apply(update));
        assert_eq!(again.world.updates.len(), 1);
        assert!(again.world.updates[0].cached);
        assert_eq!(again.world.sizes(), BTreeMap::from([("a", 1)]));
        assert_eq!(again.world.rules.len(), 1);
        again.machine.connected(variant);
        if let Message::Delta(first) = &again.said()[0] {
            assert_eq!(first.resource_names_subscribe, ["a", "b"]);
            assert!(first.initial_resource_versions.contains_key("a"));
            assert!(!first.initial_resource_versions.contains_key("b"), "only what was applied");
        }
        // Nobody wants them any more: they go.
        again.pass(IDLE);
        assert!(again.world.services.is_empty());
    });
}
