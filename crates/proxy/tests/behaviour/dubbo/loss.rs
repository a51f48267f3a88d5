//! Endpoints that die or are too busy: what is in flight is answered, what is not sent is moved, what may be
//! tried again is.
use super::{SERVICE, holding_at, started};
use raddle_testkit::{
    DubboAsk, DubboCall, DubboClient, DubboFrame, DubboServer, PATIENCE, Status, dubbo_load, free_addr,
    refused_addr, until,
};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[test]
fn a_server_that_is_killed_has_every_request_in_flight_answered_uc_within_a_second() {
    let (mut server, held) = holding_at(free_addr());
    let (sidecar, listen) = started(|c| c.service(SERVICE, &[server.addr]));
    let mut callers: Vec<_> = (0..4).map(|_| DubboClient::connect(listen)).collect();
    for c in &mut callers {
        for id in 0..50 {
            c.ask(&DubboAsk::to(SERVICE).id(id).timeout(60_000));
        }
    }
    until(PATIENCE, "all arrive", || held.lock().unwrap().len() == 200);
    held.lock().unwrap().clear();
    let died = Instant::now();
    server.kill(true);
    for c in &mut callers {
        let mut ids: Vec<u64> = (0..50)
            .map(|_| {
                let f = c.frame();
                assert_eq!((f.status(), f.flag().as_deref()), (Status::ClientError as u8, Some("UC")));
                f.id()
            })
            .collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..50).collect::<Vec<_>>());
    }
    assert!(died.elapsed() < Duration::from_secs(1), "{:?}", died.elapsed());
    assert_eq!(sidecar.admin.metric("raddle_requests_in_flight", &[]), 0);
    for c in &mut callers {
        assert_eq!(c.call(&DubboAsk::to(SERVICE).id(7)).flag().as_deref(), Some("UF"));
    }
    // It comes back and is found in the lane that was used.
    let back = DubboServer::at(server.addr, |c| {
        c.echo();
    });
    let mut c = DubboClient::connect(listen);
    until(Duration::from_secs(2), "it is used again", || {
        c.call(&DubboAsk::to(SERVICE).id(3)).status() == Status::Ok as u8
    });
    assert_eq!(back.garbage(), 0);
}

#[test]
fn a_dead_endpoint_among_three_costs_no_request() {
    let (a, b) = (DubboServer::echo(), DubboServer::echo());
    let (_sidecar, listen) = started(|c| {
        c.service(SERVICE, &[a.addr, refused_addr(), b.addr]).policy("p", "balancer: roundRobin")
    });
    let load = dubbo_load(listen, 4, 16, |_, n| DubboAsk::to(SERVICE).content(n.to_be_bytes()));
    load.goes_on(2_000);
    load.stop().expect_all_ok();
    assert!(a.requests() > 300 && b.requests() > 300);
}

#[test]
fn an_endpoint_that_dies_under_load_costs_only_what_was_on_its_wire() {
    let servers: Vec<_> = (0..3).map(|_| DubboServer::echo()).collect();
    let addrs: Vec<_> = servers.iter().map(|s| s.addr).collect();
    let (_sidecar, listen) = started(|c| c.service(SERVICE, &addrs));
    let load = dubbo_load(listen, 8, 8, |_, n| DubboAsk::to(SERVICE).content(n.to_be_bytes()));
    load.goes_on(500);
    let mut servers = servers.into_iter();
    servers.next().unwrap().kill(true);
    load.goes_on(2_000);
    let report = load.stop();
    let lost: u64 = report.failed.values().sum();
    assert!(lost <= 64 && report.failed.keys().all(|k| k == "90/UC"), "{report:?}");
    assert_eq!(report.ok + lost, report.sent);
}

#[test]
fn requests_that_were_not_sent_when_their_connection_died_go_to_another_endpoint() {
    // One that reads nothing: the kernel takes some, and the rest waits in the sidecar.
    let (deaf, good) = (DubboServer::echo(), DubboServer::echo());
    deaf.read_nothing(true);
    let (sidecar, listen) = started(|c| {
        c.workers(1)
            .service(SERVICE, &[deaf.addr, good.addr])
            .policy("p", "balancer: roundRobin")
            .sidecar("limits: {bufferSoft: 8MiB, bufferHard: 32MiB}")
    });
    let mut c = DubboClient::connect(listen);
    // Connections are there before it counts.
    for id in 0..2 {
        c.ask(&DubboAsk::to(SERVICE).id(id).timeout(30_000));
    }
    until(PATIENCE, "both are connected", || deaf.open() == 1 && good.open() == 1);
    for id in 2..400 {
        c.ask(&DubboAsk::to(SERVICE).id(id).timeout(30_000).content(vec![7; 50_000]));
    }
    sidecar.admin.until_metric("raddle_requests_in_flight", &[], |n| n > 100);
    for p in deaf.peers() {
        p.end(true);
    }
    let mut by = std::collections::BTreeMap::<String, u32>::new();
    for _ in 0..400 {
        let f = c.frame();
        *by.entry(f.flag().unwrap_or_else(|| "ok".into())).or_default() += 1;
    }
    assert!(sidecar.admin.metric("raddle_requeued_total", &[]) > 10, "{by:?}");
    assert!(by["ok"] > 200 && by.keys().all(|k| k == "ok" || k == "UC"), "{by:?}");
}

/// A server that says its pool is exhausted.
fn busy() -> DubboServer {
    DubboServer::start(|c| {
        c.fail(100, "exhausted");
    })
}

const RETRY: &str = "balancer: roundRobin, retry: {attempts: 2, on: [overloaded], budget: 1.0}";

#[test]
fn an_exhausted_pool_is_tried_again_on_another_endpoint_with_the_same_bytes() {
    let (bad, received) = (busy(), Arc::new(Mutex::new(Vec::new())));
    let r = received.clone();
    let good = DubboServer::start(move |c| {
        r.lock().unwrap().push(c.frame.clone());
        c.echo();
    });
    let (sidecar, listen) = started(|c| c.service(SERVICE, &[bad.addr, good.addr]).policy("p", RETRY));
    let mut c = DubboClient::connect(listen);
    for id in [0, u64::MAX, 1 << 32, 5, 6, 7] {
        let ask = DubboAsk::to(SERVICE).id(id).content(format!("{id}"));
        let f = c.call(&ask);
        assert_eq!((f.status(), f.content()), (Status::Ok as u8, Some(ask.content.clone())));
        let got = received.lock().unwrap().pop().unwrap();
        assert_eq!(got.without_id(), DubboFrame { bytes: ask.bytes() }.without_id());
    }
    assert!(bad.requests() >= 2);
    assert_eq!(sidecar.admin.metric("raddle_retries_total", &[]), bad.requests() as i64);
}

#[test]
fn the_last_answer_is_passed_on_when_tries_are_used_up_or_retries_are_off() {
    let (a, b) = (busy(), busy());
    let (_sidecar, listen) = started(|c| c.service(SERVICE, &[a.addr, b.addr]).policy("p", RETRY));
    let f = DubboClient::connect(listen).call(&DubboAsk::to(SERVICE));
    assert_eq!((f.status(), f.body()), (100, &b"\x09exhausted"[..]));
    assert_eq!(a.requests() + b.requests(), 3, "one and two retries");
    let (_sidecar, listen) = started(|c| c.service(SERVICE, &[a.addr]));
    assert_eq!(DubboClient::connect(listen).call(&DubboAsk::to(SERVICE)).status(), 100);
    assert_eq!(a.requests() + b.requests(), 4);
}

#[test]
fn a_lost_connection_is_retried_for_idempotent_methods_only() {
    let ran = Arc::new(AtomicU32::new(0));
    let count = ran.clone();
    let bad = DubboServer::start(move |c: DubboCall| {
        count.fetch_add(1, Ordering::Relaxed);
        c.peer.end(true);
    });
    let good = DubboServer::echo();
    let policy = "balancer: roundRobin, retry: {attempts: 2, on: [connectionLost], idempotentMethods: [query], \
                  budget: 1.0, budgetMinPerSecond: 1000}";
    let (_sidecar, listen) =
        started(|c| c.workers(1).service(SERVICE, &[bad.addr, good.addr]).policy("p", policy));
    let mut c = DubboClient::connect(listen);
    for id in 0..40 {
        let f = c.call(&DubboAsk::to(SERVICE).method("query").id(id));
        assert_eq!(f.status(), Status::Ok as u8, "request {id}: {}", f.text());
    }
    let before = ran.load(Ordering::Relaxed);
    assert!(before > 0);
    let failed = (0..40)
        .filter(|id| {
            c.call(&DubboAsk::to(SERVICE).method("pay").id(*id)).status() == Status::ClientError as u8
        })
        .count();
    assert_eq!(failed as u32, ran.load(Ordering::Relaxed) - before, "each that may have run is told of");
    assert!(failed > 0);
}

#[test]
fn what_the_other_sidecar_lost_is_retried_for_idempotent_methods_only() {
    let bad = DubboServer::start(|c| {
        c.fail(90, "raddle UC: the connection was lost while the request was in flight");
    });
    let good = DubboServer::echo();
    let policy = "balancer: roundRobin, retry: {attempts: 2, on: [connectionLost], idempotentMethods: [query], \
                  budget: 1.0, budgetMinPerSecond: 1000}";
    let (_sidecar, listen) =
        started(|c| c.workers(1).service(SERVICE, &[bad.addr, good.addr]).policy("p", policy));
    let mut c = DubboClient::connect(listen);
    for id in 0..10 {
        let f = c.call(&DubboAsk::to(SERVICE).method("query").id(id));
        assert_eq!(f.status(), Status::Ok as u8, "request {id}: {}", f.text());
    }
    let before = bad.requests();
    assert!(before > 0);
    let told = (0..10)
        .filter(|id| c.call(&DubboAsk::to(SERVICE).method("pay").id(*id)).flag().as_deref() == Some("UC"))
        .count();
    assert_eq!(told as u64, bad.requests() - before, "each that may have run is told of");
}
