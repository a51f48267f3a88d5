//! What decisions cost, printed, not judged: figures of a debug build or a busy machine mean nothing.
//!
//! `CARGO_PROFILE_TEST_OPT_LEVEL=3 cargo test -p raddle-policy --test cost -- --nocapture --test-threads 1`
mod common;
use common::*;
use raddle_model::{Balancer, HashOn, PolicySettings, Resources};
use raddle_policy::snapshot::index::{LabelIndex, Query, Traits};
use raddle_policy::{Decision, Rng, RouteState, Snapshot, hash};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::time::Instant;

/// Nanoseconds of one call: the best of five rounds.
fn ns(n: u32, mut f: impl FnMut(u32)) -> f64 {
    let round = |f: &mut dyn FnMut(u32)| {
        let start = Instant::now();
        (0..n).for_each(f);
        start.elapsed().as_nanos() as f64 / f64::from(n)
    };
    (0..5).map(|_| round(&mut f)).fold(f64::MAX, f64::min)
}

const SIZES: [u32; 4] = [10, 100, 1000, 10_000];

#[test]
fn picking_costs_the_same_for_any_number_of_endpoints() {
    let balancers = [
        Balancer::RoundRobin,
        Balancer::P2cEwma,
        Balancer::LeastRequest,
        Balancer::Random,
        Balancer::ConsistentHash { on: HashOn::Method },
    ];
    for balancer in balancers {
        for equal in [true, false] {
            let mut line = format!("pick {balancer:?}, {} weights:", if equal { "equal" } else { "unequal" });
            for n in SIZES {
                let weights: Vec<u32> = (0..n).map(|i| if equal { 1 } else { 1 + i % 7 }).collect();
                let settings = PolicySettings { balancer: balancer.clone(), ..PolicySettings::default() };
                let mut worker = Worker::new(weighted(&weights), settings);
                worker.pool.active = vec![1; n as usize];
                worker.pool.ewma = vec![1e6; n as usize];
                let cost = ns(20_000, |i| {
                    black_box(worker.pick_with(Some(hash::mix(u64::from(i))), None));
                });
                line += &format!(" {n}: {cost:.0} ns");
            }
            println!("{line}");
        }
    }
}

#[test]
fn routing_costs_the_same_for_any_number_of_endpoints_rules_and_services() {
    let mut state = RouteState::default();
    let mut rng = Rng::new(1);
    let mut cost = |snap: &Snapshot, req: &Request| {
        ns(20_000, |_| {
            let service = snap.service(b"s").expect("the service");
            match service.route(req, &mut state, &mut rng) {
                Decision::Send { subset, .. } => {
                    black_box(subset.id);
                }
                Decision::Answer { .. } | Decision::Reject { .. } => {}
            }
        })
    };
    let mut line = String::from("route by endpoints:");
    for n in SIZES {
        let snap = snapshot(weighted(&vec![1; n as usize]), vec![], PolicySettings::default());
        line += &format!(" {n}: {:.0} ns", cost(&snap, &request(&[])));
    }
    println!("{line}");
    let mut line = String::from("route by rules of the service (equality on one header):");
    for n in SIZES {
        let rules = (0..n).map(|i| raddle_model::RouteRule {
            when: vec![header_is("user", &i.to_string())],
            send: to_group("default"),
            ..rule()
        });
        let snap = snapshot(weighted(&[1; 10]), vec![route("r", rules.collect())], PolicySettings::default());
        line += &format!(" {n}: {:.0} ns", cost(&snap, &request(&[("user", &(n - 1).to_string())])));
    }
    println!("{line}");
    let mut line = String::from("route by other services with a rule each:");
    for n in SIZES {
        let mut res = resources(weighted(&[1; 10]), vec![], PolicySettings::default());
        for i in 0..n {
            res.services.push(service(&format!("s{i}"), weighted(&[1; 3])));
            let to =
                raddle_model::Target { services: vec![format!("s{i}")], ..raddle_model::Target::default() };
            res.routes.push(raddle_model::Route { to, ..route(&format!("r{i}"), vec![rule()]) });
        }
        let snap = Snapshot::compile(res, None);
        line += &format!(" {n}: {:.0} ns", cost(&snap, &request(&[])));
    }
    println!("{line}");
    let half = raddle_model::RouteRule { percent_ppm: 500_000, send: to_group("default"), ..rule() };
    let split = vec![destination("default", 90), destination("g1", 10)];
    let split = raddle_model::RouteRule { send: split, ..rule() };
    for (what, rule) in [("with a counted share", half), ("with weighted destinations", split)] {
        let snap = snapshot(weighted(&[1; 10]), vec![route("r", vec![rule])], PolicySettings::default());
        println!("route {what}: {:.0} ns", cost(&snap, &request(&[])));
    }
}

fn hosts(range: std::ops::Range<u32>) -> Vec<raddle_model::Endpoint> {
    range
        .map(|i| {
            let mut endpoint =
                endpoint(i, ["default", "g1", "g2"][i as usize % 3], Some(["u1", "u2"][i as usize % 2]), 1);
            endpoint.labels.insert("tier".into(), format!("t{}", i % 5));
            endpoint.labels.insert("rack".into(), format!("r{}", i % 40));
            endpoint
        })
        .collect()
}

fn traits(e: &raddle_model::Endpoint) -> Traits<'_> {
    Traits { group: &e.group, unit: e.unit.as_deref(), labels: &e.labels, weight: e.weight }
}

#[test]
fn indexes_of_eight_thousand_hosts() {
    let all = hosts(0..8000);
    let build = || {
        let mut index = LabelIndex::default();
        (0..).zip(&all).for_each(|(i, e)| index.insert(i, traits(e)));
        index
    };
    println!("index, 8,000 hosts × 3 labels, built: {:.2} ms", ns(5, |_| drop(black_box(build()))) / 1e6);
    let mut index = build();
    let labels =
        BTreeMap::from([("version".to_owned(), "v2".to_owned()), ("tier".to_owned(), "t1".to_owned())]);
    let query = Query { group: Some("g2".into()), unit: Some("u1".into()), labels };
    let wanted: Vec<u32> = (0..).zip(&all).filter(|(_, e)| query.holds(traits(e))).map(|(i, _)| i).collect();
    assert_eq!(*index.select(&query), *wanted);
    let mut changed = all[7000].clone();
    changed.labels.insert("version".into(), "v9".into());
    let cost = ns(200, |_| {
        index.remove(7000, traits(&all[7000]));
        index.insert(7000, traits(&changed));
        black_box(index.select(&query));
        index.remove(7000, traits(&changed));
        index.insert(7000, traits(&all[7000]));
    });
    println!("index, one host changed twice and one subset found: {:.2} µs", cost / 1e3);
}

#[test]
fn compiling_large_configurations() {
    let rules = || {
        let send = to_group("g1");
        vec![route("r", vec![raddle_model::RouteRule { when: vec![header_is("type", "x")], send, ..rule() }])]
    };
    let best = |res: &Resources, prev: Option<&Snapshot>| {
        let once = |_| {
            let res = res.clone();
            let start = Instant::now();
            let snap = Snapshot::compile(res, prev);
            (start.elapsed(), snap.generation)
        };
        (0..10).map(once).min().expect("ten rounds").0
    };
    let compile = |what: &str, first: &Resources, then: &Resources| {
        let prev = Snapshot::compile(first.clone(), None);
        let (anew, same, changed) = (best(first, None), best(first, Some(&prev)), best(then, Some(&prev)));
        println!("compile {what}: anew {anew:.1?}, unchanged {same:.1?}, one host changed {changed:.1?}");
    };
    let one = |changed: bool| {
        let mut all = hosts(0..8000);
        all[4000].weight = if changed { 3 } else { 1 };
        resources(all, rules(), PolicySettings::default())
    };
    compile("one service of 8,000 hosts", &one(false), &one(true));
    let many = |changed: bool| {
        let mut res = resources(weighted(&[1]), rules(), PolicySettings::default());
        res.services = (0..5000u32).map(|i| service(&format!("s{i}"), hosts(3 * i..3 * i + 3))).collect();
        res.services[77].endpoints[0].weight = if changed { 3 } else { 1 };
        res
    };
    compile("5,000 services of 3 hosts", &many(false), &many(true));
}
