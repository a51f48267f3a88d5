//! Heartbeats, silence, garbage, drain and reload.
use super::{SERVICE, holding, outbound, started};
use raddle_testkit::frame::noise;
use raddle_testkit::{
    Config, DubboAsk, DubboClient, DubboFrame, DubboServer, PATIENCE, Running, Status, dubbo_load, free_addr,
    refused_addr, until,
};
use std::net::TcpStream;
use std::time::{Duration, Instant};

#[test]
fn a_heartbeat_is_answered_by_the_sidecar_with_its_id() {
    let server = DubboServer::echo();
    let (_sidecar, listen) = outbound(server.addr);
    let mut c = DubboClient::connect(listen);
    for id in [0, 5, u64::MAX] {
        c.send(&DubboFrame::heartbeat(id).bytes);
        let ack = c.frame();
        assert!(ack.is_event() && !ack.is_request());
        assert_eq!((ack.id(), ack.status(), ack.body()), (id, Status::Ok as u8, &b"N"[..]));
    }
    assert_eq!(server.requests(), 0);
}

#[test]
fn a_heartbeat_from_an_endpoint_is_answered_too_and_no_caller_sees_it() {
    let (server, held) = holding();
    let (_sidecar, listen) = outbound(server.addr);
    let mut c = DubboClient::connect(listen);
    c.ask(&DubboAsk::to(SERVICE).id(7));
    until(PATIENCE, "it arrives", || held.lock().unwrap().len() == 1);
    let before = server.acks();
    let call = held.lock().unwrap().pop().unwrap();
    call.peer.write(&DubboFrame::heartbeat(u64::MAX).bytes);
    until(PATIENCE, "it is answered", || server.acks() > before);
    call.echo();
    assert_eq!(c.frame().id(), 7);
}

#[test]
fn a_peer_that_answers_neither_requests_nor_heartbeats_is_given_up_in_dead_peer_time() {
    let server = DubboServer::start(|_| {});
    server.ignore_heartbeats();
    let (sidecar, listen) =
        started(|c| c.service(SERVICE, &[server.addr]).policy("p", "timeouts: {deadPeer: 1s}"));
    let mut c = DubboClient::connect(listen);
    let began = Instant::now();
    for id in 0..20 {
        c.ask(&DubboAsk::to(SERVICE).id(id).timeout(60_000));
    }
    for _ in 0..20 {
        assert_eq!(c.frame().flag().as_deref(), Some("UC"));
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(500) && took < Duration::from_millis(1_600), "{took:?}");
    assert!(sidecar.admin.has_event("dead_peer"));
}

#[test]
fn a_peer_that_answers_heartbeats_may_take_its_time_with_requests() {
    let server = DubboServer::start(|c| {
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(1_500));
            c.echo();
        });
    });
    let (_sidecar, listen) =
        started(|c| c.service(SERVICE, &[server.addr]).policy("p", "timeouts: {deadPeer: 600ms}"));
    let f = DubboClient::connect(listen).call(&DubboAsk::to(SERVICE).timeout(10_000));
    assert_eq!(f.status(), Status::Ok as u8);
    assert!(server.heartbeats() >= 3);
}

#[test]
fn bytes_that_are_no_frame_end_their_connection_are_counted_and_harm_no_neighbour() {
    let server = DubboServer::echo();
    let (sidecar, listen) = outbound(server.addr);
    let load = dubbo_load(listen, 2, 8, |c, n| DubboAsk::to(SERVICE).content(noise(c as u64 ^ n, 60)));
    for n in 0..200u64 {
        let mut c = DubboClient::connect(listen);
        assert_eq!(c.call(&DubboAsk::to(SERVICE)).status(), Status::Ok as u8);
        let mut bytes = DubboAsk::to(SERVICE).bytes();
        match n % 4 {
            0 => bytes = [&[0xDA, 0xBC][..], &noise(n, 300)].concat(),
            1 => bytes[12..16].fill(0xFF),
            // A body of noise: no frame is malformed by that, and it is answered.
            2 => {
                let len = bytes.len();
                bytes[16..].copy_from_slice(&noise(n, len - 16));
            }
            _ => bytes[0] = n as u8,
        }
        c.send(&bytes);
        if n % 4 == 2 {
            assert_eq!(c.frame().flag().as_deref(), Some("NC"));
        } else {
            c.expect_end();
        }
    }
    load.goes_on(300);
    load.stop().expect_all_ok();
    let malformed = |why| sidecar.admin.metric("raddle_malformed_frames_total", &["caller", why]);
    assert_eq!((malformed("bad_magic"), malformed("too_large")), (100, 50));
}

#[test]
fn frames_that_make_no_sense_where_they_come_are_dropped_and_counted() {
    let server = DubboServer::echo();
    let (sidecar, listen) = outbound(server.addr);
    let mut c = DubboClient::connect(listen);
    // A reply, an answer to no heartbeat, an event that nobody knows, and a large reply.
    c.send(&DubboFrame::new(2, 20, 5, b"\x94N").bytes);
    c.send(&DubboFrame::new(0x22, 20, 5, b"N").bytes);
    c.send(&DubboFrame::new(0xA2, 0, 5, b"\x01W").bytes);
    c.send(&DubboFrame::new(2, 20, 5, &noise(1, 300_000)).bytes);
    assert_eq!(c.call(&DubboAsk::to(SERVICE).id(6)).status(), Status::Ok as u8);
    assert_eq!(sidecar.admin.metric("raddle_unexpected_frames_total", &[]), 3);
    assert_eq!(server.requests(), 1);
}

#[test]
fn random_bytes_from_an_endpoint_harm_no_other_service() {
    let evil = DubboServer::start(|c| {
        let mut b = c.value_bytes(&noise(c.frame.id(), 100));
        let at = c.frame.id() as usize % b.len();
        b[at] ^= 0x55;
        c.peer.write(&b);
    });
    let server = DubboServer::echo();
    let (_sidecar, listen) = started(|c| c.service(SERVICE, &[server.addr]).service("evil", &[evil.addr]));
    let load = dubbo_load(listen, 2, 8, |c, n| DubboAsk::to(SERVICE).content(noise(c as u64 ^ n, 60)));
    let mut c = DubboClient::connect(listen);
    for id in 0..300 {
        c.ask(&DubboAsk::to("evil").id(id).timeout(200));
    }
    let mut seen = std::collections::HashSet::new();
    for _ in 0..300 {
        assert!(seen.insert(c.frame().id()));
    }
    load.goes_on(100);
    load.stop().expect_all_ok();
}

#[test]
fn callers_are_told_by_a_readonly_event_at_drain_and_get_every_reply() {
    let (server, held) = holding();
    let (sidecar, listen) = outbound(server.addr);
    let mut c = DubboClient::connect(listen);
    c.ask(&DubboAsk::to(SERVICE).id(1).content("before").timeout(20_000));
    until(PATIENCE, "it arrives", || held.lock().unwrap().len() == 1);
    sidecar.sidecar().drain();
    let told = c.frame();
    assert!(told.is_readonly() && !told.two_way(), "{told:?}");
    until(PATIENCE, "newcomers are refused", || TcpStream::connect(listen).is_err());
    // One that is told may still have had a request on the way.
    c.ask(&DubboAsk::to(SERVICE).id(2).content("late").timeout(20_000));
    until(PATIENCE, "it arrives, too", || held.lock().unwrap().len() == 2);
    held.lock().unwrap().drain(..).for_each(|c| {
        c.echo();
    });
    assert_eq!(c.frame().content().unwrap(), b"before");
    assert_eq!(c.frame().content().unwrap(), b"late");
    c.expect_end();
    until(PATIENCE, "it ends", || sidecar.sidecar().ended());
}

#[test]
fn readonly_from_an_endpoint_retires_its_connection_and_loses_nothing() {
    // After every hundredth request the server says goodbye, answers what it has and what still comes.
    let server = DubboServer::start(|c| {
        let n = u64::from_be_bytes(c.frame.content().unwrap()[..8].try_into().unwrap());
        if n % 100 == 0 {
            assert!(c.peer.write(&DubboFrame::readonly().bytes));
        }
        c.echo();
    });
    let (sidecar, listen) = outbound(server.addr);
    let load = dubbo_load(listen, 6, 10, |_, n| DubboAsk::to(SERVICE).content(n.to_be_bytes()));
    load.goes_on(4_000);
    load.stop().expect_all_ok();
    assert!(sidecar.admin.metric("raddle_goaways_total", &["received"]) > 10);
    assert!(server.accepted() > 5, "retired connections are replaced: {}", server.accepted());
}

#[test]
fn a_connection_on_which_nothing_was_said_does_not_hold_up_a_drain() {
    let server = DubboServer::echo();
    let listen = free_addr();
    let sidecar = Running::start(&Config::new().inbound(listen, server.addr));
    let _silent = TcpStream::connect(listen).unwrap();
    // After the detection timeout it is taken for one whose server speaks first.
    until(PATIENCE, "the app is connected to", || server.open() == 1);
    sidecar.sidecar().drain();
    until(Duration::from_secs(3), "it ends", || sidecar.sidecar().ended());
}

#[test]
fn a_callee_that_drains_under_load_loses_no_request() {
    let server = DubboServer::echo();
    let (a, b, listen) = (free_addr(), free_addr(), free_addr());
    let first = Running::start(&Config::new().inbound(a, server.addr));
    let _second = Running::start(&Config::new().inbound(b, server.addr));
    let _front = Running::start(&Config::new().outbound(listen).service(SERVICE, &[a, b]));
    let load = dubbo_load(listen, 4, 6, |c, n| {
        let len = if n.is_multiple_of(3) { 200_000 } else { 50 };
        DubboAsk::to(SERVICE).content(noise((c as u64) << 32 | n, len)).timeout(20_000)
    });
    load.goes_on(200);
    first.sidecar().drain();
    until(PATIENCE, "it ends", || first.sidecar().ended());
    load.goes_on(200);
    load.stop().expect_all_ok();
}

#[test]
fn thirty_reloads_under_load_cost_no_request() {
    let servers: Vec<_> = (0..4).map(|_| DubboServer::echo()).collect();
    let addrs: Vec<_> = servers.iter().map(|s| s.addr).collect();
    let listen = free_addr();
    let mut config = Config::new().outbound(listen).service(SERVICE, &addrs);
    let admin = config.admin;
    let sidecar = Running::start(&config);
    let load =
        dubbo_load(listen, 6, 8, |c, n| DubboAsk::to(SERVICE).content(noise((c as u64) << 32 | n, 90)));
    load.goes_on(300);
    for round in 0..30usize {
        let left = round % 4;
        let ends: Vec<_> = addrs
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != left)
            .map(|(i, a)| (*a, 1 + ((round * 7 + i) % 9) as u32))
            .collect();
        config = Config::new().outbound(listen).weighted(SERVICE, &ends);
        config.admin = admin;
        if round % 2 == 0 {
            config = config.service(&format!("other-{round}"), &[addrs[left], refused_addr()]);
        }
        sidecar.apply(&config);
        if round % 10 == 0 {
            let f = DubboClient::connect(listen).call(&DubboAsk::to(&format!("other-{round}")));
            assert_eq!(f.status(), Status::Ok as u8, "{}", f.text());
        }
    }
    load.goes_on(100);
    load.stop().expect_all_ok();
}

#[test]
fn an_active_check_by_heartbeat_finds_a_server_that_listens_and_does_not_answer() {
    let (good, bad) = (DubboServer::echo(), DubboServer::echo());
    bad.ignore_heartbeats();
    let policy = "healthCheck: {kind: dubbo, interval: 100ms, timeout: 100ms, unhealthyAfter: 2}";
    let (sidecar, _listen) = started(|c| c.service(SERVICE, &[good.addr, bad.addr]).policy("p", policy));
    let health = |addr: std::net::SocketAddr| {
        let clusters = sidecar.admin.json("/clusters");
        let all = clusters[0]["endpoints"].as_array().unwrap().clone();
        let one = all.into_iter().find(|e| e["address"] == addr.to_string()).unwrap();
        one["health"].to_string().to_lowercase()
    };
    until(PATIENCE, "the dumb one is found", || health(bad.addr).contains("unhealthy"));
    until(PATIENCE, "the good one passes", || health(good.addr) == "\"healthy\"");
}
