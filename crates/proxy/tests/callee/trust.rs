//! Trust that changes: who is still good notices nothing, who is not has to go, and nobody comes back by an old ticket.
use crate::mesh::{Bolt, Mesh, client_of, http, plain, tls};
use raddle_identity::{Identity, TrustBundle};
use raddle_testkit::http::http_server;
use raddle_testkit::{Ask, BoltServer, Config, PATIENCE, Running, free_addr, until};
use rustls::HandshakeKind;
use rustls::pki_types::CertificateDer;
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

fn roots(all: &[&Mesh]) -> Vec<CertificateDer<'static>> {
    all.iter().flat_map(|m| m.issuer.roots().to_vec()).collect()
}

/// A caller of one authority that takes callees of the others, too.
fn caller(of: &Mesh, app: &str, all: &[&Mesh]) -> Identity {
    let trust = TrustBundle::new(crate::mesh::DOMAIN, roots(all)).unwrap();
    of.caller(app, HOUR).with_trust(Arc::new(trust))
}

fn until_roots(sidecar: &Running, n: u64) {
    until(PATIENCE, "the roots", || sidecar.admin.json("/encryption")["identity"]["roots"] == n);
}

#[test]
fn of_two_authorities_one_goes_and_only_its_callers_have_to() {
    let (old, new, listen) = (Mesh::new(), Mesh::new(), free_addr());
    let held = Arc::new(Mutex::new(Vec::new()));
    let h = held.clone();
    let server = BoltServer::start(move |c| match c.frame.content() == b"slow" {
        true => h.lock().unwrap().push(c),
        false => drop(c.echo()),
    });
    let sidecar = Running::start(&new.held_by(Config::new().inbound(listen, server.addr)));
    new.write_roots(&roots(&[&old, &new]));
    until_roots(&sidecar, 2);
    let both = [&old, &new];
    let mut leaves = Bolt::over(tls(listen, &client_of(&caller(&old, "shop", &both))));
    let mut stays = Bolt::over(tls(listen, &client_of(&caller(&new, "cart", &both))));
    let ask = Ask::to("com.test.Pay:1.0").content("hello");
    assert_eq!(leaves.call(&ask).content(), b"hello");
    assert_eq!(stays.call(&ask).content(), b"hello");
    leaves.ask(&Ask::to("com.test.Pay:1.0").content("slow").timeout(20_000)).unwrap();
    until(PATIENCE, "it arrives", || held.lock().unwrap().len() == 1);
    new.write_roots(&roots(&[&new]));
    until(PATIENCE, "it is judged", || sidecar.admin.has_event("callers_distrusted"));
    assert_eq!(sidecar.admin.metric("raddle_link_callers_retired_total", &[]), 1);
    held.lock().unwrap().drain(..).for_each(|c| assert!(c.echo()));
    assert_eq!(leaves.frame().unwrap().unwrap().content(), b"slow", "what was asked is answered");
    assert!(leaves.frame().unwrap_or(None).is_none(), "then it ends");
    assert_eq!(stays.call(&ask).content(), b"hello");
    let mut back = tls(listen, &client_of(&caller(&old, "shop", &both)));
    assert!(http(&mut back, "/").is_err(), "and does not come back");
}

#[test]
fn an_authority_more_changes_nothing_for_those_there_are() {
    let (one, two, listen) = (Mesh::new(), Mesh::new(), free_addr());
    let server = BoltServer::echo();
    let sidecar = Running::start(&one.held_by(Config::new().inbound(listen, server.addr)));
    let mut stays = Bolt::over(tls(listen, &one.client("shop")));
    let ask = Ask::to("com.test.Pay:1.0").content("hello");
    assert_eq!(stays.call(&ask).content(), b"hello");
    one.write_roots(&roots(&[&one, &two]));
    until_roots(&sidecar, 2);
    one.write("pay", HOUR);
    for _ in 0..20 {
        assert_eq!(stays.call(&ask).content(), b"hello");
    }
    let newcomer = client_of(&caller(&two, "cart", &[&one, &two]));
    assert_eq!(Bolt::over(tls(listen, &newcomer)).call(&ask).content(), b"hello");
    assert_eq!(sidecar.admin.metric("raddle_link_callers_retired_total", &[]), 0);
}

#[test]
fn sessions_are_resumed_until_trust_changes() {
    let (one, two, listen) = (Mesh::new(), Mesh::new(), free_addr());
    let server = http_server(|mut c| while c.request().is_some() && c.ok("answer") {});
    let sidecar = Running::start(&one.held_by(Config::new().inbound(listen, server.addr)));
    let client = client_of(&caller(&one, "shop", &[&one, &two]));
    let connect = || {
        let mut s = tls(listen, &client);
        http(&mut s, "/").map(|_| s.conn.handshake_kind().unwrap())
    };
    assert_eq!(connect().unwrap(), HandshakeKind::Full);
    assert_eq!(connect().unwrap(), HandshakeKind::Resumed);
    // A new certificate of the callee changes nothing of whom it trusts.
    let generation = || sidecar.admin.json("/encryption")["generation"].as_u64().unwrap();
    let before = generation();
    one.write("pay", HOUR);
    until(PATIENCE, "the new certificate", || generation() > before);
    assert_eq!(connect().unwrap(), HandshakeKind::Resumed);
    one.write_roots(&roots(&[&one, &two]));
    until_roots(&sidecar, 2);
    assert_eq!(connect().unwrap(), HandshakeKind::Full, "a ticket of another trust is worth nothing");
    let callers = sidecar.admin.json("/encryption")["callers"].clone();
    assert_eq!(callers[0]["app"], "shop");
    let resumed = ["side=\"callee\"", "result=\"resumed\""];
    assert_eq!(sidecar.admin.metric("raddle_link_handshakes_total", &resumed), 2);
}

#[test]
fn a_callers_certificate_that_expires_ends_its_connection() {
    let (mesh, listen) = (Mesh::new(), free_addr());
    let server = BoltServer::echo();
    let sidecar = Running::start(&mesh.held_by(Config::new().inbound(listen, server.addr)));
    let short = client_of(&mesh.caller("shop", Duration::from_secs(3)));
    let mut leaves = Bolt::over(tls(listen, &short));
    let ask = Ask::to("com.test.Pay:1.0").content("hello");
    assert_eq!(leaves.call(&ask).content(), b"hello");
    assert!(leaves.frame().unwrap_or(None).is_none(), "it ends, with nothing more on it");
    assert_eq!(sidecar.admin.metric("raddle_link_callers_retired_total", &[]), 1);
    assert!(http(&mut tls(listen, &short), "/").is_err());
}

#[test]
fn a_callee_whose_certificate_expires_serves_on_and_shouts() {
    let (mesh, listen) = (Mesh::new(), free_addr());
    mesh.write("pay", Duration::from_secs(4));
    let server = BoltServer::echo();
    let sidecar = Running::start(&mesh.held_by(Config::new().inbound(listen, server.addr)));
    let mut secure = Bolt::over(tls(listen, &mesh.client("shop")));
    let ask = Ask::to("com.test.Pay:1.0").content("hello");
    assert_eq!(secure.call(&ask).content(), b"hello");
    until(PATIENCE, "it is told", || sidecar.admin.has_event("certificate_expired"));
    assert!(sidecar.admin.has_event("certificate_expiring"));
    assert!(sidecar.admin.get("/ready").contains("has expired"));
    assert_eq!(sidecar.admin.json("/encryption")["certificate"], "expired");
    assert_eq!(secure.call(&ask).content(), b"hello");
    assert_eq!(Bolt::over(plain(listen)).call(&ask).content(), b"hello");
    // A new one in the files, and all is well.
    mesh.write("pay", HOUR);
    until(PATIENCE, "it is valid", || sidecar.admin.json("/encryption")["certificate"] == "valid");
    let mut again = tls(listen, &mesh.client("shop"));
    let mut none = [0; 1];
    again.sock.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
    let _ = again.read(&mut none);
    assert_eq!(secure.call(&ask).content(), b"hello");
}
