//! The sidecar's own answers: each has its status and flag, comes in the request's framing, and in time.
use raddle_testkit::{
    Admin, Ask, BoltClient, BoltServer, Call, Config, Frame, PATIENCE, Running, Variant, free_addr,
    refused_addr, until,
};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SERVICE: &str = "com.test.Pay:1.0";

fn started(config: impl FnOnce(Config) -> Config) -> (Running, SocketAddr) {
    let listen = free_addr();
    (Running::start(&config(Config::new().outbound(listen))), listen)
}

/// A server that keeps every call.
fn holding() -> (BoltServer, Arc<Mutex<Vec<Call>>>) {
    let held = Arc::new(Mutex::new(Vec::new()));
    let h = held.clone();
    (BoltServer::start(move |c| h.lock().unwrap().push(c)), held)
}

#[track_caller]
fn expect(f: &Frame, status: u16, flag: &str) {
    assert_eq!((f.head.status, f.flag().as_deref()), (status, Some(flag)), "{f:?}");
    assert!(f.crc_is_right());
}

#[test]
fn an_unknown_service_is_answered_nc_in_every_framing() {
    let (sidecar, listen) = started(|c| c);
    for variant in Variant::ALL {
        let mut c = BoltClient::connect(listen);
        expect(&c.call(&Ask::to("com.test.Nobody:1.0").variant(variant).id(u32::MAX)), 6, "NC");
        let mut unnamed = Ask::to("").variant(variant).id(0);
        unnamed.headers.clear();
        expect(&c.call(&unnamed), 6, "NC");
    }
    assert_eq!(count(sidecar.admin, "NC"), 8);
}

fn count(admin: Admin, flag: &str) -> i64 {
    admin.metric("raddle_requests_total", &["rejected", &format!("reason=\"{flag}\"")])
}

#[test]
fn a_service_without_endpoints_is_answered_uh() {
    let (sidecar, listen) = started(|c| c.service(SERVICE, &[]));
    expect(&BoltClient::connect(listen).call(&Ask::to(SERVICE)), 6, "UH");
    assert_eq!(count(sidecar.admin, "UH"), 1);
}

#[test]
fn a_refused_connection_is_answered_uf_at_once() {
    let (sidecar, listen) = started(|c| c.service(SERVICE, &[refused_addr(), refused_addr()]));
    let mut c = BoltClient::connect(listen);
    let began = Instant::now();
    for id in 0..20 {
        expect(&c.call(&Ask::to(SERVICE).id(id)), 5, "UF");
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert_eq!(count(sidecar.admin, "UF"), 20);
}

#[test]
fn a_one_way_request_that_cannot_be_delivered_is_answered_by_nothing() {
    let (_sidecar, listen) = started(|c| c.service(SERVICE, &[refused_addr()]));
    let mut c = BoltClient::connect(listen);
    c.ask(&Ask::to(SERVICE).id(1).one_way());
    c.ask(&Ask::to("unknown").id(2).one_way());
    assert_eq!(c.call(&Ask::to("unknown").id(3)).head.id, 3);
    assert_eq!(c.call(&Ask::to(SERVICE).id(4)).head.id, 4);
}

#[track_caller]
fn times_out(listen: SocketAddr, ask: &Ask, about: Duration) {
    let began = Instant::now();
    let f = BoltClient::connect(listen).call(ask);
    let took = began.elapsed();
    expect(&f, 7, "UT");
    assert!(took >= about && took < about + Duration::from_millis(500), "{took:?} instead of {about:?}");
}

#[test]
fn the_timeout_of_the_frame_is_honoured_in_every_framing() {
    let (server, _held) = holding();
    let (_sidecar, listen) = started(|c| c.service(SERVICE, &[server.addr]));
    for variant in Variant::ALL {
        times_out(listen, &Ask::to(SERVICE).variant(variant).timeout(80), Duration::from_millis(80));
    }
}

#[test]
fn the_shorter_of_the_policys_and_the_frames_timeout_holds() {
    let (server, _held) = holding();
    let policy = "timeouts: {request: 120ms}";
    let (_sidecar, listen) = started(|c| c.service(SERVICE, &[server.addr]).policy("p", policy));
    let ms = Duration::from_millis;
    times_out(listen, &Ask::to(SERVICE).timeout(5000), ms(120));
    times_out(listen, &Ask::to(SERVICE).timeout(40), ms(40));
    times_out(listen, &Ask::to(SERVICE).timeout(0), ms(120));
    times_out(listen, &Ask::to(SERVICE).timeout(-1), ms(120));
}

#[test]
fn a_routes_timeout_takes_the_policys_place() {
    let (server, _held) = holding();
    let route = format!(
        "{{to: {{services: [\"{SERVICE}\"]}}, rules: [{{when: {{header: {{x: slow}}}}, timeout: 150ms}}]}}"
    );
    let (_sidecar, listen) = started(|c| {
        c.service(SERVICE, &[server.addr])
            .policy("p", "timeouts: {request: 60ms}")
            .document("Route", "r", &route)
    });
    times_out(listen, &Ask::to(SERVICE).timeout(0), Duration::from_millis(60));
    times_out(listen, &Ask::to(SERVICE).timeout(0).header("x", "slow"), Duration::from_millis(150));
}

#[test]
fn a_request_that_waits_for_a_connection_too_long_is_answered_ut_in_its_time() {
    // A listener whose queue is full answers no handshake.
    let full = FullBacklog::new();
    let (_sidecar, listen) =
        started(|c| c.service(SERVICE, &[full.addr]).policy("p", "timeouts: {connect: 3s}"));
    let began = Instant::now();
    let f = BoltClient::connect(listen).call(&Ask::to(SERVICE).timeout(200));
    expect(&f, 7, "UT");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?} instead of 200 ms", began.elapsed());
}

/// A listener that completes no more handshakes.
pub(crate) struct FullBacklog {
    pub(crate) addr: SocketAddr,
    _listener: socket2::Socket,
    _fillers: Vec<std::net::TcpStream>,
}

impl FullBacklog {
    pub(crate) fn new() -> FullBacklog {
        let addr = free_addr();
        let s = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        s.bind(&addr.into()).unwrap();
        s.listen(0).unwrap();
        let mut fillers = Vec::new();
        while let Ok(f) = std::net::TcpStream::connect_timeout(&addr, Duration::from_millis(100)) {
            fillers.push(f);
            assert!(fillers.len() < 50, "the backlog has no end");
        }
        FullBacklog { addr, _listener: s, _fillers: fillers }
    }
}

#[test]
fn more_waiting_than_max_pending_is_answered_uo_and_exactly_that_many_wait() {
    let full = FullBacklog::new();
    let policy = "timeouts: {connect: 400ms}, pool: {maxPending: 10}";
    let (sidecar, listen) = started(|c| c.workers(1).service(SERVICE, &[full.addr]).policy("p", policy));
    let mut c = BoltClient::connect(listen);
    for id in 0..30 {
        c.ask(&Ask::to(SERVICE).id(id));
    }
    let mut flags: Vec<String> = (0..30).map(|_| c.frame().flag().unwrap_or_default()).collect();
    flags.sort();
    assert_eq!(flags.iter().filter(|f| *f == "UO").count(), 20, "{flags:?}");
    assert_eq!(flags.iter().filter(|f| *f == "UF").count(), 10, "{flags:?}");
    assert_eq!(count(sidecar.admin, "UO"), 20);
}

#[test]
fn max_outstanding_holds_exactly_over_two_workers() {
    const CAP: u32 = 40;
    let (server, held) = holding();
    let (most, now) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let policy = format!("pool: {{maxOutstanding: {CAP}}}");
    let (sidecar, listen) = started(|c| c.service(SERVICE, &[server.addr]).policy("p", &policy));
    // Eight callers over both workers, five times what is allowed.
    let mut callers: Vec<_> = (0..8).map(|_| BoltClient::connect(listen)).collect();
    for c in &mut callers {
        // One request each, so that connections are there and the bound alone decides.
        c.ask(&Ask::to(SERVICE).id(0));
    }
    until(PATIENCE, "all arrive", || held.lock().unwrap().len() == 8);
    held.lock().unwrap().drain(..).for_each(|c| {
        c.echo();
    });
    for c in &mut callers {
        assert_eq!(c.frame().head.status, 0);
    }
    for round in 0..5u32 {
        for c in &mut callers {
            for id in 0..25 {
                c.ask(&Ask::to(SERVICE).id(round * 100 + id).timeout(8000));
            }
        }
        let admin = sidecar.admin;
        let before = i64::from(round * (200 - CAP));
        until(PATIENCE, "what is over the bound is answered", || {
            count(admin, "UO") >= before + i64::from(200 - CAP)
        });
        until(PATIENCE, "what is under it has arrived", || held.lock().unwrap().len() >= CAP as usize);
        assert_eq!(held.lock().unwrap().len(), CAP as usize);
        most.fetch_max(now.load(Ordering::Relaxed), Ordering::Relaxed);
        held.lock().unwrap().drain(..).for_each(|c| {
            c.echo();
        });
        let (mut ok, mut over) = (0, 0);
        for c in &mut callers {
            for _ in 0..25 {
                let f = c.frame();
                match f.head.status {
                    0 => ok += 1,
                    _ => {
                        expect(&f, 4, "UO");
                        over += 1;
                    }
                }
            }
        }
        assert_eq!((ok, over), (CAP, 200 - CAP));
    }
}

#[test]
fn a_servers_own_failure_status_and_content_reach_the_caller_unchanged() {
    let server = BoltServer::start(|c| {
        let status = u16::from_be_bytes([c.frame.content()[0], c.frame.content()[1]]);
        c.reply(status, b"why");
    });
    let (sidecar, listen) = started(|c| c.service(SERVICE, &[server.addr]));
    let mut c = BoltClient::connect(listen);
    for status in [1u16, 2, 3, 4, 5, 6, 7, 8, 9, 0x10, 0x11, 0x12, 999] {
        let f = c.call(&Ask::to(SERVICE).content(status.to_be_bytes()));
        assert_eq!((f.head.status, f.content(), f.flag()), (status, &b"why"[..], None));
    }
    assert_eq!(sidecar.admin.metric("raddle_requests_total", &["app_error"]), 13);
}
