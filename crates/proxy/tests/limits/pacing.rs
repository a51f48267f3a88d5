//! Requests that a limit lets pass later.
use super::Limited;
use super::http::{get, reason};
use raddle_testkit::h1::Client;
use raddle_testkit::http::{H2Side, h2_server, http_server};
use raddle_testkit::{Ask, BoltClient, BoltServer};
use std::time::{Duration, Instant};

const PAY: &str = "com.test.Pay:1.0";
const PACED: &str = "rate: 20, burst: 1, maxWait: 2s";

#[test]
fn requests_leave_in_order_and_evenly_and_others_of_the_connection_do_not_wait() {
    let server = BoltServer::echo();
    let spec = format!("{PACED}, when: {{method: pay}}");
    let limited = Limited::inbound(server.addr, &[("RateLimit", "paced", &spec)]);
    let mut c = BoltClient::connect(limited.listen);
    let began = Instant::now();
    for id in 1..=6 {
        c.ask(&Ask::to(PAY).method("pay").id(id));
    }
    c.ask(&Ask::to(PAY).method("list").id(99));
    let replies: Vec<u32> = (0..7).map(|_| c.frame().head.id).collect();
    let took = began.elapsed();
    let paid: Vec<u32> = replies.iter().copied().filter(|id| *id != 99).collect();
    assert_eq!(paid, [1, 2, 3, 4, 5, 6]);
    assert!(replies.iter().position(|id| *id == 99) < Some(3), "{replies:?}");
    assert!(took >= Duration::from_millis(240), "five of them 50 ms after one another: {took:?}");
    assert!(limited.admin().metric("raddle_limit_waited_total", &[]) >= 4);
    limited.settles();
}

#[test]
fn what_would_wait_too_long_is_refused_at_once() {
    let server = BoltServer::echo();
    let limited =
        Limited::inbound(server.addr, &[("RateLimit", "paced", "rate: 1, burst: 1, maxWait: 1500ms")]);
    let mut c = BoltClient::connect(limited.listen);
    for id in 1..=3 {
        c.ask(&Ask::to(PAY).id(id));
    }
    let replies: Vec<_> = (0..3).map(|_| c.frame()).map(|f| (f.head.id, f.flag())).collect();
    assert!(replies[..2].contains(&(3, Some("RL".into()))), "{replies:?}");
    assert_eq!(replies[2], (2, None));
    assert_eq!(limited.held("RateLimit/paced"), 1);
    // Its own time is shorter than its turn is far: the rule that would keep it so long is named everywhere.
    c.ask(&Ask::to(PAY).id(4).timeout(50));
    let late = c.frame();
    assert_eq!(late.flag().as_deref(), Some("RL"));
    assert_eq!(late.header("raddle-rule").as_deref(), Some("RateLimit/paced"));
    assert_eq!(limited.held("RateLimit/paced"), 2);
    assert_eq!(limited.line("RateLimit/paced")["flag"], "RL");
    limited.settles();
}

#[test]
fn who_goes_away_while_waiting_is_forgotten() {
    let server = BoltServer::echo();
    let rules =
        [("RateLimit", "paced", "rate: 0.05, burst: 1, maxWait: 1m"), ("RateLimit", "n", "concurrency: 9")];
    let limited = Limited::inbound(server.addr, &rules);
    let mut c = BoltClient::connect(limited.listen);
    assert_eq!(c.call(&Ask::to(PAY)).head.status, 0);
    c.ask(&Ask::to(PAY).id(2).timeout(60_000));
    limited.admin().until_metric("raddle_limit_requests_waiting", &[], |n| n == 1);
    drop(c);
    limited.settles();
    assert_eq!(server.requests(), 1);
}

#[test]
fn http_waits_its_turn_and_a_stream_that_is_cancelled_gives_it_up() {
    let server = http_server(|mut c| while c.request().is_some() && c.ok("answer") {});
    let limited = Limited::inbound(server.addr, &[("RateLimit", "paced", PACED)]);
    let began = Instant::now();
    let mut c = Client::connect(limited.listen);
    assert!((0..5).all(|_| get(&mut c, "/", "").status() == 200));
    assert!(began.elapsed() >= Duration::from_millis(190), "{:?}", began.elapsed());
    limited.rules(&[("RateLimit", "slow", "rate: 0.05, burst: 1, maxWait: 1m")]);
    assert_eq!(get(&mut c, "/", "").status(), 200);
    assert!(c.send("GET / HTTP/1.1\r\nHost: shop\r\n\r\n"));
    limited.admin().until_metric("raddle_limit_requests_waiting", &[], |n| n == 1);
    drop(c);
    limited.settles();
}

#[test]
fn streams_of_one_http2_connection_wait_side_by_side() {
    let server = h2_server(&[], |mut side| {
        while let Some((stream, _)) = side.request() {
            side.answer(stream, "200", &[], b"answer");
        }
    });
    let spec = format!("{PACED}, when: {{path: /paced}}");
    let limited = Limited::inbound(server.addr, &[("RateLimit", "paced", &spec)]);
    let mut c = H2Side::connect(limited.listen, &[]);
    let began = Instant::now();
    let paced: Vec<u32> = (0..5).map(|_| c.get("shop", "/paced")).collect();
    let free = c.get("shop", "/free");
    assert_eq!(c.done(free).status(), 200);
    let all: Vec<u16> = paced.into_iter().map(|s| c.done(s).status()).collect();
    assert_eq!(all, [200; 5]);
    assert!(began.elapsed() >= Duration::from_millis(190), "{:?}", began.elapsed());
    limited.settles();
}

#[test]
fn a_rate_of_nothing_lets_nothing_pass_however_long_it_may_wait() {
    let server = http_server(|mut c| while c.request().is_some() && c.ok("answer") {});
    let limited = Limited::inbound(server.addr, &[("RateLimit", "none", "rate: 0")]);
    let mut c = Client::connect(limited.listen);
    assert_eq!(reason(&get(&mut c, "/", "")).as_deref(), Some("RL"));
}
