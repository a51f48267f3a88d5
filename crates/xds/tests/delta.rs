//! The incremental variant: every test is a promise of docs/reference/xds-conformance.md.
mod world;

use raddle_xds::server::{Event, Limits, Violation};
use raddle_xds::types::Kind;
use raddle_xds::types::Kind::{Cluster, Endpoints, Listener, Routes, Rule, Secret};
use std::collections::BTreeMap;
use world::{DeltaStream, World, delta_request, kinds, names, one};

const WHOLE: [Kind; 2] = [Cluster, Listener];
const KINDS: [Kind; 4] = [Cluster, Listener, Routes, Endpoints];

fn world(kind: Kind, list: &[&str]) -> World {
    let world = World::new();
    let all: Vec<_> = list.iter().map(|n| (kind, *n, Some(1))).collect();
    world.turn(&all);
    world
}

#[test]
fn resources_are_subscribed_to_one_after_the_other_and_only_the_new_one_is_sent() {
    for kind in KINDS {
        let world = world(kind, &["A", "B", "C"]);
        let mut s = DeltaStream::new(&world);
        let a = one(s.subscribe(kind, &["A"]));
        assert_eq!(a.names, ["A"]);
        assert_eq!(s.ack(&a), []);
        let b = one(s.subscribe(kind, &["B"]));
        assert_eq!(b.names, ["B"]);
        assert_eq!(s.ack(&b), []);
        assert_eq!(s.changed(), []);
    }
}

#[test]
fn a_change_is_sent_alone() {
    for kind in KINDS {
        let world = world(kind, &["A", "B", "C"]);
        let mut s = DeltaStream::new(&world);
        let said = one(s.subscribe(kind, &["A", "B", "C"]));
        s.ack(&said);
        world.set(kind, "A", 2);
        let said = one(s.changed());
        assert_eq!((said.names.clone(), said.removed.clone()), (names(&["A"]), names(&[])));
        assert_eq!(s.ack(&said), []);
    }
}

#[test]
fn what_does_not_exist_is_said_to_be_removed_and_sent_when_it_comes_to_be() {
    for kind in KINDS {
        let world = world(kind, &["A"]);
        let mut s = DeltaStream::new(&world);
        let said = one(s.subscribe(kind, &["A", "B"]));
        assert_eq!((said.names.clone(), said.removed.clone()), (names(&["A"]), names(&["B"])));
        s.ack(&said);
        world.set(kind, "B", 1);
        assert_eq!(one(s.changed()).names, ["B"]);
    }
}

#[test]
fn what_is_removed_is_said_and_sent_when_it_comes_back() {
    for kind in KINDS {
        let world = world(kind, &["A", "B"]);
        let mut s = DeltaStream::new(&world);
        let said = one(s.subscribe(kind, &["A", "B"]));
        s.ack(&said);
        world.remove(kind, "A");
        let said = one(s.changed());
        assert_eq!((said.names.clone(), said.removed.clone()), (names(&[]), names(&["A"])));
        s.ack(&said);
        world.set(kind, "A", 1);
        assert_eq!(one(s.changed()).names, ["A"], "even if it is as it was");
    }
}

#[test]
fn who_unsubscribes_hears_nothing_more() {
    for kind in KINDS {
        let world = world(kind, &["A", "B"]);
        let mut s = DeltaStream::new(&world);
        let said = one(s.subscribe(kind, &["A", "B"]));
        s.ack(&said);
        assert_eq!(s.unsubscribe(kind, &["A"]), []);
        world.set(kind, "A", 2);
        assert_eq!(s.changed(), []);
        s.unsubscribe(kind, &["B"]);
        world.remove(kind, "B");
        assert_eq!(s.changed(), []);
    }
}

#[test]
fn a_wildcard_gets_everything_additions_changes_and_removals() {
    for (kind, star) in WHOLE.into_iter().flat_map(|k| [(k, false), (k, true)]) {
        let world = world(kind, &["A", "B"]);
        let mut s = DeltaStream::new(&world);
        let list: &[&str] = if star { &["*"] } else { &[] };
        let said = one(s.subscribe(kind, list));
        assert_eq!(said.names, ["A", "B"]);
        s.ack(&said);
        world.turn(&[(kind, "A", Some(2)), (kind, "C", Some(1)), (kind, "B", None)]);
        let said = s.changed();
        assert_eq!((&said[0].names, &said[1].removed), (&names(&["A", "C"]), &names(&["B"])));
    }
}

#[test]
fn a_wildcard_is_answered_when_there_is_nothing() {
    for kind in WHOLE {
        let said = one(DeltaStream::new(&World::new()).subscribe(kind, &[]));
        assert_eq!((said.names, said.removed), (names(&[]), names(&[])));
    }
}

#[test]
fn no_names_of_routes_or_endpoints_mean_none() {
    for kind in [Routes, Endpoints, Secret] {
        let world = world(kind, &["A"]);
        let mut s = DeltaStream::new(&world);
        assert_eq!(s.subscribe(kind, &[]), []);
        world.set(kind, "A", 2);
        assert_eq!(s.changed(), []);
    }
}

#[test]
fn the_wildcard_lasts_until_it_is_unsubscribed_from() {
    let world = world(Cluster, &["A", "B"]);
    let mut s = DeltaStream::new(&world);
    let all = one(s.subscribe(Cluster, &[]));
    s.ack(&all);
    // A name beside it goes on with it.
    let a = one(s.subscribe(Cluster, &["A"]));
    s.ack(&a);
    world.set(Cluster, "B", 2);
    let b = one(s.changed());
    s.ack(&b);
    assert_eq!(s.unsubscribe(Cluster, &["*"]), []);
    world.turn(&[(Cluster, "A", Some(3)), (Cluster, "B", Some(3))]);
    let a = one(s.changed());
    assert_eq!(a.names, ["A"]);
    s.ack(&a);
    s.unsubscribe(Cluster, &["A"]);
    world.set(Cluster, "A", 4);
    assert_eq!(s.changed(), []);
    assert_eq!(s.subscribe(Cluster, &[]), [], "no names mean no wildcard any more");
}

#[test]
fn who_drops_a_name_that_the_wildcard_may_cover_is_told_what_holds() {
    let world = world(Cluster, &["A", "B"]);
    let mut s = DeltaStream::new(&world);
    let said = one(s.subscribe(Cluster, &["*", "A", "Z"]));
    s.ack(&said);
    let said = one(s.unsubscribe(Cluster, &["A", "Z"]));
    assert_eq!((said.names.clone(), said.removed.clone()), (names(&["A"]), names(&["Z"])));
}

#[test]
fn a_subscribed_name_is_always_answered_even_again() {
    for kind in KINDS {
        let world = world(kind, &["A"]);
        let mut s = DeltaStream::new(&world);
        let said = one(s.subscribe(kind, &["A", "Z"]));
        s.ack(&said);
        let again = one(s.subscribe(kind, &["A", "Z"]));
        assert_eq!((again.names.clone(), again.removed.clone()), (names(&["A"]), names(&["Z"])));
    }
}

#[test]
fn a_repeated_star_gets_everything_again() {
    let world = world(Cluster, &["A", "B"]);
    let mut s = DeltaStream::new(&world);
    let said = one(s.subscribe(Cluster, &["*"]));
    s.ack(&said);
    assert_eq!(one(s.subscribe(Cluster, &["*"])).names, ["A", "B"]);
}

#[test]
fn a_name_in_both_lists_stays_subscribed() {
    let world = world(Endpoints, &["A"]);
    let mut s = DeltaStream::new(&world);
    let said = one(s.subscribe(Endpoints, &["A"]));
    s.ack(&said);
    let said = one(s.send(&delta_request(Endpoints, &["A"], &["A"])));
    assert_eq!(said.names, ["A"]);
    s.ack(&said);
    world.set(Endpoints, "A", 2);
    assert_eq!(one(s.changed()).names, ["A"]);
}

#[test]
fn a_request_without_a_nonce_is_no_ack() {
    let world = world(Endpoints, &["A", "B"]);
    let mut s = DeltaStream::new(&world);
    one(s.subscribe(Endpoints, &["A"]));
    let (event, _) = s.try_send(&delta_request(Endpoints, &["B"], &[])).expect("allowed");
    assert_eq!(event, Event::Subscribed { kind: Endpoints });
    assert_eq!(s.machine.status()[0].acked, "");
}

#[test]
fn an_ack_may_subscribe_as_well() {
    let world = world(Endpoints, &["A", "B"]);
    let mut s = DeltaStream::new(&world);
    let a = one(s.subscribe(Endpoints, &["A"]));
    let mut request = delta_request(Endpoints, &["B"], &[]);
    request.response_nonce.clone_from(&a.nonce);
    let (event, said) = s.try_send(&request).expect("allowed");
    assert_eq!(event, Event::Ack { kind: Endpoints, version: a.version });
    assert_eq!(one(said).names, ["B"]);
}

#[test]
fn a_nonce_nobody_knows_says_nothing_and_its_names_count() {
    let world = world(Endpoints, &["A", "B"]);
    let mut s = DeltaStream::new(&world);
    one(s.subscribe(Endpoints, &["A"]));
    let mut request = delta_request(Endpoints, &["B"], &[]);
    request.response_nonce = "of another stream".into();
    let (event, said) = s.try_send(&request).expect("allowed");
    assert_eq!((event, one(said).names), (Event::Stale { kind: Endpoints }, names(&["B"])));
}

#[test]
fn a_refused_version_is_not_sent_again_until_it_differs() {
    for kind in KINDS {
        let world = world(kind, &["A", "B"]);
        let mut s = DeltaStream::new(&world);
        let said = one(s.subscribe(kind, &["A", "B"]));
        let (event, more) = s.nack(&said, "B: no");
        let Event::Nack { refused, .. } = event else { panic!("{event:?}") };
        assert_eq!(refused.iter().map(|r| r.name.as_str()).collect::<Vec<_>>(), ["B"]);
        assert_eq!((more, s.changed()), (vec![], vec![]));
        world.set(kind, "A", 2);
        let a = one(s.changed());
        assert_eq!(a.names, ["A"]);
        s.ack(&a);
        assert_eq!(s.machine.status()[0].nacked.len(), 1);
        world.set(kind, "B", 2);
        let b = one(s.changed());
        s.ack(&b);
        assert!(s.machine.status()[0].nacked.is_empty());
    }
}

#[test]
fn who_reconnects_gets_differences_and_removals_only() {
    for (kind, star) in KINDS.into_iter().flat_map(|k| [(k, false), (k, true)]) {
        if star && !kind.whole() {
            continue;
        }
        let world = world(kind, &["same", "changed", "gone"]);
        let known = world.versions(kind);
        world.turn(&[(kind, "changed", Some(2)), (kind, "gone", None), (kind, "new", Some(1))]);
        let mut s = DeltaStream::new(&world);
        let list: &[&str] = if star { &[] } else { &["same", "changed", "gone", "new"] };
        let said = s.resume(kind, list, &known);
        let sent: Vec<&str> = said.iter().flat_map(|s| &s.names).map(String::as_str).collect();
        let removed: Vec<&str> = said.iter().flat_map(|s| &s.removed).map(String::as_str).collect();
        assert_eq!((sent, removed), (vec!["changed", "new"], vec!["gone"]), "{kind:?} {star}");
    }
}

#[test]
fn who_reconnects_to_nothing_new_is_told_so() {
    let world = world(Cluster, &["A"]);
    let mut s = DeltaStream::new(&world);
    let said = one(s.resume(Cluster, &[], &world.versions(Cluster)));
    assert_eq!((said.names, said.removed), (names(&[]), names(&[])));
}

#[test]
fn versions_of_what_is_not_wanted_do_not_matter() {
    let world = world(Endpoints, &["A"]);
    let known: BTreeMap<String, String> = [("Z".to_owned(), "1".to_owned())].into();
    let said = one(DeltaStream::new(&world).resume(Endpoints, &["A"], &known));
    assert_eq!((said.names, said.removed), (names(&["A"]), names(&[])));
}

#[test]
fn changes_are_sent_in_the_order_of_dependence_and_removals_last_in_reverse() {
    let world = World::new();
    let all = [Cluster, Endpoints, Listener, Routes, Secret, Rule];
    let old: Vec<_> = all.iter().flat_map(|k| [(*k, "old", Some(1)), (*k, "kept", Some(1))]).collect();
    world.turn(&old);
    let mut s = DeltaStream::new(&world);
    for kind in [Rule, Secret, Routes, Listener, Endpoints, Cluster] {
        for said in s.subscribe(kind, &["old", "kept", "new"]) {
            s.ack(&said);
        }
    }
    assert_eq!(s.changed(), []);
    let new: Vec<_> = all.iter().flat_map(|k| [(*k, "old", None), (*k, "new", Some(1))]).collect();
    world.turn(&new);
    let said = s.changed();
    let mut order = all.to_vec();
    order.extend(all.iter().rev());
    assert_eq!(kinds(&said), order);
    assert!(said[..6].iter().all(|s| s.names == ["new"] && s.removed.is_empty()));
    assert!(said[6..].iter().all(|s| s.names.is_empty() && s.removed == ["old"]));
}

#[test]
fn endpoints_come_after_a_changed_cluster_though_they_are_the_same() {
    let world = World::new();
    world.turn(&[(Cluster, "a", Some(1)), (Endpoints, "a", Some(1))]);
    let mut s = DeltaStream::new(&world);
    for said in
        s.subscribe(Cluster, &[]).into_iter().chain(s.subscribe(Endpoints, &["a"])).collect::<Vec<_>>()
    {
        s.ack(&said);
    }
    world.set(Cluster, "a", 2);
    let said = s.changed();
    assert_eq!(kinds(&said), [Cluster, Endpoints]);
    assert_eq!(said[1].names, ["a"]);
}

#[test]
fn a_bounded_number_of_responses_is_under_way_and_the_rest_coalesces() {
    let world = world(Endpoints, &["A"]);
    let mut s = DeltaStream::with(&world, Limits { in_flight: 2, ..Limits::default() });
    let mut flying = s.subscribe(Endpoints, &["A"]);
    for content in 2..10 {
        world.set(Endpoints, "A", content);
        flying.extend(s.changed());
    }
    assert_eq!(flying.len(), 2);
    let last = one(s.ack(&flying[0]));
    assert_eq!(last.versions, world.versions(Endpoints));
    assert_eq!((s.ack(&flying[1]), s.ack(&last)), (vec![], vec![]));
}

#[test]
fn a_large_answer_is_split() {
    let list: Vec<String> = (0..100).map(|i| format!("s{i:03}")).collect();
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    let world = world(Cluster, &list);
    let mut s = DeltaStream::with(&world, Limits { response_bytes: 2000, in_flight: 3, ..Limits::default() });
    let mut waiting = s.subscribe(Cluster, &[]);
    let mut got = Vec::new();
    while !waiting.is_empty() {
        assert!(waiting.len() <= 3);
        let response = waiting.remove(0);
        got.extend(response.names.clone());
        waiting.extend(s.ack(&response));
    }
    got.sort();
    assert_eq!(got, list);
}

#[test]
fn rules_follow_the_clusters_that_are_named() {
    let world = World::new();
    world.turn(&[(Rule, "all", Some(1)), (Rule, "pay/limit", Some(1)), (Cluster, "pay", Some(1))]);
    let mut s = DeltaStream::new(&world);
    let rules = one(s.subscribe(Rule, &[]));
    assert_eq!(rules.names, ["all"]);
    s.ack(&rules);
    let said = s.subscribe(Cluster, &["pay"]);
    assert_eq!(kinds(&said), [Cluster, Rule]);
    assert_eq!(said[1].names, ["pay/limit"]);
    for said in &said {
        s.ack(said);
    }
    let said = one(s.unsubscribe(Cluster, &["pay"]));
    assert_eq!((said.kind, said.removed), (Some(Rule), names(&["pay/limit"])));
}

#[test]
fn rules_of_an_app_come_when_a_service_that_was_waited_for_turns_out_to_be_its() {
    let world = World::new();
    world.turn(&[(Rule, "pay+/limit", Some(1))]);
    let mut s = DeltaStream::new(&world);
    for said in s.subscribe(Rule, &[]).into_iter().chain(s.subscribe(Cluster, &["pay"])) {
        assert!(said.names.is_empty());
        s.ack(&said);
    }
    world.turn(&[(Cluster, "pay", Some(1))]);
    let said = s.changed();
    assert_eq!(kinds(&said), [Cluster, Rule]);
    assert_eq!(said[1].names, ["pay+/limit"]);
}

#[test]
fn changes_of_what_nobody_asked_for_say_nothing_and_are_there_when_asked_for() {
    let world = World::new();
    world.turn(&[(Cluster, "pay", Some(1)), (Cluster, "ship", Some(1))]);
    let mut s = DeltaStream::new(&world);
    let first = one(s.subscribe(Cluster, &["pay"]));
    s.ack(&first);
    world.turn(&[(Cluster, "ship", Some(2))]);
    assert!(s.changed().is_empty());
    let later = one(s.subscribe(Cluster, &["ship"]));
    assert_eq!(later.names, ["ship"]);
}

#[test]
fn names_of_an_unknown_type_are_answered_as_missing() {
    let mut request = delta_request(Cluster, &["a", "*"], &[]);
    request.type_url = "type.googleapis.com/envoy.service.runtime.v3.Runtime".into();
    let (event, said) = DeltaStream::new(&World::new()).try_send(&request).expect("allowed");
    assert_eq!((event, one(said).removed), (Event::Unknown, names(&["a"])));
}

#[test]
fn too_many_or_too_long_names_end_the_stream() {
    let limits = Limits { names: 3, name_bytes: 10, ..Limits::default() };
    let mut s = DeltaStream::with(&World::new(), limits);
    s.subscribe(Cluster, &["a", "b", "c"]);
    assert!(s.try_send(&delta_request(Cluster, &["a", "b", "c"], &[])).is_ok(), "known names cost nothing");
    let many = s.try_send(&delta_request(Endpoints, &["a"], &[]));
    assert!(matches!(many, Err(Violation::TooMuch(_))), "{many:?}");
    let long = s.try_send(&delta_request(Endpoints, &["aaaaaaaaaaaa"], &[]));
    assert!(matches!(long, Err(Violation::TooMuch(_))), "{long:?}");
    let mut known = delta_request(Endpoints, &[], &[]);
    known.initial_resource_versions = (0..5).map(|i| (i.to_string(), "1".to_owned())).collect();
    assert!(matches!(s.try_send(&known), Err(Violation::TooMuch(_))));
}

#[test]
fn what_waits_to_be_answered_is_bounded() {
    let world = World::new();
    let limits = Limits { names: 10, in_flight: 1, ..Limits::default() };
    let mut s = DeltaStream::with(&world, limits);
    s.subscribe(Cluster, &["*"]);
    // It never acknowledges, so every dropped name waits to be answered.
    let refused = (0..100).any(|i| {
        let name = format!("n{i}");
        let subscribed = s.try_send(&delta_request(Cluster, &[&name], &[]));
        subscribed.is_err() || s.try_send(&delta_request(Cluster, &[], &[&name])).is_err()
    });
    assert!(refused);
}
