//! Breakers before endpoints and services that fail.
use super::Limited;
use super::http::{call, get, reason};
use raddle_testkit::h1::Client;
use raddle_testkit::h1_upstream::{H1Upstream, Reply};
use raddle_testkit::http::{H2Side, h2_server};
use raddle_testkit::{Ask, BoltClient, BoltServer, DubboAsk, DubboClient, DubboServer, PATIENCE, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

const PAY: &str = "com.test.Pay:1.0";

fn failing() -> (Arc<AtomicBool>, BoltServer) {
    let fails = Arc::new(AtomicBool::new(true));
    let f = fails.clone();
    let server = BoltServer::start(move |c| {
        // SERVER_EXCEPTION, the server's own.
        let _ = if f.load(Ordering::Acquire) { c.reply(1, b"") } else { c.echo() };
    });
    (fails, server)
}

#[test]
fn a_service_that_fails_is_not_called_for_a_while_and_is_tried_again() {
    let (fails, server) = failing();
    let spec = "per: service, consecutiveErrors: 3, openFor: 300ms, maxOpenFor: 300ms, probes: 2, passes: 2";
    let limited = Limited::outbound(PAY, &[server.addr], &[("CircuitBreaker", "pay", spec)]);
    let mut c = BoltClient::connect(limited.listen);
    let mut ask = || c.call(&Ask::to(PAY));
    assert!((0..3).all(|_| ask().head.status == 1));
    let held = ask();
    assert_eq!((held.head.status, held.flag().as_deref()), (4, Some("CB")), "{held:?}");
    assert_eq!(held.header("raddle-rule").as_deref(), Some("CircuitBreaker/pay"));
    assert_eq!(server.requests(), 3, "it is left in peace");
    until(PATIENCE, "a probe", || ask().head.status == 1);
    until(PATIENCE, "it is open again", || ask().flag().as_deref() == Some("CB"));
    fails.store(false, Ordering::Release);
    until(PATIENCE, "probes pass", || ask().head.status == 0);
    until(PATIENCE, "it is closed", || (0..10).all(|_| ask().head.status == 0));
    until(PATIENCE, "both are told", || {
        limited.admin().has_event("breaker_open") && limited.admin().has_event("breaker_closed")
    });
    assert!(limited.held("CircuitBreaker/pay") >= 2);
    limited.settles();
}

#[test]
fn the_other_endpoints_take_over_and_only_if_all_are_open_the_caller_hears_of_it() {
    let (fails, bad) = failing();
    let good = BoltServer::echo();
    let spec = "per: endpoint, consecutiveErrors: 2, openFor: 1m, maxOpenFor: 1m";
    let limited = Limited::outbound(PAY, &[bad.addr, good.addr], &[("CircuitBreaker", "each", spec)]);
    let mut c = BoltClient::connect(limited.listen);
    until(PATIENCE, "the bad one is found", || {
        c.call(&Ask::to(PAY));
        bad.requests() >= 2
    });
    assert!((0..50).all(|_| c.call(&Ask::to(PAY)).head.status == 0));
    limited.admin().until_metric("raddle_breaker_open", &["CircuitBreaker/each"], |n| n == 1);
    let page = limited.admin().json("/limits");
    assert_eq!(page["breakers"][0]["targets"][0]["target"], bad.addr.to_string());
    assert_eq!(bad.requests(), 2);
    // Alone, it is no better than nothing, and that is not the same as there being none.
    let both = Limited::outbound(PAY, &[bad.addr], &[("CircuitBreaker", "each", spec)]);
    let mut c = BoltClient::connect(both.listen);
    until(PATIENCE, "CB", || c.call(&Ask::to(PAY)).flag().as_deref() == Some("CB"));
    fails.store(false, Ordering::Release);
    assert_eq!(c.call(&Ask::to(PAY)).flag().as_deref(), Some("CB"), "a minute is long");
    limited.settles();
    both.settles();
}

#[test]
fn timeouts_and_lost_connections_count_and_an_apps_own_exceptions_do_not() {
    let silent = BoltServer::start(drop);
    let spec = "per: service, consecutiveErrors: 2, openFor: 1m, maxOpenFor: 1m";
    let rules = [("CircuitBreaker", "b", spec)];
    let limited = Limited::outbound(PAY, &[silent.addr], &rules);
    let mut c = BoltClient::connect(limited.listen);
    for _ in 0..2 {
        assert_eq!(c.call(&Ask::to(PAY).timeout(50)).flag().as_deref(), Some("UT"));
    }
    assert_eq!(c.call(&Ask::to(PAY)).flag().as_deref(), Some("CB"));
    limited.settles();

    let throws = DubboServer::start(|c| {
        let _ = c.throw("no money");
    });
    let limited = Limited::outbound(PAY, &[throws.addr], &rules);
    let mut c = DubboClient::connect(limited.listen);
    assert!((0..10).all(|n| c.call(&DubboAsk::to(PAY).id(n)).flag().is_none()));
    assert_eq!(throws.requests(), 10);
    limited.settles();

    let hangs_up = raddle_testkit::TcpServer::start(|s| {
        use std::io::Read;
        let _ = (&s).read(&mut [0; 100]);
    });
    let limited = Limited::outbound(PAY, &[hangs_up.addr], &rules);
    let mut c = DubboClient::connect(limited.listen);
    until(PATIENCE, "CB", || c.call(&DubboAsk::to(PAY)).flag().as_deref() == Some("CB"));
    limited.settles();
}

#[test]
fn http_servers_that_answer_5xx_are_found_by_their_share() {
    let server = H1Upstream::start(|r| match r.target() {
        "/bad" => Reply::raw("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n"),
        _ => Reply::ok("answer"),
    });
    let spec = "per: service, errorRatio: 0.5, minCalls: 10, window: 1m, openFor: 1m, maxOpenFor: 1m";
    let limited = Limited::outbound("shop", &[server.addr()], &[("CircuitBreaker", "shop", spec)]);
    let mut c = Client::connect(limited.listen);
    for _ in 0..10 {
        assert_eq!(get(&mut c, "/good", "").status(), 200);
    }
    until(PATIENCE, "CB", || reason(&get(&mut c, "/bad", "")).as_deref() == Some("CB"));
    assert!(server.count() >= 18, "{}", server.count());
    let held = get(&mut c, "/good", "");
    assert_eq!(held.head.get("x-raddle-rule").as_deref(), Some("CircuitBreaker/shop"));
    limited.settles();
}

#[test]
fn a_breaker_opened_by_hand_is_open_and_an_observed_one_only_tells() {
    let server = BoltServer::echo();
    let limited =
        Limited::outbound(PAY, &[server.addr], &[("CircuitBreaker", "hand", "per: service, state: open")]);
    let mut c = BoltClient::connect(limited.listen);
    assert_eq!(c.call(&Ask::to(PAY)).flag().as_deref(), Some("CB"));
    limited.admin().until_metric("raddle_breaker_open", &["CircuitBreaker/hand"], |n| n == 1);
    let page = limited.admin().get("/limits?format=text");
    assert!(page.contains("CircuitBreaker/hand: held open by hand\n"), "{page}");
    limited.rules(&[("CircuitBreaker", "hand", "mode: observe, per: service, state: open")]);
    assert_eq!(c.call(&Ask::to(PAY)).head.status, 0);
    assert_eq!(limited.observed("CircuitBreaker/hand"), 1);
    limited.line("observed:CircuitBreaker/hand");
    let page = limited.admin().get("/limits?format=text");
    assert!(page.contains("passed 0, held 1, would have held 1\n"), "{page}");
    limited.settles();
}

#[test]
fn the_gauge_of_open_breakers_is_of_rules_that_are_there_and_that_have_breakers() {
    let (_, server) = failing();
    let spec = "per: service, consecutiveErrors: 1, openFor: 1m, maxOpenFor: 1m";
    let watch = "mode: observe, side: outbound, concurrency: 0";
    let rules = [("CircuitBreaker", "pay", spec), ("RateLimit", "watch", watch)];
    let limited = Limited::outbound(PAY, &[server.addr], &rules);
    let mut c = BoltClient::connect(limited.listen);
    assert_eq!(c.call(&Ask::to(PAY)).head.status, 1);
    limited.admin().until_metric("raddle_breaker_open", &["CircuitBreaker/pay"], |n| n == 1);
    assert_eq!(limited.observed("RateLimit/watch"), 1);
    let metrics = limited.admin().get("/metrics");
    assert!(!metrics.contains("raddle_breaker_open{rule=\"RateLimit"), "a rate has no breakers");
    limited.rules(&[]);
    limited.admin().until_metric("raddle_breaker_open", &[], |n| n == 0);
    limited.settles();
}

#[test]
fn grpc_servers_that_are_unavailable_are_left_alone_over_one_connection_to_each() {
    let fails = Arc::new(AtomicBool::new(true));
    let f = fails.clone();
    let asked = Arc::new(AtomicU32::new(0));
    let n = asked.clone();
    let server = h2_server(&[], move |mut side| {
        while let Some((stream, _)) = side.request() {
            n.fetch_add(1, Ordering::AcqRel);
            // UNAVAILABLE, or the caller's own mistake, which is not the callee's.
            let status = if f.load(Ordering::Acquire) { "14" } else { "3" };
            side.answer(stream, "200", &[("content-type", "application/grpc"), ("grpc-status", status)], b"");
        }
    });
    let spec = "per: method, consecutiveErrors: 3, openFor: 300ms, maxOpenFor: 300ms, probes: 1, passes: 1";
    let listen = raddle_testkit::free_addr();
    let service = format!("{{app: pay, protocol: grpc, endpoints: [{{address: \"{}\"}}]}}", server.addr);
    let config =
        raddle_testkit::Config::new().workers(1).outbound(listen).document("Service", "pay.Pay", &service);
    let limited = Limited::start(config, listen, &[("CircuitBreaker", "pay", spec)]);
    let mut c = H2Side::connect(listen, &[]);
    let mut status = |path: &str| {
        let reply = call(&mut c, path);
        (
            reply.get("grpc-status").unwrap_or_default(),
            reply.get("x-raddle-rule"),
            reply.get("grpc-retry-pushback-ms"),
        )
    };
    for _ in 0..3 {
        assert_eq!(status("/pay.Pay/Refund").0, "14");
    }
    let (code, rule, again) = status("/pay.Pay/Refund");
    assert_eq!((code.as_str(), rule.as_deref()), ("8", Some("CircuitBreaker/pay")));
    assert!(again.is_some_and(|ms| ms.parse::<u32>().is_ok_and(|ms| ms <= 400)), "when it is tried again");
    assert_eq!(asked.load(Ordering::Acquire), 3, "it is left in peace");
    assert_eq!(status("/pay.Pay/Query").0, "14", "another method has its own");
    fails.store(false, Ordering::Release);
    until(PATIENCE, "a probe passes", || status("/pay.Pay/Refund").0 == "3");
    assert!((0..10).all(|_| status("/pay.Pay/Refund").0 == "3"), "the caller's mistakes open nothing");
    limited.settles();
}

#[test]
fn http2_servers_that_break_streams_off_are_found() {
    let server = h2_server(&[], |mut side| {
        while let Some((stream, _)) = side.request() {
            side.answer(stream, "503", &[], b"");
        }
    });
    let spec = "per: endpoint, errorRatio: 0.5, minCalls: 5, window: 1m, openFor: 1m, maxOpenFor: 1m";
    let listen = raddle_testkit::free_addr();
    let service = format!("{{app: shop, protocol: http2, endpoints: [{{address: \"{}\"}}]}}", server.addr);
    let config =
        raddle_testkit::Config::new().workers(1).outbound(listen).document("Service", "shop", &service);
    let limited = Limited::start(config, listen, &[("CircuitBreaker", "each", spec)]);
    let mut c = H2Side::connect(listen, &[]);
    until(PATIENCE, "CB", || {
        let stream = c.get("shop", "/");
        let reply = c.done(stream);
        let held = reply.get("x-raddle-reason").as_deref() == Some("CB");
        assert!(!held || (reply.status(), reply.get("retry-after").is_some()) == (429, true));
        held
    });
    limited.settles();
}
