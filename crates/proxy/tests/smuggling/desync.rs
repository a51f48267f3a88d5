//! Connections on which one side is not where the other believes: answers that come too early, too late, or
//! unasked. Whoever asks next gets an answer of their own.
use crate::sides::{sidecar, sidecar2};
use raddle_testkit::h1::{self, Client};
use raddle_testkit::h2::{Peer, code, flag, kind};
use raddle_testkit::h2_hpack::Block;
use raddle_testkit::{PATIENCE, TcpServer, until};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A server that answers as soon as a head is there, by a script, and remembers request lines.
struct Scripted {
    server: TcpServer,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Scripted {
    fn start(script: impl Fn(&str, &mut TcpStream) + Send + Sync + 'static) -> Scripted {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let seen = lines.clone();
        let server = TcpServer::start(move |mut s| {
            let (mut buf, mut room) = (Vec::new(), [0; 4096]);
            loop {
                match h1::head(&buf) {
                    Ok(Some((head, used))) => {
                        buf.drain(..used);
                        seen.lock().unwrap().push(head.line.clone());
                        script(head.line.split(' ').nth(1).unwrap_or(""), &mut s);
                    }
                    Ok(None) => match s.read(&mut room) {
                        Ok(n) if n > 0 => buf.extend_from_slice(&room[..n]),
                        _ => return,
                    },
                    // Something that is no head where one was awaited: a request's rest.
                    Err(e) => {
                        seen.lock().unwrap().push(format!("wrong: {e}"));
                        return;
                    }
                }
            }
        });
        Scripted { server, lines }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    #[track_caller]
    fn expect_no_rest(&self) {
        let lines = self.lines();
        assert!(lines.iter().all(|l| l.ends_with(" HTTP/1.1") && !l.contains("smuggled")), "{lines:?}");
    }
}

fn say(s: &mut TcpStream, body: &str) {
    let _ = write!(s, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
}

/// What a new caller is told.
#[track_caller]
fn fresh(addr: std::net::SocketAddr) {
    let mut c = Client::connect(addr);
    c.send("GET /fresh HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(c.response("GET").map(|r| (r.status(), r.body)), Ok((200, b"fresh".to_vec())));
}

#[test]
fn a_response_that_nobody_asked_for_is_nobodys() {
    let said = Arc::new(AtomicUsize::new(0));
    let count = said.clone();
    let up = Scripted::start(move |target, s| {
        say(s, target.trim_start_matches('/'));
        if target == "/evil" {
            std::thread::sleep(Duration::from_millis(100));
            say(s, "evil");
            count.fetch_add(1, Ordering::Relaxed);
        }
    });
    let (listen, _sidecar) = sidecar(up.server.addr, "http");
    for n in 1..=5 {
        let mut c = Client::connect(listen);
        c.send("GET /evil HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(c.response("GET").unwrap().body, b"evil");
        until(PATIENCE, "it was said again", || said.load(Ordering::Relaxed) == n);
        fresh(listen);
    }
}

#[test]
fn a_response_whose_caller_has_gone_is_nobodys() {
    let up = Scripted::start(|target, s| {
        if target == "/slow" {
            std::thread::sleep(Duration::from_millis(200));
            return say(s, "stale");
        }
        say(s, "fresh");
    });
    let (listen, _sidecar) = sidecar(up.server.addr, "http");
    for n in 1..=5 {
        let mut c = Client::connect(listen);
        c.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
        until(PATIENCE, "it was asked", || up.lines().iter().filter(|l| l.contains("/slow")).count() == n);
        drop(c);
        for _ in 0..5 {
            fresh(listen);
        }
    }
}

#[test]
fn a_response_to_a_reset_stream_is_nobodys() {
    let up = Scripted::start(|target, s| {
        if target == "/slow" {
            std::thread::sleep(Duration::from_millis(200));
            return say(s, "stale");
        }
        say(s, "fresh");
    });
    let (listen, _sidecar) = sidecar2(up.server.addr, "http");
    let mut p = Peer::connect(listen);
    p.greet(&[]).unwrap();
    for n in 0..5 {
        p.headers(1 + 4 * n, flag::WHOLE, &Block::request("GET", "a", "/slow"));
        until(PATIENCE, "it was asked", || {
            up.lines().iter().filter(|l| l.contains("/slow")).count() == n as usize + 1
        });
        p.frame(kind::RST_STREAM, 0, 1 + 4 * n, &code::CANCEL.to_be_bytes());
        p.headers(3 + 4 * n, flag::WHOLE, &Block::request("GET", "a", "/fresh"));
        assert_eq!(p.response(3 + 4 * n).unwrap().body, b"fresh");
    }
}

#[test]
fn a_body_that_was_not_waited_for_does_not_become_a_request() {
    let up = Scripted::start(|target, s| say(s, target.trim_start_matches('/')));
    let (listen, _sidecar) = sidecar(up.server.addr, "http");
    let rest = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for _ in 0..5 {
        let mut c = Client::connect(listen);
        c.send(format!("POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", rest.len()));
        // The server behind answers before the body comes.
        assert_eq!(c.response("POST").unwrap().body, b"early");
        c.send(rest);
        // The body's bytes are no request, here or behind.
        c.send("GET /fresh HTTP/1.1\r\nHost: a\r\n\r\n");
        if let Ok(r) = c.response("GET") {
            assert_eq!(r.body, b"fresh");
        }
        fresh(listen);
    }
    up.expect_no_rest();
}

#[test]
fn a_body_whose_head_was_refused_by_expectation_does_not_become_a_request() {
    let up = Scripted::start(|target, s| match target {
        "/no" => {
            let _ = s.write_all(b"HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n");
        }
        _ => say(s, "fresh"),
    });
    let (listen, _sidecar) = sidecar(up.server.addr, "http");
    let rest = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    for _ in 0..5 {
        let mut c = Client::connect(listen);
        let head = "POST /no HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n";
        c.send(format!("{head}Content-Length: {}\r\n\r\n", rest.len()));
        assert_eq!(c.response("POST").unwrap().status(), 417);
        c.send(rest);
        // Taken for the body that was announced, or not read any more.
        c.send("GET /fresh HTTP/1.1\r\nHost: a\r\n\r\n");
        if let Ok(r) = c.response("GET") {
            assert_eq!(r.body, b"fresh");
        }
        fresh(listen);
    }
    up.expect_no_rest();
}

#[test]
fn a_caller_that_leaves_within_a_body_leaves_nothing_behind() {
    let up = Scripted::start(|target, s| {
        if target == "/fresh" {
            say(s, "fresh");
        }
    });
    let (listen, _sidecar) = sidecar(up.server.addr, "http");
    for framing in ["Content-Length: 100\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n64\r\nhalf"] {
        for _ in 0..5 {
            let before = up.lines().len();
            let mut c = Client::connect(listen);
            c.send(format!("POST /half HTTP/1.1\r\nHost: a\r\n{framing}"));
            until(PATIENCE, "its head is there", || up.lines().len() > before);
            drop(c);
            fresh(listen);
        }
    }
    up.expect_no_rest();
}

#[test]
fn interim_responses_without_end_are_bounded() {
    let up = Scripted::start(|target, s| {
        if target == "/many" {
            for _ in 0..100_000 {
                if s.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n").is_err() {
                    return;
                }
            }
        }
        say(s, "fresh");
    });
    let (listen, _sidecar) = sidecar(up.server.addr, "http");
    let mut c = Client::connect(listen);
    c.send("GET /many HTTP/1.1\r\nHost: a\r\n\r\n");
    // Passed on, left out, or refused: others do not notice.
    fresh(listen);
    let _ = c.response("GET");
    fresh(listen);
}

#[test]
fn an_upgrade_that_is_refused_leaves_http() {
    let up = Scripted::start(|target, s| say(s, target.trim_start_matches('/')));
    let (listen, _sidecar) = sidecar(up.server.addr, "http");
    let mut c = Client::connect(listen);
    c.send("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(c.response("GET").unwrap().body, b"ws");
    c.send("GET /x HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\n");
    assert_eq!(c.response("GET").unwrap().status(), 400);
    c.closes(PATIENCE).unwrap();
    up.expect_no_rest();
}
