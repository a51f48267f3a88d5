//! What routes promise: order, conditions, shares, weights, fallbacks.
mod common;
use common::*;
use proptest::{prop_assert, prop_assert_eq, proptest};
use raddle_core::Time;
use raddle_model::{
    Condition, Destination, HashOn, IfEmpty, Matcher, PolicySettings, Scope, Subject, Target, UnitAffinity,
};
use raddle_policy::{Decision, Health, Rng, RouteState, Snapshot};
use std::collections::BTreeMap;
use std::time::Duration;

fn three_groups() -> Vec<raddle_model::Endpoint> {
    ["default", "default", "g1", "g1", "g2"]
        .into_iter()
        .zip(0..)
        .map(|(g, i)| endpoint(i, g, None, 1))
        .collect()
}

fn with_rules(rules: Vec<raddle_model::RouteRule>) -> Snapshot {
    snapshot(three_groups(), vec![route("r", rules)], PolicySettings::default())
}

fn set_health(snapshot: &Snapshot, endpoints: &[u32], health: Health) {
    for &i in endpoints {
        snapshot.host(addr(i)).expect("a host").set_health(health, Time::from_millis(1));
    }
}

#[test]
fn isolated_groups_get_nothing_without_a_rule() {
    let snap = with_rules(vec![]);
    assert_eq!(decide_once(only(&snap), &request(&[])), ("default".into(), "-".into()));
    let snap = snapshot(vec![endpoint(1, "g1", None, 1)], vec![], PolicySettings::default());
    assert_eq!(decide_once(only(&snap), &request(&[])), ("NR".into(), "-".into()));
    let snap = snapshot(vec![], vec![], PolicySettings::default());
    assert_eq!(decide_once(only(&snap), &request(&[])), ("UH".into(), "-".into()));
}

#[test]
fn the_first_rule_that_matches_decides_and_is_named() {
    let snap = with_rules(vec![
        raddle_model::RouteRule {
            when: vec![header_is("type", "transfer")],
            send: to_group("g2"),
            name: Some("link".into()),
            ..rule()
        },
        raddle_model::RouteRule { when: vec![header_is("user", "vip")], send: to_group("g1"), ..rule() },
    ]);
    let service = only(&snap);
    assert_eq!(
        decide_once(service, &request(&[("type", "transfer"), ("user", "vip")])),
        ("g2".into(), "r/link".into())
    );
    assert_eq!(decide_once(service, &request(&[("user", "vip")])), ("g1".into(), "r/1".into()));
    assert_eq!(decide_once(service, &request(&[])), ("default".into(), "-".into()));
}

#[test]
fn routes_of_other_sidecars_services_and_methods_do_not_apply() {
    let to_g1 = || vec![raddle_model::RouteRule { send: to_group("g1"), ..rule() }];
    let scoped = |scope| raddle_model::Route { scope, ..route("r", to_g1()) };
    let aimed = |to| raddle_model::Route { to, ..route("r", to_g1()) };
    let s = |v: &str| vec![v.to_owned()];
    let got = |route: raddle_model::Route| {
        let snap = snapshot(three_groups(), vec![route], PolicySettings::default());
        decide_once(only(&snap), &Request { method: Some("pay".into()), ..request(&[]) }).0
    };
    assert_eq!(
        got(scoped(Scope { apps: s("gateway"), units: s("u1"), groups: s("default"), ..Scope::default() })),
        "g1"
    );
    assert_eq!(got(scoped(Scope { apps: s("other"), ..Scope::default() })), "default");
    assert_eq!(got(scoped(Scope { units: s("u2"), ..Scope::default() })), "default");
    assert_eq!(got(scoped(Scope { groups: s("g1"), ..Scope::default() })), "default");
    assert_eq!(
        got(scoped(Scope { labels: BTreeMap::from([("a".into(), "b".into())]), ..Scope::default() })),
        "default"
    );
    assert_eq!(got(aimed(Target { app: Some("order".into()), services: s("s"), methods: s("pay") })), "g1");
    assert_eq!(
        got(aimed(Target { app: Some("other".into()), services: s("s"), ..Target::default() })),
        "default"
    );
    assert_eq!(got(aimed(Target { services: s("t"), ..Target::default() })), "default");
    assert_eq!(got(aimed(Target { methods: s("get"), ..Target::default() })), "default");
}

#[test]
fn a_method_is_asked_for_only_if_something_looks_at_it() {
    assert!(!only(&with_rules(vec![rule()])).needs_method());
    let when = vec![Condition { subject: Subject::Method, matcher: Matcher::Prefix("get".into()) }];
    assert!(only(&with_rules(vec![raddle_model::RouteRule { when, ..rule() }])).needs_method());
    let settings = PolicySettings {
        balancer: raddle_model::Balancer::ConsistentHash { on: HashOn::Method },
        ..PolicySettings::default()
    };
    assert!(only(&snapshot(three_groups(), vec![], settings)).needs_method());
}

#[test]
fn an_empty_destination_goes_to_the_next_rule_fails_or_takes_any() {
    let run = |if_empty| {
        let snap = with_rules(vec![
            raddle_model::RouteRule { send: to_group("g2"), if_empty, ..rule() },
            raddle_model::RouteRule { send: to_group("g1"), ..rule() },
        ]);
        let before = decide_once(only(&snap), &request(&[]));
        set_health(&snap, &[4], Health::Unhealthy);
        let during = decide_once(only(&snap), &request(&[]));
        set_health(&snap, &[4], Health::Healthy);
        assert_eq!(before, ("g2".into(), "r/0".into()));
        assert_eq!(decide_once(only(&snap), &request(&[])), before, "and back");
        during
    };
    assert_eq!(run(IfEmpty::Next), ("g1".into(), "r/1".into()));
    assert_eq!(run(IfEmpty::Fail), ("UH".into(), "r/0".into()));
    assert_eq!(run(IfEmpty::Any), ("default+g1+g2".into(), "r/0".into()));
}

#[test]
fn unreachable_endpoints_are_no_usable_ones_but_the_last_resort() {
    let snap = with_rules(vec![raddle_model::RouteRule { send: to_group("g2"), ..rule() }]);
    let reach = |i, to| snap.host(addr(i)).unwrap().set_reachable(to, Time::from_millis(1));
    reach(4, false);
    assert_eq!(decide_once(only(&snap), &request(&[])).0, "default");
    reach(0, false);
    reach(1, false);
    assert_eq!(decide_once(only(&snap), &request(&[])).0, "g2", "none is left: what was asked for is tried");
    reach(1, true);
    assert_eq!(decide_once(only(&snap), &request(&[])).0, "default");
}

#[test]
fn fewer_than_min_healthy_count_as_none() {
    let send = vec![Destination { min_healthy: 2, ..destination("g1", 1) }];
    let snap = with_rules(vec![raddle_model::RouteRule { send, ..rule() }]);
    assert_eq!(decide_once(only(&snap), &request(&[])).0, "g1");
    set_health(&snap, &[2], Health::Unhealthy);
    assert_eq!(decide_once(only(&snap), &request(&[])).0, "default");
}

#[test]
fn without_a_healthy_endpoint_the_panic_threshold_decides() {
    for (panic_threshold, wanted) in [(0.3, "default"), (0.0, "UH")] {
        let settings = PolicySettings { panic_threshold, ..PolicySettings::default() };
        let snap = snapshot(three_groups(), vec![], settings);
        set_health(&snap, &[0, 1], Health::Unhealthy);
        assert_eq!(decide_once(only(&snap), &request(&[])).0, wanted);
    }
}

fn members(snap: &Snapshot, req: &Request) -> Vec<u32> {
    match only(snap).route(req, &mut RouteState::default(), &mut Rng::new(1)) {
        Decision::Send { subset, .. } => subset.members.to_vec(),
        Decision::Answer { .. } | Decision::Reject { .. } => Vec::new(),
    }
}

#[test]
fn the_own_unit_is_preferred_required_or_nothing_special() {
    let endpoints =
        || ["u1", "u2", "u1", "u3"].into_iter().zip(0..).map(|(u, i)| endpoint(i, "default", Some(u), 1));
    let run = |unit_affinity| {
        let settings = PolicySettings { unit_affinity, ..PolicySettings::default() };
        let snap = snapshot(endpoints().collect(), vec![], settings);
        let before = members(&snap, &request(&[]));
        set_health(&snap, &[0, 2], Health::Unhealthy);
        (before, members(&snap, &request(&[])))
    };
    assert_eq!(run(UnitAffinity::Prefer), (vec![0, 2], vec![0, 1, 2, 3]));
    assert_eq!(run(UnitAffinity::Require).0, [0, 2]);
    assert_eq!(run(UnitAffinity::Require).1, [0, 2], "in panic, but never elsewhere");
    assert_eq!(run(UnitAffinity::None).0, [0, 1, 2, 3]);
}

#[test]
fn same_is_the_sidecars_own_group_and_unit() {
    let endpoints = [("v", "u1"), ("v", "u2"), ("default", "u1")];
    let endpoints = endpoints.into_iter().zip(0..).map(|((g, u), i)| endpoint(i, g, Some(u), 1)).collect();
    let send = vec![Destination {
        group: Some("same".into()),
        unit: Some("same".into()),
        weight: 1,
        ..Destination::default()
    }];
    let mut res = resources(
        endpoints,
        vec![route("r", vec![raddle_model::RouteRule { send, ..rule() }])],
        PolicySettings::default(),
    );
    res.sidecar = Some(sidecar("gateway", Some("u2"), "v"));
    assert_eq!(members(&Snapshot::compile(res, None), &request(&[])), [1]);
}

#[test]
fn labels_choose_and_weight_zero_is_never_a_member() {
    let endpoints = (0..200).map(|i| endpoint(i, "default", None, i % 2)).collect();
    let labels = BTreeMap::from([("version".to_owned(), "v1".to_owned())]);
    let send = vec![Destination { labels, weight: 1, ..Destination::default() }];
    let snap = snapshot(
        endpoints,
        vec![route("r", vec![raddle_model::RouteRule { send, ..rule() }])],
        PolicySettings::default(),
    );
    let wanted: Vec<u32> = (0..200).filter(|i| i % 3 == 1 && i % 2 == 1).collect();
    assert_eq!(members(&snap, &request(&[])), wanted);
}

#[test]
fn timeouts_and_retries_of_the_rule_come_before_those_of_the_policy() {
    let mut settings = PolicySettings::default();
    settings.timeouts.request = Some(Duration::from_secs(3));
    let first = raddle_model::RouteRule {
        when: vec![header_is("slow", "1")],
        timeout: Some(Duration::from_secs(9)),
        ..rule()
    };
    let snap = snapshot(three_groups(), vec![route("r", vec![first])], settings);
    let timeout = |req: &Request| match only(&snap).route(req, &mut RouteState::default(), &mut Rng::new(1)) {
        Decision::Send { timeout, .. } => timeout,
        Decision::Answer { .. } | Decision::Reject { .. } => None,
    };
    assert_eq!(timeout(&request(&[("slow", "1")])), Some(Duration::from_secs(9)));
    assert_eq!(timeout(&request(&[])), Some(Duration::from_secs(3)));
}

#[test]
fn many_rules_are_hashed_and_keep_their_order() {
    let mut rules: Vec<_> = (0..500)
        .map(|i| raddle_model::RouteRule {
            when: vec![header_is("user", &format!("u{}", i % 100))],
            send: to_group(if i < 100 { "g1" } else { "g2" }),
            ..rule()
        })
        .collect();
    rules.insert(
        50,
        raddle_model::RouteRule { when: vec![header_is("type", "x")], send: to_group("g2"), ..rule() },
    );
    let snap = with_rules(rules);
    assert_eq!(decide_once(only(&snap), &request(&[("user", "u7")])), ("g1".into(), "r/7".into()));
    assert_eq!(decide_once(only(&snap), &request(&[("user", "u70")])), ("g1".into(), "r/71".into()));
    assert_eq!(
        decide_once(only(&snap), &request(&[("user", "u7"), ("type", "x")])),
        ("g1".into(), "r/7".into())
    );
    assert_eq!(
        decide_once(only(&snap), &request(&[("user", "u70"), ("type", "x")])),
        ("g2".into(), "r/50".into())
    );
    assert_eq!(decide_once(only(&snap), &request(&[("user", "nobody")])), ("default".into(), "-".into()));
}

proptest! {
    #[test]
    fn hashed_rules_decide_like_rules_tried_one_by_one(
        rules in proptest::collection::vec((0usize..4, 0usize..3, 0usize..3), 0..60),
        a in 0usize..5, b in 0usize..5,
    ) {
        // Conditions: equality on header a, on header b, on both, or none.
        let compiled = rules.iter().map(|&(kind, va, vb)| {
            let mut when = Vec::new();
            if kind & 1 != 0 { when.push(header_is("a", &va.to_string())); }
            if kind & 2 != 0 { when.push(header_is("b", &vb.to_string())); }
            raddle_model::RouteRule { when, send: to_group("g1"), ..rule() }
        }).collect();
        let snap = with_rules(compiled);
        let wanted = rules.iter().position(|&(kind, va, vb)| (kind & 1 == 0 || va == a) && (kind & 2 == 0 || vb == b));
        let wanted = wanted.map_or_else(|| "-".to_owned(), |i| format!("r/{i}"));
        let (va, vb) = (a.to_string(), b.to_string());
        prop_assert_eq!(decide_once(only(&snap), &request(&[("a", &va), ("b", &vb)])).1, wanted);
    }

    #[test]
    fn a_share_is_exact_within_one_over_any_window(ppm in 0u32..=1_000_000, seed: u64, from in 0usize..500, len in 1usize..500) {
        let snap = with_rules(vec![raddle_model::RouteRule { percent_ppm: ppm, send: to_group("g1"), ..rule() }]);
        let (mut state, mut rng) = (RouteState::default(), Rng::new(seed));
        let taken: Vec<bool> = (0..from + len)
            .map(|_| decide(only(&snap), &request(&[]), &mut state, &mut rng).0 == "g1")
            .collect();
        let got = taken[from..].iter().filter(|t| **t).count() as f64;
        let wanted = len as f64 * f64::from(ppm) / 1e6;
        prop_assert!((got - wanted).abs() < 1.0, "{} of {}: {} instead of {}", ppm, len, got, wanted);
    }

    #[test]
    fn destinations_are_exact_by_weight_and_weight_zero_gets_nothing(a in 0u32..100, b in 0u32..100, n in 1u32..300, seed: u64) {
        let send = vec![destination("g1", a), destination("g2", b), destination("default", 0)];
        let snap = with_rules(vec![raddle_model::RouteRule { send, if_empty: IfEmpty::Fail, ..rule() }]);
        let (mut state, mut rng) = (RouteState::default(), Rng::new(seed));
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..n {
            *counts.entry(decide(only(&snap), &request(&[]), &mut state, &mut rng).0).or_default() += 1;
        }
        let of = |group: &str| f64::from(counts.get(group).copied().unwrap_or(0));
        if a + b == 0 {
            prop_assert_eq!(of("UH") as u32, n);
        } else {
            let wanted = f64::from(n) * f64::from(a) / f64::from(a + b);
            prop_assert!((of("g1") - wanted).abs() < 2.0);
            prop_assert!(a > 0 || of("g1") == 0.0);
            prop_assert!(b > 0 || of("g2") == 0.0);
            prop_assert_eq!(of("g1") as u32 + of("g2") as u32, n);
        }
        prop_assert_eq!(of("default") as u32, 0);
    }

    #[test]
    fn a_stable_share_grows_without_letting_anyone_go(a in 0u32..=1_000_000, b in 0u32..=1_000_000, user: u32) {
        let taken = |ppm| {
            let hash_on = Some(HashOn::Header("user".into()));
            let snap = with_rules(vec![raddle_model::RouteRule { percent_ppm: ppm, hash_on, send: to_group("g1"), ..rule() }]);
            decide_once(only(&snap), &request(&[("user", &user.to_string())])).0 == "g1"
        };
        prop_assert!(!taken(a.min(b)) || taken(a.max(b)));
    }
}

#[test]
fn a_stable_share_is_near_its_size_and_differs_from_rule_to_rule() {
    let hash_on = || Some(HashOn::Header("user".into()));
    let tenth = |name: &str| {
        let first = raddle_model::RouteRule {
            percent_ppm: 100_000,
            hash_on: hash_on(),
            send: to_group("g1"),
            ..rule()
        };
        let snap = snapshot(three_groups(), vec![route(name, vec![first])], PolicySettings::default());
        (0..20_000)
            .filter(|u| decide_once(only(&snap), &request(&[("user", &u.to_string())])).0 == "g1")
            .collect::<Vec<u32>>()
    };
    let (a, b) = (tenth("a"), tenth("b"));
    assert!((1_850..2_150).contains(&a.len()), "{}", a.len());
    let both = a.iter().filter(|u| b.contains(u)).count();
    assert!((130..270).contains(&both), "independent rules share a tenth of a tenth, not {both}");
}

#[test]
fn requests_without_the_hashed_attribute_are_counted() {
    let hash_on = Some(HashOn::Header("user".into()));
    let snap = with_rules(vec![raddle_model::RouteRule {
        percent_ppm: 250_000,
        hash_on,
        send: to_group("g1"),
        ..rule()
    }]);
    let (mut state, mut rng) = (RouteState::default(), Rng::new(3));
    let taken =
        (0..1000).filter(|_| decide(only(&snap), &request(&[]), &mut state, &mut rng).0 == "g1").count();
    assert_eq!(taken, 250);
}

#[test]
fn the_explanation_tells_what_routing_does() {
    let snap = with_rules(vec![
        raddle_model::RouteRule { when: vec![header_is("type", "x")], send: to_group("g2"), ..rule() },
        raddle_model::RouteRule {
            percent_ppm: 100_000,
            send: vec![destination("g1", 3), destination("g2", 1)],
            ..rule()
        },
    ]);
    let told = only(&snap).explain(&request(&[("type", "y")]));
    let json = serde_json::to_value(&told).unwrap();
    assert_eq!(json["policy"], "p");
    assert_eq!(json["rules"][0]["verdict"]["kind"], "noMatch");
    assert_eq!(json["rules"][0]["conditions"][0]["found"], "y");
    assert_eq!(json["rules"][0]["conditions"][0]["holds"], false);
    assert_eq!(json["rules"][1]["verdict"], serde_json::json!({"kind": "takenByShare", "ppm": 100_000}));
    let shares: Vec<f64> = told.outcomes.iter().map(|o| o.share).collect();
    for (got, wanted) in shares.iter().zip([0.075, 0.025, 0.9]) {
        assert!((got - wanted).abs() < 1e-9, "{shares:?}");
    }
    assert_eq!(told.outcomes.len(), 3);
    assert_eq!(told.outcomes[2].rule, None);
    assert_eq!(told.outcomes[2].endpoints.len(), 2);

    let told = only(&snap).explain(&request(&[("type", "x")]));
    assert_eq!(serde_json::to_value(&told.rules[1].verdict).unwrap()["kind"], "notReached");
    assert_eq!(told.outcomes.len(), 1);
    assert_eq!(told.outcomes[0].rule.as_deref(), Some("r/0"));
}
