//! What limits cost: allocations are judged, times printed; figures of a debug build or a busy machine mean nothing.
//!
//! `CARGO_PROFILE_TEST_OPT_LEVEL=3 cargo test -p raddle-policy --test limit_cost -- --nocapture --test-threads 1`
mod limit_common;
use limit_common::app::App;
use limit_common::*;
use raddle_core::Time;
use raddle_model::{Priority, Side};
use raddle_policy::limit::adaptive::View;
use raddle_policy::limit::breaker::Outcome;
use raddle_policy::limit::{Breakers, Verdict};
use raddle_policy::{Asked, Rng};
use std::time::{Duration, Instant};

/// Nanoseconds and allocations of one call: of forty rounds the best, as others use the machine too, and of all the
/// last.
fn cost(n: u32, mut f: impl FnMut(u32)) -> (f64, u64) {
    let mut best = f64::MAX;
    let round = (n / 40).max(1);
    for _ in 0..40 {
        let start = Instant::now();
        (0..round).for_each(&mut f);
        best = best.min(start.elapsed().as_nanos() as f64 / f64::from(round));
    }
    let counted = allocation_counter::measure(|| (0..n).for_each(&mut f));
    (best, counted.count_total)
}

fn ten() -> Vec<(&'static str, &'static str)> {
    vec![
        ("r0", "{concurrency: 10000}"),
        ("r1", "{concurrency: 5000, when: {method: pay}}"),
        ("r2", "{rate: 10000000}"),
        ("r3", "{rate: 9000000, when: {method: pay}}"),
        ("r4", "{rate: 8000000, when: {header: {user: alice}}}"),
        ("r5", "{rate: 10000000, maxWait: 1s}"),
        ("r6", "{rate: 5000000, key: {header: user}}"),
        ("r7", "{concurrency: 100, key: {by: method}}"),
        ("r8", "{mode: observe, rate: 1, when: {service: s}}"),
        ("r9", "{rate: 1000000, reach: cluster}"),
    ]
}

#[test]
fn judging_and_ending_a_request_by_ten_rules_allocates_nothing() {
    let pay = request("s", "pay", &[("user", "alice")]);
    let other = request("t", "get", &[]);
    let many: Vec<(String, String)> =
        (0..1000).map(|i| (format!("m{i}"), format!("{{rate: 10, when: {{method: m{i}}}}}"))).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|(n, s)| (n.as_str(), s.as_str())).collect();
    let mut all_of_ten = ten();
    all_of_ten.extend(many.iter().copied());
    type Specs<'a> = Vec<(&'a str, &'a str)>;
    let cases: [(&str, Specs<'_>, &Asked); 6] = [
        ("no rule", vec![], &pay),
        ("one rate", vec![("r", "{rate: 1000000}")], &pay),
        ("ten rules, all take it", ten(), &pay),
        ("ten rules, others' requests", ten()[3..5].to_vec(), &other),
        ("ten rules and a thousand for other methods", all_of_ten, &pay),
        ("refused", vec![("r", "{rate: 0}")], &pay),
    ];
    for (what, specs, req) in cases {
        let mut local = worker(&limits(&specs, None));
        let mut now = 1_000_000_000u64;
        let (ns, allocations) = cost(20_000, |_| {
            now += 1_000;
            let now = Time::from_nanos(now);
            match local.judge(Side::Inbound, req, now, true) {
                Verdict::Pass { ticket, .. } => local.done(ticket, now),
                Verdict::Refuse(held) => drop(held),
            }
        });
        println!("{what}: {ns:.0} ns, {allocations} allocations in 20,000");
        assert_eq!(allocations, 0, "{what}");
    }
}

#[test]
fn a_million_values_cost_no_allocations() {
    let mut local = worker(&limits(&[("r", "{rate: 10, key: {header: user}}")], None));
    let mut reqs: Vec<Asked> =
        (0..4096).map(|i| request("s", "m", &[("user", &format!("user-{i}"))])).collect();
    let (mut now, mut n) = (1_000_000_000u64, 0usize);
    let (ns, allocations) = cost(50_000, |i| {
        now += 1_000;
        n += 1;
        // The text grows another tail each time, in place.
        let req = &mut reqs[n % 4096];
        let tail = &mut req.headers[0].1;
        tail.truncate(6);
        for shift in 0..4 {
            tail.push(char::from(b'a' + (i >> (4 * shift) & 15) as u8));
        }
        match local.judge(Side::Inbound, req, Time::from_nanos(now), true) {
            Verdict::Pass { ticket, .. } => local.done(ticket, Time::from_nanos(now)),
            Verdict::Refuse(held) => drop(held),
        }
    });
    println!("hotspot, ever new values: {ns:.0} ns, {allocations} allocations in 50,000");
    assert_eq!(allocations, 0);
}

#[test]
fn a_value_that_is_known_costs_no_allocation() {
    for (what, spec) in [
        ("a rate for each value", "{rate: 1000000, key: {header: user}}"),
        ("requests at the same time for each value", "{concurrency: 100, key: {header: user}}"),
        (
            "a value with a rate of its own",
            "{rate: 10, key: {header: user, values: [{value: user-7, bound: 9999999}]}}",
        ),
    ] {
        let mut local = worker(&limits(&[("r", spec)], None));
        let reqs: Vec<Asked> =
            (0..64).map(|i| request("s", "m", &[("user", &format!("user-{i}"))])).collect();
        let (mut now, own) = (1_000_000_000u64, what.contains("own"));
        let (ns, allocations) = cost(40_000, |i| {
            now += 1_000;
            let req = &reqs[if own { 7 } else { i as usize % 64 }];
            match local.judge(Side::Inbound, req, Time::from_nanos(now), true) {
                Verdict::Pass { ticket, .. } => local.done(ticket, Time::from_nanos(now)),
                Verdict::Refuse(held) => drop(held),
            }
        });
        println!("hotspot, {what}: {ns:.0} ns, {allocations} allocations in 40,000");
        assert_eq!(allocations, 0, "{what}");
    }
}

#[test]
fn a_call_by_breakers_allocates_nothing() {
    let three = [
        ("CircuitBreaker", "ep", "{errorRatio: 0.5}"),
        ("CircuitBreaker", "svc", "{per: service, slowRatio: 0.5}"),
        ("CircuitBreaker", "method", "{per: method, consecutiveErrors: 100000}"),
    ];
    breakers("one breaker", &three[..1]);
    breakers("three breakers", &three);
}

fn breakers(how_many: &str, documents: &[(&str, &str, &str)]) {
    let rules = rules(documents, None);
    let mut breakers = Breakers::new(0, 8);
    breakers.sync(&rules);
    let (req, mut rng, mut now) = (request("s", "m", &[]), Rng::new(1), 1_000_000_000u64);
    for (what, failed) in [("that is answered", 0), ("of which one in eleven fails", 11)] {
        let (ns, allocations) = cost(20_000, |i| {
            now += 10_000;
            let at = Time::from_nanos(now);
            let (call, _) = breakers.begin(&req, at, &mut rng).expect("closed");
            let to = ([10, 0, 0, (i % 100) as u8], 80).into();
            for other in 0..3 {
                assert!(!breakers.open(&call, ([10, 0, 0, other], 80).into(), at));
            }
            breakers.enter(&call, to, at, &mut rng).expect("closed");
            let took = Duration::from_millis(1);
            let outcome = match failed {
                0 => Outcome::Answered(took),
                n if i % n == 0 => Outcome::Failed(took),
                _ => Outcome::Answered(took),
            };
            breakers.end(call, outcome, at, &mut rng);
        });
        println!("a call {what}, {how_many}: {ns:.0} ns, {allocations} allocations in 20,000");
        assert_eq!(allocations, 0);
    }
}

/// What a request of this interface costs in the state the app is in now.
fn request_cost(app: &mut App, what: &str, interface: usize, priority: Priority) {
    let (mut now, id) = (app.now(), app.ids[interface]);
    let (gate, rng) = (&mut app.gates[0], &mut app.rng);
    let mut passed = 0u64;
    let (ns, allocations) = cost(40_000, |_| {
        now = now + Duration::from_micros(20);
        if gate.admit(id, priority, now, rng).is_ok() {
            passed += 1;
            gate.complete(id, Duration::from_micros(900), None, false);
        }
    });
    println!(
        "adaptive, {what}: {ns:.0} ns, {allocations} allocations in 40,000 ({} % pass)",
        passed * 100 / 80_000
    );
    assert_eq!(allocations, 0, "{what}");
}

#[test]
fn a_decision_of_the_adaptive_limit_allocates_nothing_in_any_tier() {
    let app = |workers| {
        let mut app = App::new(&limit_common::app::usual(100, 4.0, 0.6), 4.0, workers, 1);
        app.chance = true;
        app
    };
    for workers in [2, 16] {
        let mut idle = app(workers);
        assert!(!idle.seconds(30).active);
        request_cost(&mut idle, &format!("nothing held, {workers} workers"), 3, Priority::Normal);
        let mut first = app(workers);
        first.seconds(30);
        first.kinds[3].rate *= 100.0;
        let view: View = first.seconds(12);
        assert_eq!((view.tier, limit_common::app::held(&view)), (1, vec!["i3".to_owned()]));
        request_cost(&mut first, &format!("tier 1, a culprit, {workers} workers"), 3, Priority::Normal);
        request_cost(&mut first, &format!("tier 1, any other, {workers} workers"), 4, Priority::Normal);
        request_cost(&mut first, &format!("tier 1, a load test, {workers} workers"), 4, Priority::LoadTest);
        let mut all = app(workers);
        all.seconds(30);
        all.cores *= 0.25;
        assert_eq!(all.seconds(10).tier, 2);
        request_cost(&mut all, &format!("tier 2, normal, {workers} workers"), 3, Priority::Normal);
        request_cost(&mut all, &format!("tier 2, critical, {workers} workers"), 3, Priority::Critical);
    }
}
