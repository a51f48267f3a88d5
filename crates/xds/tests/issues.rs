//! Mistakes that other servers and clients made, each by its issue: ours makes none of them, and gets along with
//! clients that do.
mod world;

use raddle_xds::server::Event;
use raddle_xds::types::Kind::{Cluster, Endpoints, Listener, Routes, Secret};
use world::{DeltaStream, SotwStream, World, kinds, names, one, sotw_request};

/// grpc-java #11232: a client whose last cluster went away drops the type, acknowledges nothing of it, and later
/// subscribes with the nonce it had before. Waiting for the acknowledgement would be waiting for ever.
#[test]
fn grpc_java_11232_an_old_nonce_is_answered_when_the_response_between_can_not_be_acknowledged() {
    let world = World::new();
    world.turn(&[(Endpoints, "old", Some(1)), (Endpoints, "new", Some(1))]);
    let mut s = SotwStream::new(&world);
    let first = one(s.ask(Endpoints, &["old"], "", ""));
    s.ack(&first, &["old"]);
    world.set(Endpoints, "old", 2);
    one(s.changed());
    let said = one(s.ask(Endpoints, &["new"], &first.nonce, &first.version));
    assert_eq!(said.names, ["new"]);
    assert_eq!(s.ack(&said, &["new"]), []);
}

/// The same, with a request between that says that nothing is wanted.
#[test]
fn grpc_java_11232_who_wants_nothing_owes_no_acknowledgement() {
    let world = World::new();
    world.turn(&[(Endpoints, "a", Some(1))]);
    let mut s = SotwStream::new(&world);
    let first = one(s.ask(Endpoints, &["a"], "", ""));
    s.ack(&first, &["a"]);
    world.set(Endpoints, "a", 2);
    one(s.changed());
    assert_eq!(s.ask(Endpoints, &[], &first.nonce, &first.version), []);
    assert_eq!(one(s.ask(Endpoints, &["a"], &first.nonce, "")).names, ["a"]);
}

/// grpc-java #11799 (and grpc-node #2875): a client that unsubscribed from the last resource of a type has forgotten
/// the nonce, or never kept it, and begins anew without one.
#[test]
fn grpc_java_11799_a_client_that_forgot_its_nonce_is_answered() {
    for kind in [Cluster, Listener, Routes, Endpoints] {
        let world = World::new();
        world.turn(&[(kind, "a", Some(1))]);
        let mut s = SotwStream::new(&world);
        let said = one(s.ask(kind, &["a"], "", ""));
        s.ack(&said, &["a"]);
        assert_eq!(s.ack(&said, &[]), []);
        assert_eq!(one(s.ask(kind, &["a"], "", "")).names, ["a"], "{kind:?}");
    }
}

/// grpc-node #2875: the nonce of an earlier stream.
#[test]
fn grpc_node_2875_the_first_request_of_a_stream_is_answered_whatever_its_nonce() {
    let world = World::new();
    world.turn(&[(Endpoints, "a", Some(1))]);
    let mut s = SotwStream::new(&world);
    assert_eq!(one(s.ask(Endpoints, &["a"], "t-77", "older")).names, ["a"]);
}

/// grpc-java #8657: a client took a refused listener for one that does not exist. So what was refused stays in the
/// whole set: leaving it out would say that it is gone.
#[test]
fn grpc_java_8657_a_refused_listener_is_not_left_out_of_later_responses() {
    let world = World::new();
    world.turn(&[(Listener, "bad", Some(1)), (Listener, "good", Some(1))]);
    let mut s = SotwStream::new(&world);
    let said = one(s.ask(Listener, &["bad", "good"], "", ""));
    s.nack(&said, &["bad", "good"], "", "listener bad: no");
    world.set(Listener, "good", 2);
    assert_eq!(one(s.changed()).names, ["bad", "good"]);
}

/// grpc-go #7692: content goes from A to B, which is refused, and back to A: the client waits to hear that A holds.
#[test]
fn grpc_go_7692_content_that_goes_back_to_the_one_before_the_refused_is_sent() {
    let world = World::new();
    world.turn(&[(Listener, "l", Some(1)), (Endpoints, "e", Some(1))]);
    let mut sotw = SotwStream::new(&world);
    let mut delta = DeltaStream::new(&world);
    for kind in [Listener, Endpoints] {
        let name = if kind == Listener { "l" } else { "e" };
        let good = one(sotw.ask(kind, &[name], "", ""));
        sotw.ack(&good, &[name]);
        let said = one(delta.subscribe(kind, &[name]));
        delta.ack(&said);
        world.set(kind, name, 2);
        let bad = one(sotw.changed());
        sotw.nack(&bad, &[name], &good.version, "no");
        let bad = one(delta.changed());
        delta.nack(&bad, "no");
        world.set(kind, name, 1);
        let again = one(sotw.changed());
        assert_eq!(again.versions, good.versions);
        sotw.ack(&again, &[name]);
        let again = one(delta.changed());
        assert_eq!(again.versions, good.versions);
        delta.ack(&again);
    }
    assert!(sotw.machine.status().iter().all(|k| k.nacked.is_empty()));
    assert!(delta.machine.status().iter().all(|k| k.nacked.is_empty()));
}

/// go-control-plane #488: endpoints that do not exist yet were said to be removed, and the watch forgotten with it.
#[test]
fn go_control_plane_488_the_watch_of_what_was_said_to_be_missing_is_kept() {
    let world = World::new();
    let mut s = DeltaStream::new(&world);
    let said = one(s.subscribe(Endpoints, &["foo"]));
    assert_eq!(said.removed, ["foo"]);
    assert_eq!(s.ack(&said), []);
    world.set(Endpoints, "foo", 1);
    let said = one(s.changed());
    assert_eq!(said.names, ["foo"]);
    s.ack(&said);
    world.remove(Endpoints, "foo");
    let said = one(s.changed());
    s.ack(&said);
    world.set(Endpoints, "foo", 1);
    assert_eq!(one(s.changed()).names, ["foo"]);
}

/// go-control-plane #962: a refused resource was sent again at once, refused again, and so on.
#[test]
fn go_control_plane_962_a_refusal_makes_no_loop() {
    let world = World::new();
    world.turn(&[(Listener, "l", Some(1)), (Listener, "m", Some(1))]);
    let mut s = SotwStream::new(&world);
    let said = one(s.ask(Listener, &["l", "m"], "", ""));
    let (event, more) = s.nack(&said, &["l", "m"], "", "l: no");
    assert!(matches!(event, Event::Nack { .. }));
    assert_eq!(more, []);
    // Nor does the same refusal twice.
    assert_eq!(s.nack(&said, &["l", "m"], "", "l: no").1, []);
    let mut d = DeltaStream::new(&world);
    let said = one(d.subscribe(Listener, &["l", "m"]));
    assert_eq!(d.nack(&said, "l: no").1, []);
    assert_eq!(d.changed(), []);
}

/// go-control-plane #431 and grpc-java #9632: an idle client unsubscribes, forgets, and subscribes again.
#[test]
fn go_control_plane_431_what_is_subscribed_to_again_is_sent_again() {
    let world = World::new();
    world.turn(&[(Listener, "l", Some(1)), (Listener, "m", Some(1))]);
    let mut s = SotwStream::new(&world);
    let said = one(s.ask(Listener, &["l"], "", ""));
    s.ack(&said, &["l"]);
    s.ack(&said, &[]);
    assert_eq!(one(s.ack(&said, &["l"])).names, ["l"]);
}

/// Envoy #33607: on reconnect Envoy asks for endpoints first, then for clusters, and not again for the endpoints and
/// secrets of a cluster that changed meanwhile, since it is subscribed to them.
#[test]
fn envoy_33607_endpoints_follow_a_cluster_that_changed_while_the_client_was_away() {
    let world = World::new();
    world.turn(&[(Cluster, "a", Some(1)), (Endpoints, "a", Some(1)), (Secret, "s", Some(1))]);
    let (clusters, endpoints) = (world.versions(Cluster), world.versions(Endpoints));
    world.set(Cluster, "a", 2);
    let mut s = DeltaStream::new(&world);
    let first = one(s.resume(Endpoints, &["a"], &endpoints));
    assert_eq!(first.names, names(&[]));
    s.ack(&first);
    let said = s.resume(Cluster, &[], &clusters);
    assert_eq!(kinds(&said), [Cluster, Endpoints]);
    assert_eq!((&said[0].names, &said[1].names), (&names(&["a"]), &names(&["a"])));
    // A secret it asks for again is sent again.
    let secret = one(s.resume(Secret, &["s"], &world.versions(Secret)));
    s.ack(&secret);
    assert_eq!(one(s.subscribe(Secret, &["s"])).names, ["s"]);
}

/// Envoy #46383: a new cluster waited minutes for its endpoints, behind pushes of all clusters every few seconds. Ours
/// sends clusters when one changed only, one response at a time, and answers for endpoints meanwhile.
#[test]
fn envoy_46383_endpoints_are_answered_while_clusters_are_under_way() {
    let world = World::new();
    world.turn(&[(Cluster, "a", Some(1)), (Endpoints, "a", Some(1))]);
    let mut s = SotwStream::new(&world);
    let first = one(s.ask(Cluster, &[], "", ""));
    for _ in 0..10 {
        // Something else changes: clusters are not announced again.
        world.set(Routes, "r", 1);
        assert_eq!(s.changed(), []);
    }
    world.turn(&[(Cluster, "b", Some(1)), (Endpoints, "b", Some(1))]);
    assert_eq!(s.changed(), [], "the first is not acknowledged yet");
    assert_eq!(one(s.ask(Endpoints, &["a"], "", "")).names, ["a"]);
    assert_eq!(kinds(&s.ack(&first, &[])), [Cluster]);
}

/// Istio #39937: Envoy reconnects and asks for endpoints; they are pushed; it asks for clusters; they are pushed; it asks
/// for the endpoints again with the last nonce, which looks like an acknowledgement.
#[test]
fn istio_39937_endpoints_are_sent_after_clusters_though_they_were_sent_before() {
    let world = World::new();
    world.turn(&[(Cluster, "a", Some(1)), (Endpoints, "a", Some(1))]);
    let mut s = SotwStream::new(&world);
    let early = one(s.ask(Endpoints, &["a"], "", ""));
    let said = s.ask(Cluster, &[], "", "");
    assert_eq!(kinds(&said), [Cluster], "the endpoints' last response is not acknowledged yet");
    let again = one(s.ack(&early, &["a"]));
    assert_eq!((again.kind, again.names), (Some(Endpoints), names(&["a"])));
}

/// Istio #41494: what was deleted while a client was away stayed with it for ever.
#[test]
fn istio_41494_what_went_away_meanwhile_is_removed_on_reconnect() {
    for kind in [Cluster, Listener] {
        let world = World::new();
        world.turn(&[(kind, "a", Some(1)), (kind, "b", Some(1))]);
        let known = world.versions(kind);
        world.remove(kind, "b");
        let said = DeltaStream::new(&world).resume(kind, &[], &known);
        let removed: Vec<_> = said.iter().flat_map(|s| s.removed.clone()).collect();
        assert_eq!(removed, ["b"]);
    }
}

/// Envoy #3355: a response that crossed the unsubscription is ignored, and its nonce not noted.
#[test]
fn envoy_3355_a_response_the_client_ignored_does_not_block_its_kind() {
    let world = World::new();
    world.turn(&[(Endpoints, "a", Some(1)), (Endpoints, "b", Some(1))]);
    let mut s = SotwStream::new(&world);
    let first = one(s.ask(Endpoints, &["a"], "", ""));
    s.ack(&first, &["a"]);
    world.set(Endpoints, "a", 2);
    one(s.changed());
    s.ask(Endpoints, &[], &first.nonce, &first.version);
    assert_eq!(one(s.ask(Endpoints, &["b"], &first.nonce, &first.version)).names, ["b"]);
}

/// Envoy #17980 and #32823: removals of what others still point to must come after those others have changed.
#[test]
fn envoy_32823_a_removal_never_comes_before_the_change_that_makes_it_harmless() {
    let world = World::new();
    world.turn(&[(Cluster, "old", Some(1)), (Listener, "l", Some(1)), (Secret, "s", Some(1))]);
    let mut s = DeltaStream::new(&world);
    for kind in [Cluster, Listener] {
        let said = one(s.subscribe(kind, &[]));
        s.ack(&said);
    }
    let said = one(s.subscribe(Secret, &["s"]));
    s.ack(&said);
    world.turn(&[
        (Secret, "s", None),
        (Cluster, "old", None),
        (Listener, "l", Some(2)),
        (Cluster, "new", Some(1)),
    ]);
    let said = s.changed();
    let order: Vec<_> = said.iter().map(|s| (s.kind.unwrap(), s.removed.is_empty())).collect();
    assert_eq!(order, [(Cluster, true), (Listener, true), (Secret, false), (Cluster, false)]);
}

/// Istio's race of an acknowledgement and a subscription: the request looks like one and is the other.
#[test]
fn a_subscription_that_looks_like_an_acknowledgement_is_answered() {
    let world = World::new();
    world.turn(&[(Endpoints, "a", Some(1)), (Endpoints, "b", Some(1))]);
    let mut s = SotwStream::new(&world);
    let said = one(s.ask(Endpoints, &["a"], "", ""));
    s.ack(&said, &["a"]);
    let (event, more) =
        s.try_send(&sotw_request(Endpoints, &["a", "b"], &said.nonce, &said.version)).expect("allowed");
    assert_eq!(event, Event::Subscribed { kind: Endpoints });
    assert_eq!(one(more).names, ["b"]);
}
