//! HTTP/1.1, HTTP/2, gRPC: the switch under load, and exchanges that outlast it.
use crate::mesh::{Gate, Pair, SECRET, Work};
use raddle_testkit::h1::Client;
use raddle_testkit::h1_upstream::{H1Upstream, Reply};
use raddle_testkit::h2_hpack::Block;
use raddle_testkit::h2_upstream::{H2Upstream, Reply2};
use raddle_testkit::http::{H2Side, Stream, h2_server};
use raddle_testkit::{PATIENCE, TcpServer, until};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

fn post(path: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("POST {path} HTTP/1.1\r\nHost: shop\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn body(n: u64) -> Vec<u8> {
    [SECRET, n.to_string().as_bytes()].concat()
}

fn h1_app(gate: &Gate) -> H1Upstream {
    let gate = gate.clone();
    H1Upstream::start(move |r| {
        if r.target() == "/slow" {
            gate.pass();
        }
        Reply::ok(SECRET)
    })
}

fn h1_ask(c: &mut Client, n: u64) -> Result<(), String> {
    if !c.send(post("/", &body(n))) {
        return Err("closed".into());
    }
    let r = c.response("POST")?;
    if r.status() == 200 && r.body == SECRET { Ok(()) } else { Err(format!("{r:?}")) }
}

#[test]
fn http1_loses_nothing_while_tls_goes_on_and_off() {
    let app = h1_app(&Gate::default());
    let pair = Pair::new("http", app.addr());
    let listen = pair.listen;
    let work = Work::start(4, move || Client::connect(listen), h1_ask);
    pair.toggle(|| work.goes_on(200));
    work.expect_none_failed();
    assert!(app.take_wrong().is_empty());
}

#[test]
fn an_http1_exchange_that_outlasts_the_switch_completes_and_idle_connections_end() {
    let gate = Gate::default();
    let app = h1_app(&gate);
    let pair = Pair::new("http", app.addr());
    // Two connections, one of them idle.
    let (mut slow, mut quick) = (Client::connect(pair.listen), Client::connect(pair.listen));
    slow.send(post("/slow", SECRET));
    h1_ask(&mut quick, 1).unwrap();
    until(PATIENCE, "two", || pair.tap.open(false) == 2);
    pair.want("true");
    until(PATIENCE, "the idle one is replaced", || pair.tap.open(true) == 1 && pair.tap.open(false) == 1);
    for n in 0..20 {
        h1_ask(&mut quick, n).unwrap();
    }
    gate.open();
    assert_eq!(slow.response("POST").unwrap().body, SECRET);
    until(PATIENCE, "the old one ends", || pair.tap.open(false) == 0);
}

#[test]
fn a_request_that_waits_is_not_given_to_a_connection_that_came_too_late() {
    let (app_gate, handshake) = (Gate::default(), Gate::default());
    let app = h1_app(&app_gate);
    let pair = Pair::new("http", app.addr());
    *pair.tap.holds.lock().unwrap() = Some(handshake.clone());
    pair.want("true");
    let (mut first, mut second) = (Client::connect(pair.listen), Client::connect(pair.listen));
    first.send(post("/slow", SECRET));
    until(PATIENCE, "a handshake is under way", || pair.tap.count(|t| t.open) == 1);
    pair.want("false");
    second.send(post("/", SECRET));
    // One of the two has the plaintext connection that was made meanwhile; the handshake ends when nobody wants it.
    until(PATIENCE, "plaintext", || pair.tap.open(false) > 0);
    handshake.open();
    assert_eq!(second.response("POST").unwrap().body, SECRET);
    app_gate.open();
    assert_eq!(first.response("POST").unwrap().body, SECRET);
}

fn h2_app() -> H2Upstream {
    H2Upstream::start(|r| Reply2::ok(&r.body))
}

fn h2_ask(c: &mut H2Side, n: u64) -> Result<(), String> {
    let all: Vec<u32> = (0..4)
        .map(|i| {
            let s = c.ask(&Block::request("POST", "shop", "/"), false);
            c.data(s, &body(n * 4 + i), true);
            s
        })
        .collect();
    for (i, s) in all.into_iter().enumerate() {
        let got: Stream = c.done(s);
        if got.status() != 200 || got.body != body(n * 4 + i as u64) {
            return Err(format!("{got:?}"));
        }
    }
    Ok(())
}

#[test]
fn http2_loses_nothing_while_tls_goes_on_and_off() {
    let app = h2_app();
    let pair = Pair::new("http2", app.addr());
    let listen = pair.listen;
    let work = Work::start(3, move || H2Side::connect(listen, &[]), h2_ask);
    pair.toggle(|| work.goes_on(100));
    work.expect_none_failed();
    assert!(app.take_wrong().is_empty());
}

/// Answers each stream with what comes on it, piece by piece.
fn grpc_echo() -> TcpServer {
    h2_server(&[(3, 100)], |mut c| {
        let mut begun = Vec::new();
        while !c.closed {
            c.step(Instant::now() + Duration::from_millis(20));
            let ready: Vec<(u32, Vec<u8>, bool)> =
                c.streams.iter_mut().map(|(k, s)| (*k, std::mem::take(&mut s.body), s.ended)).collect();
            for (k, data, ended) in ready {
                if !begun.contains(&k) {
                    begun.push(k);
                    let head = Block::new().lit(":status", "200").lit("content-type", "application/grpc");
                    c.peer.headers(k, 4, &head);
                }
                if !data.is_empty() {
                    c.data(k, &data, false);
                }
                if ended {
                    c.peer.headers(k, 5, &Block::new().lit("grpc-status", "0"));
                    c.streams.remove(&k);
                    // What was removed must not come back as a stream without a head.
                    begun.retain(|b| *b != k);
                }
            }
        }
    })
}

fn grpc_call(c: &mut H2Side) -> u32 {
    let head = Block::request("POST", "shop", "/com.test.Pay/Stream")
        .lit("content-type", "application/grpc")
        .lit("te", "trailers");
    c.ask(&head, false)
}

fn message() -> Vec<u8> {
    [&[0, 0, 0, 0, SECRET.len() as u8], SECRET].concat()
}

fn say(c: &mut H2Side, stream: u32, so_far: usize) {
    c.data(stream, &message(), false);
    let want = so_far + message().len();
    c.until("the echo", |c| c.streams.get(&stream).is_some_and(|s| s.body.len() >= want));
}

fn grpc(addr: SocketAddr) -> Pair {
    Pair::new("grpc", addr)
}

#[test]
fn a_grpc_stream_goes_on_over_the_switch_and_ends_by_itself() {
    let app = grpc_echo();
    let pair = grpc(app.addr);
    let mut c = H2Side::connect(pair.listen, &[]);
    let stream = grpc_call(&mut c);
    say(&mut c, stream, 0);
    pair.want("true");
    until(PATIENCE, "both", || pair.tap.open(true) == 1 && pair.tap.open(false) == 1);
    for n in 1..20 {
        say(&mut c, stream, n * message().len());
        // New calls go by the new connection.
        let other = grpc_call(&mut c);
        c.data(other, &message(), true);
        assert_eq!(c.done(other).get("grpc-status").as_deref(), Some("0"));
    }
    assert_eq!(pair.tap.open(false), 1);
    c.data(stream, b"", true);
    let end = c.done(stream);
    assert_eq!((end.get("grpc-status").as_deref(), end.body.len()), (Some("0"), 20 * message().len()));
    until(PATIENCE, "the old one ends", || pair.tap.open(false) == 0);
    pair.tap.expect_unreadable();
}

#[test]
fn grpc_streams_begun_and_ended_all_the_time_lose_nothing() {
    let app = grpc_echo();
    let pair = grpc(app.addr);
    let listen = pair.listen;
    let ask = |c: &mut H2Side, _: u64| {
        let s = grpc_call(c);
        say(c, s, 0);
        say(c, s, message().len());
        c.data(s, b"", true);
        let got = c.done(s);
        if got.get("grpc-status").as_deref() == Some("0") { Ok(()) } else { Err(format!("{got:?}")) }
    };
    let work = Work::start(2, move || H2Side::connect(listen, &[]), ask);
    pair.toggle(|| work.goes_on(30));
    work.expect_none_failed();
}
