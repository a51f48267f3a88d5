//! What people are shown of limits.
mod limit_common;
use limit_common::*;
use raddle_model::Side;
use raddle_policy::Rng;
use raddle_policy::limit::breaker::{Outcome, State};
use raddle_policy::limit::{Breakers, Rules};
use std::sync::Arc;
use std::time::Duration;

fn all() -> Arc<Rules> {
    rules(
        &[
            (
                "RateLimit",
                "hot",
                "{rate: 10, burst: 10, key: {header: user, values: [{value: vip, bound: 100}]}}",
            ),
            ("RateLimit", "rate", "{rate: 100, when: {method: pay}}"),
            ("RateLimit", "paced", "{rate: 10, maxWait: 1s, when: {method: slow}}"),
            ("RateLimit", "at-once", "{mode: observe, concurrency: 2}"),
            ("RateLimit", "out", "{side: outbound, rate: 1, reach: cluster}"),
            ("CircuitBreaker", "svc", "{per: service, consecutiveErrors: 2, openFor: 10s}"),
            ("CircuitBreaker", "ep", "{errorRatio: 0.5, when: {method: pay}}"),
        ],
        None,
    )
}

#[test]
fn the_view_says_what_each_rule_is_and_has_done() {
    let rules = all();
    let mut local = worker(&rules);
    for i in 0..30 {
        let user = format!("u{}", i % 2);
        let req = request("s", "pay", &[("user", &user)]);
        let _ = judge(&mut local, &req, at(1.0)).map(|p| p.ticket.is_none());
    }
    let slow = request("s", "slow", &[]);
    for _ in 0..3 {
        let _ = judge(&mut local, &slow, at(1.0)).map(|p| p.ticket.is_none());
    }
    let view = rules.view(at(1.0));
    let links: Vec<_> = view.limits.iter().map(|l| (l.rule.as_str(), l.link)).collect();
    assert_eq!(
        links,
        [
            ("RateLimit/at-once", "concurrency"),
            ("RateLimit/rate", "rate"),
            ("RateLimit/hot", "hotspot"),
            ("RateLimit/paced", "pacing"),
            ("RateLimit/out", "cluster"),
        ]
    );
    let [at_once, rate, hot, paced, _] = view.limits.as_slice() else { panic!("five") };
    assert_eq!((at_once.passed, at_once.in_use), (2, Some(2)));
    assert!(at_once.held >= 20, "it would have held the others: {}", at_once.held);
    assert_eq!((rate.passed, rate.held, rate.level), (20, 0, Some(0.8)));
    assert_eq!((hot.passed, hot.held, hot.kept), (20, 10, Some(2)));
    assert_eq!((paced.passed, paced.waited, paced.wait_ms), (3, 2, Some(300.0)));
    let values: Vec<_> = hot.values.iter().map(|v| (v.value.as_str(), v.own, v.held)).collect();
    assert_eq!(values[0], ("vip", true, 0));
    assert!(values[1..].contains(&("u0", false, 5)) && values[1..].contains(&("u1", false, 5)), "{values:?}");
    let json = serde_json::to_value(&view).expect("it is JSON");
    assert_eq!(json["limits"][3]["waitMs"], 300.0);
    assert_eq!(json["limits"][0]["mode"], "observe");
    assert!(json["limits"][0].get("warmth").is_none());
}

#[test]
fn the_view_says_which_breakers_are_open_since_and_until_when_and_why() {
    let rules = all();
    let mut breakers = Breakers::new(0, 1);
    breakers.sync(&rules);
    let mut rng = Rng::new(1);
    for _ in 0..2 {
        let (call, _) = breakers.begin(&request("s", "pay", &[]), at(1.0), &mut rng).expect("closed");
        let to = ([10, 0, 0, 1], 80).into();
        breakers.enter(&call, to, at(1.0), &mut rng).expect("closed");
        breakers.end(call, Outcome::Failed(Duration::from_millis(1)), at(1.0), &mut rng);
    }
    let view = rules.view(at(3.0));
    let svc = &view.breakers[0];
    assert_eq!((svc.unwell, svc.closed, svc.passed), (1, 0, 2));
    let target = &svc.targets[0];
    assert_eq!((target.target.as_str(), target.state, target.since_seconds), ("s", State::Open, Some(2.0)));
    assert!(target.until_seconds.is_some_and(|s| (8.0..10.1).contains(&s)), "{target:?}");
    assert_eq!(target.why.as_deref(), Some("2 calls in a row failed"));
    let endpoint = &view.breakers[1].targets[0];
    assert_eq!((endpoint.target.as_str(), endpoint.calls, endpoint.failed), ("10.0.0.1:80", 2, 2));
    assert_eq!((endpoint.state, &endpoint.why), (State::Closed, &None));
}

#[test]
fn explaining_tells_the_rules_that_take_a_request_and_what_is_known_for_it() {
    let rules = all();
    let mut local = worker(&rules);
    let bob = request("s", "pay", &[("user", "bob")]);
    for _ in 0..5 {
        assert!(passes(&mut local, &bob, at(1.0)));
    }
    let told = rules.explain(Side::Inbound, &bob, at(1.0));
    let names: Vec<_> = told.limits.iter().map(|l| l.rule.as_str()).collect();
    assert_eq!(names, ["RateLimit/at-once", "RateLimit/rate", "RateLimit/hot"]);
    let value = &told.limits[2].values[0];
    assert_eq!((value.value.as_str(), value.level, told.limits[2].values.len()), ("bob", Some(0.5), 1));
    let vip = rules.explain(Side::Inbound, &request("s", "get", &[("user", "vip")]), at(1.0));
    assert!(vip.limits[1].values[0].own && vip.breakers.is_empty());
    let new = rules.explain(Side::Inbound, &request("s", "get", &[("user", "new")]), at(1.0));
    assert_eq!(new.limits[1].values[0].level, Some(1.0));
    let out = rules.explain(Side::Outbound, &bob, at(1.0));
    let names: Vec<_> = out.breakers.iter().map(|b| b.rule.as_str()).collect();
    assert_eq!((out.limits.len(), names), (1, vec!["CircuitBreaker/svc", "CircuitBreaker/ep"]));
    assert_eq!(rules.view(at(1.0)).limits[0].passed, 5, "asking counts nothing");
}
