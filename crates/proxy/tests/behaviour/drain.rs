//! Shutting down: callers are told, requests finish, newcomers are refused.
use raddle_testkit::frame::noise;
use raddle_testkit::{
    Ask, BoltClient, BoltServer, Config, Load, PATIENCE, Running, TcpServer, Variant, free_addr, until,
};
use raddle_wire::bolt::{self, Command};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const SERVICE: &str = "com.test.Drain:1.0";

#[test]
fn only_callers_that_said_so_are_sent_goaway_and_all_get_their_replies() {
    let held = Arc::new(Mutex::new(Vec::new()));
    let h = held.clone();
    let server = BoltServer::start(move |c| h.lock().unwrap().push(c));
    let listen = free_addr();
    let sidecar = Running::start(&Config::new().outbound(listen).service(SERVICE, &[server.addr]));
    let mut capable = BoltClient::connect(listen);
    let mut beat = Vec::new();
    bolt::encode::heartbeat(&mut beat, Variant::V2Crc, 1, 1, 1000, &[("raddle-caps", "goaway")]);
    capable.send(&beat);
    assert_eq!(capable.frame().head.command, Command::Heartbeat);
    let mut plain = BoltClient::connect(listen);
    plain.ask(&Ask::to(SERVICE).id(1).content("plain").timeout(20_000));
    capable.ask(&Ask::to(SERVICE).variant(Variant::V2Crc).id(2).content("capable").timeout(20_000));
    until(PATIENCE, "both arrive", || held.lock().unwrap().len() == 2);
    sidecar.sidecar().drain();
    let told = capable.frame();
    assert_eq!((told.head.command, told.head.variant), (Command::GoAway, Variant::V2Crc));
    until(PATIENCE, "newcomers are refused", || TcpStream::connect(listen).is_err());
    // One that is told may still have had a request on the way.
    capable.ask(&Ask::to(SERVICE).variant(Variant::V2Crc).id(3).content("late").timeout(20_000));
    until(PATIENCE, "it arrives, too", || held.lock().unwrap().len() == 3);
    held.lock().unwrap().drain(..).for_each(|c| {
        c.echo();
    });
    assert_eq!(plain.frame().content(), b"plain");
    assert_eq!(capable.frame().content(), b"capable");
    assert_eq!(capable.frame().content(), b"late");
    // Then the connections end, with nothing more on them, and so does the sidecar.
    plain.expect_end();
    capable.expect_end();
    until(PATIENCE, "it ends", || sidecar.sidecar().ended());
}

#[test]
fn a_callee_that_drains_while_large_frames_pass_loses_none() {
    let server = BoltServer::echo();
    let (a, b, listen) = (free_addr(), free_addr(), free_addr());
    let first = Running::start(&Config::new().inbound(a, server.addr));
    let _second = Running::start(&Config::new().inbound(b, server.addr));
    let _front = Running::start(&Config::new().outbound(listen).service(SERVICE, &[a, b]));
    let make = |c: usize, n: u32| {
        let len = if n.is_multiple_of(3) { 200_000 } else { 50 };
        let content = noise((c as u64) << 32 | u64::from(n), len);
        Ask::to(SERVICE).variant(Variant::ALL[c % 4]).content(content).timeout(20_000)
    };
    let load = Load::with(listen, 4, 6, Arc::new(make));
    load.goes_on(200);
    first.sidecar().drain();
    until(PATIENCE, "it ends", || first.sidecar().ended());
    load.goes_on(200);
    load.stop().expect_all_ok();
}

#[test]
fn tcp_relays_go_on_until_they_end_or_drain_time_is_over() {
    let server = TcpServer::start(|mut s| {
        let mut b = [0; 16];
        while let Ok(n @ 1..) = s.read(&mut b) {
            if s.write_all(&b[..n]).is_err() {
                return;
            }
        }
    });
    let listen = free_addr();
    let config = Config::new().outbound_tcp(listen, "db", true).service("db", &[server.addr]);
    let sidecar = Running::start(&config);
    let mut s = TcpStream::connect(listen).unwrap();
    s.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut back = [0; 4];
    let mut ping = |s: &mut TcpStream| {
        s.write_all(b"ping").unwrap();
        s.read_exact(&mut back).unwrap();
    };
    ping(&mut s);
    sidecar.sidecar().drain();
    let began = Instant::now();
    until(PATIENCE, "longer than a quiet caller is given", || {
        ping(&mut s);
        began.elapsed() > Duration::from_millis(900)
    });
    assert!(!sidecar.sidecar().ended());
    drop(s);
    until(PATIENCE, "it ends", || sidecar.sidecar().ended());
}

#[test]
fn a_drain_with_nothing_to_wait_for_is_over_at_once() {
    let listen = free_addr();
    let sidecar = Running::start(&Config::new().outbound(listen));
    let began = Instant::now();
    sidecar.sidecar().drain();
    until(PATIENCE, "it ends", || sidecar.sidecar().ended());
    assert!(began.elapsed() < Duration::from_millis(600), "{:?}", began.elapsed());
}
