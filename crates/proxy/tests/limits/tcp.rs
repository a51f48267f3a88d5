//! Connections of bytes without a protocol.
use super::Limited;
use raddle_testkit::h1::Client;
use raddle_testkit::http::http_server;
use raddle_testkit::{Config, PATIENCE, TcpServer, free_addr, until, until_some};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Answers what it gets; counts connections that are open.
pub(super) fn echo() -> (TcpServer, Arc<AtomicUsize>) {
    let open = Arc::new(AtomicUsize::new(0));
    let o = open.clone();
    let server = TcpServer::start(move |mut s| {
        o.fetch_add(1, Ordering::AcqRel);
        let mut b = [0; 64];
        while let Ok(n @ 1..) = s.read(&mut b) {
            if s.write_all(&b[..n]).is_err() {
                break;
            }
        }
        o.fetch_sub(1, Ordering::AcqRel);
    });
    (server, open)
}

/// A sidecar whose listener takes everything for TCP.
pub(super) fn plain(server: SocketAddr, rules: &[(&str, &str, &str)]) -> Limited {
    let listen = free_addr();
    let inbound = format!("inbound: [{{listen: \"{listen}\", forward: \"{server}\", protocol: tcp}}]");
    Limited::start(Config::new().workers(1).sidecar(&inbound), listen, rules)
}

pub(super) fn connect(to: SocketAddr) -> TcpStream {
    let s = TcpStream::connect(to).unwrap();
    s.set_read_timeout(Some(PATIENCE)).unwrap();
    s
}

/// Whether a connection carries bytes; false = it was reset.
pub(super) fn works(s: &mut TcpStream) -> bool {
    let mut back = [0; 4];
    match s.write_all(b"\x00abc").and_then(|()| s.read_exact(&mut back)) {
        Ok(()) => true,
        Err(e) => {
            assert!(matches!(e.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{e}");
            false
        }
    }
}

#[test]
fn new_connections_over_the_rate_are_reset_and_nobody_behind_hears_of_them() {
    let (server, _) = echo();
    let limited = plain(server.addr, &[("RateLimit", "new", "rate: 0.001, burst: 2")]);
    let mut all: Vec<_> = (0..2).map(|_| connect(limited.listen)).collect();
    assert!(all.iter_mut().all(works));
    assert!((0..3).all(|_| !works(&mut connect(limited.listen))));
    assert!(all.iter_mut().all(works), "those there are go on");
    assert_eq!((server.accepted(), limited.held("RateLimit/new")), (2, 3));
    let line = limited.line("RateLimit/new");
    assert_eq!((&line["flag"], &line["protocol"]), (&"RL".into(), &"tcp".into()));
    assert_eq!(limited.admin().metric("raddle_requests_total", &["reason=\"RL\""]), 3);
    drop(all);
    limited.settles();
}

#[test]
fn no_more_connections_are_open_at_once_than_may_and_each_end_makes_room() {
    let (server, open) = echo();
    let limited = plain(server.addr, &[("RateLimit", "two", "concurrency: 2")]);
    for _ in 0..5 {
        let mut all: Vec<_> = (0..2).map(|_| connect(limited.listen)).collect();
        assert!(all.iter_mut().all(works));
        assert!(!works(&mut connect(limited.listen)));
        assert!(open.load(Ordering::Acquire) <= 2);
        drop(all);
        limited.settles();
    }
    // Also if there is nobody behind.
    drop(server);
    for _ in 0..5 {
        assert!(!works(&mut connect(limited.listen)));
    }
    limited.settles();
}

#[test]
fn a_rule_takes_connections_by_the_apps_port_and_counts_callers_by_themselves() {
    let (server, _) = echo();
    let port = server.addr.port();
    let this = format!("rate: 0, when: {{service: \"tcp:{port}\"}}");
    let limited = plain(server.addr, &[("RateLimit", "this", &this)]);
    assert!(!works(&mut connect(limited.listen)));
    let other = format!("rate: 0, when: {{service: \"tcp:{}\"}}", port ^ 1);
    let hot = "rate: 0.001, burst: 1, key: {by: callerIp}";
    // What only requests have is nothing that a connection has.
    let method = "rate: 0, when: {method: {exists: true}}";
    limited.rules(&[
        ("RateLimit", "other", &other),
        ("RateLimit", "hot", hot),
        ("RateLimit", "m", method),
        ("AdaptiveLimit", "app", "mode: enforce"),
    ]);
    let mut first = connect(limited.listen);
    assert!(works(&mut first));
    assert!(!works(&mut connect(limited.listen)));
    assert_eq!(limited.line("RateLimit/hot")["flag"], "HL");
    drop(first);
    limited.settles();
}

#[test]
fn an_observed_limit_closes_no_connection_and_tells() {
    let (server, _) = echo();
    let limited = plain(server.addr, &[("RateLimit", "watch", "mode: observe, rate: 0")]);
    for _ in 0..3 {
        assert!(works(&mut connect(limited.listen)));
    }
    assert_eq!((limited.observed("RateLimit/watch"), limited.held("RateLimit/watch")), (3, 0));
    let line = limited.line("observed:RateLimit/watch");
    assert!(line["flag"].is_null() && line["ok"] == true, "{line}");
    limited.settles();
}

#[test]
fn connections_that_are_silent_are_counted_once_they_are_known_to_be_tcp() {
    let listen = free_addr();
    let greets = TcpServer::start(|mut s| {
        let _ = s.write_all(b"welcome");
        let _ = s.read(&mut [0; 1]);
    });
    let config = Config::new().workers(1).inbound(listen, greets.addr);
    let config = config.sidecar("limits: {detectTimeout: 50ms}");
    let one = [("RateLimit", "one", "concurrency: 1")];
    let limited = Limited::start(config, listen, &one);
    // Its server speaks first.
    let mut first = connect(listen);
    let mut heard = [0; 7];
    first.read_exact(&mut heard).unwrap();
    until(PATIENCE, "the second is held", || connect(listen).read_exact(&mut heard).is_err());
    assert_eq!(limited.line("RateLimit/one")["flag"], "RL");
    drop(first);
    limited.settles();

    // HTTP connections opened ahead are none of TCP's.
    let listen = free_addr();
    let server = http_server(|mut c| while c.request().is_some() && c.ok("answer") {});
    let config = Config::new().workers(1).inbound(listen, server.addr);
    let limited = Limited::start(config.sidecar("limits: {detectTimeout: 50ms}"), listen, &one);
    let mut ahead: Vec<_> = (0..3).map(|_| Client::connect(listen)).collect();
    limited.admin().until_metric("raddle_connections_detected_total", &["protocol=\"tcp\""], |n| n == 3);
    for c in &mut ahead {
        until_some(PATIENCE, "an answer", || (super::http::get(c, "/", "").status() == 200).then_some(()));
    }
    limited.settles();
}
