//! Connections to endpoints: what is used again, what is sent again, and what never is.
use crate::http_sides::{HOST, get, h1_to, nothing_is_left, post, service, started};
use raddle_testkit::h1::Client;
use raddle_testkit::http::http_server;
use raddle_testkit::{Config, PATIENCE, TcpServer, refused_addr, until};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

fn asks(c: &mut Client, request: impl AsRef<[u8]>) -> (u16, Option<String>, String) {
    assert!(c.send(request));
    let r = c.response("GET").unwrap_or_else(|e| panic!("{e}"));
    let body = String::from_utf8_lossy(&r.body).into_owned();
    (r.status(), r.head.get("x-raddle-reason"), body)
}

fn ok(body: &str) -> (u16, Option<String>, String) {
    (200, None, body.into())
}

fn says(text: &'static str) -> TcpServer {
    http_server(move |mut c| while c.request().is_some() && c.ok(text) {})
}

fn with_policy(endpoints: &[SocketAddr], policy: &str) -> (raddle_testkit::Running, SocketAddr) {
    started(|c: Config| service(c, HOST, "http", endpoints).policy("p", policy))
}

#[test]
fn a_connection_the_endpoint_closed_while_idle_is_not_used_again() {
    let server = http_server(|mut c| {
        c.request();
        c.ok("ok");
    });
    let (sidecar, listen) = h1_to(&[server.addr]);
    let mut c = Client::connect(listen);
    for n in 1..=5 {
        assert_eq!(asks(&mut c, post("/", "once")), ok("ok"));
        sidecar.admin.until_metric("raddle_endpoint_connections", &[], |n| n == 0);
        assert_eq!(server.accepted(), n);
    }
    assert_eq!(sidecar.admin.metric("raddle_requeued_total", &[]), 0);
    nothing_is_left(&sidecar);
}

/// Answers the first request of each connection and closes on getting the second. Counts requests.
fn closes_on_reuse() -> (TcpServer, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let n = count.clone();
    let server = http_server(move |mut c| {
        while c.request().is_some() {
            n.fetch_add(1, Ordering::Relaxed);
            if !c.ok("ok") || c.request().is_some() {
                n.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    });
    (server, count)
}

#[test]
fn a_get_that_meets_a_closing_connection_is_sent_once_more_and_a_post_never_is() {
    let (server, count) = closes_on_reuse();
    let (sidecar, listen) = h1_to(&[server.addr]);
    let mut c = Client::connect(listen);
    assert_eq!(asks(&mut c, get("/1")), ok("ok"));
    assert_eq!(asks(&mut c, get("/2")), ok("ok"));
    assert_eq!(count.load(Ordering::Relaxed), 3, "the second was seen twice");
    assert_eq!(sidecar.admin.metric("raddle_requeued_total", &[]), 1);
    let (status, flag, _) = asks(&mut c, post("/3", "pay"));
    assert_eq!((status, flag.as_deref()), (503, Some("UC")));
    assert_eq!(count.load(Ordering::Relaxed), 4, "the POST was seen once");
    // The caller's connection is none the worse for it.
    assert_eq!(asks(&mut c, post("/4", "pay")), ok("ok"));
    nothing_is_left(&sidecar);
}

#[test]
fn a_connection_with_bytes_nobody_asked_for_answers_nobody_else() {
    let server = http_server(|mut c| {
        while c.request().is_some() {
            // One question, two answers.
            c.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nmineHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison");
        }
    });
    let (sidecar, listen) = with_policy(&[server.addr], "pool: {http1Connections: 1}");
    let mut all: Vec<Client> = (0..8).map(|_| Client::connect(listen)).collect();
    for _ in 0..5 {
        // All wait for the one connection there may be.
        for c in &mut all {
            c.send(get("/"));
        }
        for c in &mut all {
            let r = c.response("GET").unwrap();
            assert_eq!((r.status(), String::from_utf8_lossy(&r.body).as_ref()), (200, "mine"));
        }
    }
    nothing_is_left(&sidecar);
}

#[test]
fn no_more_connections_than_the_policy_says_and_the_rest_waits() {
    let busy = Arc::new(AtomicUsize::new(0));
    let most = Arc::new(AtomicUsize::new(0));
    let (b, m) = (busy.clone(), most.clone());
    let server = http_server(move |mut c| {
        while c.request().is_some() {
            m.fetch_max(b.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(5));
            b.fetch_sub(1, Ordering::SeqCst);
            c.ok("ok");
        }
    });
    let (sidecar, listen) = with_policy(&[server.addr], "pool: {http1Connections: 2, maxOutstanding: 2}");
    let mut all: Vec<Client> = (0..40).map(|_| Client::connect(listen)).collect();
    for c in &mut all {
        assert!(c.send(get("/")));
    }
    for c in &mut all {
        assert_eq!(c.response("GET").unwrap().status(), 200);
    }
    assert_eq!((server.accepted(), most.load(Ordering::SeqCst)), (2, 2));
    nothing_is_left(&sidecar);
}

#[test]
fn those_who_wait_get_new_connections_when_each_serves_only_one() {
    let server = http_server(|mut c| {
        if c.request().is_some() {
            c.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let (sidecar, listen) = with_policy(&[server.addr], "pool: {http1Connections: 1}");
    let mut all: Vec<Client> = (0..40).map(|_| Client::connect(listen)).collect();
    for c in &mut all {
        assert!(c.send(post("/", "x")));
    }
    for c in &mut all {
        assert_eq!(c.response("POST").unwrap().status(), 200);
    }
    assert_eq!(server.accepted(), 40);
    nothing_is_left(&sidecar);
}

#[test]
fn more_than_may_wait_are_refused_at_once_and_callers_that_left_do_not_count() {
    let server = http_server(|mut c| {
        c.request();
        c.rest();
    });
    let (sidecar, listen) = with_policy(&[server.addr], "pool: {http1Connections: 1, maxPending: 2}");
    let mut first = Client::connect(listen);
    first.send(get("/"));
    until(PATIENCE, "the one connection is taken", || {
        sidecar.admin.metric("raddle_requests_in_flight", &[]) == 1
    });
    for _ in 0..4 {
        // Four ask, two may wait: two are told at once.
        let mut all: Vec<Client> = (0..4).map(|_| Client::connect(listen)).collect();
        let before = sidecar.admin.metric("raddle_requests_total", &["UO"]);
        for c in &mut all {
            assert!(c.send(get("/")));
        }
        sidecar.admin.until_metric("raddle_requests_total", &["UO"], |n| n == before + 2);
        // Those who wait leave, and the next ones may wait in their places.
        for c in &all {
            let _ = socket2::SockRef::from(c.socket()).set_linger(Some(Duration::ZERO));
        }
        drop(all);
        sidecar.admin.until_metric("raddle_connections_active", &["caller"], |n| n == 1);
    }
    drop(first);
    drop(server);
}

#[test]
fn an_endpoint_that_refuses_connections_costs_no_request() {
    let server = says("ok");
    let ends = [refused_addr(), server.addr, refused_addr()];
    let (sidecar, listen) = h1_to(&ends);
    let mut all: Vec<Client> = (0..10).map(|_| Client::connect(listen)).collect();
    for _ in 0..10 {
        for c in &mut all {
            assert!(c.send(post("/", "x")));
        }
        for c in &mut all {
            assert_eq!(c.response("POST").unwrap().status(), 200);
        }
    }
    nothing_is_left(&sidecar);
}

#[test]
fn when_every_endpoint_refuses_the_caller_is_told_so() {
    let (sidecar, listen) = h1_to(&[refused_addr(), refused_addr()]);
    let mut c = Client::connect(listen);
    for _ in 0..3 {
        let (status, flag, _) = asks(&mut c, get("/"));
        assert_eq!(status, 503);
        assert!(["UF", "UH"].contains(&flag.as_deref().unwrap()), "{flag:?}");
    }
    nothing_is_left(&sidecar);
}

/// Takes a request and resets; counts them.
fn dies() -> (TcpServer, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let n = count.clone();
    let server = http_server(move |mut c| {
        if c.request().is_some() {
            n.fetch_add(1, Ordering::Relaxed);
            c.reset();
        }
    });
    (server, count)
}

#[test]
fn an_endpoint_that_dies_with_a_request_is_told_as_uc_and_the_request_not_repeated() {
    let (server, count) = dies();
    let (sidecar, listen) = h1_to(&[server.addr]);
    let mut c = Client::connect(listen);
    for n in 1..=3 {
        let (status, flag, body) = asks(&mut c, post("/", "x"));
        assert_eq!((status, flag.as_deref()), (503, Some("UC")));
        assert!(body.contains("UC"), "{body}");
        assert_eq!(count.load(Ordering::Relaxed), n);
    }
    sidecar.admin.until_metric("raddle_requests_total", &["UC"], |n| n == 3);
    nothing_is_left(&sidecar);
}

#[test]
fn a_lost_get_is_tried_elsewhere_where_the_policy_says_so() {
    let ((bad, _), good) = (dies(), says("ok"));
    let retry = "balancer: roundRobin, retry: {attempts: 2, on: [connectionLost]}";
    let (sidecar, listen) = with_policy(&[bad.addr, good.addr], retry);
    let mut c = Client::connect(listen);
    for _ in 0..10 {
        assert_eq!(asks(&mut c, get("/")), ok("ok"));
    }
    assert!(sidecar.admin.metric("raddle_retries_total", &[]) >= 1);
    nothing_is_left(&sidecar);
}

#[test]
fn a_503_is_tried_elsewhere_for_a_get_and_passed_on_for_a_post() {
    let bad = http_server(|mut c| {
        while c.request().is_some() {
            c.send("HTTP/1.1 503 Nope\r\ncontent-length: 3\r\nx-mine: 1\r\n\r\nbad");
        }
    });
    let good = says("ok");
    let retry = "balancer: roundRobin, retry: {attempts: 2, on: [serverError]}";
    let (sidecar, listen) = with_policy(&[bad.addr, good.addr], retry);
    let mut c = Client::connect(listen);
    for _ in 0..6 {
        assert_eq!(asks(&mut c, get("/")), ok("ok"));
    }
    let posts: Vec<_> = (0..6).map(|_| asks(&mut c, post("/", "x")).0).collect();
    assert!(posts.contains(&503) && posts.contains(&200), "{posts:?}");
    nothing_is_left(&sidecar);
}

#[test]
fn when_the_retry_budget_is_spent_the_endpoints_own_answer_is_passed_on() {
    let bad = http_server(|mut c| {
        while c.request().is_some() {
            c.send("HTTP/1.1 503 Nope\r\ncontent-length: 3\r\n\r\nbad");
        }
    });
    let retry = "retry: {attempts: 3, on: [serverError], budget: 0, budgetMinPerSecond: 0}";
    let (sidecar, listen) = with_policy(&[bad.addr], retry);
    let mut c = Client::connect(listen);
    assert_eq!(asks(&mut c, get("/")), (503, None, "bad".into()));
    assert!(sidecar.admin.metric("raddle_retries_denied_total", &[]) >= 1);
    assert_eq!(sidecar.admin.metric("raddle_retries_total", &[]), 0);
    nothing_is_left(&sidecar);
}

#[test]
fn a_try_that_takes_too_long_is_given_up_for_another_and_the_whole_time_still_holds() {
    let slow = http_server(|mut c| {
        c.request();
        assert!(c.ends(), "the try is given up");
    });
    let good = says("ok");
    let policy = "balancer: roundRobin, timeouts: {request: 5s}, \
                  retry: {attempts: 1, on: [timeout], perTryTimeout: 100ms}";
    let (sidecar, listen) = with_policy(&[slow.addr, good.addr], policy);
    let mut c = Client::connect(listen);
    for _ in 0..4 {
        assert_eq!(asks(&mut c, get("/")), ok("ok"));
    }
    nothing_is_left(&sidecar);
    let (sidecar, listen) = with_policy(&[slow.addr], "timeouts: {request: 150ms}");
    let mut c = Client::connect(listen);
    let (status, flag, _) = asks(&mut c, get("/"));
    assert_eq!((status, flag.as_deref()), (504, Some("UT")));
    nothing_is_left(&sidecar);
}
