//! Endpoints that die, come back, or go away: what is in flight is answered, what is not sent is moved.
use raddle_testkit::{
    Ask, BoltClient, BoltServer, Call, Config, Load, PATIENCE, Running, Variant, free_addr, refused_addr,
    until,
};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SERVICE: &str = "com.test.Order:1.0";

fn started(config: impl FnOnce(Config) -> Config) -> (Running, SocketAddr) {
    let listen = free_addr();
    (Running::start(&config(Config::new().outbound(listen))), listen)
}

fn holding_at(addr: SocketAddr) -> (BoltServer, Arc<Mutex<Vec<Call>>>) {
    let held = Arc::new(Mutex::new(Vec::new()));
    let h = held.clone();
    (BoltServer::at(addr, move |c| h.lock().unwrap().push(c)), held)
}

/// A server dies with 200 requests in flight, over several callers.
fn all_in_flight_are_answered(reset: bool) {
    let (mut server, held) = holding_at(free_addr());
    let (sidecar, listen) = started(|c| c.service(SERVICE, &[server.addr]));
    let mut callers: Vec<_> = (0..4).map(|_| BoltClient::connect(listen)).collect();
    for (n, c) in callers.iter_mut().enumerate() {
        for id in 0..50 {
            c.ask(&Ask::to(SERVICE).id(id).variant(Variant::ALL[n]).timeout(60_000));
        }
    }
    until(PATIENCE, "all arrive", || held.lock().unwrap().len() == 200);
    held.lock().unwrap().clear();
    let died = Instant::now();
    server.kill(reset);
    for c in &mut callers {
        let mut ids: Vec<u32> = (0..50)
            .map(|_| {
                let f = c.frame();
                assert_eq!((f.head.status, f.flag().as_deref()), (0x10, Some("UC")));
                f.head.id
            })
            .collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..50).collect::<Vec<_>>());
    }
    assert!(died.elapsed() < Duration::from_secs(1), "{:?}", died.elapsed());
    assert_eq!(sidecar.admin.metric("raddle_requests_in_flight", &[]), 0);
    // The callers' own connections are as they were.
    for c in &mut callers {
        assert_eq!(c.call(&Ask::to(SERVICE).id(7)).flag().as_deref(), Some("UF"));
    }
}

#[test]
fn a_server_that_is_killed_has_every_request_in_flight_answered_uc_within_a_second() {
    all_in_flight_are_answered(true);
}

#[test]
fn a_server_that_closes_has_every_request_in_flight_answered_uc_within_a_second() {
    all_in_flight_are_answered(false);
}

#[test]
fn half_a_reply_before_the_end_is_never_shown_to_the_caller() {
    let server = BoltServer::start(|c| {
        let reply = c.reply_bytes(0, &[], &[7; 1000]);
        c.peer.write(&reply[..500]);
        c.peer.end(false);
    });
    let (_sidecar, listen) = started(|c| c.service(SERVICE, &[server.addr]));
    let mut c = BoltClient::connect(listen);
    for id in 0..20 {
        let f = c.call(&Ask::to(SERVICE).id(id));
        assert_eq!(f.flag().as_deref(), Some("UC"));
    }
}

#[test]
fn a_server_that_was_restarted_is_used_again_within_a_second() {
    let addr = free_addr();
    let (mut server, _held) = holding_at(addr);
    let (_sidecar, listen) = started(|c| c.service(SERVICE, &[addr]));
    let mut c = BoltClient::connect(listen);
    c.ask(&Ask::to(SERVICE).id(1));
    until(PATIENCE, "it arrives", || server.requests() == 1);
    server.kill(true);
    assert_eq!(c.frame().flag().as_deref(), Some("UC"));
    assert_eq!(c.call(&Ask::to(SERVICE).id(2)).flag().as_deref(), Some("UF"));
    let _server = BoltServer::at(addr, |c| {
        c.echo();
    });
    until(Duration::from_secs(1), "it is used again", || c.call(&Ask::to(SERVICE).id(3)).head.status == 0);
}

#[test]
fn requests_that_wait_for_a_connection_go_to_another_endpoint_when_it_fails() {
    let full = crate::answers::FullBacklog::new();
    let good = BoltServer::echo();
    let (_sidecar, listen) = started(|c| {
        c.service(SERVICE, &[full.addr, good.addr])
            .policy("p", "timeouts: {connect: 200ms}, balancer: roundRobin")
    });
    let mut c = BoltClient::connect(listen);
    for id in 0..200 {
        c.ask(&Ask::to(SERVICE).id(id));
    }
    for _ in 0..200 {
        assert_eq!(c.frame().head.status, 0);
    }
}

#[test]
fn a_dead_endpoint_among_three_costs_no_request() {
    let (a, b) = (BoltServer::echo(), BoltServer::echo());
    let (_sidecar, listen) = started(|c| {
        c.service(SERVICE, &[a.addr, refused_addr(), b.addr]).policy("p", "balancer: roundRobin")
    });
    let load = Load::on(listen, SERVICE, 4, 16);
    load.goes_on(3_000);
    load.stop().expect_all_ok();
    assert!(a.requests() > 500 && b.requests() > 500);
}

#[test]
fn an_endpoint_that_dies_under_load_costs_only_what_was_on_its_wire() {
    let servers: Vec<_> = (0..3).map(|_| BoltServer::echo()).collect();
    let addrs: Vec<_> = servers.iter().map(|s| s.addr).collect();
    let (_sidecar, listen) = started(|c| c.service(SERVICE, &addrs));
    let load = Load::on(listen, SERVICE, 8, 8);
    load.goes_on(500);
    let mut servers = servers.into_iter();
    servers.next().unwrap().kill(true);
    load.goes_on(2_000);
    let after = load.done();
    load.goes_on(2_000);
    let report = load.stop();
    // Only requests in flight at one moment can be lost: 64 at most, and lost is all they may be.
    let lost: u64 = report.failed.values().sum();
    assert!(lost <= 64, "{report:?}");
    assert!(report.failed.keys().all(|k| k == "16/UC"), "{report:?}");
    assert!(report.ok + lost == report.sent && after > 0, "{report:?}");
}

#[test]
fn goaway_from_an_endpoint_retires_its_connection_and_loses_nothing() {
    // After every hundredth request of a connection the server says goodbye, answers what it has and what
    // still comes, and closes once nothing has come for a while.
    let server = BoltServer::start(|c| {
        let n = u32::from_be_bytes(c.frame.content()[..4].try_into().unwrap());
        if n % 100 == 0 {
            assert!(c.peer.goaway(c.frame.head.variant));
        }
        c.echo();
    });
    let (sidecar, listen) = started(|c| c.service(SERVICE, &[server.addr]));
    let make = |_c: usize, n: u32| Ask::to(SERVICE).content([&n.to_be_bytes()[..], b"more"].concat());
    let load = Load::with(listen, 6, 10, Arc::new(make));
    load.goes_on(5_000);
    load.stop().expect_all_ok();
    assert!(server.accepted() > 10, "{} connections", server.accepted());
    sidecar.admin.until_metric("raddle_goaways_total", &["received"], |n| n >= 30);
    // Retired ones are closed by the sidecar.
    until(PATIENCE, "retired connections end", || server.open() <= 4);
}

#[test]
fn a_request_under_way_when_goaway_comes_is_still_answered_on_the_old_connection() {
    let (server, held) = holding_at(free_addr());
    let (_sidecar, listen) = started(|c| c.workers(1).service(SERVICE, &[server.addr]));
    let mut c = BoltClient::connect(listen);
    c.ask(&Ask::to(SERVICE).id(1).content("old"));
    until(PATIENCE, "it arrives", || held.lock().unwrap().len() == 1);
    let old = held.lock().unwrap().pop().unwrap();
    assert!(old.peer.goaway(Variant::V1));
    until(PATIENCE, "the next goes on a new connection", || {
        c.ask(&Ask::to(SERVICE).id(2).content("new"));
        until(PATIENCE, "it arrives", || !held.lock().unwrap().is_empty());
        let new = held.lock().unwrap().pop().unwrap();
        let moved = new.peer.number != old.peer.number;
        new.echo();
        assert_eq!(c.frame().content(), b"new");
        moved
    });
    assert_eq!(server.open(), 2);
    old.echo();
    assert_eq!(c.frame().content(), b"old");
    until(PATIENCE, "the old connection ends", || server.open() == 1);
}

#[test]
fn an_endpoint_that_sends_garbage_has_its_requests_answered_and_others_do_not_notice() {
    let bad = BoltServer::start(|c| {
        c.peer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    });
    let good = BoltServer::echo();
    let (sidecar, listen) = started(|c| c.service("bad", &[bad.addr]).service(SERVICE, &[good.addr]));
    let load = Load::on(listen, SERVICE, 2, 8);
    let mut c = BoltClient::connect(listen);
    for id in 0..50 {
        let f = c.call(&Ask::to("bad").id(id));
        assert_eq!((f.head.status, f.flag().as_deref()), (9, Some("UPE")));
    }
    load.goes_on(100);
    load.stop().expect_all_ok();
    assert!(sidecar.admin.metric("raddle_malformed_frames_total", &["upstream"]) >= 50);
}
