//! Strict: when it begins, what it refuses, and that those from before are not cut.
use crate::mesh::{Bolt, Mesh, http, plain, tls};
use raddle_testkit::http::http_server;
use raddle_testkit::{Ask, BoltServer, Config, PATIENCE, Running, TcpServer, free_addr, until};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

const SERVICE: &str = "com.test.Pay:1.0";

fn config(mesh: &Mesh, listen: SocketAddr, to: SocketAddr, link: &str) -> Config {
    mesh.held_by(Config::new().inbound(listen, to)).document("LinkEncryption", "pay-strict", link)
}

fn state(sidecar: &Running) -> String {
    sidecar.admin.json("/encryption")["listeners"][0]["state"].as_str().unwrap_or_default().to_owned()
}

fn until_state(sidecar: &Running, wanted: &str) {
    until(PATIENCE, wanted, || state(sidecar) == wanted);
}

/// New plaintext connections are refused from here on.
fn until_refused(listen: SocketAddr) {
    until(PATIENCE, "plaintext is refused", || {
        http(&mut plain(listen), "/").is_ok_and(|r| r.starts_with("HTTP/1.1 403"))
    });
}

#[test]
fn strict_waits_for_a_plaintext_caller_that_stays_and_begins_when_it_is_gone() {
    let (mesh, server, listen) = (Mesh::new(), BoltServer::echo(), free_addr());
    let sidecar = Running::start(&config(&mesh, listen, server.addr, "{mode: permissive}"));
    let ask = Ask::to(SERVICE).content("hello");
    let mut stays = Bolt::over(plain(listen));
    assert_eq!(stays.call(&ask).content(), b"hello");
    sidecar.apply(&config(&mesh, listen, server.addr, "{mode: strict, quiet: 300ms}"));
    until_state(&sidecar, "waiting");
    let mut secure = Bolt::over(tls(listen, &mesh.client("shop")));
    for _ in 0..20 {
        assert_eq!(secure.call(&ask).content(), b"hello");
        assert_eq!(stays.call(&ask).content(), b"hello");
    }
    assert_eq!(state(&sidecar), "waiting");
    drop(stays);
    until_state(&sidecar, "strict");
    until(PATIENCE, "plaintext is refused", || {
        let said = Bolt::over(plain(listen)).call(&ask);
        said.flag().as_deref() == Some("RBAC")
            && said.header("raddle-rule").as_deref() == Some("LinkEncryption/pay-strict")
    });
    assert_eq!(secure.call(&ask).content(), b"hello");
    assert!(sidecar.admin.has_event("link_strict"));
    assert!(sidecar.admin.metric("raddle_link_plaintext_refused_total", &[]) > 0);
    assert_eq!(sidecar.admin.metric("raddle_link_strict", &[]), 2);
    // And back.
    sidecar.apply(&config(&mesh, listen, server.addr, "{mode: permissive}"));
    until(PATIENCE, "plaintext is taken", || Bolt::over(plain(listen)).call(&ask).content() == b"hello");
}

#[test]
fn forced_strict_refuses_newcomers_and_loses_nothing_of_those_before() {
    let (mesh, listen) = (Mesh::new(), free_addr());
    let held = Arc::new(Mutex::new(Vec::new()));
    let h = held.clone();
    let server = BoltServer::start(move |c| h.lock().unwrap().push(c));
    let sidecar = Running::start(&config(&mesh, listen, server.addr, "{mode: permissive}"));
    let mut before = Bolt::over(plain(listen));
    before.ask(&Ask::to(SERVICE).id(7).content("slow").timeout(20_000)).unwrap();
    until(PATIENCE, "it arrives", || held.lock().unwrap().len() == 1);
    sidecar.apply(&config(&mesh, listen, server.addr, "{mode: strict, force: true}"));
    until_refused(listen);
    // One more on the connection from before, and then the replies of both.
    before.ask(&Ask::to(SERVICE).id(8).content("late").timeout(20_000)).unwrap();
    until(PATIENCE, "it arrives, too", || held.lock().unwrap().len() == 2);
    held.lock().unwrap().drain(..).for_each(|c| assert!(c.echo()));
    assert_eq!(before.frame().unwrap().unwrap().content(), b"slow");
    assert_eq!(before.frame().unwrap().unwrap().content(), b"late");
    assert!(before.frame().unwrap().is_none(), "then it ends in order");
    sidecar.admin.until_metric("raddle_link_connections", &["encrypted=\"false\""], |n| n == 0);
}

#[test]
fn at_the_deadline_what_is_in_flight_is_answered_and_the_connection_ends() {
    let (mesh, listen) = (Mesh::new(), free_addr());
    let held = Arc::new(Mutex::new(Vec::new()));
    let h = held.clone();
    let server = BoltServer::start(move |c| h.lock().unwrap().push(c));
    let sidecar = Running::start(&config(&mesh, listen, server.addr, "{mode: permissive}"));
    let mut before = Bolt::over(plain(listen));
    before.ask(&Ask::to(SERVICE).id(7).content("never").timeout(60_000)).unwrap();
    until(PATIENCE, "it arrives", || held.lock().unwrap().len() == 1);
    sidecar.apply(&config(&mesh, listen, server.addr, "{mode: strict, force: true, deadline: 1s}"));
    let said = before.frame().unwrap().unwrap();
    assert_eq!(said.flag().as_deref(), Some("RBAC"));
    assert_eq!(said.header("raddle-rule").as_deref(), Some("LinkEncryption/pay-strict"));
    assert!(before.frame().unwrap().is_none());
    assert_eq!(sidecar.admin.metric("raddle_link_callers_ended_total", &[]), 1);
}

#[test]
fn http_callers_from_before_are_told_to_close() {
    let (mesh, listen) = (Mesh::new(), free_addr());
    let server = http_server(|mut c| while c.request().is_some() && c.ok("answer") {});
    let sidecar = Running::start(&config(&mesh, listen, server.addr, "{mode: permissive}"));
    let mut before = plain(listen);
    assert!(http(&mut before, "/").unwrap().contains("answer"));
    sidecar.apply(&config(&mesh, listen, server.addr, "{mode: strict, force: true}"));
    until_state(&sidecar, "strict");
    // It may send one more before it is closed for being idle: then it is answered, and told.
    if let Ok(said) = http(&mut before, "/") {
        assert!(said.contains("answer"), "{said}");
        if said.to_ascii_lowercase().contains("connection: close") {
            assert_eq!(before.read(&mut [0; 1]).unwrap(), 0);
        }
    }
    until_refused(listen);
    let said = http(&mut plain(listen), "/").unwrap();
    assert!(said.contains("LinkEncryption/pay-strict") && said.contains("connect by TLS"), "{said}");
    let mut secure = tls(listen, &mesh.client("shop"));
    assert!(http(&mut secure, "/").unwrap().contains("answer"));
}

#[test]
fn tcp_is_reset_and_relays_from_before_end_at_their_own_deadline() {
    let (mesh, listen) = (Mesh::new(), free_addr());
    let server = TcpServer::start(|mut s| {
        let mut b = [0; 16];
        while let Ok(n @ 1..) = s.read(&mut b) {
            if s.write_all(&b[..n]).is_err() {
                return;
            }
        }
    });
    let of = |link: &str| config(&mesh, listen, server.addr, link);
    let sidecar = Running::start(&of("{mode: permissive}"));
    let mut before = plain(listen);
    let echo = |s: &mut dyn crate::mesh::Bytes| {
        let mut back = [0; 5];
        s.write_all(b"\0echo")?;
        s.read_exact(&mut back).map(|()| back)
    };
    assert_eq!(&echo(&mut before).unwrap(), b"\0echo");
    sidecar.apply(&of("{mode: strict, force: true, tcpDeadline: 3s}"));
    until_state(&sidecar, "strict");
    until(PATIENCE, "newcomers are reset", || echo(&mut plain(listen)).is_err());
    assert_eq!(&echo(&mut before).unwrap(), b"\0echo");
    let mut secure = tls(listen, &mesh.client("shop"));
    assert_eq!(&echo(&mut secure).unwrap(), b"\0echo");
    assert!(before.read(&mut [0; 1]).is_err(), "reset, not an end that looks orderly");
    assert_eq!(&echo(&mut secure).unwrap(), b"\0echo");
}

#[test]
fn strict_without_a_certificate_is_no_outage_but_a_shout() {
    let (server, listen) = (BoltServer::echo(), free_addr());
    let config = Config::new().inbound(listen, server.addr).document(
        "LinkEncryption",
        "pay-strict",
        "{mode: strict, force: true}",
    );
    let sidecar = Running::start(&config);
    until_state(&sidecar, "waiting");
    let ask = Ask::to(SERVICE).content("hello");
    assert_eq!(Bolt::over(plain(listen)).call(&ask).content(), b"hello");
    assert!(sidecar.admin.has_event("link_strict_without_certificate"));
    assert!(sidecar.admin.get("/ready").contains("there is no valid certificate"));
    assert_eq!(sidecar.admin.metric("raddle_link_strict", &[]), 1);
}

#[test]
fn one_port_may_be_strict_and_another_not() {
    let (mesh, server) = (Mesh::new(), BoltServer::echo());
    let (one, two) = (free_addr(), free_addr());
    let config = mesh.held_by(Config::new().inbound(one, server.addr).inbound(two, server.addr)).document(
        "LinkEncryption",
        "half",
        &format!("{{mode: permissive, force: true, ports: [{{port: {}, mode: strict}}]}}", two.port()),
    );
    let sidecar = Running::start(&config);
    let ask = Ask::to(SERVICE).content("hello");
    until(PATIENCE, "it is refused", || Bolt::over(plain(two)).call(&ask).flag().as_deref() == Some("RBAC"));
    assert_eq!(Bolt::over(plain(one)).call(&ask).content(), b"hello");
    drop(sidecar);
}
