//! Those that take their time: heads that trickle in, connections that say nothing, readers that do not read.
use super::{MIB, Victim};
use raddle_testkit::h1::Client;
use raddle_testkit::h2::{PREFACE, Peer, encode, flag, kind, setting};
use raddle_testkit::h2_hpack::Block;
use raddle_testkit::{PATIENCE, until};
use rustix::process::{Resource, getrlimit};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

/// How many connections a test may have at both ends: 10,000, or what the system lets one process open.
fn many() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20) as usize;
    let n = 10_000.min(files.saturating_sub(500));
    if n < 10_000 {
        println!("only {n} connections: a process may have {files} open files");
    }
    n
}

#[test]
fn heads_that_trickle_are_ended_by_the_head_timeout() {
    trickling_heads("detectTimeout: 1m, headTimeout: 1s, frameTimeout: 1s");
}

#[test]
fn the_head_timeout_holds_whatever_the_frame_timeout() {
    trickling_heads("detectTimeout: 1m, headTimeout: 1s, frameTimeout: 1m");
}

fn trickling_heads(limits: &str) {
    let v = Victim::start(limits);
    v.endures("300 trickling heads", 16 * MIB, || {
        let from = Instant::now();
        let mut all: Vec<_> = (0..300).map(|_| Some(TcpStream::connect(v.listen).unwrap())).collect();
        let head =
            b"GET / HTTP/1.1\r\nHost: slow.test\r\nX-Slow: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
        let mut sent = head.iter().cycle();
        while all.iter().any(Option::is_some) {
            assert!(from.elapsed() < PATIENCE, "{} are left", all.iter().flatten().count());
            let b = [*sent.next().unwrap()];
            for s in &mut all {
                if s.as_mut().is_some_and(|s| s.write_all(&b).is_err() || ended(s)) {
                    *s = None;
                }
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(from.elapsed() > Duration::from_millis(900), "a second is given");
    });
    assert_eq!(v.up.take().iter().filter(|r| r.head.get("host").as_deref() == Some("slow.test")).count(), 0);
}

#[test]
fn half_a_method_does_not_become_tcp() {
    let v = Victim::start("detectTimeout: 50ms");
    let mut c = Client::connect(v.listen);
    c.send("GE");
    // Longer than detection waits.
    std::thread::sleep(Duration::from_millis(300));
    c.send("T / HTTP/1.1\r\nHost: evade.test\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n");
    let r = c.response("GET").map(|r| r.status());
    assert_eq!(r, Ok(400), "the server behind got {:?}", v.up.take_wrong());
}

/// Whether the other end has closed, without waiting.
fn ended(s: &mut TcpStream) -> bool {
    s.set_nonblocking(true).unwrap();
    let mut room = [0; 512];
    let end = loop {
        match s.read(&mut room) {
            Ok(0) => break true,
            Ok(_) => {}
            Err(e) => break e.kind() != std::io::ErrorKind::WouldBlock,
        }
    };
    s.set_nonblocking(false).unwrap();
    end
}

#[test]
fn ten_thousand_half_open_connections_cost_little_and_disturb_nobody() {
    let v = Victim::start("headTimeout: 20s, detectTimeout: 1m");
    let n = many();
    let accepted = |least: usize| {
        let s = v.child.admin.metric("raddle_connections_active", &["side=\"caller\""]);
        s >= least as i64
    };
    // The kinds apart, so that each has its figure.
    let kinds: [(&str, &[u8], u64); 3] = [
        ("no byte", b"", 6 << 10),
        ("half an HTTP/1.1 head", b"GET / HTTP/1.1\r\nHost: half.test\r\nX-Half: ", 8 << 10),
        ("an HTTP/2 preface", &[], 24 << 10),
    ];
    let greeting = [PREFACE, &encode(kind::SETTINGS, 0, 0, &[])].concat();
    for (what, bytes, each) in kinds {
        let bytes = if what.contains("HTTP/2") { &greeting[..] } else { bytes };
        let before = v.child.rss();
        let open = v.endures(&format!("{n} connections with {what}"), each * n as u64 + 8 * MIB, || {
            let open: Vec<_> = (0..n)
                .map(|_| {
                    let mut s = TcpStream::connect(v.listen).unwrap();
                    s.write_all(bytes).unwrap();
                    s
                })
                .collect();
            until(PATIENCE, "they are accepted", || accepted(n));
            open
        });
        println!("  {} bytes each", v.child.rss().saturating_sub(before) / n as u64);
        drop(open);
        until(PATIENCE, "they are gone", || !accepted(n / 10));
    }
}

#[test]
fn readers_that_trickle_hold_little_memory() {
    let v = Victim::start("bufferHard: 1MiB, bufferSoft: 128KiB");
    v.endures("50 slow readers of 2 MiB", 50 * MIB, || {
        let mut all: Vec<_> = (0..50)
            .map(|_| {
                let mut s = TcpStream::connect(v.listen).unwrap();
                s.write_all(b"GET /size/2097152 HTTP/1.1\r\nHost: slow.test\r\n\r\n").unwrap();
                s
            })
            .collect();
        for _ in 0..30 {
            for s in &mut all {
                let mut room = [0; 100];
                s.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
                let _ = s.read(&mut room);
            }
        }
    });
}

#[test]
fn streams_without_a_window_hold_bounded_memory() {
    stalled_streams(96 * MIB);
}

#[test]
fn streams_without_a_window_hold_no_more_than_the_buffer_limit() {
    stalled_streams(40 * MIB);
}

fn stalled_streams(most: u64) {
    let v = Victim::start("maxStreams: 100");
    v.endures("100 stalled streams on each of 2 connections", most, || {
        let mut all: Vec<_> = (0..2)
            .map(|_| {
                let mut p = Peer::connect(v.listen);
                p.greet(&[(setting::INITIAL_WINDOW_SIZE, 0)]).unwrap();
                for i in 0..100 {
                    let b = Block::request("GET", "stall.test", "/size/1048576");
                    p.headers(1 + 2 * i, flag::WHOLE, &b);
                }
                p
            })
            .collect();
        // Everything was asked for; nothing can be delivered.
        until(PATIENCE, "the server behind was asked", || v.up.connections().1 >= 200);
        let from = Instant::now();
        while from.elapsed() < Duration::from_secs(1) {
            for p in &mut all {
                p.ping().unwrap();
            }
        }
    });
}

#[test]
fn bodies_that_trickle_do_not_disturb() {
    let v = Victim::start("");
    v.endures("100 trickling bodies", 16 * MIB, || {
        let mut all: Vec<_> = (0..100)
            .map(|_| {
                let mut c = Client::connect(v.listen);
                c.send("POST / HTTP/1.1\r\nHost: slow.test\r\nContent-Length: 20\r\n\r\n");
                c
            })
            .collect();
        for _ in 0..20 {
            for c in &mut all {
                c.send("x");
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for c in &mut all {
            assert_eq!(c.response("POST").unwrap().status(), 200);
        }
    });
}
