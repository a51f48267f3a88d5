//! Connections that stop being HTTP, and requests as a forward proxy gets them.
use crate::http_sides::{HOST, get, h1_to, nothing_is_left, service, started};
use raddle_testkit::h1::Client;
use raddle_testkit::http::http_server;
use raddle_testkit::{PATIENCE, TcpServer, refused_addr};
use std::io::{Read, Write};

/// Agrees to an upgrade with words right behind the 101, then echoes.
fn upgrading() -> TcpServer {
    http_server(|mut c| {
        while let Some(head) = c.head() {
            if head.get("upgrade").as_deref() != Some("echo") {
                c.ok("plain");
                continue;
            }
            assert_eq!(head.get("connection").as_deref(), Some("upgrade"));
            c.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\nhello ");
            let mut total = 0;
            loop {
                let b = c.take(1);
                total += b.len();
                if b.is_empty() || !c.send(&b) {
                    break;
                }
            }
            assert!(total > 0);
            return;
        }
    })
}

fn upgrade() -> String {
    format!("GET /chat HTTP/1.1\r\nHost: {HOST}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
}

#[test]
fn after_a_101_bytes_pass_both_ways_and_none_behind_either_head_is_lost() {
    let server = upgrading();
    let (sidecar, listen) = h1_to(&[server.addr]);
    for _ in 0..5 {
        let mut c = Client::connect(listen);
        c.send(get("/"));
        assert_eq!(c.response("GET").unwrap().body, b"plain");
        // The first words of the new protocol come with the request.
        c.send([&upgrade(), "early "].concat());
        let r = c.response("GET").unwrap();
        assert_eq!((r.status(), r.head.get("upgrade").as_deref()), (101, Some("echo")));
        c.send("late");
        c.finish();
        let (all, ended) = c.rest(PATIENCE);
        assert_eq!((String::from_utf8_lossy(&all).as_ref(), ended), ("hello early late", true));
    }
    nothing_is_left(&sidecar);
}

#[test]
fn a_refused_upgrade_is_a_response_like_any_other() {
    let server = http_server(|mut c| {
        while c.request().is_some() {
            c.ok("no");
        }
    });
    let (sidecar, listen) = h1_to(&[server.addr]);
    let mut c = Client::connect(listen);
    for _ in 0..3 {
        c.send(upgrade());
        assert_eq!(c.response("GET").unwrap().body, b"no");
    }
    nothing_is_left(&sidecar);
}

fn echo() -> TcpServer {
    TcpServer::start(|mut s| {
        let mut b = [0; 4096];
        while let Ok(n @ 1..) = s.read(&mut b) {
            if s.write_all(&b[..n]).is_err() {
                return;
            }
        }
    })
}

#[test]
fn connect_makes_a_tunnel_to_the_service_and_loses_nothing_behind_the_request() {
    let server = echo();
    let (sidecar, listen) = h1_to(&[server.addr]);
    let connect = format!("CONNECT {HOST}:443 HTTP/1.1\r\nHost: {HOST}:443\r\n\r\n");
    for early in ["", "early "] {
        let mut c = Client::connect(listen);
        c.send([&connect, early].concat());
        assert_eq!(c.response("CONNECT").unwrap().status(), 200);
        c.send("late");
        c.finish();
        let (all, ended) = c.rest(PATIENCE);
        assert_eq!((String::from_utf8_lossy(&all).as_ref(), ended), (&*format!("{early}late"), true));
    }
    nothing_is_left(&sidecar);
}

#[test]
fn a_connect_that_leads_nowhere_is_refused_with_the_reason() {
    let (sidecar, listen) = h1_to(&[refused_addr()]);
    for (host, flag) in [("nobody:443", "NC"), ("shop:443", "UF")] {
        let mut c = Client::connect(listen);
        c.send(format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let r = c.response("CONNECT").unwrap();
        assert_eq!((r.status(), r.head.get("x-raddle-reason").as_deref()), (503, Some(flag)), "{host}");
    }
    nothing_is_left(&sidecar);
}

#[test]
fn a_request_in_absolute_form_is_the_same_request() {
    let server = http_server(|mut c| {
        while let Some((head, _)) = c.request() {
            let host = head.get("host").unwrap_or_default();
            c.ok(format!("{} at {host}", head.line));
        }
    });
    let (sidecar, listen) = h1_to(&[server.addr]);
    let mut c = Client::connect(listen);
    // The target names the host; the field does not count (RFC 9112, section 3.2.2).
    c.send("GET http://shop:8080/a?b=c HTTP/1.1\r\nHost: other\r\n\r\n");
    let body = c.response("GET").unwrap().body;
    assert_eq!(String::from_utf8_lossy(&body), "GET /a?b=c HTTP/1.1 at shop:8080");
    nothing_is_left(&sidecar);
}

#[test]
fn a_host_nobody_has_and_a_service_without_endpoints_are_told_apart() {
    let (sidecar, listen) = started(|c| service(c, "empty", "http", &[]));
    let mut c = Client::connect(listen);
    for (host, flag) in [("nobody", "NC"), ("empty", "UH")] {
        c.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let r = c.response("GET").unwrap();
        assert_eq!((r.status(), r.head.get("x-raddle-reason").as_deref()), (503, Some(flag)), "{host}");
        assert!(String::from_utf8_lossy(&r.body).contains(flag), "it reads like a sentence");
    }
    nothing_is_left(&sidecar);
}
