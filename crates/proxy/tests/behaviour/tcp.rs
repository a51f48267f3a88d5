//! Bytes of no known protocol are relayed, both ways and to the last one.
use raddle_testkit::frame::noise;
use raddle_testkit::{
    Ask, BoltClient, BoltServer, Config, PATIENCE, Running, TcpServer, free_addr, refused_addr, until,
};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

const SERVICE: &str = "db";

/// An outbound listener for TCP, declared or detected.
fn relay(endpoints: &[SocketAddr], declared: bool) -> (Running, SocketAddr) {
    let listen = free_addr();
    let config = Config::new().outbound_tcp(listen, SERVICE, declared).service(SERVICE, endpoints);
    (Running::start(&config.policy("p", "balancer: roundRobin")), listen)
}

fn connect(addr: SocketAddr) -> TcpStream {
    let s = TcpStream::connect(addr).unwrap();
    s.set_read_timeout(Some(PATIENCE)).unwrap();
    s.set_write_timeout(Some(PATIENCE)).unwrap();
    s
}

fn read_all(s: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    s.read_to_end(&mut all).unwrap();
    all
}

/// Gives back what it gets until the end, then ends.
fn echo() -> TcpServer {
    TcpServer::start(|mut s| {
        let mut buf = vec![0; 64 << 10];
        while let Ok(n @ 1..) = s.read(&mut buf) {
            if s.write_all(&buf[..n]).is_err() {
                return;
            }
        }
    })
}

#[test]
fn bytes_of_an_unknown_protocol_pass_both_ways_outbound_and_inbound() {
    let server = echo();
    let inbound = free_addr();
    let _in = Running::start(&Config::new().inbound(inbound, server.addr));
    let (_out, listen) = relay(&[inbound], false);
    for len in [1, 4, 100, 3_000_000] {
        let mut data = noise(len as u64, len);
        data[0] = 0xFF; // of no protocol
        let mut s = connect(listen);
        let (mut w, d) = (s.try_clone().unwrap(), data.clone());
        let writing = std::thread::spawn(move || {
            w.write_all(&d).unwrap();
            w.shutdown(Shutdown::Write).unwrap();
        });
        assert!(read_all(&mut s) == data, "{len} bytes come back as they went");
        writing.join().unwrap();
    }
}

#[test]
fn a_first_message_of_four_bytes_is_served_at_once() {
    let server = echo();
    let (_sidecar, listen) = relay(&[server.addr], false);
    for message in [*b"\x00\x00\x00\x04", *b"ping", *b"\x03\x00\x00\x13"] {
        let began = Instant::now();
        let mut s = connect(listen);
        s.write_all(&message).unwrap();
        let mut back = [0; 4];
        s.read_exact(&mut back).unwrap();
        assert_eq!(back, message);
        // "ping" may begin an HTTP method, and waits for the detection timeout.
        assert!(began.elapsed() < Duration::from_millis(400), "{:?}", began.elapsed());
    }
}

fn greets() -> TcpServer {
    TcpServer::start(|mut s| {
        let mut name = [0; 5];
        let served = s
            .write_all(b"220 hello\n")
            .and_then(|()| s.read_exact(&mut name))
            .and_then(|()| s.write_all(&name));
        let _ = served;
    })
}

fn is_greeted(listen: SocketAddr) -> Duration {
    let began = Instant::now();
    let mut s = connect(listen);
    let mut greeting = [0; 10];
    s.read_exact(&mut greeting).unwrap();
    let took = began.elapsed();
    assert_eq!(&greeting, b"220 hello\n");
    s.write_all(b"me me").unwrap();
    assert_eq!(read_all(&mut s), b"me me");
    took
}

#[test]
fn a_server_that_speaks_first_is_heard_at_once_on_a_port_declared_tcp() {
    let server = greets();
    let (_sidecar, listen) = relay(&[server.addr], true);
    let took = is_greeted(listen);
    assert!(took < Duration::from_millis(90), "sooner than detection gives up: {took:?}");
}

#[test]
fn a_server_that_speaks_first_is_heard_after_the_detection_timeout_elsewhere() {
    let server = greets();
    let (_sidecar, listen) = relay(&[server.addr], false);
    let took = is_greeted(listen);
    assert!(took >= Duration::from_millis(90) && took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_bolt_client_silent_beyond_the_detection_timeout_is_still_a_bolt_client() {
    // What the listener would relay to says nothing first, either.
    let (quiet, bolt) = (TcpServer::start(|mut s| drop(s.read(&mut [0; 16]))), BoltServer::echo());
    let listen = free_addr();
    let config = Config::new().outbound_tcp(listen, SERVICE, false).service(SERVICE, &[quiet.addr]);
    let _sidecar = Running::start(&config.service("svc", &[bolt.addr]));
    let mut c = BoltClient::connect(listen);
    until(PATIENCE, "detection gives up", || quiet.accepted() == 1);
    assert_eq!(c.call(&Ask::to("svc").id(3)).content(), b"hello");
}

#[test]
fn the_callers_end_of_stream_is_passed_on_and_the_reply_still_comes() {
    // Counts what it gets, and answers only at its end.
    let server = TcpServer::start(|mut s| {
        let n = read_all(&mut s).len();
        s.write_all(format!("{n} bytes").as_bytes()).unwrap();
    });
    let (_sidecar, listen) = relay(&[server.addr], true);
    for len in [0, 10, 500_000] {
        let mut s = connect(listen);
        s.write_all(&vec![7; len]).unwrap();
        s.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut s), format!("{len} bytes").as_bytes());
    }
}

#[test]
fn the_servers_end_of_stream_is_passed_on_and_the_caller_may_go_on() {
    let (tx, rx) = mpsc::channel();
    let tx = std::sync::Mutex::new(tx);
    let server = TcpServer::start(move |mut s| {
        s.write_all(b"bye").unwrap();
        s.shutdown(Shutdown::Write).unwrap();
        tx.lock().unwrap().send(read_all(&mut s).len()).unwrap();
    });
    let (_sidecar, listen) = relay(&[server.addr], true);
    let mut s = connect(listen);
    assert_eq!(read_all(&mut s), b"bye");
    s.write_all(&vec![1; 2_000_000]).unwrap();
    s.shutdown(Shutdown::Write).unwrap();
    assert_eq!(rx.recv_timeout(PATIENCE).unwrap(), 2_000_000);
}

#[test]
fn a_slow_caller_that_has_ended_its_side_gets_a_long_reply_to_the_last_byte() {
    const LEN: usize = 20 << 20;
    let server = TcpServer::start(|mut s| {
        let _ = read_all(&mut s);
        let _ = s.write_all(&noise(9, LEN));
        // And closes at once: both directions are over while most of it is still on the way.
    });
    let (_sidecar, listen) = relay(&[server.addr], true);
    let mut s = connect(listen);
    s.write_all(b"get").unwrap();
    s.shutdown(Shutdown::Write).unwrap();
    let mut all = Vec::new();
    let mut buf = vec![0; 256 << 10];
    loop {
        match s.read(&mut buf).unwrap() {
            0 => break,
            n => all.extend_from_slice(&buf[..n]),
        }
        // Slower than the server.
        std::thread::sleep(Duration::from_micros(500));
    }
    assert_eq!(all.len(), LEN);
    assert!(all == noise(9, LEN));
}

#[test]
fn a_hundred_megabytes_wait_for_a_slow_reader_without_filling_memory() {
    const LEN: u64 = 100 << 20;
    let sent = Arc::new(AtomicU64::new(0));
    let progress = sent.clone();
    let server = TcpServer::start(move |mut s| {
        let piece = vec![5; 1 << 20];
        while progress.load(Ordering::Relaxed) < LEN && s.write_all(&piece).is_ok() {
            progress.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    });
    let (sidecar, listen) = relay(&[server.addr], true);
    let mut s = connect(listen);
    // Nothing is read: the server stops when the buffers on the way are full.
    let mut last = u64::MAX;
    until(PATIENCE, "the server is held back", || {
        let now = sent.load(Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(100));
        now > 0 && std::mem::replace(&mut last, now) == now
    });
    let held = sent.load(Ordering::Relaxed);
    assert!(held < 32 << 20, "{} MiB are on the way", held >> 20);
    assert!(sidecar.admin.metric("raddle_held_back_total", &[]) >= 1);
    let mut got = 0;
    let mut buf = vec![0; 1 << 20];
    while let n @ 1.. = s.read(&mut buf).unwrap() {
        got += n as u64;
    }
    assert_eq!(got, LEN);
}

#[test]
fn a_failed_connect_moves_to_the_next_endpoint_with_what_was_said() {
    let server = echo();
    let (_sidecar, listen) = relay(&[refused_addr(), server.addr, refused_addr()], false);
    for _ in 0..10 {
        let mut s = connect(listen);
        s.write_all(b"\xFFhello").unwrap();
        s.shutdown(Shutdown::Write).unwrap();
        assert_eq!(read_all(&mut s), b"\xFFhello");
    }
}

#[test]
fn a_caller_whose_every_endpoint_refuses_is_reset() {
    let (sidecar, listen) = relay(&[refused_addr(), refused_addr()], true);
    let mut s = connect(listen);
    assert!(s.read(&mut [0; 1]).is_err(), "a reset, not an orderly end");
    sidecar.admin.until_metric("raddle_requests_in_flight", &[], |n| n == 0);
}

#[test]
fn bytes_nobody_waits_for_are_refused_by_closing() {
    let listen = free_addr();
    let sidecar = Running::start(&Config::new().outbound(listen));
    let mut s = connect(listen);
    s.write_all(b"\xFF\xFFgarbage").unwrap();
    assert!(!matches!(s.read(&mut [0; 1]), Ok(1..)));
    sidecar.admin.until_metric("raddle_requests_total", &["NC"], |n| n == 1);
}

#[test]
fn a_server_that_resets_resets_the_caller_and_not_the_other_way_round_in_silence() {
    let server = TcpServer::start(|mut s| {
        let _ = s.read(&mut [0; 4]);
        let _ = socket2::SockRef::from(&s).set_linger(Some(Duration::ZERO));
    });
    let (_sidecar, listen) = relay(&[server.addr], true);
    let mut s = connect(listen);
    s.write_all(b"data").unwrap();
    assert!(s.read(&mut [0; 1]).is_err(), "a reset must not look like an orderly end of the data");
}
