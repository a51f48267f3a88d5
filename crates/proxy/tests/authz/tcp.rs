//! Bytes of no protocol.
use super::Guarded;
use raddle_testkit::{PATIENCE, TcpServer};
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;

fn echo() -> TcpServer {
    TcpServer::start(|mut s| {
        let mut buf = [0; 4096];
        while let Ok(n @ 1..) = s.read(&mut buf) {
            if s.write_all(&buf[..n]).is_err() {
                return;
            }
        }
    })
}

fn connect(guarded: &Guarded) -> TcpStream {
    let s = TcpStream::connect(guarded.listen).unwrap();
    s.set_read_timeout(Some(PATIENCE)).unwrap();
    s
}

fn echoes(s: &mut TcpStream) -> std::io::Result<()> {
    s.write_all(&[0xFF, 0, 1, 2])?;
    let mut back = [0; 4];
    s.read_exact(&mut back)
}

#[track_caller]
fn is_reset(s: &mut TcpStream) {
    let error = echoes(s).expect_err("it is refused");
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
}

const LOCAL: &str = "action: deny, rules: [{name: local, when: {source: 127.0.0.0/8}}]";

#[test]
fn a_denied_connection_is_reset_counted_and_logged_and_reaches_nobody() {
    let server = echo();
    let guarded = Guarded::start(server.addr, &[("no-local", LOCAL)]);
    is_reset(&mut connect(&guarded));
    assert_eq!((guarded.denied("no-local"), server.accepted()), (1, 0));
    let line = guarded.line("Authorization/no-local/local");
    assert_eq!((line["flag"].as_str(), line["protocol"].as_str()), (Some("RBAC"), Some("tcp")), "{line}");
}

#[test]
fn a_change_of_rules_ends_the_live_connections_it_refuses_and_no_others() {
    let server = echo();
    let guarded =
        Guarded::start(server.addr, &[("ten", "action: deny, rules: [{when: {source: 10.0.0.0/8}}]")]);
    let mut live = connect(&guarded);
    echoes(&mut live).unwrap();
    guarded.rules(&[("loopback", "action: allow, rules: [{when: {source: 127.0.0.1}}]")]);
    echoes(&mut live).unwrap();
    guarded.rules(&[("no-local", LOCAL)]);
    let mut end = [0; 1];
    let error = live.read(&mut end).expect_err("it is reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    guarded.admin().until_metric("raddle_authorization_denied_total", &["no-local"], |n| n == 1);
    guarded.line("Authorization/no-local/local");
    assert!(guarded.admin().has_event("authorization"));
    assert_eq!(guarded.admin().metric("raddle_panics_total", &[]), 0);
}
