//! Frames without end.
use super::{MIB, Victim, before_http2};
use crate::case::Ctx;
use raddle_testkit::h2::{Event, Peer, code, encode, flag, kind, setting, settings_payload};
use std::time::{Duration, Instant};

/// Sends `piece` up to `times` while nobody reads the answers. Gives how often it could be sent.
fn flood(p: &mut Peer, piece: &[u8], times: usize) -> usize {
    let _ = p.socket().set_write_timeout(Some(Duration::from_millis(300)));
    (0..times).take_while(|_| p.send(piece)).count()
}

/// Whether the connection ended, or was told to.
fn told_to_go(p: &mut Peer) -> bool {
    let until = Instant::now() + Duration::from_secs(5);
    loop {
        match p.next(until) {
            Event::Frame(f) if f.kind == kind::GOAWAY => return true,
            Event::Closed => return true,
            Event::Quiet => return false,
            Event::Frame(_) => {}
        }
    }
}

/// A thousand frames at a time, many times, without reading.
fn unread(what: &str, frame: &[u8]) {
    let v = Victim::start("");
    let many = frame.repeat(1000);
    v.endures(what, 24 * MIB, || {
        let mut p = Peer::connect(v.listen);
        p.greet(&[]).unwrap();
        let sent = flood(&mut p, &many, 3000);
        println!("  {what}: {sent},000 frames could be sent");
    });
}

#[test]
fn settings_that_are_not_read_back_are_bounded() {
    unread(
        "SETTINGS",
        &encode(kind::SETTINGS, 0, 0, &settings_payload(&[(setting::MAX_FRAME_SIZE, 1 << 14)])),
    );
}

#[test]
fn pings_that_are_not_read_back_are_bounded() {
    unread("PING", &encode(kind::PING, 0, 0, b"flooding"));
}

#[test]
fn priorities_are_bounded() {
    let all: Vec<u8> =
        (0..50_u32).flat_map(|i| encode(kind::PRIORITY, 0, 1001 + 2 * i, b"\0\0\0\0\x10")).collect();
    let v = Victim::start("");
    v.endures("PRIORITY", 24 * MIB, || {
        let mut p = Peer::connect(v.listen);
        p.greet(&[]).unwrap();
        flood(&mut p, &all, 20_000);
    });
}

#[test]
fn empty_data_is_bounded() {
    let v = Victim::start("");
    v.endures("empty DATA", 24 * MIB, || {
        let mut p = Peer::connect(v.listen);
        p.greet(&[]).unwrap();
        p.headers(1, flag::END_HEADERS, &Ctx::post());
        let many = encode(kind::DATA, 0, 1, &[]).repeat(1000);
        let sent = flood(&mut p, &many, 3000);
        println!("  {sent},000 empty DATA could be sent");
    });
}

#[test]
fn window_updates_are_bounded() {
    unread("WINDOW_UPDATE", &encode(kind::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]));
}

#[test]
fn unknown_frames_are_bounded() {
    unread("unknown frames", &encode(0xee, 0, 0, &[0; 100]));
}

#[test]
fn streams_opened_and_reset_are_ended_and_hardly_asked_for_behind() {
    let v = Victim::start("");
    let gone = v.endures("50,000 rapid resets", 32 * MIB, || {
        let mut p = Peer::connect(v.listen);
        p.greet(&[]).unwrap();
        let mut gone = false;
        for batch in 0..500_u32 {
            let mut bytes = Vec::new();
            for i in 0..100 {
                let stream = 1 + 2 * (batch * 100 + i);
                bytes.extend(encode(kind::HEADERS, flag::WHOLE, stream, &Ctx::get().0));
                bytes.extend(encode(kind::RST_STREAM, 0, stream, &code::CANCEL.to_be_bytes()));
            }
            if !p.send(&bytes) {
                gone = true;
                break;
            }
        }
        gone || told_to_go(&mut p)
    });
    let asked = v.up.take().iter().filter(|r| r.head.get("host").as_deref() == Some("conform.test")).count();
    println!("  {asked} of them reached the server behind");
    assert!(gone, "50,000 resets are no ordinary use");
    assert!(asked < 5_000, "{asked} of 50,000 reached the server behind");
}

#[test]
fn streams_that_make_the_sidecar_reset_them_are_ended() {
    let v = Victim::start("");
    let gone = v.endures("20,000 resets provoked", 32 * MIB, || {
        let mut p = Peer::connect(v.listen);
        p.greet(&[]).unwrap();
        for batch in 0..200_u32 {
            let mut bytes = Vec::new();
            for i in 0..100 {
                let stream = 1 + 2 * (batch * 100 + i);
                bytes.extend(encode(kind::HEADERS, flag::END_HEADERS, stream, &Ctx::post().0));
                // A window update of nothing: the sidecar has to reset the stream.
                bytes.extend(encode(kind::WINDOW_UPDATE, 0, stream, &[0; 4]));
            }
            if !p.send(&bytes) {
                return true;
            }
        }
        told_to_go(&mut p)
    });
    assert!(gone);
}

#[test]
fn many_small_messages_are_no_abuse() {
    let (_child, listen, up) = before_http2();
    for size in [1, 6, 60] {
        let mut p = Peer::connect(listen);
        p.greet(&[]).unwrap();
        p.headers(1, flag::END_HEADERS, &Ctx::post());
        // As a gRPC client streams small messages: within the window, all at once.
        let n = 30_000 / size.max(6);
        let burst = encode(kind::DATA, 0, 1, &vec![b'x'; size]).repeat(n);
        assert!(p.send(&burst));
        p.data(1, flag::END_STREAM, &[]);
        let r = p.response(1).unwrap_or_else(|e| panic!("{n} messages of {size} bytes: {e}"));
        assert_eq!(r.status, 200);
        let got = up.take().pop().unwrap().body.len();
        assert_eq!(got, n * size);
    }
    assert_eq!(up.take_wrong(), Vec::<String>::new());
}
