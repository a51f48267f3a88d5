//! Peers that are there and do not move: silent servers, half frames, idle connections.
use raddle_testkit::frame::noise;
use raddle_testkit::{
    Ask, BoltClient, BoltServer, Config, Load, PATIENCE, Running, Variant, free_addr, until,
};
use raddle_wire::bolt;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const SERVICE: &str = "com.test.Live:1.0";

fn started(config: impl FnOnce(Config) -> Config) -> (Running, SocketAddr) {
    let listen = free_addr();
    (Running::start(&config(Config::new().outbound(listen))), listen)
}

#[test]
fn a_peer_that_answers_neither_requests_nor_heartbeats_is_given_up_in_dead_peer_time() {
    let server = BoltServer::start(|_| {});
    server.ignore_heartbeats();
    let (sidecar, listen) =
        started(|c| c.service(SERVICE, &[server.addr]).policy("p", "timeouts: {deadPeer: 1s}"));
    let mut c = BoltClient::connect(listen);
    let began = Instant::now();
    for id in 0..20 {
        c.ask(&Ask::to(SERVICE).id(id).timeout(60_000));
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
    let server = BoltServer::start(|c| {
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(1_800));
            c.echo();
        });
    });
    let (_sidecar, listen) =
        started(|c| c.service(SERVICE, &[server.addr]).policy("p", "timeouts: {deadPeer: 600ms}"));
    let f = BoltClient::connect(listen).call(&Ask::to(SERVICE).timeout(10_000));
    assert_eq!(f.head.status, 0);
    assert!(server.seen().heartbeats.load(Ordering::Relaxed) >= 3);
}

#[test]
fn a_server_that_listens_and_never_accepts_is_given_up_in_dead_peer_time() {
    // The kernel completes the handshake and takes bytes; no process ever reads them.
    let addr = free_addr();
    let _listener = std::net::TcpListener::bind(addr).unwrap();
    let (_sidecar, listen) = started(|c| c.service(SERVICE, &[addr]).policy("p", "timeouts: {deadPeer: 1s}"));
    let began = Instant::now();
    let f = BoltClient::connect(listen).call(&Ask::to(SERVICE).timeout(30_000));
    assert_eq!(f.flag().as_deref(), Some("UC"));
    assert!(began.elapsed() < Duration::from_millis(1_600), "{:?}", began.elapsed());
}

#[test]
fn a_large_request_that_comes_slowly_is_not_cut_by_heartbeats_nor_taken_for_a_dead_peer() {
    let server = BoltServer::echo();
    let (_sidecar, listen) =
        started(|c| c.service(SERVICE, &[server.addr]).policy("p", "timeouts: {deadPeer: 500ms}"));
    for variant in [Variant::V1, Variant::V2Crc] {
        let mut c = BoltClient::connect(listen);
        let ask = Ask::to(SERVICE).variant(variant).timeout(20_000).content(noise(5, 600_000));
        for piece in ask.bytes().chunks(60_000) {
            c.send(piece);
            std::thread::sleep(Duration::from_millis(130));
        }
        let f = c.frame();
        assert!(f.head.status == 0 && f.content() == ask.content, "{:?}", f.flag());
    }
}

#[test]
fn a_frame_that_stalls_ends_its_connection_after_the_frame_timeout_and_no_other() {
    let server = BoltServer::echo();
    let (sidecar, listen) =
        started(|c| c.service(SERVICE, &[server.addr]).sidecar("limits: {frameTimeout: 300ms}"));
    let load = Load::on(listen, SERVICE, 2, 8);
    let small = Ask::to(SERVICE).bytes();
    let large = Ask::to(SERVICE).content(noise(1, 500_000)).timeout(20_000).bytes();
    let began = Instant::now();
    // Cut in the fixed part, in the headers, and, as a frame that is passed through, in its content.
    let mut stalled: Vec<_> = [&small[..10], &small[..60], &large[..300_000]]
        .iter()
        .map(|part| {
            let mut c = BoltClient::connect(listen);
            c.send(part);
            c
        })
        .collect();
    for c in &mut stalled {
        c.expect_end();
    }
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(290) && took < Duration::from_secs(2), "{took:?}");
    assert_eq!(sidecar.admin.metric("raddle_malformed_frames_total", &["caller", "slow_frame"]), 3);
    load.goes_on(100);
    load.stop().expect_all_ok();
}

#[test]
fn a_byte_now_and_then_does_not_keep_a_half_frame_alive() {
    let (_sidecar, listen) = started(|c| c.sidecar("limits: {frameTimeout: 400ms}"));
    let mut c = BoltClient::connect(listen).patience(Duration::from_millis(20));
    let bytes = Ask::to(SERVICE).bytes();
    let began = Instant::now();
    for b in &bytes {
        if std::io::Write::write_all(&mut c.stream, &[*b]).is_err() {
            break;
        }
        match c.try_next() {
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {}
            _ => break,
        }
        assert!(began.elapsed() < Duration::from_secs(2), "still open after {:?}", began.elapsed());
    }
    assert!(began.elapsed() >= Duration::from_millis(390));
}

#[test]
fn an_idle_caller_is_closed_only_when_nothing_is_in_flight() {
    let held = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let h = held.clone();
    let server = BoltServer::start(move |c| h.lock().unwrap().push(c));
    let (sidecar, listen) =
        started(|c| c.service(SERVICE, &[server.addr]).sidecar("limits: {idleTimeout: 1s}"));
    let began = Instant::now();
    let (mut idle, mut waits) = (BoltClient::connect(listen), BoltClient::connect(listen));
    let mut beat = Vec::new();
    bolt::encode::heartbeat(&mut beat, Variant::V1, 1, 1, 1000, &[]);
    idle.send(&beat);
    idle.frame();
    waits.ask(&Ask::to(SERVICE).timeout(30_000));
    idle.expect_end();
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(950) && took < Duration::from_millis(3_500), "{took:?}");
    // The other has been silent as long, and is owed a reply.
    until(PATIENCE, "twice the idle time is over", || began.elapsed() > Duration::from_millis(2_300));
    held.lock().unwrap().pop().unwrap().echo();
    assert_eq!(waits.frame().head.status, 0);
    assert_eq!(sidecar.admin.metric("raddle_idle_connections_closed_total", &[]), 1);
}

#[test]
fn an_idle_connection_to_an_endpoint_is_closed_and_made_again_when_needed() {
    let server = BoltServer::echo();
    let (_sidecar, listen) =
        started(|c| c.workers(1).service(SERVICE, &[server.addr]).policy("p", "pool: {idleTimeout: 1s}"));
    let mut c = BoltClient::connect(listen);
    assert_eq!(c.call(&Ask::to(SERVICE)).head.status, 0);
    until(PATIENCE, "it is closed", || server.open() == 0);
    assert_eq!(c.call(&Ask::to(SERVICE)).head.status, 0);
    assert_eq!(server.accepted(), 2);
}

#[test]
fn a_new_connection_to_an_endpoint_says_that_goaway_is_understood() {
    let server = BoltServer::echo();
    let (_sidecar, listen) = started(|c| c.service(SERVICE, &[server.addr]));
    BoltClient::connect(listen).call(&Ask::to(SERVICE));
    until(PATIENCE, "a heartbeat comes", || server.seen().heartbeats.load(Ordering::Relaxed) >= 1);
}
