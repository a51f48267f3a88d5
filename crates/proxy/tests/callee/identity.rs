//! Who the sidecar is, from files; and who its callers are.
use crate::mesh::{Bolt, Mesh, client_of, http, plain, tls};
use raddle_testkit::http::http_server;
use raddle_testkit::{Ask, BoltServer, Config, PATIENCE, Running, free_addr, until};
use std::io::{Read, Write};
use std::time::Duration;

#[test]
fn one_port_takes_the_meshs_callers_by_tls_and_others_in_plaintext() {
    let (mesh, server, listen) = (Mesh::new(), BoltServer::echo(), free_addr());
    let sidecar = Running::start(&mesh.held_by(Config::new().inbound(listen, server.addr)));
    let ask = Ask::to("com.test.Pay:1.0").content("hello");
    let mut secure = Bolt::over(tls(listen, &mesh.client("shop")));
    assert_eq!(secure.call(&ask).content(), b"hello");
    let mut open = Bolt::over(plain(listen));
    assert_eq!(open.call(&ask).content(), b"hello");
    let seen = sidecar.admin.json("/encryption");
    let callers = seen["callers"].as_array().unwrap();
    let row = |encrypted: bool| callers.iter().find(|c| c["encrypted"] == encrypted).unwrap();
    assert_eq!((&row(true)["app"], &row(true)["requests"]), (&"shop".into(), &1.into()));
    assert_eq!(row(true)["id"], "spiffe://mesh.test/unit/u1/app/shop");
    assert_eq!((&row(false)["id"], &row(false)["requests"]), (&serde_json::Value::Null, &1.into()));
    assert_eq!(seen["certificate"], "valid");
    for encrypted in [true, false] {
        let label = format!("encrypted=\"{encrypted}\"");
        let all = ["direction=\"inbound\"", &label];
        assert_eq!(sidecar.admin.metric("raddle_link_requests_total", &all), 1);
        assert_eq!(sidecar.admin.metric("raddle_link_connections", &all), 1);
    }
    drop((secure, open));
    sidecar.admin.until_metric("raddle_link_connections", &["encrypted=\"true\""], |n| n == 0);
}

#[test]
fn a_certificate_in_new_files_is_for_new_connections_and_the_old_ones_go_on() {
    let (mesh, listen) = (Mesh::new(), free_addr());
    let server = http_server(|mut c| while c.request().is_some() && c.ok("answer") {});
    let sidecar = Running::start(&mesh.held_by(Config::new().inbound(listen, server.addr)));
    let client = mesh.client("shop");
    let mut before = tls(listen, &client);
    assert!(http(&mut before, "/").unwrap().contains("answer"));
    let old = before.conn.peer_certificates().unwrap()[0].clone();
    for _ in 0..3 {
        mesh.write("pay", Duration::from_secs(7200));
        until(PATIENCE, "the new certificate", || {
            let mut after = tls(listen, &mesh.client("shop"));
            http(&mut after, "/").unwrap().contains("answer")
                && after.conn.peer_certificates().unwrap()[0] != old
        });
        assert!(http(&mut before, "/").unwrap().contains("answer"));
    }
    assert!(!sidecar.admin.has_event("config_refused"));
}

#[test]
fn a_broken_file_leaves_the_identity_there_is_in_force() {
    let (mesh, listen) = (Mesh::new(), free_addr());
    let server = http_server(|mut c| while c.request().is_some() && c.ok("answer") {});
    let sidecar = Running::start(&mesh.held_by(Config::new().inbound(listen, server.addr)));
    std::fs::write(mesh.dir.path().join("pay.pem"), "no certificate").unwrap();
    until(PATIENCE, "it is refused", || sidecar.admin.has_event("config_refused"));
    let mut stream = tls(listen, &mesh.client("shop"));
    assert!(http(&mut stream, "/").unwrap().contains("answer"));
}

#[test]
fn strangers_are_refused_in_the_handshake() {
    let (mesh, listen) = (Mesh::new(), free_addr());
    let server = http_server(|mut c| while c.request().is_some() && c.ok("answer") {});
    let sidecar = Running::start(&mesh.held_by(Config::new().inbound(listen, server.addr)));
    let other = Mesh::of("elsewhere.test");
    let stranger = other.caller("shop", Duration::from_secs(3600));
    // It takes the callee for good, so that it is the callee who refuses.
    let trusting = stranger.with_trust(mesh.caller("x", Duration::from_secs(60)).trust().clone());
    let mut stream = tls(listen, &client_of(&trusting));
    let refused = http(&mut stream, "/");
    assert!(refused.is_err(), "{refused:?}");
    let mut anonymous = tls(listen, &{
        let trust = mesh.caller("x", Duration::from_secs(60)).trust().clone();
        let rule = raddle_identity::PeerRule::Member;
        std::sync::Arc::new(raddle_identity::anonymous_client_config(&trust, rule).unwrap())
    });
    assert!(http(&mut anonymous, "/").is_err());
    sidecar.admin.until_metric("raddle_tls_handshakes_total", &["outcome=\"failed\""], |n| n == 2);
    assert_eq!(sidecar.admin.metric("raddle_link_requests_total", &["encrypted=\"true\""]), 0);
}

#[test]
fn a_server_that_speaks_first_is_heard_by_tls_and_in_plaintext() {
    let (mesh, listen) = (Mesh::new(), free_addr());
    let server = raddle_testkit::TcpServer::start(|mut s| {
        let _ = s.write_all(b"welcome");
        let _ = s.read(&mut [0; 16]);
    });
    let config = Config::new()
        .sidecar(&format!("inbound: [{{listen: \"{listen}\", forward: \"{}\", protocol: tcp}}]", server.addr))
        .sidecar("limits: {detectTimeout: 50ms}")
        .document("LinkEncryption", "soft", "{mode: permissive}");
    let _sidecar = Running::start(&mesh.held_by(config));
    let mut heard = [0; 7];
    let mut secure = tls(listen, &mesh.client("shop"));
    secure.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"welcome");
    let mut open = plain(listen);
    open.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"welcome");
}
