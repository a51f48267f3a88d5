//! HTTP/2 on both sides: streams share connections, disturb nobody, and end as either side says.
use crate::http_sides::{HOST, h2_to, nothing_is_left, service, started};
use raddle_testkit::h2::{code, flag, kind, setting};
use raddle_testkit::h2_hpack::Block;
use raddle_testkit::http::{H2Side, Stream, h2_server};
use raddle_testkit::{PATIENCE, until};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Instant;

fn path(s: &Stream) -> String {
    s.get(":path").unwrap_or_default()
}

/// Answers each whole request with its path and body.
fn echo() -> raddle_testkit::TcpServer {
    h2_server(&[], |mut side| {
        while let Some((id, r)) = side.request() {
            let body = [path(&r).as_bytes(), b"=", &r.body].concat();
            side.answer(id, "200", &[], &body);
        }
    })
}

fn post(path: &str) -> Block {
    Block::request("POST", HOST, path)
}

#[test]
fn many_streams_of_many_callers_share_one_connection() {
    let server = echo();
    let (sidecar, listen) = h2_to(&[server.addr]);
    let mut callers: Vec<H2Side> = (0..4).map(|_| H2Side::connect(listen, &[])).collect();
    for c in &mut callers {
        for n in 0..20 {
            let s = c.ask(&post(&format!("/{n}")), false);
            c.data(s, b"body", true);
        }
    }
    for c in &mut callers {
        for n in 0..20 {
            let s = c.done(n * 2 + 1);
            assert_eq!((s.status(), &s.body[..]), (200, format!("/{n}=body").as_bytes()));
        }
    }
    assert_eq!(server.accepted(), 1);
    sidecar.admin.until_metric("raddle_requests_total", &["shop", "ok"], |n| n == 80);
    nothing_is_left(&sidecar);
}

#[test]
fn each_piece_of_a_stream_passes_at_once_both_ways_and_trailers_end_it() {
    let server = h2_server(&[], |mut side| {
        let Some(id) = side.begun() else { return };
        side.peer.headers(id, flag::END_HEADERS, &Block::new().lit(":status", "200"));
        for n in 1..=20 {
            side.until("a piece", |s| s.streams[&id].body.len() >= n);
            side.data(id, &[n as u8], false);
        }
        side.until("trailers", |s| s.streams[&id].ended);
        assert_eq!(side.streams[&id].get("x-in").as_deref(), Some("1"));
        side.peer.headers(id, flag::WHOLE, &Block::new().lit("x-out", "2"));
        side.request();
    });
    let (sidecar, listen) = h2_to(&[server.addr]);
    let mut c = H2Side::connect(listen, &[]);
    let id = c.ask(&post("/bidi"), false);
    for n in 1..=20 {
        // The next one only when the answer to the last is here.
        c.data(id, b"x", false);
        c.until("its answer", |s| s.streams.get(&id).is_some_and(|s| s.body.len() == n));
    }
    c.peer.headers(id, flag::WHOLE, &Block::new().lit("x-in", "1"));
    let s = c.done(id);
    assert_eq!((s.reset, s.get("x-out").as_deref()), (None, Some("2")));
    nothing_is_left(&sidecar);
}

#[test]
fn a_callers_reset_reaches_the_endpoint_and_leaves_its_neighbours_alone() {
    let (tx, rx) = mpsc::channel();
    let tx = Mutex::new(tx);
    let server = h2_server(&[], move |mut side| {
        let (a, b) = (side.begun().unwrap(), side.begun().unwrap());
        side.until("the reset", |s| s.streams[&a].reset.is_some());
        tx.lock().unwrap().send(side.streams[&a].reset).unwrap();
        side.answer(b, "200", &[], b"ok");
        side.request();
    });
    let (sidecar, listen) = h2_to(&[server.addr]);
    let mut c = H2Side::connect(listen, &[]);
    let (a, b) = (c.ask(&post("/a"), false), c.get(HOST, "/b"));
    sidecar.admin.until_metric("raddle_requests_in_flight", &[], |n| n == 2);
    c.peer.frame(kind::RST_STREAM, 0, a, &code::CANCEL.to_be_bytes());
    assert_eq!(rx.recv_timeout(PATIENCE), Ok(Some(code::CANCEL)));
    assert_eq!(c.done(b).body, b"ok");
    nothing_is_left(&sidecar);
}

#[test]
fn an_endpoints_reset_reaches_the_caller_with_its_code() {
    let server = h2_server(&[], |mut side| {
        while let Some(id) = side.begun() {
            if path(&side.streams[&id]) == "/late" {
                side.peer.headers(id, flag::END_HEADERS, &Block::new().lit(":status", "200"));
                side.data(id, b"some", false);
            }
            side.peer.frame(kind::RST_STREAM, 0, id, &code::ENHANCE_YOUR_CALM.to_be_bytes());
        }
    });
    let (sidecar, listen) = h2_to(&[server.addr]);
    let mut c = H2Side::connect(listen, &[]);
    for p in ["/early", "/late"] {
        let id = c.ask(&post(p), false);
        assert_eq!(c.done(id).reset, Some(code::ENHANCE_YOUR_CALM), "{p}");
    }
    nothing_is_left(&sidecar);
}

#[test]
fn streams_an_endpoint_that_goes_away_did_not_look_at_are_moved_and_those_it_did_are_answered() {
    let first = Arc::new(AtomicUsize::new(0));
    let n = first.clone();
    let server = h2_server(&[], move |mut side| {
        if n.fetch_add(1, Ordering::SeqCst) == 0 {
            let all: Vec<u32> = (0..6).map(|_| side.begun().unwrap()).collect();
            // It has looked at the first two.
            let last = [all[1].to_be_bytes(), code::NO_ERROR.to_be_bytes()].concat();
            side.peer.frame(kind::GOAWAY, 0, 0, &last);
            for id in &all[..2] {
                side.answer(*id, "200", &[], b"old");
            }
        }
        while let Some((id, _)) = side.request() {
            side.answer(id, "200", &[], b"new");
        }
    });
    let (sidecar, listen) = h2_to(&[server.addr]);
    let mut c = H2Side::connect(listen, &[]);
    let all: Vec<u32> = (0..6).map(|n| c.ask(&post(&format!("/{n}")), true)).collect();
    let bodies: Vec<_> = all.iter().map(|s| String::from_utf8(c.done(*s).body).unwrap()).collect();
    assert_eq!(bodies, ["old", "old", "new", "new", "new", "new"]);
    assert_eq!(server.accepted(), 2);
    sidecar.admin.until_metric("raddle_goaways_total", &["received"], |n| n == 1);
    nothing_is_left(&sidecar);
}

#[test]
fn a_refused_stream_is_sent_again_even_if_it_is_a_post() {
    let count = Arc::new(AtomicUsize::new(0));
    let server = h2_server(&[], move |mut side| {
        while let Some((id, _)) = side.request() {
            match count.fetch_add(1, Ordering::SeqCst) % 2 {
                0 => drop(side.peer.frame(kind::RST_STREAM, 0, id, &code::REFUSED_STREAM.to_be_bytes())),
                _ => side.answer(id, "200", &[], b"ok"),
            }
        }
    });
    let (sidecar, listen) = h2_to(&[server.addr]);
    let mut c = H2Side::connect(listen, &[]);
    for _ in 0..5 {
        let id = c.ask(&post("/"), false);
        c.data(id, b"pay", true);
        assert_eq!(c.done(id).body, b"ok");
    }
    nothing_is_left(&sidecar);
}

#[test]
fn an_endpoint_that_answers_and_closes_at_once_is_heard_to_the_end() {
    const LEN: usize = 40_000;
    let server = h2_server(&[], |mut side| {
        if let Some((id, _)) = side.request() {
            side.answer(id, "200", &[], &vec![7; LEN]);
        }
    });
    let (sidecar, listen) = h2_to(&[server.addr]);
    let mut c = H2Side::connect(listen, &[]);
    for _ in 0..5 {
        let id = c.get(HOST, "/");
        let s = c.done(id);
        assert_eq!((s.reset, s.body.len()), (None, LEN));
        sidecar.admin.until_metric("raddle_endpoint_connections", &[], |n| n == 0);
    }
    nothing_is_left(&sidecar);
}

#[test]
fn no_more_streams_at_once_than_the_endpoint_allows_and_the_rest_waits() {
    static SETTINGS: &[(u16, u32)] = &[(setting::MAX_CONCURRENT_STREAMS, 3)];
    let most = Arc::new(AtomicUsize::new(0));
    let m = most.clone();
    let server = h2_server(SETTINGS, move |mut side| {
        while let Some((id, _)) = side.request() {
            // Whatever else is open is in the map by now, but for what is still on the way.
            m.fetch_max(side.streams.len() + 1, Ordering::SeqCst);
            side.answer(id, "200", &[], b"ok");
        }
    });
    let (sidecar, listen) =
        started(|c| service(c, HOST, "http2", &[server.addr]).policy("p", "pool: {maxConnections: 1}"));
    let mut c = H2Side::connect(listen, &[]);
    let warm = c.get(HOST, "/");
    assert_eq!(c.done(warm).body, b"ok");
    let all: Vec<u32> = (0..60).map(|_| c.ask(&post("/"), true)).collect();
    for id in all {
        assert_eq!((c.done(id).body, server.accepted()), (b"ok".to_vec(), 1));
    }
    assert!(most.load(Ordering::SeqCst) <= 3);
    nothing_is_left(&sidecar);
}

#[test]
fn a_stream_nobody_reads_holds_back_its_own_endpoint_and_no_other_stream() {
    const LEN: usize = 8 << 20;
    let server = h2_server(&[], |mut side| {
        let mut big = None;
        while let Some((id, r)) = side.request() {
            if path(&r) != "/big" {
                side.answer(id, "200", &[], b"small");
                continue;
            }
            side.peer.headers(id, flag::END_HEADERS, &Block::new().lit(":status", "200"));
            // As much as the sidecar's window takes, and no more.
            let window = side.peer.setting(setting::INITIAL_WINDOW_SIZE).unwrap_or(65_535) as usize;
            assert!(window < LEN / 4);
            side.data(id, &vec![1; window.min(60_000)], false);
            big = Some(id);
        }
        assert!(big.is_some());
    });
    let (sidecar, listen) = h2_to(&[server.addr]);
    // The caller's windows: a big one for the connection, a small one for each stream.
    let mut c = H2Side::connect(listen, &[(setting::INITIAL_WINDOW_SIZE, 1000)]);
    c.gives = false;
    let big = c.get(HOST, "/big");
    c.until("its first bytes", |s| s.streams.get(&big).is_some_and(|s| s.body.len() == 1000));
    for _ in 0..50 {
        let small = c.get(HOST, "/small");
        assert_eq!(c.done(small).body, b"small");
    }
    assert_eq!(c.streams[&big].body.len(), 1000, "no byte beyond its window");
    drop(c);
    nothing_is_left(&sidecar);
}

#[test]
fn large_bodies_pass_both_ways_within_every_window() {
    const LEN: usize = 3 << 20;
    let server = h2_server(&[], |mut side| {
        while let Some((id, r)) = side.request() {
            assert_eq!(r.body.len(), 60_000);
            side.peer.headers(id, flag::END_HEADERS, &Block::new().lit(":status", "200"));
            side.data(id, &vec![3; LEN], true);
        }
    });
    let (sidecar, listen) = h2_to(&[server.addr]);
    let mut c = H2Side::connect(listen, &[]);
    let id = c.ask(&post("/"), false);
    c.data(id, &vec![5; 60_000], true);
    let s = c.done(id);
    assert_eq!((s.reset, s.body.len()), (None, LEN));
    nothing_is_left(&sidecar);
}

#[test]
fn a_drain_says_goaway_and_loses_nothing_that_was_begun() {
    let (tx, rx) = mpsc::channel::<()>();
    let rx = Mutex::new(rx);
    let server = h2_server(&[], move |mut side| {
        let all: Vec<u32> = (0..5).map(|_| side.begun().unwrap()).collect();
        rx.lock().unwrap().recv().unwrap();
        for id in all {
            side.answer(id, "200", &[], b"ok");
        }
        side.request();
    });
    let (sidecar, listen) = h2_to(&[server.addr]);
    let mut c = H2Side::connect(listen, &[]);
    let all: Vec<u32> = (0..5).map(|_| c.get(HOST, "/")).collect();
    sidecar.admin.until_metric("raddle_requests_in_flight", &[], |n| n == 5);
    sidecar.sidecar().drain();
    c.until("GOAWAY", |s| s.goaway.is_some());
    assert_eq!(c.goaway.unwrap().1, code::NO_ERROR);
    tx.send(()).unwrap();
    for id in all {
        assert_eq!(c.done(id).body, b"ok");
    }
    until(PATIENCE, "it closes", || !c.step(Instant::now() + PATIENCE) && c.closed);
}
