//! What callers are asked for follows the rule and the certificate; who calls is reported.
use crate::control::Control;
use raddle_identity::{Identity, Issuer, PrivateKey, SpiffeId, TrustBundle, read_request};
use raddle_testkit::{Ask, BoltClient, BoltServer, Config, PATIENCE, Running, free_addr, until};
use raddle_xds::proto::{Edge, Encryption, Instance};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SERVICE: &str = "com.test.Pay:1.0";

fn sidecar(control: &Control, app: SocketAddr) -> (Running, SocketAddr) {
    let listen = free_addr();
    let config = Config::new()
        .inbound(listen, app)
        .sidecar(&format!("controlPlane: {{addresses: [\"{}\"]}}", control.addr))
        .sidecar(&format!(
            "publish: {{services: [{{name: \"{SERVICE}\", protocol: bolt, port: {}}}]}}",
            listen.port()
        ));
    (Running::start(&config), listen)
}

/// A certificate that ends so many seconds from now.
fn certificate(ends: i64) -> Arc<Identity> {
    const LIFE: u64 = 7200;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let then = now + ends - LIFE as i64;
    let issuer = Issuer::generate("mesh.test", Duration::from_secs(86_400), then).unwrap();
    let key = PrivateKey::generate().unwrap();
    let proven = read_request(&key.request().unwrap()).unwrap();
    let id = SpiffeId::app("mesh.test", "u1", "pay").unwrap();
    let signed = issuer.sign(&proven, &id, Duration::from_secs(LIFE), then).unwrap();
    let trust = TrustBundle::new("mesh.test", issuer.roots().to_vec()).unwrap();
    Arc::new(Identity::new(signed.chain, Arc::new(key), Arc::new(trust), then).unwrap())
}

fn hold(sidecar: &Running, identity: Option<Arc<Identity>>) {
    sidecar.sidecar().shared().set_identity(identity, None).unwrap();
}

/// What was said last.
fn last(control: &Control) -> Option<Instance> {
    control.script.published().pop()?.instance
}

fn asks(control: &Control) -> Option<(bool, bool)> {
    last(control).map(|i| (i.tls, i.tls_required))
}

fn encryption(control: &Control) -> Encryption {
    control.script.reports().pop().and_then(|r| r.encryption).unwrap_or_default()
}

fn says(control: &Control, mode: &str) {
    control.rule("LinkEncryption", "pay", &format!("{{\"mode\":\"{mode}\",\"quiet\":\"0s\"}}"));
}

#[test]
fn callers_are_asked_for_tls_with_a_rule_and_a_certificate_and_no_more_at_once() {
    let (app, control) = (BoltServer::echo(), Control::start());
    let (sidecar, listen) = sidecar(&control, app.addr);
    until(PATIENCE, "it is published", || asks(&control) == Some((false, false)));
    says(&control, "permissive");
    until(PATIENCE, "it is told that there is no certificate", || {
        let e = encryption(&control);
        (&*e.mode, &*e.effective) == ("permissive", "disable") && e.waits.contains("holds no certificate")
    });
    assert_eq!(asks(&control), Some((false, false)), "never without a certificate");
    hold(&sidecar, Some(certificate(3600)));
    until(PATIENCE, "callers are asked", || asks(&control) == Some((true, false)));
    until(PATIENCE, "that is told", || {
        let e = encryption(&control);
        &*e.effective == "permissive" && e.certificate_ends > 0 && e.rule == "pay" && e.waits.is_empty()
    });
    says(&control, "strict");
    until(PATIENCE, "plaintext is no way out", || asks(&control) == Some((true, true)));
    until(PATIENCE, "strict is carried out", || encryption(&control).effective == "strict");
    says(&control, "disable");
    until(PATIENCE, "it is taken back", || asks(&control) == Some((false, false)));
    says(&control, "permissive");
    until(PATIENCE, "and asked again", || asks(&control) == Some((true, false)));
    control.unrule("LinkEncryption", "pay");
    until(PATIENCE, "it is taken back with the rule", || asks(&control) == Some((false, false)));
    assert_eq!(BoltClient::connect(listen).call(&Ask::to(SERVICE).id(1)).head.status, 0);
}

#[test]
fn a_certificate_that_expires_takes_the_wish_back() {
    let (app, control) = (BoltServer::echo(), Control::start());
    let (sidecar, _) = sidecar(&control, app.addr);
    hold(&sidecar, Some(certificate(4)));
    says(&control, "permissive");
    until(PATIENCE, "callers are asked", || asks(&control) == Some((true, false)));
    until(PATIENCE, "it is taken back", || asks(&control) == Some((false, false)));
    until(PATIENCE, "that is told", || encryption(&control).waits.contains("expired"));
    hold(&sidecar, Some(certificate(3600)));
    until(PATIENCE, "a new one is enough", || asks(&control) == Some((true, false)));
}

#[test]
fn callers_are_reported_with_what_they_did_since_the_last_report() {
    let (app, control) = (BoltServer::echo(), Control::start());
    let (_sidecar, listen) = sidecar(&control, app.addr);
    let mut c = BoltClient::connect(listen);
    for id in 1..=5 {
        assert_eq!(c.call(&Ask::to(SERVICE).id(id)).head.status, 0);
    }
    let edges = || control.script.reports().into_iter().flat_map(|r| r.edges).collect::<Vec<Edge>>();
    until(PATIENCE, "all are told of", || edges().iter().map(|e| e.requests).sum::<u64>() == 5);
    assert!(edges().iter().all(|e| !e.encrypted && e.id.is_empty()));
    until(PATIENCE, "the connection, too", || {
        encryption(&control).plaintext_connections == 1 && edges().last().is_some_and(|e| e.connections == 1)
    });
}

#[test]
fn strict_that_waits_for_callers_says_so() {
    let (app, control) = (BoltServer::echo(), Control::start());
    let (sidecar, listen) = sidecar(&control, app.addr);
    hold(&sidecar, Some(certificate(3600)));
    let mut c = BoltClient::connect(listen);
    assert_eq!(c.call(&Ask::to(SERVICE).id(1)).head.status, 0);
    control.rule("LinkEncryption", "pay", "{\"mode\":\"strict\",\"quiet\":\"1s\"}");
    let told = |e: &Encryption| (&*e.mode, &*e.effective) == ("strict", "permissive");
    until(PATIENCE, "it waits", || {
        let e = encryption(&control);
        told(&e) && e.waits.contains("1 plaintext connection is open")
    });
    drop(c);
    until(PATIENCE, "nobody is there any more", || encryption(&control).effective == "strict");
}
