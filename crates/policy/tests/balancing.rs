//! What balancers promise: weights, health, readiness, stability.
mod common;
use common::*;
use proptest::{prop_assert, prop_assume, proptest};
use raddle_core::Time;
use raddle_model::{Balancer, HashOn, PolicySettings, SlowStart};
use raddle_policy::{Health, Readiness, hash};
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

fn by(balancer: Balancer) -> PolicySettings {
    PolicySettings { balancer, ..PolicySettings::default() }
}

fn hashing() -> Balancer {
    Balancer::ConsistentHash { on: HashOn::Header("user".into()) }
}

fn all() -> [Balancer; 5] {
    [Balancer::RoundRobin, Balancer::P2cEwma, Balancer::LeastRequest, Balancer::Random, hashing()]
}

fn key(i: u32) -> Option<u64> {
    Some(hash::stable(0, &i.to_be_bytes()))
}

fn set_health(worker: &Worker, endpoints: impl IntoIterator<Item = u32>, health: Health) {
    for i in endpoints {
        worker.snapshot.host(addr(i)).expect("a host").set_health(health, worker.now);
    }
}

#[test]
fn round_robin_of_equals_goes_round() {
    let mut worker = Worker::new(weighted(&[7; 5]), by(Balancer::RoundRobin));
    let first: Vec<u32> = (0..5).map(|_| worker.pick()).collect();
    let second: Vec<u32> = (0..5).map(|_| worker.pick()).collect();
    assert_eq!(first, second);
    assert_eq!(first.iter().collect::<HashSet<_>>().len(), 5);
}

#[test]
fn round_robin_goes_on_where_it_was_when_a_host_falls_ill() {
    let mut worker = Worker::new(weighted(&[1; 6]), by(Balancer::RoundRobin));
    let last = worker.pick();
    set_health(&worker, [(last + 1) % 6], Health::Unhealthy);
    assert_eq!(worker.pick(), (last + 2) % 6);
    set_health(&worker, [(last + 1) % 6], Health::Healthy);
    assert_eq!(worker.pick(), (last + 3) % 6);
}

#[test]
fn a_fleet_does_not_start_with_the_same_endpoint() {
    for weights in [[1; 8], [1, 2, 3, 4, 5, 6, 7, 8]] {
        let mut seen = HashSet::new();
        for seed in 0..200 {
            let mut worker = Worker::new(weighted(&weights), by(Balancer::RoundRobin));
            worker.rng = raddle_policy::Rng::new(seed);
            seen.insert(worker.pick());
        }
        assert_eq!(seen.len(), 8, "{weights:?}");
    }
}

proptest! {
    #[test]
    fn round_robin_is_exact_by_weight(weights in proptest::collection::vec(0u32..100, 1..12), n in 1u32..500) {
        let total: u32 = weights.iter().sum();
        prop_assume!(total > 0);
        let mut worker = Worker::new(weighted(&weights), by(Balancer::RoundRobin));
        for (got, weight) in worker.counts(n).into_iter().zip(&weights) {
            let wanted = f64::from(n) * f64::from(*weight) / f64::from(total);
            prop_assert!((f64::from(got) - wanted).abs() < 2.0, "{} instead of {}", got, wanted);
            prop_assert!(*weight > 0 || got == 0);
        }
    }

    #[test]
    fn only_members_of_positive_weight_that_are_not_unhealthy_are_picked(
        hosts in proptest::collection::vec((0u32..3, proptest::bool::ANY, 0usize..4), 1..40), seed: u64,
    ) {
        for balancer in all() {
            let settings = PolicySettings { panic_threshold: 0.0, ..by(balancer) };
            let mut worker = Worker::new(weighted(&hosts.iter().map(|h| h.0).collect::<Vec<_>>()), settings);
            worker.rng = raddle_policy::Rng::new(seed);
            for (i, (_, ill, ready)) in (0..).zip(&hosts) {
                set_health(&worker, [i].into_iter().filter(|_| *ill), Health::Unhealthy);
                let ready = [Readiness::Ready, Readiness::Connecting, Readiness::Idle, Readiness::Down][*ready];
                worker.pool.ready.insert(i, ready);
            }
            let may = |i: u32| hosts[i as usize].0 > 0 && !hosts[i as usize].1;
            let any_ready = (0..hosts.len() as u32).any(|i| may(i) && worker.pool.ready[&i] == Readiness::Ready);
            for i in 0..20 {
                match worker.pick_with(key(i), None) {
                    Some(picked) => {
                        prop_assert!(may(picked.index));
                        prop_assert!(picked.ready == any_ready, "no one waits while another is ready");
                        prop_assert!(picked.ready == (worker.pool.ready[&picked.index] == Readiness::Ready));
                        prop_assert!(picked.connect.is_none_or(|c| may(c) && worker.pool.ready[&c] == Readiness::Idle));
                    }
                    None => prop_assert!(!(0..hosts.len() as u32).any(may)),
                }
            }
        }
    }

    #[test]
    fn health_is_ignored_below_the_panic_threshold_and_only_there(ill in 0u32..=10, threshold in 0.0f64..1.0) {
        for balancer in all() {
            let settings = PolicySettings { panic_threshold: threshold, ..by(balancer) };
            let mut worker = Worker::new(weighted(&[1; 10]), settings);
            set_health(&worker, 0..ill, Health::Unhealthy);
            let panic = f64::from(10 - ill) < threshold * 10.0;
            let seen: HashSet<u32> = (0..600).filter_map(|i| worker.pick_with(key(i), None)).map(|p| p.index).collect();
            let wanted: HashSet<u32> = if panic { (0..10).collect() } else { (ill..10).collect() };
            prop_assert!(seen == wanted, "{:?} instead of {:?}", seen, wanted);
        }
    }
}

#[test]
fn every_random_balancer_honours_weights_when_idle() {
    for balancer in [Balancer::Random, Balancer::P2cEwma, Balancer::LeastRequest] {
        let mut worker = Worker::new(weighted(&[1, 2, 3, 4]), by(balancer.clone()));
        for (got, weight) in worker.counts(100_000).into_iter().zip(1..) {
            let wanted = 10_000 * weight;
            assert!(got.abs_diff(wanted) < 600, "{balancer:?}: {got} for {wanted}");
        }
    }
}

#[test]
fn least_request_leaves_the_busy_alone_and_expects_more_of_the_heavy() {
    let mut worker = Worker::new(weighted(&[1, 3]), by(Balancer::LeastRequest));
    worker.pool.active = vec![2, 5];
    let counts = worker.counts(1000);
    assert!(counts[1] > 900, "5 in flight are fewer of 3 than 2 of 1: {counts:?}");
}

#[test]
fn ewma_avoids_the_slow() {
    let mut worker = Worker::new(weighted(&[1; 10]), by(Balancer::P2cEwma));
    worker.pool.ewma = vec![1e6; 10];
    worker.pool.ewma[3] = 1e8;
    assert_eq!(worker.counts(10_000)[3], 0, "with two different candidates the slow one never wins");
}

#[test]
fn the_own_choice_is_connected_while_another_takes_the_request() {
    let mut worker = Worker::new(weighted(&[1; 4]), by(Balancer::RoundRobin));
    worker.pool.otherwise = Some(Readiness::Idle);
    worker.pool.ready.insert(2, Readiness::Ready);
    let mut connected = HashSet::new();
    for _ in 0..8 {
        let picked = worker.pick_with(None, None).unwrap();
        assert_eq!((picked.index, picked.ready), (2, true));
        connected.extend(picked.connect);
    }
    assert!(!connected.contains(&2) && !connected.is_empty());
}

#[test]
fn none_ready_means_one_that_may_come_before_one_that_is_down() {
    for balancer in all() {
        let mut worker = Worker::new(weighted(&[1; 30]), by(balancer));
        worker.pool.otherwise = Some(Readiness::Down);
        assert!(!worker.pick_with(key(1), None).unwrap().ready);
        worker.pool.ready.insert(17, Readiness::Connecting);
        let picked = worker.pick_with(key(1), None).unwrap();
        assert_eq!((picked.index, picked.ready, picked.connect), (17, false, None));
        worker.pool.ready.insert(17, Readiness::Idle);
        let picked = worker.pick_with(key(1), None).unwrap();
        assert_eq!((picked.index, picked.ready, picked.connect), (17, false, Some(17)));
    }
}

#[test]
fn one_ready_among_thousands_is_found_soon_and_kept() {
    for balancer in all() {
        let mut worker = Worker::new(weighted(&vec![1; 5000]), by(balancer));
        worker.pool.otherwise = Some(Readiness::Idle);
        worker.pool.ready.insert(4321, Readiness::Ready);
        let first = (0..100).position(|i| worker.pick_with(key(i), None).unwrap().ready).unwrap();
        assert!(first <= 20, "{first}");
        assert!((100..200).all(|i| worker.pick_with(key(i), None).unwrap().index == 4321));
    }
}

#[test]
fn what_was_already_tried_is_taken_only_if_there_is_no_other() {
    for balancer in all() {
        let mut worker = Worker::new(weighted(&[1; 3]), by(balancer.clone()));
        assert!((0..100).all(|i| worker.pick_with(key(i), Some(1)).unwrap().index != 1));
        let mut worker = Worker::new(weighted(&[0, 1]), by(balancer));
        assert_eq!(worker.pick_with(key(0), Some(1)).map(|p| (p.index, p.ready)), Some((1, true)));
    }
}

fn owners(worker: &mut Worker, keys: u32) -> Vec<std::net::SocketAddr> {
    let service = worker.service();
    (0..keys)
        .map(|i| service.endpoints[worker.pick_with(key(i), None).unwrap().index as usize].host.addr)
        .collect()
}

#[test]
fn keys_keep_their_endpoint_and_few_move_when_one_goes() {
    const KEYS: u32 = 20_000;
    for n in [5u32, 20, 100] {
        let mut full = Worker::new(weighted(&vec![1; n as usize]), by(hashing()));
        let before = owners(&mut full, KEYS);
        assert_eq!(before, owners(&mut full, KEYS));

        let mut shuffled = weighted(&vec![1; n as usize]);
        shuffled.reverse();
        assert_eq!(before, owners(&mut Worker::new(shuffled, by(hashing())), KEYS), "order does not matter");

        let mut fewer = weighted(&vec![1; n as usize]);
        fewer.remove(2);
        let after = owners(&mut Worker::new(fewer, by(hashing())), KEYS);
        let moved = before.iter().zip(&after).filter(|(a, b)| a != b).count();
        let left = before.iter().filter(|a| **a == addr(2)).count();
        let share = moved as f64 / f64::from(KEYS);
        assert!(moved <= left + KEYS as usize / 100, "{n}: {moved} moved of {left}");
        assert!((share - 1.0 / f64::from(n)).abs() < 0.35 / f64::from(n) + 0.01, "{n}: {share}");

        set_health(&full, [2], Health::Unhealthy);
        let ill = owners(&mut full, KEYS);
        assert!(before.iter().zip(&ill).all(|(a, b)| a == b || *a == addr(2)), "only its own keys move");
    }
}

#[test]
fn keys_are_shared_by_weight() {
    let mut worker = Worker::new(weighted(&[1, 2, 4, 0]), by(hashing()));
    let mut counts: BTreeMap<_, u32> = BTreeMap::new();
    for owner in owners(&mut worker, 70_000) {
        *counts.entry(owner).or_default() += 1;
    }
    for (i, wanted) in [(0, 10_000.0), (1, 20_000.0), (2, 40_000.0)] {
        let got = f64::from(counts[&addr(i)]);
        assert!((got / wanted - 1.0).abs() < 0.2, "{got} for {wanted}");
    }
    assert!(!counts.contains_key(&addr(3)));
}

#[test]
fn an_endpoint_that_is_back_gets_its_share_slowly() {
    for balancer in all() {
        let ramp = SlowStart { window: Duration::from_secs(10), floor: 0.1 };
        let settings = PolicySettings { slow_start: Some(ramp), ..by(balancer.clone()) };
        let mut worker = Worker::new(weighted(&[1; 4]), settings);
        worker.now = Time::from_millis(1000);
        let share = |worker: &mut Worker| {
            let picks = (0..20_000).filter(|i| worker.pick_with(key(*i), None).unwrap().index == 0);
            picks.count() as f64 / 20_000.0
        };
        let whole = share(&mut worker);
        set_health(&worker, [0], Health::Unhealthy);
        assert!(share(&mut worker) == 0.0);
        set_health(&worker, [0], Health::Healthy);
        let mut last = 0.0;
        for (ms, factor) in [(1000, 0.1), (6000, 0.55), (11_000, 1.0)] {
            worker.now = Time::from_millis(ms);
            let now = share(&mut worker);
            // Of four, one with factor f has f/(3+f); consistent hashing has f of its own keys.
            let wanted = if matches!(balancer, Balancer::ConsistentHash { .. }) {
                whole * factor
            } else {
                factor / (3.0 + factor)
            };
            assert!(now > last && (now - wanted).abs() < 0.02, "{balancer:?} at {ms}: {now} for {wanted}");
            last = now;
        }
    }
}
