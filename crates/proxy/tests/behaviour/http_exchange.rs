//! HTTP/1.1 on both sides: every form of message passes as it is, in order, and never faster than it is read.
use crate::http_sides::{HOST, get, h1_to, nothing_is_left, post};
use raddle_testkit::h1::Client;
use raddle_testkit::http::http_server;
use raddle_testkit::{PATIENCE, until};
use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// Answers each request with its path and body.
fn echo() -> raddle_testkit::TcpServer {
    http_server(|mut c| {
        while let Some((head, body)) = c.request() {
            let path = head.line.split(' ').nth(1).unwrap_or("").to_owned();
            c.ok([path.as_bytes(), b"=", &body].concat());
        }
    })
}

#[test]
fn connections_are_kept_on_both_sides() {
    let server = echo();
    let (sidecar, listen) = h1_to(&[server.addr]);
    let mut c = Client::connect(listen);
    for n in 0..50 {
        assert!(c.send(post(&format!("/{n}"), "body")));
        assert_eq!(c.response("POST").unwrap().body, format!("/{n}=body").as_bytes());
    }
    assert_eq!(server.accepted(), 1);
    sidecar.admin.until_metric("raddle_requests_total", &["shop", "ok"], |n| n == 50);
    nothing_is_left(&sidecar);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let server = echo();
    let (sidecar, listen) = h1_to(&[server.addr]);
    let mut c = Client::connect(listen);
    let all: String = (0..200)
        .map(|n| if n % 3 == 0 { post(&format!("/{n}"), "x") } else { get(&format!("/{n}")) })
        .collect();
    // Cut where it cuts: heads and bodies come in pieces.
    for piece in all.as_bytes().chunks(97) {
        assert!(c.send(piece));
    }
    for n in 0..200 {
        let body = c.response("GET").unwrap().body;
        assert!(body.starts_with(format!("/{n}=").as_bytes()), "{n}: {}", String::from_utf8_lossy(&body));
    }
    nothing_is_left(&sidecar);
}

#[test]
fn chunks_and_trailers_pass_both_ways() {
    let server = http_server(|mut c| {
        while let Some(head) = c.head() {
            let (body, trailers) = c.body(&head);
            assert_eq!(body, b"hello, world");
            assert_eq!(trailers, [("x-sum".into(), b"12".to_vec())]);
            c.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n");
            c.send("5\r\n, two\r\n0\r\nx-end: yes\r\n\r\n");
        }
    });
    let (sidecar, listen) = h1_to(&[server.addr]);
    let mut c = Client::connect(listen);
    for _ in 0..3 {
        c.send(format!(
            "POST / HTTP/1.1\r\nHost: {HOST}\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
        ));
        c.send("7\r\n, world\r\n0\r\nx-sum: 12\r\n\r\n");
        let r = c.response("POST").unwrap();
        assert_eq!(
            (&r.body[..], &r.trailers[..]),
            (&b"one, two"[..], &[("x-end".into(), b"yes".to_vec())][..])
        );
    }
    assert_eq!(server.accepted(), 1);
    nothing_is_left(&sidecar);
}

#[test]
fn answers_without_a_body_leave_the_connection_usable() {
    let server = http_server(|mut c| {
        while let Some((head, _)) = c.request() {
            c.send(match head.line.split('/').nth(1).unwrap_or("") {
                "head HTTP" => "HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n",
                "204 HTTP" => "HTTP/1.1 204 No Content\r\n\r\n",
                "304 HTTP" => "HTTP/1.1 304 Not Modified\r\ncontent-length: 77\r\netag: \"a\"\r\n\r\n",
                _ => "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            });
        }
    });
    let (sidecar, listen) = h1_to(&[server.addr]);
    let mut c = Client::connect(listen);
    for _ in 0..3 {
        c.send(format!("HEAD /head HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
        let r = c.response("HEAD").unwrap();
        assert_eq!((r.status(), r.head.get("content-length").as_deref()), (200, Some("1234")));
        c.send(get("/204"));
        assert_eq!(c.response("GET").unwrap().status(), 204);
        c.send(get("/304"));
        let r = c.response("GET").unwrap();
        assert_eq!((r.status(), r.head.get("etag").as_deref()), (304, Some("\"a\"")));
        c.send(get("/"));
        assert_eq!(c.response("GET").unwrap().body, b"");
    }
    assert_eq!(server.accepted(), 1);
    nothing_is_left(&sidecar);
}

fn expecting(len: usize) -> String {
    format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {len}\r\nExpect: 100-continue\r\n\r\n")
}

#[test]
fn a_granted_100_continue_comes_from_the_endpoint_before_the_body() {
    let server = http_server(|mut c| {
        while let Some(head) = c.head() {
            assert_eq!(head.get("expect").as_deref(), Some("100-continue"));
            c.send("HTTP/1.1 100 Continue\r\n\r\n");
            let body = c.body(&head).0;
            c.ok(body);
        }
    });
    let (sidecar, listen) = h1_to(&[server.addr]);
    let mut c = Client::connect(listen);
    for _ in 0..3 {
        c.send(expecting(4));
        assert_eq!(c.any_response("POST").unwrap().status(), 100);
        c.send("body");
        let r = c.any_response("POST").unwrap();
        assert_eq!((r.status(), &r.body[..]), (200, &b"body"[..]));
    }
    nothing_is_left(&sidecar);
}

#[test]
fn a_refused_100_continue_ends_the_connection_so_that_no_body_is_taken_for_a_request() {
    let server = http_server(|mut c| {
        while c.head().is_some() {
            c.send("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let (sidecar, listen) = h1_to(&[server.addr]);
    let mut c = Client::connect(listen);
    c.send(expecting(40));
    let r = c.any_response("POST").unwrap();
    assert_eq!((r.status(), r.head.get("connection").as_deref()), (417, Some("close")));
    // Nobody knows whether these are the body or a request; they must not be answered as one.
    c.send(get("/smuggled"));
    c.closes(PATIENCE).unwrap();
    nothing_is_left(&sidecar);
}

#[test]
fn early_hints_come_before_the_response() {
    let server = http_server(|mut c| {
        while c.request().is_some() {
            c.send("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n");
            c.ok("done");
        }
    });
    let (sidecar, listen) = h1_to(&[server.addr]);
    let mut c = Client::connect(listen);
    c.send(get("/"));
    let hint = c.any_response("GET").unwrap();
    assert_eq!((hint.status(), hint.head.get("link").as_deref()), (103, Some("</a.css>")));
    assert_eq!(c.any_response("GET").unwrap().body, b"done");
    nothing_is_left(&sidecar);
}

#[test]
fn an_answer_that_comes_before_the_body_has_is_delivered_and_the_connection_goes_on() {
    let server = http_server(|mut c| {
        while let Some(head) = c.head() {
            if head.line.starts_with("POST") {
                c.send("HTTP/1.1 413 Too Large\r\ncontent-length: 3\r\n\r\nbig");
            } else {
                c.ok("next");
            }
        }
    });
    let (sidecar, listen) = h1_to(&[server.addr]);
    let mut c = Client::connect(listen);
    c.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 300000\r\n\r\nbegin"));
    let r = c.response("POST").unwrap();
    assert_eq!((r.status(), &r.body[..]), (413, &b"big"[..]));
    assert!(c.send(vec![b'x'; 300_000 - 5]));
    assert!(c.send(get("/")));
    assert_eq!(c.response("GET").unwrap().body, b"next");
    nothing_is_left(&sidecar);
}

#[test]
fn a_large_upload_waits_for_a_slow_endpoint_without_filling_memory() {
    const LEN: usize = 24 << 20;
    let (go, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let server = http_server(move |mut c| {
        let head = c.head().unwrap();
        // Reads nothing until it is told to.
        wait.lock().unwrap().recv().unwrap();
        let n = c.body(&head).0.len();
        c.ok(n.to_string());
    });
    let (sidecar, listen) = h1_to(&[server.addr]);
    let sent = Arc::new(AtomicU64::new(0));
    let progress = sent.clone();
    let caller = std::thread::spawn(move || {
        let mut c = Client::connect(listen);
        let _ = c.socket().set_write_timeout(None);
        c.send(format!("PUT / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: {LEN}\r\n\r\n"));
        let piece = vec![7; 1 << 20];
        for _ in 0..LEN >> 20 {
            assert!(c.send(&piece));
            progress.fetch_add(1 << 20, Ordering::Relaxed);
        }
        c.response("PUT").unwrap().body
    });
    stands_still(&sent, LEN as u64 / 2);
    assert!(sidecar.admin.metric("raddle_held_back_total", &[]) >= 1);
    go.send(()).unwrap();
    assert_eq!(caller.join().unwrap(), LEN.to_string().as_bytes());
    nothing_is_left(&sidecar);
}

/// Waits until a count no longer grows, and checks that it stopped early.
fn stands_still(count: &AtomicU64, below: u64) {
    let mut last = u64::MAX;
    until(PATIENCE, "the sender is held back", || {
        std::thread::sleep(Duration::from_millis(150));
        let now = count.load(Ordering::Relaxed);
        now > 0 && std::mem::replace(&mut last, now) == now
    });
    let held = count.load(Ordering::Relaxed);
    assert!(held < below, "{} MiB are on the way", held >> 20);
}

#[test]
fn a_large_download_waits_for_a_slow_caller_without_filling_memory() {
    const LEN: u64 = 24 << 20;
    let sent = Arc::new(AtomicU64::new(0));
    let progress = sent.clone();
    let server = http_server(move |mut c| {
        if c.request().is_none() {
            return;
        }
        c.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {LEN}\r\n\r\n"));
        let piece = vec![9; 1 << 20];
        while progress.load(Ordering::Relaxed) < LEN && c.send(&piece) {
            progress.fetch_add(1 << 20, Ordering::Relaxed);
        }
        c.rest();
    });
    let (sidecar, listen) = h1_to(&[server.addr]);
    let mut s = std::net::TcpStream::connect(listen).unwrap();
    s.set_read_timeout(Some(PATIENCE)).unwrap();
    s.write_all(get("/").as_bytes()).unwrap();
    stands_still(&sent, LEN / 2);
    assert!(sidecar.admin.metric("raddle_held_back_total", &[]) >= 1);
    let mut room = vec![0; 256 << 10];
    let first = s.read(&mut room).unwrap();
    let head = room[..first].windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
    assert!(room[head..first].iter().all(|b| *b == 9));
    let mut got = (first - head) as u64;
    while got < LEN {
        let n = s.read(&mut room).unwrap();
        assert!(n > 0 && room[..n].iter().all(|b| *b == 9));
        got += n as u64;
    }
    assert_eq!(got, LEN);
    nothing_is_left(&sidecar);
}

#[test]
fn connection_close_of_either_side_is_kept_and_concerns_nobody_else() {
    let server = http_server(|mut c| {
        if c.request().is_some() {
            c.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok");
        }
    });
    let (sidecar, listen) = h1_to(&[server.addr]);
    let mut c = Client::connect(listen);
    for _ in 0..20 {
        // The endpoint's wish is not the caller's.
        c.send(get("/"));
        let r = c.response("GET").unwrap();
        assert_eq!((r.status(), r.head.get("connection")), (200, None));
    }
    assert_eq!(server.accepted(), 20);
    c.send(format!("GET / HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n"));
    assert_eq!(c.response("GET").unwrap().head.get("connection").as_deref(), Some("close"));
    c.closes(PATIENCE).unwrap();
    nothing_is_left(&sidecar);
}

#[test]
fn a_caller_that_speaks_http_1_0_gets_a_body_it_understands() {
    let server = http_server(|mut c| {
        while let Some((head, _)) = c.request() {
            match head.line.contains("/chunked") {
                true => c.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
                false => c.ok("abc"),
            };
        }
    });
    let (sidecar, listen) = h1_to(&[server.addr]);
    for path in ["/chunked", "/length"] {
        let mut c = Client::connect(listen);
        c.send(format!("GET {path} HTTP/1.0\r\nHost: {HOST}\r\n\r\n"));
        let (all, ended) = c.rest(PATIENCE);
        let text = String::from_utf8(all).unwrap();
        assert!(ended && text.ends_with("\r\n\r\nabc") && !text.contains("chunked"), "{text}");
    }
    let mut c = Client::connect(listen);
    for _ in 0..3 {
        c.send(format!("GET /length HTTP/1.0\r\nHost: {HOST}\r\nConnection: keep-alive\r\n\r\n"));
        let r = c.response("GET").unwrap();
        assert_eq!((r.head.get("connection").as_deref(), &r.body[..]), (Some("keep-alive"), &b"abc"[..]));
    }
    nothing_is_left(&sidecar);
}

#[test]
fn an_http_1_0_caller_answered_early_still_sees_its_response_end() {
    let server = http_server(|mut c| {
        if c.head().is_some() {
            c.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
            c.rest();
        }
    });
    let (sidecar, listen) = h1_to(&[server.addr]);
    let mut c = Client::connect(listen);
    c.send(format!("POST / HTTP/1.0\r\nHost: {HOST}\r\nContent-Length: 10\r\n\r\n12345"));
    until(PATIENCE, "it is answered", || sidecar.admin.metric("raddle_requests_total", &["ok"]) == 1);
    c.send("67890");
    let (all, ended) = c.rest(PATIENCE);
    assert!(ended && all.ends_with(b"abc"), "{ended} {}", String::from_utf8_lossy(&all));
    nothing_is_left(&sidecar);
}

#[test]
fn a_caller_that_ends_its_side_still_gets_its_answers() {
    let server = echo();
    let (sidecar, listen) = h1_to(&[server.addr]);
    let mut c = Client::connect(listen);
    c.send([get("/1"), post("/2", "two"), get("/3")].concat());
    c.finish();
    for want in ["/1=", "/2=two", "/3="] {
        assert_eq!(c.response("GET").unwrap().body, want.as_bytes());
    }
    c.closes(PATIENCE).unwrap();
    nothing_is_left(&sidecar);
}

#[test]
fn a_caller_that_goes_in_the_middle_of_its_request_takes_it_from_the_endpoint() {
    let (tx, rx) = mpsc::channel();
    let tx = std::sync::Mutex::new(tx);
    let server = http_server(move |mut c| {
        let _ = c.head();
        tx.lock().unwrap().send("begun").unwrap();
        assert!(c.ends(), "the connection is given up");
        tx.lock().unwrap().send("gone").unwrap();
    });
    let (sidecar, listen) = h1_to(&[server.addr]);
    // In the middle of a body, by an orderly end.
    let mut c = Client::connect(listen);
    c.send(format!("POST / HTTP/1.1\r\nHost: {HOST}\r\nContent-Length: 100\r\n\r\nhalf"));
    assert_eq!(rx.recv_timeout(PATIENCE), Ok("begun"));
    drop(c);
    assert_eq!(rx.recv_timeout(PATIENCE), Ok("gone"));
    // While it waits, by a reset.
    let mut c = Client::connect(listen);
    c.send(get("/"));
    assert_eq!(rx.recv_timeout(PATIENCE), Ok("begun"));
    let _ = socket2::SockRef::from(c.socket()).set_linger(Some(Duration::ZERO));
    drop(c);
    assert_eq!(rx.recv_timeout(PATIENCE), Ok("gone"));
    nothing_is_left(&sidecar);
}

#[test]
fn a_response_without_a_length_lasts_until_the_endpoint_closes() {
    let server = http_server(|mut c| {
        if c.request().is_some() {
            c.send("HTTP/1.1 200 OK\r\n\r\none ");
            c.send("two");
        }
    });
    let (sidecar, listen) = h1_to(&[server.addr]);
    let mut c = Client::connect(listen);
    for _ in 0..3 {
        c.send(get("/"));
        assert_eq!(c.response("GET").unwrap().body, b"one two");
    }
    nothing_is_left(&sidecar);
}

#[test]
fn a_response_that_is_cut_is_never_delivered_as_a_whole_one() {
    let server = http_server(|mut c| {
        let Some((head, _)) = c.request() else { return };
        match head.line.contains("/chunked") {
            true => c.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"),
            false => c.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc"),
        };
    });
    let (sidecar, listen) = h1_to(&[server.addr]);
    for path in ["/chunked", "/length"] {
        let mut c = Client::connect(listen);
        c.send(get(path));
        assert!(c.response("GET").unwrap_err().contains("the connection's end"));
    }
    sidecar.admin.until_metric("raddle_requests_total", &["UC"], |n| n == 2);
    nothing_is_left(&sidecar);
}
