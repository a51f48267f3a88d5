//! What rules do to HTTP requests: choose, change, answer, delay, fail, copy.
use crate::http_sides::{HOST, get, nothing_is_left, service, started};
use raddle_testkit::h1::{Client, Response};
use raddle_testkit::h1_upstream::{H1Upstream, Reply};
use raddle_testkit::http::{H2Side, http_server};
use raddle_testkit::{Config, Running, refused_addr};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Answers with the request's first line, its Host, and the fields that begin with x-.
fn shows() -> H1Upstream {
    H1Upstream::start(|r| {
        let mut text = format!("{} {}\n", r.head.line, r.head.get("host").unwrap_or_default());
        for (n, v) in r.head.fields.iter().filter(|(n, _)| n.to_ascii_lowercase().starts_with("x-")) {
            text += &format!("{}={}\n", n.to_ascii_lowercase(), String::from_utf8_lossy(v));
        }
        Reply::ok(text)
    })
}

fn route(c: Config, rules: &str) -> Config {
    c.document("Route", "r", &format!("{{to: {{services: [{HOST}]}}, rules: [{rules}]}}"))
}

fn ruled(server: SocketAddr, rules: &str) -> (Running, SocketAddr) {
    started(|c| route(service(c, HOST, "http", &[server]), rules))
}

#[track_caller]
fn asks(c: &mut Client, request: &str) -> Response {
    assert!(c.send(request));
    c.response(request.split(' ').next().unwrap()).unwrap_or_else(|e| panic!("{request}: {e}"))
}

#[track_caller]
fn text(r: &Response) -> String {
    assert_eq!(r.status(), 200);
    String::from_utf8_lossy(&r.body).into_owned()
}

#[test]
fn every_condition_chooses_the_requests_it_says_and_no_others() {
    let server = shows();
    let answer =
        |name: &str, when: &str| format!("{{name: {name}, when: {{{when}}}, respond: {{body: {name}}}}}");
    let rules = [
        answer("path", "path: {prefix: /api/}"),
        answer("header", "header: {x-env: {in: [gray, blue]}}"),
        answer("query", "query: {v: \"2\"}"),
        answer("method", "method: DELETE"),
        answer("authority", "authority: {regex: 'shop:90..'}"),
        answer("caller", "callerApp: cart, path: {regex: '/c.*'}"),
    ];
    let (sidecar, listen) = ruled(server.addr(), &rules.join(", "));
    let mut c = Client::connect(listen);
    let ask =
        |line: &str, host: &str, fields: &str| format!("{line} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
    for (request, want) in [
        (ask("GET /api/x", HOST, ""), "path"),
        (ask("GET /apix", HOST, ""), "GET"),
        (ask("GET /", HOST, "X-Env: blue\r\n"), "header"),
        (ask("GET /", HOST, "X-Env: red\r\n"), "GET"),
        (ask("GET /?a=1&v=2", HOST, ""), "query"),
        (ask("GET /?v=22", HOST, ""), "GET"),
        (ask("DELETE /", HOST, ""), "method"),
        (ask("GET /", "shop:9012", ""), "authority"),
        (ask("GET /", "shop:8012", ""), "GET"),
    ] {
        let body = text(&asks(&mut c, &request));
        assert!(body.starts_with(want), "{request} got {body}");
    }
    nothing_is_left(&sidecar);
}

#[test]
fn a_rewrite_changes_what_the_endpoint_sees_and_nothing_else() {
    let server = shows();
    let rules = "{rewrite: {path: {prefix: /old, to: /new}, authority: inner.example}}";
    let (sidecar, listen) = ruled(server.addr(), rules);
    let mut c = Client::connect(listen);
    for _ in 0..3 {
        let body = text(&asks(&mut c, &get("/old/a?b=/old")));
        assert!(body.starts_with("GET /new/a?b=/old HTTP/1.1 inner.example\n"), "{body}");
        let body = text(&asks(&mut c, &get("/older")));
        assert!(body.starts_with("GET /older "), "{body}");
    }
    nothing_is_left(&sidecar);
}

#[test]
fn a_rewritten_request_that_is_sent_again_is_still_routed_by_what_was_asked() {
    let good = shows();
    let bad = http_server(|mut c| {
        while c.request().is_some() {
            c.send("HTTP/1.1 503 Nope\r\ncontent-length: 0\r\n\r\n");
        }
    });
    // The rewritten head matches neither the service nor the rule.
    let rules = "{when: {path: /old}, rewrite: {path: /new, authority: nobody}, \
                 headers: {request: {add: {x-n: \"1\"}}}, fault: {delay: {time: 20ms}}, \
                 retry: {attempts: 3, on: [serverError, connectFailure]}}, \
                 {respond: {status: 500, body: strayed}}";
    let ends = [bad.addr, good.addr(), refused_addr()];
    let (sidecar, listen) =
        started(|c| route(service(c, HOST, "http", &ends), rules).policy("p", "balancer: roundRobin"));
    let mut c = Client::connect(listen);
    for _ in 0..8 {
        assert_eq!(text(&asks(&mut c, &get("/old"))), "GET /new HTTP/1.1 nobody\nx-n=1\n");
    }
    assert!(sidecar.admin.metric("raddle_retries_total", &[]) >= 1);
    nothing_is_left(&sidecar);
}

#[test]
fn redirects_and_responses_are_the_sidecars_own_and_name_the_rule() {
    let rules = "{name: away, when: {path: {prefix: /old}}, \
                 redirect: {status: 308, scheme: https, authority: new.example, path: {prefix: /old, to: /n}}}, \
                 {name: stub, respond: {status: 418, headers: {x-kind: pot}, body: short and stout}}";
    let (sidecar, listen) = ruled(refused_addr(), rules);
    let mut c = Client::connect(listen);
    for _ in 0..3 {
        let r = asks(&mut c, &get("/old/a?q=1"));
        let location = r.head.get("location");
        assert_eq!((r.status(), location.as_deref()), (308, Some("https://new.example/n/a?q=1")));
        let r = asks(&mut c, &get("/"));
        assert_eq!((r.status(), r.head.get("x-kind").as_deref()), (418, Some("pot")));
        assert_eq!((&r.body[..], r.head.get("x-raddle-rule").is_some()), (&b"short and stout"[..], true));
        assert_eq!(asks(&mut c, &get("/").replacen("GET", "HEAD", 1)).status(), 418);
    }
    nothing_is_left(&sidecar);
}

#[test]
fn a_response_of_the_sidecars_own_waits_for_the_windows_of_an_http_2_caller() {
    let body = "x".repeat(60_000);
    let (sidecar, listen) = ruled(refused_addr(), &format!("{{respond: {{body: {body}}}}}"));
    let mut c = H2Side::connect(listen, &[]);
    let all: Vec<u32> = (0..10).map(|_| c.get(HOST, "/")).collect();
    for id in all {
        let s = c.done(id);
        assert_eq!((s.status(), s.body.len(), s.reset), (200, 60_000, None));
    }
    nothing_is_left(&sidecar);
}

#[test]
fn headers_are_removed_set_and_added_both_ways() {
    let server = H1Upstream::start(|r| {
        let x: Vec<_> = r.head.all("x-a").map(String::from_utf8_lossy).collect();
        let text = format!("{} {:?} {:?}", x.join(","), r.head.get("x-gone"), r.head.get("x-set"));
        let head = "HTTP/1.1 200 OK\r\nx-b: 1\r\nx-secret: s\r\nx-over: old\r\ncontent-length";
        Reply::raw(format!("{head}: {}\r\n\r\n{text}", text.len()))
    });
    let rules = "{headers: {request: {remove: [x-gone], set: {x-set: new}, add: {x-a: two}}, \
                 response: {remove: [x-secret], set: {x-over: new}, add: {x-b: [\"2\", \"3\"]}}}}";
    let (sidecar, listen) = ruled(server.addr(), rules);
    let mut c = Client::connect(listen);
    for _ in 0..3 {
        let fields = "X-A: one\r\nX-Gone: g\r\nX-Set: old\r\n";
        let r = asks(&mut c, &format!("GET / HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n"));
        assert_eq!(text(&r), "one,two None Some(\"new\")");
        let b: Vec<_> = r.head.all("x-b").map(String::from_utf8_lossy).collect();
        assert_eq!((b.join(","), r.head.get("x-secret")), ("1,2,3".into(), None));
        assert_eq!(r.head.get("x-over").as_deref(), Some("new"));
    }
    nothing_is_left(&sidecar);
}

#[test]
fn a_delay_holds_only_its_own_request_and_an_abort_says_fi() {
    let server = shows();
    let rules = "{name: late, when: {path: /late}, fault: {delay: {time: 200ms}}}, \
                 {name: off, when: {path: /off}, fault: {abort: {status: 418}}}, \
                 {name: both, when: {path: /both}, fault: {delay: {time: 50ms}, abort: {status: 503}}}";
    let (sidecar, listen) = ruled(server.addr(), rules);
    let (mut slow, mut c) = (Client::connect(listen), Client::connect(listen));
    let begun = Instant::now();
    slow.send(get("/late"));
    for _ in 0..5 {
        text(&asks(&mut c, &get("/")));
    }
    for (path, status) in [("/off", 418), ("/both", 503)] {
        let r = asks(&mut c, &get(path));
        assert_eq!((r.status(), r.head.get("x-raddle-reason").as_deref()), (status, Some("FI")));
        assert!(r.head.get("x-raddle-rule").is_some());
    }
    assert!(text(&slow.response("GET").unwrap()).starts_with("GET /late"));
    assert!(begun.elapsed() >= Duration::from_millis(200));
    sidecar.admin.until_metric("raddle_requests_total", &["FI"], |n| n == 2);
    nothing_is_left(&sidecar);
}

fn mirrored(copy: SocketAddr, server: SocketAddr) -> (Running, SocketAddr) {
    started(|c| {
        let c = service(service(c, HOST, "http", &[server]), "copy", "http", &[copy]);
        route(c, "{mirror: {service: copy}}")
    })
}

#[test]
fn a_mirror_gets_a_copy_and_its_answer_reaches_nobody() {
    let server = shows();
    let copy = H1Upstream::start(|_| Reply::raw("HTTP/1.1 500 No\r\ncontent-length: 5\r\n\r\nwrong"));
    let (sidecar, listen) = mirrored(copy.addr(), server.addr());
    let mut c = Client::connect(listen);
    for n in 0..5 {
        let body = format!("n{n}");
        let request = format!("POST /{n} HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 2\r\n\r\n{body}");
        assert!(text(&asks(&mut c, &request)).starts_with(&format!("POST /{n} ")));
    }
    raddle_testkit::until(raddle_testkit::PATIENCE, "all copies arrive", || copy.count() == 5);
    let mut bodies: Vec<_> = copy.take().into_iter().map(|r| r.body).collect();
    bodies.sort();
    assert_eq!(bodies, [b"n0", b"n1", b"n2", b"n3", b"n4"]);
    nothing_is_left(&sidecar);
}

#[test]
fn a_mirror_that_is_dead_or_hangs_costs_the_caller_nothing() {
    let server = shows();
    let hangs = http_server(|mut c| drop(c.rest()));
    for copy in [refused_addr(), hangs.addr] {
        let (sidecar, listen) = mirrored(copy, server.addr());
        let mut c = Client::connect(listen);
        let begun = Instant::now();
        for _ in 0..20 {
            text(&asks(&mut c, &get("/")));
        }
        assert!(begun.elapsed() < Duration::from_secs(5));
        sidecar.admin.until_metric("raddle_requests_in_flight", &["shop"], |n| n == 0);
    }
}

#[test]
fn a_rules_timeout_bounds_its_requests_and_no_others() {
    let server = http_server(|mut c| {
        while let Some((head, _)) = c.request() {
            if head.line.contains("/slow") {
                assert!(c.ends(), "the request is given up");
                return;
            }
            c.ok("ok");
        }
    });
    let (sidecar, listen) = ruled(server.addr, "{name: t, when: {path: /slow}, timeout: 100ms}");
    let mut c = Client::connect(listen);
    for _ in 0..3 {
        let r = asks(&mut c, &get("/slow"));
        assert_eq!((r.status(), r.head.get("x-raddle-reason").as_deref()), (504, Some("UT")));
        assert_eq!(text(&asks(&mut c, &get("/"))), "ok");
    }
    nothing_is_left(&sidecar);
}
