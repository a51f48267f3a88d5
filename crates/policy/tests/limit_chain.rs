//! The chain of plain limits, asked as the proxy asks it.
mod limit_common;
use limit_common::*;
use proptest::prelude::*;
use raddle_core::Reason;
use raddle_model::Side;
use raddle_policy::limit::{Local, Ticket, Verdict};
use std::time::Duration;

#[test]
fn the_lower_of_two_rules_holds_and_the_higher_does_not_pay_for_it() {
    let rules = limits(
        &[
            ("all", "{rate: 100}"),
            ("pay", "{when: {method: pay}, rate: 10}"),
            ("other", "{when: {method: x}, rate: 0}"),
        ],
        None,
    );
    let mut local = worker(&rules);
    let (pay, get) = (request("s", "pay", &[]), request("s", "get", &[]));
    let paid = (0..1000).filter(|_| passes(&mut local, &pay, at(1.0))).count();
    assert_eq!(paid, 10);
    let got = (0..1000).filter(|_| passes(&mut local, &get, at(1.0))).count();
    assert_eq!(got, 90, "what pay was refused costs the others nothing");
}

#[test]
fn a_refusal_names_its_rule_and_says_what_is_short() {
    let cases = [
        ("{rate: 0}", Reason::RateLimited, "none may pass"),
        ("{rate: 100, burst: 1}", Reason::RateLimited, "over 100 requests a second"),
        ("{concurrency: 1}", Reason::RateLimited, "over 1 request at the same time"),
        ("{concurrency: 0}", Reason::RateLimited, "none may pass"),
        (
            "{rate: 0.5, maxWait: 20ms}",
            Reason::RateLimited,
            "over 0.5 requests a second, even after waiting 20ms",
        ),
        (
            "{rate: 2, burst: 1, key: {header: user}}",
            Reason::HotspotLimited,
            "over 2 requests a second for each value of header user",
        ),
        (
            "{rate: 2, burst: 1, key: {header: user, values: [{value: alice, bound: 1}]}}",
            Reason::HotspotLimited,
            "over 1 request a second",
        ),
        (
            "{concurrency: 1, key: {by: method}}",
            Reason::HotspotLimited,
            "over 1 request at the same time for each value of the method",
        ),
    ];
    let req = request("s", "pay", &[("user", "alice")]);
    for (spec, reason, detail) in cases {
        let mut local = worker(&limits(&[("r", spec)], None));
        let first = judge(&mut local, &req, at(1.0));
        let Err(held) = judge(&mut local, &req, at(1.0)) else { panic!("{spec} lets two pass") };
        assert_eq!((held.reason, &*held.rule, &*held.detail), (reason, "RateLimit/r", detail), "{spec}");
        if let Ok(first) = first {
            local.done(first.ticket, at(1.0));
        }
    }
}

#[test]
fn links_refuse_in_the_order_of_the_chain_whatever_the_file_says() {
    let rules = limits(
        &[
            ("hot", "{rate: 0, key: {by: method}}"),
            ("rate", "{rate: 0}"),
            ("cluster", "{rate: 5, reach: cluster}"),
            ("at-once", "{concurrency: 0}"),
        ],
        None,
    );
    let held = judge(&mut worker(&rules), &request("s", "m", &[]), at(1.0)).err();
    assert_eq!(held.map(|h| h.rule.to_string()).as_deref(), Some("RateLimit/at-once"));
}

#[test]
fn observed_rules_hold_nothing_and_say_what_they_would() {
    let rules = limits(
        &[
            ("a", "{mode: observe, concurrency: 1}"),
            ("b", "{mode: observe, rate: 1, maxWait: 10s}"),
            ("c", "{rate: 3}"),
        ],
        None,
    );
    let mut local = worker(&rules);
    let req = request("s", "m", &[]);
    let first = judge(&mut local, &req, at(1.0)).expect("it passes");
    assert!(first.observed.is_none());
    let second = judge(&mut local, &req, at(1.0)).expect("it passes");
    assert_eq!(second.observed.map(|h| h.rule.to_string()).as_deref(), Some("RateLimit/a"));
    assert_eq!(second.wait, Duration::ZERO, "observed pacing delays nothing");
    local.done(first.ticket, at(1.0));
    local.done(second.ticket, at(1.0));
    assert!(judge(&mut local, &req, at(1.0)).is_ok_and(|p| p.observed.is_none()));
    assert!(judge(&mut local, &req, at(1.0)).is_err());
}

#[test]
fn concurrency_comes_back_with_the_end_of_each_request_exactly_once() {
    let rules = limits(&[("r", "{concurrency: 2}")], None);
    let mut local = worker(&rules);
    let req = request("s", "m", &[]);
    let mut two: Vec<Ticket> =
        (0..5).filter_map(|_| judge(&mut local, &req, at(1.0)).ok().map(|p| p.ticket)).collect();
    assert_eq!(two.len(), 2);
    local.done(Ticket::NONE, at(1.0));
    assert!(judge(&mut local, &req, at(1.0)).is_err());
    local.done(two.remove(0), at(1.0));
    let third = judge(&mut local, &req, at(1.0)).expect("a place is free");
    assert!(judge(&mut local, &req, at(1.0)).is_err());
    let mut other = Local::new(0, 1);
    other.sync(&rules);
    other.done(third.ticket, at(1.0));
    assert!(judge(&mut local, &req, at(1.0)).is_err(), "a ticket of another worker is harmless");
    drop(local);
    assert!(judge(&mut other, &req, at(1.0)).is_ok(), "what a worker held ends with it");
}

#[test]
fn new_rules_take_over_what_the_old_ones_counted() {
    let old =
        limits(&[("c", "{concurrency: 10}"), ("r", "{when: {method: get}, rate: 1, burst: 100}")], None);
    let mut local = worker(&old);
    let (put, get) = (request("s", "put", &[]), request("s", "get", &[]));
    let under_way: Vec<_> = (0..10).map(|_| judge(&mut local, &put, at(1.0)).expect("room").ticket).collect();
    assert!(judge(&mut local, &put, at(1.0)).is_err());
    let new = limits(
        &[
            ("first", "{rate: 1000}"),
            ("c", "{concurrency: 11}"),
            ("r", "{when: {method: get}, rate: 50, burst: 100}"),
        ],
        Some(&old),
    );
    local.sync(&new);
    let eleventh = judge(&mut local, &put, at(1.0)).expect("one more");
    assert!(judge(&mut local, &put, at(1.0)).is_err(), "ten are still under way");
    for ticket in under_way {
        local.done(ticket, at(1.0));
    }
    local.done(eleventh.ticket, at(1.0));
    let n = (0..200).filter(|_| passes(&mut local, &get, at(1.0))).count();
    assert_eq!(n, 100);
    let slower = limits(&[("r", "{when: {method: get}, rate: 10, burst: 100}")], Some(&new));
    local.sync(&slower);
    assert!(!passes(&mut local, &get, at(1.0)), "what was used stays used");
    let without = limits(&[], Some(&slower));
    local.sync(&without);
    assert!(local.is_empty(Side::Inbound) && passes(&mut local, &get, at(1.0)));
    let again = limits(&[("r", "{when: {method: get}, rate: 10, burst: 100}")], Some(&without));
    local.sync(&again);
    assert!(passes(&mut local, &get, at(1.0)), "a rule that was gone begins anew");
}

#[test]
fn a_rule_of_another_kind_under_the_same_name_begins_anew() {
    let old = limits(&[("r", "{concurrency: 1}")], None);
    let mut local = worker(&old);
    let req = request("s", "m", &[]);
    let held = judge(&mut local, &req, at(1.0)).expect("room");
    local.sync(&limits(&[("r", "{rate: 1}")], Some(&old)));
    assert!(passes(&mut local, &req, at(1.0)) && !passes(&mut local, &req, at(1.0)));
    local.done(held.ticket, at(1.0));
    assert!(!passes(&mut local, &req, at(1.0)));
}

#[test]
fn requests_under_way_end_where_they_began_though_values_have_other_places_now() {
    let old = limits(&[("r", "{concurrency: 1, key: {header: user, most: 10000}}")], None);
    let mut local = worker(&old);
    let of = |n: usize| vec![("user", format!("user-{n}"))];
    let ask = |local: &mut Local, n: usize| {
        let value = of(n);
        let pairs: Vec<(&str, &str)> = value.iter().map(|(k, v)| (*k, v.as_str())).collect();
        judge(local, &request("s", "m", &pairs), at(1.0)).map(|p| p.ticket)
    };
    let under_way: Vec<Ticket> = (0..2_000).filter_map(|n| ask(&mut local, n).ok()).collect();
    assert_eq!(under_way.len(), 2_000);
    let fewer = limits(&[("r", "{concurrency: 1, key: {header: user, most: 100}}")], Some(&old));
    local.sync(&fewer);
    let anew = ask(&mut local, 7).expect("it is counted anew");
    for ticket in under_way {
        local.done(ticket, at(1.0));
    }
    assert!(ask(&mut local, 7).is_err(), "those of before do not end what began since");
    local.done(anew, at(1.0));
    assert!(ask(&mut local, 7).is_ok());
}

#[test]
fn requests_wait_for_their_slot_and_those_who_cannot_are_refused() {
    let mut local = worker(&limits(&[("r", "{rate: 10, maxWait: 250ms}")], None));
    let req = request("s", "m", &[]);
    let waits: Vec<_> =
        (0..5).map(|_| judge(&mut local, &req, at(1.0)).ok().map(|p| p.wait.as_millis())).collect();
    assert_eq!(waits, [Some(0), Some(100), Some(200), None, None]);
    assert!(matches!(local.judge(Side::Inbound, &req, at(1.1), false), Verdict::Refuse(_)));
    assert!(matches!(
        local.judge(Side::Inbound, &req, at(1.3), false),
        Verdict::Pass { wait: Duration::ZERO, .. }
    ));
}

#[test]
fn the_quota_server_is_asked_last_and_its_word_is_counted() {
    let rules = limits(
        &[
            ("quota", "{rate: 500, reach: cluster}"),
            ("shadow", "{mode: observe, rate: 500, reach: cluster, when: {method: m}}"),
            ("at-once", "{concurrency: 1}"),
        ],
        None,
    );
    let mut local = worker(&rules);
    let req = request("s", "m", &[]);
    let passed = judge(&mut local, &req, at(1.0)).expect("it passes so far");
    assert!(passed.ask);
    assert_eq!(local.asks(), [0, 1]);
    assert_eq!(local.answered(0, true), Ok(None));
    let held = local.answered(0, false).expect_err("it is refused");
    assert_eq!(
        (held.reason, &*held.detail),
        (Reason::ClusterLimited, "over 500 requests a second over all sidecars")
    );
    assert!(local.answered(1, false).is_ok_and(|observed| observed.is_some()));
    assert_eq!(local.answered(2, false), Ok(None), "no cluster rule");
    assert!(judge(&mut local, &req, at(1.0)).is_err() && local.asks().is_empty());
    local.done(passed.ticket, at(1.0));
}

#[test]
fn sides_do_not_meet() {
    let mut local = worker(&limits(&[("out", "{side: outbound, rate: 0}")], None));
    let req = request("s", "m", &[]);
    assert!(local.is_empty(Side::Inbound) && !local.is_empty(Side::Outbound));
    assert!(passes(&mut local, &req, at(1.0)));
    assert!(matches!(local.judge(Side::Outbound, &req, at(1.0), true), Verdict::Refuse(_)));
}

#[test]
fn hundreds_of_rules_hold_for_whom_they_are() {
    let specs: Vec<(String, String)> = (0..300)
        .map(|i| {
            let when = match i % 3 {
                0 => format!("method: m{i}"),
                1 => format!("service: s{i}"),
                _ => format!("header: {{k: v{i}}}"),
            };
            (format!("r{i}"), format!("{{when: {{{when}}}, rate: 1}}"))
        })
        .collect();
    let specs: Vec<(&str, &str)> = specs.iter().map(|(n, s)| (n.as_str(), s.as_str())).collect();
    let mut local = worker(&limits(&specs, None));
    for i in 0..300 {
        let header = format!("v{i}");
        let req = match i % 3 {
            0 => request("s", &format!("m{i}"), &[]),
            1 => request(&format!("s{i}"), "m", &[]),
            _ => request("s", "m", &[("k", &header)]),
        };
        assert!(passes(&mut local, &req, at(1.0)), "{i}");
        let held = judge(&mut local, &req, at(1.0)).err();
        assert_eq!(held.map(|h| h.rule.to_string()), Some(format!("RateLimit/r{i}")));
    }
    assert!((0..9).all(|_| passes(&mut local, &request("s", "m", &[("k", "none")]), at(1.0))));
}

proptest! {
    #[test]
    fn at_no_time_more_are_under_way_than_said_and_all_come_back(
        cap in 1u32..40, steps in prop::collection::vec((0usize..3, 0u8..8, any::<bool>()), 1..600),
    ) {
        let spec = format!("{{concurrency: {cap}}}");
        let each = "{concurrency: 3, key: {by: method}}";
        let rules = limits(&[("all", &spec), ("each", each), ("some", "{when: {method: m1}, rate: 5}")], None);
        let mut workers = crew(&rules, 3);
        let mut under_way: Vec<(usize, u8, Ticket)> = Vec::new();
        for (w, method, begin) in steps {
            if begin {
                let req = request("s", &format!("m{method}"), &[]);
                if let Ok(passed) = judge(&mut workers[w], &req, at(1.0)) {
                    under_way.push((w, method, passed.ticket));
                }
            } else if !under_way.is_empty() {
                let (w, _, ticket) = under_way.swap_remove(usize::from(method) % under_way.len());
                workers[w].done(ticket, at(1.0));
            }
            prop_assert!(under_way.len() <= cap as usize);
            for m in 0..8 {
                prop_assert!(under_way.iter().filter(|(_, method, _)| *method == m).count() <= 3);
            }
        }
        for (w, _, ticket) in under_way.drain(..) {
            workers[w].done(ticket, at(1.0));
        }
        let places = (2..8u8).cycle().take(100).filter(|m| {
            let req = request("s", &format!("m{m}"), &[]);
            let passed = judge(&mut workers[0], &req, at(1.0));
            passed.is_ok_and(|p| { under_way.push((0, *m, p.ticket)); true })
        });
        prop_assert_eq!(places.count(), (cap as usize).min(18), "as many as in the beginning");
    }
}

#[test]
fn a_snapshot_keeps_what_limits_counted_and_only_those_that_reach_the_sidecar() {
    use raddle_model::{LoadOptions, Source, load};
    use raddle_policy::Snapshot;
    let resources = |rate: u32| {
        let text = format!(
            "apiVersion: raddle.io/v1\nkind: Sidecar\nmetadata: {{name: me}}\nspec: {{app: shop}}\n---\n\
             apiVersion: raddle.io/v1\nkind: RateLimit\nmetadata: {{name: r}}\n\
             spec: {{scope: {{apps: [shop]}}, rate: {rate}, burst: 5}}\n---\n\
             apiVersion: raddle.io/v1\nkind: RateLimit\nmetadata: {{name: others}}\n\
             spec: {{scope: {{apps: [cart]}}, rate: 0}}\n"
        );
        let source = Source { name: "r.yaml".into(), text };
        load(&[source], LoadOptions::default()).unwrap_or_else(|report| panic!("{report}")).0
    };
    let first = Snapshot::compile(resources(1), None);
    let mut local = worker(first.limits());
    let req = request("s", "m", &[]);
    assert_eq!((0..10).filter(|_| passes(&mut local, &req, at(1.0))).count(), 5);
    let second = Snapshot::compile(resources(2), Some(&first));
    local.sync(second.limits());
    assert!(!passes(&mut local, &req, at(1.0)));
    assert_eq!(second.limits().view(at(1.0)).limits[0].held, 6, "counts go on");
    let third = Snapshot::compile(resources(2), Some(&second));
    assert!(std::sync::Arc::ptr_eq(second.limits(), third.limits()), "nothing changed");
}
