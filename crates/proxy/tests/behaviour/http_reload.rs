//! HTTP while the configuration changes, and what is written down of each request.
use crate::http_sides::{HOST, get, nothing_is_left, post, service, started};
use raddle_testkit::h1::Client;
use raddle_testkit::http::{H2Side, h2_server, http_server};
use raddle_testkit::{Config, PATIENCE, Running, TcpServer, free_addr, refused_addr, until};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

#[test]
fn reloads_under_http_load_cost_no_request() {
    let ones: Vec<TcpServer> =
        (0..3).map(|_| http_server(|mut c| while c.request().is_some() && c.ok("ok") {})).collect();
    let twos: Vec<TcpServer> = (0..3)
        .map(|_| {
            h2_server(&[], |mut side| {
                while let Some((id, _)) = side.request() {
                    side.answer(id, "200", &[], b"ok");
                }
            })
        })
        .collect();
    let listen = free_addr();
    let base = Config::new().outbound(listen);
    let but = |all: &[TcpServer], left: usize| -> Vec<SocketAddr> {
        all.iter().enumerate().filter(|(i, _)| *i != left).map(|(_, s)| s.addr).collect()
    };
    let config = |round: usize| {
        let c = service(base.clone(), "one", "http", &but(&ones, round % 3));
        let c = service(c, "two", "http2", &but(&twos, (round + 1) % 3));
        c.policy("p", ["balancer: roundRobin", "balancer: random", "pool: {http1Connections: 2}"][round % 3])
    };
    let sidecar = Running::start(&config(0));
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let callers: Vec<_> = (0..4)
        .map(|n| {
            let (stop, done) = (stop.clone(), done.clone());
            std::thread::spawn(move || {
                let mut one = Client::connect(listen);
                let mut two = H2Side::connect(listen, &[]);
                while !stop.load(Ordering::Relaxed) {
                    // A POST, which nothing but care keeps from being lost.
                    one.send(format!("POST / HTTP/1.1\r\nHost: one\r\nContent-Length: 1\r\n\r\n{n}"));
                    assert_eq!(one.response("POST").unwrap().body, b"ok");
                    let ids: Vec<u32> = (0..4).map(|_| two.get("two", "/")).collect();
                    for id in ids {
                        let s = two.done(id);
                        assert_eq!((s.status(), &s.body[..]), (200, &b"ok"[..]), "{s:?}");
                    }
                    done.fetch_add(5, Ordering::Relaxed);
                }
            })
        })
        .collect();
    for round in 1..=30 {
        sidecar.apply(&config(round));
        let from = done.load(Ordering::Relaxed);
        until(PATIENCE, "the load goes on", || done.load(Ordering::Relaxed) >= from + 20);
    }
    stop.store(true, Ordering::Relaxed);
    for c in callers {
        c.join().unwrap();
    }
    assert_eq!(sidecar.admin.metric("raddle_requests_total", &["rejected"]), 0);
    nothing_is_left(&sidecar);
}

#[test]
fn a_line_of_the_access_log_says_all_there_is_to_know() {
    let server = http_server(|mut c| while c.request().is_some() && c.ok("answer") {});
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let line = format!("accessLog: {{path: \"{}\", format: json, sample: 1}}", path.display());
    let (sidecar, listen) = started(|c| {
        let c = service(c.sidecar(&line), HOST, "http", &[server.addr]);
        let rule = "{to: {services: [shop]}, rules: [{name: off, when: {path: /off}, fault: {abort: {status: 503}}}]}";
        service(c, "dead", "http", &[refused_addr()]).document("Route", "r", rule)
    });
    let mut c = Client::connect(listen);
    c.send(post("/pay?card=secret", "body"));
    assert_eq!(c.response("POST").unwrap().status(), 200);
    c.send(get("/off"));
    assert_eq!(c.response("GET").unwrap().status(), 503);
    let lines = raddle_testkit::until_some(PATIENCE, "both lines", || {
        let all = std::fs::read_to_string(&path).ok()?;
        let lines: Vec<serde_json::Value> =
            all.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
        (lines.len() == 2).then_some(lines)
    });
    let text = lines[0].to_string();
    for part in ["\"shop\"", "POST /pay", &server.addr.to_string(), "200", "\"http\""] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("secret"), "queries may hold secrets: {text}");
    let text = lines[1].to_string();
    for part in ["\"FI\"", "off", "503", "GET /off"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    nothing_is_left(&sidecar);
}
