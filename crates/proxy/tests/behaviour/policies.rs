//! Balancing and retries over real traffic.
use raddle_testkit::{
    Ask, BoltClient, BoltServer, Call, Config, PATIENCE, Running, free_addr, refused_addr, until,
};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

const SERVICE: &str = "com.test.Stock:1.0";

fn started(config: impl FnOnce(Config) -> Config) -> (Running, SocketAddr) {
    let listen = free_addr();
    (Running::start(&config(Config::new().outbound(listen))), listen)
}

/// Sends `n` requests, pipelined, and expects success of each.
fn send(c: &mut BoltClient, n: u32, make: impl Fn(u32) -> Ask) {
    let mut first = 0;
    while first < n {
        let batch = 200.min(n - first);
        for id in first..first + batch {
            c.ask(&make(id).id(id));
        }
        for _ in 0..batch {
            let f = c.frame();
            assert_eq!(f.head.status, 0, "{:?}", f.flag());
        }
        first += batch;
    }
}

#[test]
fn round_robin_shares_are_exact_by_weight_and_weight_zero_gets_nothing() {
    let servers: Vec<_> = (0..4).map(|_| BoltServer::echo()).collect();
    let weights = [10, 30, 60, 0];
    let endpoints: Vec<_> = servers.iter().map(|s| s.addr).zip(weights).collect();
    let (_sidecar, listen) =
        started(|c| c.workers(1).weighted(SERVICE, &endpoints).policy("p", "balancer: roundRobin"));
    let mut c = BoltClient::connect(listen);
    // Until every connection is there, who is connected gets more.
    until(PATIENCE, "every endpoint with a weight has had a request", || {
        send(&mut c, 10, |_| Ask::to(SERVICE));
        servers[..3].iter().all(|s| s.requests() > 0)
    });
    let before: Vec<u64> = servers.iter().map(BoltServer::requests).collect();
    send(&mut c, 10_000, |_| Ask::to(SERVICE));
    for i in 0..4 {
        let share = (servers[i].requests() - before[i]) as f64 / 10_000.0;
        let want = f64::from(weights[i]) / 100.0;
        assert!((share - want).abs() < 0.001, "endpoint {i}: {share} instead of {want}");
    }
    assert_eq!(servers[3].accepted(), 0);
}

#[test]
fn random_and_p2c_shares_follow_the_weights_and_weight_zero_gets_nothing() {
    for (balancer, within) in [("random", 0.02), ("leastRequest", 0.15), ("p2cEwma", 0.25)] {
        let servers: Vec<_> = (0..3).map(|_| BoltServer::echo()).collect();
        let endpoints: Vec<_> = servers.iter().map(|s| s.addr).zip([100, 100, 0]).collect();
        let policy = format!("balancer: {balancer}");
        let (_sidecar, listen) = started(|c| c.workers(1).weighted(SERVICE, &endpoints).policy("p", &policy));
        let mut c = BoltClient::connect(listen);
        send(&mut c, 100, |_| Ask::to(SERVICE));
        let before = servers[0].requests();
        send(&mut c, 8_000, |_| Ask::to(SERVICE));
        let share = (servers[0].requests() - before) as f64 / 8_000.0;
        assert!((share - 0.5).abs() < within, "{balancer}: {share}");
        assert_eq!(servers[2].requests() + servers[2].accepted() as u64, 0, "{balancer}");
    }
}

#[test]
fn a_routes_shares_are_within_one_percent_and_weight_zero_gets_nothing() {
    let servers: Vec<_> = (0..3).map(|_| BoltServer::echo()).collect();
    let ends: Vec<String> = servers
        .iter()
        .zip(["v1", "v2", "v3"])
        .map(|(s, v)| format!("{{address: \"{}\", labels: {{version: {v}}}}}", s.addr))
        .collect();
    let service = format!("{{app: callee, endpoints: [{}]}}", ends.join(", "));
    let route = format!(
        "{{to: {{services: [\"{SERVICE}\"]}}, rules: [{{send: [{{labels: {{version: v1}}, weight: 85}}, \
         {{labels: {{version: v2}}, weight: 15}}, {{labels: {{version: v3}}, weight: 0}}]}}]}}"
    );
    let (_sidecar, listen) =
        started(|c| c.document("Service", SERVICE, &service).document("Route", "split", &route));
    // Two callers, on a worker each.
    let (mut a, mut b) = (BoltClient::connect(listen), BoltClient::connect(listen));
    send(&mut a, 5_000, |_| Ask::to(SERVICE));
    send(&mut b, 5_000, |_| Ask::to(SERVICE));
    let share = servers[0].requests() as f64 / 10_000.0;
    assert!((share - 0.85).abs() <= 0.01, "{share}");
    assert_eq!(servers[2].requests(), 0);
}

#[test]
fn consistent_hash_sends_the_same_key_to_the_same_endpoint_from_any_worker_and_after_a_reload() {
    let seen: Arc<Mutex<HashMap<String, Vec<usize>>>> = Arc::default();
    let servers: Vec<_> = (0..5)
        .map(|i| {
            let seen = seen.clone();
            BoltServer::start(move |c| {
                let user = c.frame.header("user").unwrap();
                seen.lock().unwrap().entry(user).or_default().push(i);
                c.echo();
            })
        })
        .collect();
    let addrs: Vec<_> = servers.iter().map(|s| s.addr).collect();
    let listen = free_addr();
    let config = Config::new()
        .outbound(listen)
        .service(SERVICE, &addrs)
        .policy("p", "balancer: {consistentHash: {header: user}}");
    let sidecar = Running::start(&config);
    let ask = |n: u32| Ask::to(SERVICE).header("user", &format!("u{}", n % 100));
    // While connections are being made, requests go to those that are there.
    let mut callers = [BoltClient::connect(listen), BoltClient::connect(listen)];
    for c in &mut callers {
        send(c, 200, ask);
    }
    seen.lock().unwrap().clear();
    for c in &mut callers {
        send(c, 500, ask);
    }
    sidecar.apply(&config.clone().service("other", &[refused_addr()]));
    for c in &mut callers {
        send(c, 500, ask);
    }
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 100);
    let mut used = [0; 5];
    for (user, at) in &*seen {
        assert!(at.iter().all(|i| *i == at[0]), "{user} went to {at:?}");
        used[at[0]] += 1;
    }
    assert!(used.iter().all(|n| *n > 5), "keys spread: {used:?}");
}

/// A server that says it is too busy.
fn busy() -> BoltServer {
    BoltServer::start(|c| {
        c.reply(4, b"busy");
    })
}

const RETRY: &str = "balancer: roundRobin, retry: {attempts: 2, on: [overloaded], budget: 1.0}";

#[test]
fn an_overloaded_answer_is_tried_again_on_another_endpoint_with_the_same_bytes() {
    let (bad, received) = (busy(), Arc::new(Mutex::new(Vec::new())));
    let r = received.clone();
    let good = BoltServer::start(move |c| {
        r.lock().unwrap().push(c.frame.clone());
        c.echo();
    });
    let (sidecar, listen) = started(|c| c.service(SERVICE, &[bad.addr, good.addr]).policy("p", RETRY));
    let mut c = BoltClient::connect(listen);
    for variant in raddle_testkit::Variant::ALL {
        for id in [0, u32::MAX, 5] {
            let ask = Ask::to(SERVICE).variant(variant).id(id).content(format!("{id}"));
            let f = c.call(&ask);
            assert_eq!((f.head.status, f.content()), (0, &ask.content[..]));
            let got = received.lock().unwrap().pop().unwrap();
            assert!(got.crc_is_right());
            let mut sent = got.clone();
            sent.bytes = ask.bytes();
            assert_eq!(got.without_id(), sent.without_id());
        }
    }
    assert!(bad.requests() >= 3);
    assert_eq!(sidecar.admin.metric("raddle_retries_total", &[]), bad.requests() as i64);
}

#[test]
fn nothing_is_tried_again_when_retries_are_off() {
    let bad = busy();
    let (_sidecar, listen) = started(|c| c.service(SERVICE, &[bad.addr]));
    let mut c = BoltClient::connect(listen);
    for id in 0..50 {
        let f = c.call(&Ask::to(SERVICE).id(id));
        assert_eq!((f.head.status, f.content()), (4, &b"busy"[..]));
    }
    assert_eq!(bad.requests(), 50);
}

#[test]
fn the_last_answer_is_passed_on_when_tries_are_used_up() {
    let (a, b) = (busy(), busy());
    let (_sidecar, listen) = started(|c| c.service(SERVICE, &[a.addr, b.addr]).policy("p", RETRY));
    let f = BoltClient::connect(listen).call(&Ask::to(SERVICE));
    assert_eq!((f.head.status, f.content()), (4, &b"busy"[..]));
    assert_eq!(a.requests() + b.requests(), 3, "one and two retries");
}

#[test]
fn the_retry_budget_is_kept() {
    let bad = busy();
    let policy = "retry: {attempts: 3, on: [overloaded], budget: 0.2, budgetMinPerSecond: 0}";
    let (sidecar, listen) = started(|c| c.workers(1).service(SERVICE, &[bad.addr]).policy("p", policy));
    let mut c = BoltClient::connect(listen);
    for id in 0..500 {
        assert_eq!(c.call(&Ask::to(SERVICE).id(id)).head.status, 4);
    }
    let retries = bad.requests() - 500;
    assert!((80..=100).contains(&retries), "{retries} retries of 500 requests instead of 100");
    assert!(sidecar.admin.metric("raddle_retries_denied_total", &[]) >= 400);
}

/// A server that ends the connection on each request, so that it may have run it or not.
fn dying(count: &Arc<AtomicU32>) -> BoltServer {
    let count = count.clone();
    BoltServer::start(move |c: Call| {
        count.fetch_add(1, Ordering::Relaxed);
        c.peer.end(true);
    })
}

#[test]
fn a_lost_connection_is_retried_for_idempotent_methods_only() {
    let ran = Arc::new(AtomicU32::new(0));
    let (bad, good) = (dying(&ran), BoltServer::echo());
    let policy = "balancer: roundRobin, retry: {attempts: 2, on: [connectionLost], idempotentMethods: [query], \
                  budget: 1.0, budgetMinPerSecond: 1000}";
    let (_sidecar, listen) =
        started(|c| c.workers(1).service(SERVICE, &[bad.addr, good.addr]).policy("p", policy));
    let mut c = BoltClient::connect(listen);
    for id in 0..40 {
        assert_eq!(c.call(&Ask::to(SERVICE).method("query").id(id)).head.status, 0, "request {id}");
    }
    let before = ran.load(Ordering::Relaxed);
    assert!(before > 0);
    let failed =
        (0..40).filter(|id| c.call(&Ask::to(SERVICE).method("pay").id(*id)).head.status == 0x10).count();
    assert_eq!(failed as u32, ran.load(Ordering::Relaxed) - before, "each that may have run is told of");
    assert!(failed > 0);
}

#[test]
fn a_failed_connect_is_not_counted_as_a_retry_and_moves_without_a_policy() {
    let good = BoltServer::echo();
    let (sidecar, listen) =
        started(|c| c.service(SERVICE, &[refused_addr(), good.addr]).policy("p", "balancer: roundRobin"));
    let mut c = BoltClient::connect(listen);
    send(&mut c, 100, |_| Ask::to(SERVICE));
    assert_eq!(sidecar.admin.metric("raddle_retries_total", &[]), 0);
}
