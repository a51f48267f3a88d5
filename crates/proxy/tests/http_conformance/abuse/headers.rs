//! Heads that are too large, or become it.
use super::{MIB, Victim};
use crate::case::Ctx;
use raddle_testkit::h1::Client;
use raddle_testkit::h2::{Event, Peer, code, flag, kind};
use raddle_testkit::h2_hpack::Block;
use std::time::{Duration, Instant};

/// What ends a stream or a connection: a status, a code, or the end itself.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Status(u16),
    Reset(u32),
    Away(u32),
    Closed,
    Nothing,
}

fn end(p: &mut Peer) -> End {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match p.next(until) {
            Event::Closed => return End::Closed,
            Event::Quiet => return End::Nothing,
            Event::Frame(f) if f.kind == kind::GOAWAY => return End::Away(f.code()),
            Event::Frame(f) if f.kind == kind::RST_STREAM => return End::Reset(f.code()),
            Event::Frame(f) if f.kind == kind::HEADERS => {
                let fields = p.decoder.read(f.body()).unwrap_or_default();
                let status = fields.iter().find(|(n, _)| n == b":status");
                let status = status.map_or(0, |(_, v)| String::from_utf8_lossy(v).parse().unwrap_or(0));
                return End::Status(status);
            }
            Event::Frame(_) => {}
        }
    }
}

#[test]
fn heads_over_the_limit_are_refused_and_not_kept() {
    let v = Victim::start("");
    v.endures("50 heads of 8 MiB", 24 * MIB, || {
        let mut all: Vec<_> = (0..50).map(|_| Client::connect(v.listen)).collect();
        for c in &mut all {
            c.send("GET / HTTP/1.1\r\nHost: bomb.test\r\n");
        }
        let line = format!("X-Bomb: {}\r\n", "b".repeat(8 << 10));
        for _ in 0..1000 {
            for c in &mut all {
                c.send(&line);
            }
        }
        for c in &mut all {
            // Its connection may be reset over what it went on sending.
            match c.response("GET") {
                Ok(r) => assert_eq!(r.status(), 431),
                Err(e) => assert!(e.contains("end after"), "{e}"),
            }
        }
    });
}

#[test]
fn a_header_list_over_the_limit_is_refused_in_http2() {
    let v = Victim::start("");
    let got = v.endures("header lists of 100 KiB", 16 * MIB, || {
        let mut p = Peer::connect(v.listen);
        p.greet(&[]).unwrap();
        p.headers(1, flag::END_STREAM, &Ctx::get());
        for i in 0..10 {
            let b = Block::new().lit("x-large", vec![b'x'; 10 << 10]);
            p.frame(kind::CONTINUATION, if i == 9 { flag::END_HEADERS } else { 0 }, 1, &b.0);
        }
        end(&mut p)
    });
    assert!(matches!(got, End::Status(431) | End::Reset(_) | End::Away(_)), "{got:?}");
}

#[test]
fn a_bomb_of_table_references_does_not_go_off() {
    let v = Victim::start("");
    let got = v.endures("20 HPACK bombs of 40 MiB", 24 * MIB, || {
        let mut ends = Vec::new();
        for _ in 0..20 {
            let mut p = Peer::connect(v.listen);
            p.greet(&[]).unwrap();
            let fuse = Ctx::get().lit_indexed("x-bomb", vec![b'b'; 3900]);
            p.headers(1, flag::WHOLE, &fuse);
            let _ = p.response(1);
            // Each byte is index 62 and stands for 3,906.
            let bomb = Block::new().raw(&vec![0xbe; 10_000]);
            p.headers(3, flag::WHOLE, &Ctx::get().raw(&bomb.0));
            ends.push(end(&mut p));
        }
        ends
    });
    for e in got {
        assert!(matches!(e, End::Status(431) | End::Reset(_) | End::Away(_) | End::Closed), "{e:?}");
    }
}

#[test]
fn a_header_block_without_end_is_ended() {
    let v = Victim::start("");
    for (what, size) in [("CONTINUATION of 1 KiB", 1024), ("empty CONTINUATION", 0)] {
        let got = v.endures(&format!("20,000 {what}"), 24 * MIB, || {
            let mut p = Peer::connect(v.listen);
            p.greet(&[]).unwrap();
            p.headers(1, flag::END_STREAM, &Ctx::get());
            let payload = if size > 0 { Block::new().lit("x", vec![b'x'; size]).0 } else { vec![] };
            let sent = (0..20_000).take_while(|_| p.frame(kind::CONTINUATION, 0, 1, &payload)).count();
            println!("  {sent} frames could be sent");
            end(&mut p)
        });
        assert!(matches!(got, End::Away(_) | End::Closed), "{what}: {got:?}");
    }
}

#[test]
fn many_small_fields_are_refused() {
    let v = Victim::start("");
    let got = v.endures("30,000 fields in one head", 24 * MIB, || {
        let mut p = Peer::connect(v.listen);
        p.greet(&[]).unwrap();
        p.headers(1, flag::END_STREAM, &Ctx::get());
        let some = (0..1000).fold(Block::new(), |b, _| b.lit("a", "b"));
        for i in 0..30 {
            p.frame(kind::CONTINUATION, if i == 29 { flag::END_HEADERS } else { 0 }, 1, &some.0);
        }
        end(&mut p)
    });
    let calm = [code::ENHANCE_YOUR_CALM, code::PROTOCOL_ERROR];
    match got {
        End::Status(431) | End::Closed | End::Reset(_) => {}
        End::Away(c) => assert!(calm.contains(&c), "{c}"),
        other => panic!("{other:?}"),
    }
}
