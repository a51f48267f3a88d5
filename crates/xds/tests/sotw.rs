//! The state-of-the-world variant: every test is a promise of docs/reference/xds-conformance.md.
mod world;

use raddle_xds::server::{Event, Limits, Violation};
use raddle_xds::types::Kind;
use raddle_xds::types::Kind::{Cluster, Endpoints, Listener, Routes, Rule, Secret};
use world::{SotwStream, World, kinds, names, one, sotw_request};

const WHOLE: [Kind; 2] = [Cluster, Listener];
const PART: [Kind; 2] = [Routes, Endpoints];

fn world(kind: Kind, list: &[&str]) -> World {
    let world = World::new();
    let all: Vec<_> = list.iter().map(|n| (kind, *n, Some(1))).collect();
    world.turn(&all);
    world
}

#[test]
fn a_wildcard_request_gets_everything_and_its_ack_nothing() {
    for kind in WHOLE {
        let world = world(kind, &["A", "B", "C"]);
        let mut s = SotwStream::new(&world);
        let said = one(s.ask(kind, &[], "", ""));
        assert_eq!(said.names, ["A", "B", "C"]);
        assert_eq!(s.ack(&said, &[]), []);
        assert_eq!(s.changed(), []);
    }
}

#[test]
fn an_explicit_star_is_a_wildcard() {
    for kind in WHOLE {
        let world = world(kind, &["A", "B"]);
        let said = one(SotwStream::new(&world).ask(kind, &["*"], "", ""));
        assert_eq!(said.names, ["A", "B"]);
    }
}

#[test]
fn a_wildcard_subscriber_gets_the_whole_set_when_one_changes_or_is_added() {
    for kind in WHOLE {
        let world = world(kind, &["A", "B"]);
        let mut s = SotwStream::new(&world);
        let first = one(s.ask(kind, &[], "", ""));
        s.ack(&first, &[]);
        world.set(kind, "A", 2);
        let second = one(s.changed());
        assert_eq!(second.names, ["A", "B"]);
        assert_ne!(second.version, first.version);
        assert_eq!(s.ack(&second, &[]), []);
        world.set(kind, "C", 1);
        assert_eq!(one(s.changed()).names, ["A", "B", "C"]);
    }
}

#[test]
fn absence_of_a_listener_or_cluster_is_its_deletion() {
    for kind in WHOLE {
        let world = world(kind, &["A", "B"]);
        let mut s = SotwStream::new(&world);
        let said = one(s.ask(kind, &[], "", ""));
        s.ack(&said, &[]);
        world.remove(kind, "A");
        let said = one(s.changed());
        assert_eq!(said.names, ["B"]);
        s.ack(&said, &[]);
        world.remove(kind, "B");
        assert_eq!(one(s.changed()).names, names(&[]));
    }
}

#[test]
fn a_wildcard_request_is_answered_when_there_is_nothing() {
    for kind in WHOLE {
        assert_eq!(one(SotwStream::new(&World::new()).ask(kind, &[], "", "")).names, names(&[]));
    }
}

#[test]
fn who_names_resources_gets_those_only() {
    for kind in [Cluster, Listener, Routes, Endpoints, Secret] {
        let world = world(kind, &["A", "B", "C", "D"]);
        let mut s = SotwStream::new(&world);
        let said = one(s.ask(kind, &["B", "D"], "", ""));
        assert_eq!(said.names, ["B", "D"]);
        assert_eq!(s.ack(&said, &["B", "D"]), []);
        world.set(kind, "A", 2);
        assert_eq!(s.changed(), []);
    }
}

#[test]
fn a_change_of_a_named_resource_is_sent_whole_or_alone_as_its_kind_wants() {
    for kind in WHOLE.into_iter().chain(PART) {
        let world = world(kind, &["A", "B", "C"]);
        let mut s = SotwStream::new(&world);
        let said = one(s.ask(kind, &["A", "B"], "", ""));
        s.ack(&said, &["A", "B"]);
        world.set(kind, "B", 2);
        let said = one(s.changed());
        assert_eq!(said.names, if kind.whole() { names(&["A", "B"]) } else { names(&["B"]) });
        assert_eq!(s.ack(&said, &["A", "B"]), []);
    }
}

#[test]
fn a_named_resource_that_comes_to_be_is_sent() {
    for kind in WHOLE.into_iter().chain(PART) {
        let world = world(kind, &["A"]);
        let mut s = SotwStream::new(&world);
        let said = one(s.ask(kind, &["A", "Z"], "", ""));
        assert_eq!(said.names, ["A"]);
        s.ack(&said, &["A", "Z"]);
        world.set(kind, "Z", 1);
        let said = one(s.changed());
        assert_eq!(said.names, if kind.whole() { names(&["A", "Z"]) } else { names(&["Z"]) });
    }
}

#[test]
fn who_unsubscribes_from_some_gets_the_others_only() {
    for kind in WHOLE.into_iter().chain(PART) {
        let world = world(kind, &["A", "B"]);
        let mut s = SotwStream::new(&world);
        let said = one(s.ask(kind, &["A", "B"], "", ""));
        s.ack(&said, &["A", "B"]);
        assert_eq!(s.ack(&said, &["B"]), []);
        world.turn(&[(kind, "A", Some(2)), (kind, "B", Some(2))]);
        assert_eq!(one(s.changed()).names, ["B"]);
    }
}

#[test]
fn who_unsubscribes_from_all_hears_nothing_more() {
    for kind in WHOLE.into_iter().chain(PART) {
        let world = world(kind, &["A", "B"]);
        let mut s = SotwStream::new(&world);
        let said = one(s.ask(kind, &["A", "B"], "", ""));
        s.ack(&said, &["A", "B"]);
        assert_eq!(s.ack(&said, &[]), []);
        world.turn(&[(kind, "A", Some(2)), (kind, "C", Some(2))]);
        assert_eq!(s.changed(), []);
    }
}

#[test]
fn no_names_mean_a_wildcard_only_until_one_was_given() {
    let world = world(Cluster, &["A", "B"]);
    let mut s = SotwStream::new(&world);
    let all = one(s.ask(Cluster, &[], "", ""));
    s.ack(&all, &[]);
    let both = one(s.ack(&all, &["*", "A"]));
    assert_eq!(both.names, ["A", "B"]);
    s.ack(&both, &["*", "A"]);
    assert_eq!(s.ack(&both, &["A"]), []);
    world.set(Cluster, "B", 2);
    assert_eq!(s.changed(), []);
    s.ack(&both, &[]);
    world.set(Cluster, "A", 2);
    assert_eq!(s.changed(), []);
}

#[test]
fn no_names_of_routes_or_endpoints_mean_none() {
    for kind in PART {
        let world = world(kind, &["A"]);
        let mut s = SotwStream::new(&world);
        assert_eq!(s.ask(kind, &[], "", ""), []);
        world.set(kind, "A", 2);
        assert_eq!(s.changed(), []);
    }
}

#[test]
fn who_unsubscribes_and_subscribes_again_is_sent_it_again() {
    for kind in WHOLE.into_iter().chain(PART) {
        let world = world(kind, &["A", "B"]);
        let mut s = SotwStream::new(&world);
        let said = one(s.ask(kind, &["A", "B"], "", ""));
        s.ack(&said, &["A", "B"]);
        s.ack(&said, &["A"]);
        let again = one(s.ack(&said, &["A", "B"]));
        assert!(again.names.contains(&"B".to_owned()));
    }
}

#[test]
fn a_new_name_with_a_current_nonce_is_a_subscription_and_is_answered() {
    for kind in WHOLE.into_iter().chain(PART) {
        let world = world(kind, &["A", "B"]);
        let mut s = SotwStream::new(&world);
        let said = one(s.ask(kind, &["A"], "", ""));
        // The acknowledgement and the new name in one request.
        let more = one(s.ack(&said, &["A", "B"]));
        assert!(more.names.contains(&"B".to_owned()), "{more:?}");
        assert_eq!(s.ack(&more, &["A", "B"]), []);
    }
}

#[test]
fn a_changed_name_set_that_says_nothing_of_the_response_is_no_ack() {
    let world = world(Endpoints, &["A", "B"]);
    let mut s = SotwStream::new(&world);
    let said = one(s.ask(Endpoints, &["A"], "", ""));
    let (event, _) =
        s.try_send(&sotw_request(Endpoints, &["A", "B"], &said.nonce, "older")).expect("allowed");
    assert_eq!(event, Event::Subscribed { kind: Endpoints });
    assert_eq!(s.machine.status()[0].acked, "");
}

#[test]
fn an_ack_is_noted_with_its_version() {
    let world = world(Cluster, &["A"]);
    let mut s = SotwStream::new(&world);
    let said = one(s.ask(Cluster, &[], "", ""));
    let (event, _) = s.try_send(&sotw_request(Cluster, &[], &said.nonce, &said.version)).expect("allowed");
    assert_eq!(event, Event::Ack { kind: Cluster, version: said.version.clone() });
    let status = &s.machine.status()[0];
    assert_eq!((&status.sent, &status.acked), (&said.version, &said.version));
}

#[test]
fn a_stale_nonce_is_not_answered_but_its_names_count() {
    let world = world(Endpoints, &["A", "B"]);
    let mut s = SotwStream::new(&world);
    let first = one(s.ask(Endpoints, &["A"], "", ""));
    s.ack(&first, &["A"]);
    world.set(Endpoints, "A", 2);
    let second = one(s.changed());
    // This request crossed the second response.
    let (event, said) =
        s.try_send(&sotw_request(Endpoints, &["A", "B"], &first.nonce, &first.version)).unwrap();
    assert_eq!((event, said), (Event::Stale { kind: Endpoints }, vec![]));
    // The acknowledgement repeats the names, and brings what is missing.
    assert_eq!(one(s.ack(&second, &["A", "B"])).names, ["B"]);
}

#[test]
fn a_stale_refusal_refuses_nothing() {
    let world = world(Cluster, &["A"]);
    let mut s = SotwStream::new(&world);
    let first = one(s.ask(Cluster, &[], "", ""));
    s.ack(&first, &[]);
    world.set(Cluster, "A", 2);
    one(s.changed());
    let (event, _) = s.nack(&first, &[], "", "late");
    assert_eq!(event, Event::Stale { kind: Cluster });
    assert!(s.machine.status()[0].nacked.is_empty());
}

#[test]
fn a_refusal_is_known_by_its_error_alone() {
    let world = world(Cluster, &["A", "B"]);
    let mut s = SotwStream::new(&world);
    let first = one(s.ask(Cluster, &[], "", ""));
    s.ack(&first, &[]);
    world.set(Cluster, "B", 2);
    let second = one(s.changed());
    // The version a refusal carries may even be the refused one.
    let (event, said) = s.nack(&second, &[], &second.version, "cluster B: no");
    let Event::Nack { kind, version, refused, .. } = event else { panic!("{event:?}") };
    assert_eq!((kind, &version), (Cluster, &second.version));
    assert_eq!(refused.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["B"]);
    assert_eq!(said, []);
    let status = &s.machine.status()[0];
    assert_eq!((&status.acked, status.nacked.len()), (&first.version, 1));
}

#[test]
fn a_refused_version_is_not_sent_again_until_it_differs() {
    for kind in WHOLE.into_iter().chain(PART) {
        let world = world(kind, &["A"]);
        let mut s = SotwStream::new(&world);
        let said = one(s.ask(kind, &["A"], "", ""));
        assert_eq!(s.nack(&said, &["A"], "", "A is bad").1, []);
        assert_eq!(s.changed(), []);
        // Neither a repeated request nor an unrelated change makes a loop of it.
        assert_eq!(s.ask(kind, &["A"], &said.nonce, ""), []);
        world.set(kind, "Z", 1);
        assert_eq!(s.changed(), []);
        world.set(kind, "A", 2);
        let better = one(s.changed());
        s.ack(&better, &["A"]);
        assert!(s.machine.status()[0].nacked.is_empty());
    }
}

#[test]
fn at_most_one_response_of_a_kind_waits_and_changes_coalesce() {
    for kind in WHOLE.into_iter().chain(PART) {
        let world = world(kind, &["A"]);
        let mut s = SotwStream::new(&world);
        let first = one(s.ask(kind, &["A"], "", ""));
        for content in 2..10 {
            world.set(kind, "A", content);
            assert_eq!(s.changed(), []);
        }
        let last = one(s.ack(&first, &["A"]));
        assert_eq!(last.versions, world.versions(kind));
        assert_eq!(s.ack(&last, &["A"]), []);
    }
}

#[test]
fn changes_are_sent_in_the_order_of_dependence_and_removals_last_in_reverse() {
    let world = World::new();
    world.turn(&[
        (Cluster, "old", Some(1)),
        (Endpoints, "old", Some(1)),
        (Listener, "l", Some(1)),
        (Listener, "gone", Some(1)),
        (Routes, "r", Some(1)),
        (Rule, "x", Some(1)),
    ]);
    let mut s = SotwStream::new(&world);
    let asked: [(Kind, &[&str]); 5] =
        [(Cluster, &[]), (Endpoints, &["old", "new"]), (Listener, &[]), (Routes, &["r"]), (Rule, &[])];
    for (kind, list) in asked {
        let said = one(s.ask(kind, list, "", ""));
        s.ack(&said, list);
    }
    world.turn(&[
        (Cluster, "old", None),
        (Cluster, "new", Some(1)),
        (Endpoints, "old", None),
        (Endpoints, "new", Some(1)),
        (Listener, "gone", None),
        (Routes, "r", Some(2)),
        (Rule, "x", Some(2)),
    ]);
    let said = s.changed();
    assert_eq!(kinds(&said), [Cluster, Endpoints, Routes, Rule, Listener]);
    assert_eq!(said[0].names, ["new", "old"], "the old cluster stays while routes may name it");
    assert_eq!(said[4].names, ["l"]);
    // The cluster's first response is acknowledged: now the old one may go.
    assert_eq!(one(s.ack(&said[0], &[])).names, ["new"]);
}

#[test]
fn routes_wait_for_the_cluster_that_waits_for_an_ack() {
    let world = World::new();
    world.turn(&[(Cluster, "a", Some(1)), (Routes, "r", Some(1))]);
    let mut s = SotwStream::new(&world);
    let clusters = one(s.ask(Cluster, &[], "", ""));
    let routes = one(s.ask(Routes, &["r"], "", ""));
    s.ack(&routes, &["r"]);
    // Clusters are unacknowledged still; the route names one they do not have yet.
    world.turn(&[(Cluster, "b", Some(1)), (Routes, "r", Some(2))]);
    assert_eq!(s.changed(), []);
    assert_eq!(kinds(&s.ack(&clusters, &[])), [Cluster, Routes]);
}

#[test]
fn what_was_never_answered_does_not_wait_for_others() {
    let world = World::new();
    world.turn(&[(Cluster, "a", Some(1)), (Endpoints, "a", Some(1))]);
    let mut s = SotwStream::new(&world);
    one(s.ask(Cluster, &[], "", ""));
    world.set(Cluster, "a", 2);
    assert_eq!(s.changed(), []);
    // A client may acknowledge a cluster only once it has its endpoints.
    assert_eq!(one(s.ask(Endpoints, &["a"], "", "")).names, ["a"]);
}

#[test]
fn endpoints_come_after_a_changed_cluster_though_they_are_the_same() {
    let world = World::new();
    world.turn(&[
        (Cluster, "a", Some(1)),
        (Endpoints, "a", Some(1)),
        (Cluster, "b", Some(1)),
        (Endpoints, "b", Some(1)),
    ]);
    let mut s = SotwStream::new(&world);
    let c = one(s.ask(Cluster, &[], "", ""));
    s.ack(&c, &[]);
    let e = one(s.ask(Endpoints, &["a", "b"], "", ""));
    s.ack(&e, &["a", "b"]);
    world.set(Cluster, "a", 2);
    let said = s.changed();
    assert_eq!(kinds(&said), [Cluster, Endpoints]);
    assert_eq!(said[1].names, ["a"]);
}

#[test]
fn rules_follow_the_clusters_that_are_named() {
    let world = World::new();
    world.turn(&[(Rule, "all", Some(1)), (Rule, "pay/limit", Some(1)), (Cluster, "pay", Some(1))]);
    let mut s = SotwStream::new(&world);
    let rules = one(s.ask(Rule, &[], "", ""));
    assert_eq!(rules.names, ["all"]);
    s.ack(&rules, &[]);
    let said = s.ask(Cluster, &["pay"], "", "");
    assert_eq!(kinds(&said), [Cluster, Rule]);
    assert_eq!(said[1].names, ["all", "pay/limit"]);
    s.ack(&said[0], &["pay"]);
    s.ack(&said[1], &[]);
    assert_eq!(one(s.ack(&said[0], &[])).names, ["all"]);
}

#[test]
fn kinds_on_one_stream_do_not_mind_each_other() {
    for (one_kind, other) in [(Cluster, Listener), (Routes, Endpoints)] {
        let world = World::new();
        world.turn(&[(one_kind, "B", Some(1)), (other, "B", Some(1))]);
        let mut s = SotwStream::new(&world);
        let a = one(s.ask(one_kind, &["B"], "", ""));
        s.ack(&a, &["B"]);
        let b = one(s.ask(other, &["B"], "", ""));
        s.ack(&b, &["B"]);
        world.set(one_kind, "B", 2);
        let said = one(s.changed());
        assert_eq!(said.kind, Some(one_kind));
        assert_eq!(s.ack(&said, &["B"]), []);
    }
}

#[test]
fn a_view_that_does_not_know_what_changed_is_looked_through() {
    let world = World::forgetful();
    world.turn(&[(Cluster, "A", Some(1)), (Endpoints, "A", Some(1))]);
    let mut s = SotwStream::new(&world);
    let c = one(s.ask(Cluster, &[], "", ""));
    s.ack(&c, &[]);
    let e = one(s.ask(Endpoints, &["A"], "", ""));
    s.ack(&e, &["A"]);
    world.set(Endpoints, "A", 2);
    assert_eq!(kinds(&s.changed()), [Endpoints]);
}

#[test]
fn a_large_answer_of_endpoints_is_split_and_goes_on_with_each_ack() {
    let list: Vec<String> = (0..100).map(|i| format!("s{i:03}")).collect();
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    let world = world(Endpoints, &list);
    let mut s = SotwStream::with(&world, Limits { response_bytes: 2000, ..Limits::default() });
    let mut got = Vec::new();
    let mut said = s.ask(Endpoints, &list, "", "");
    let mut rounds = 0;
    while !said.is_empty() {
        let response = one(said);
        got.extend(response.names.clone());
        said = s.ack(&response, &list);
        rounds += 1;
    }
    got.sort();
    assert_eq!(got, list);
    assert!(rounds > 4);
}

#[test]
fn too_many_or_too_long_names_end_the_stream() {
    let limits = Limits { names: 3, name_bytes: 10, ..Limits::default() };
    let mut s = SotwStream::with(&World::new(), limits);
    s.ask(Cluster, &["a", "b"], "", "");
    let many = s.try_send(&sotw_request(Endpoints, &["a", "b"], "", ""));
    assert!(matches!(many, Err(Violation::TooMuch(_))), "{many:?}");
    let long = s.try_send(&sotw_request(Endpoints, &["aaaaaaaaaaaa"], "", ""));
    assert!(matches!(long, Err(Violation::TooMuch(_))), "{long:?}");
    let none = s.try_send(&sotw_request(Endpoints, &[""], "", ""));
    assert!(matches!(none, Err(Violation::Malformed(_))), "{none:?}");
    assert!(s.try_send(&sotw_request(Endpoints, &["a"], "", "")).is_ok());
}

#[test]
fn an_unknown_type_is_passed_over() {
    let mut request = sotw_request(Cluster, &["a"], "", "");
    request.type_url = "type.googleapis.com/envoy.service.runtime.v3.Runtime".into();
    let (event, said) = SotwStream::new(&World::new()).try_send(&request).expect("allowed");
    assert_eq!((event, said), (Event::Unknown, vec![]));
}

#[test]
fn the_same_content_has_the_same_version_on_every_stream() {
    let a = world(Cluster, &["A", "B"]);
    let b = World::new();
    b.set(Cluster, "B", 1);
    b.set(Cluster, "A", 1);
    let one_ = one(SotwStream::new(&a).ask(Cluster, &[], "", ""));
    let other = one(SotwStream::new(&b).ask(Cluster, &[], "", ""));
    assert_eq!(one_.version, other.version);
}
