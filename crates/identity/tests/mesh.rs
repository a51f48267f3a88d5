//! Who gets a connection to whom.
use raddle_identity::{
    BadIdentity, Clients, Identity, Issuer, PeerRule, PrivateKey, SpiffeId, TrustBundle,
    anonymous_client_config,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: Duration = Duration::from_secs(86400);

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn member(issuer: &Issuer, trust: &[&Issuer], unit: &str, app: &str) -> Identity {
    let id = SpiffeId::app("mesh.local", unit, app).unwrap();
    issued(issuer, trust, &id)
}

fn issued(issuer: &Issuer, trust: &[&Issuer], id: &SpiffeId) -> Identity {
    let key = PrivateKey::generate().unwrap();
    let signed = issuer.sign_request(&key.request().unwrap(), id, DAY, now()).unwrap();
    let roots = trust.iter().flat_map(|i| i.roots().to_vec());
    let trust = TrustBundle::new("mesh.local", roots).unwrap();
    Identity::new(signed.chain, Arc::new(key), Arc::new(trust), now()).unwrap()
}

fn root() -> Issuer {
    Issuer::generate("mesh.local", 365 * DAY, now()).unwrap()
}

fn app(name: &str, unit: Option<&str>) -> PeerRule {
    PeerRule::App { app: name.into(), unit: unit.map(Into::into) }
}

/// Whether both ends take each other.
fn shake(client: ClientConfig, server: ServerConfig) -> Result<(), rustls::Error> {
    let name = ServerName::try_from("any.name").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    for _ in 0..8 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        server.read_tls(&mut &bytes[..]).unwrap();
        server.process_new_packets()?;
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
        }
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok(())
}

fn open(server: &Identity, clients: Clients) -> ServerConfig {
    server.server_config(PeerRule::Member, clients, None).unwrap()
}

#[test]
fn a_server_is_known_by_its_app_and_unit() {
    let root = root();
    let (order, pay) = (member(&root, &[&root], "u1", "order"), member(&root, &[&root], "u1", "pay"));
    let try_it = |rule: PeerRule| shake(order.client_config(rule).unwrap(), open(&pay, Clients::Required));
    for good in [
        app("pay", None),
        app("pay", Some("u1")),
        PeerRule::Member,
        PeerRule::Ids(["spiffe://mesh.local/unit/u1/app/pay".into()].into()),
    ] {
        try_it(good).unwrap();
    }
    for bad in [
        app("order", None),
        app("pay", Some("u2")),
        app("pay", Some("")),
        app("pa", None),
        app("", None),
        PeerRule::Control,
        PeerRule::Ids(["spiffe://mesh.local/unit/u1/app/pa".into()].into()),
        PeerRule::Ids([].into()),
    ] {
        assert!(try_it(bad.clone()).is_err(), "{bad:?}");
    }
}

#[test]
fn roots_of_others_and_ids_of_other_trust_domains_are_nobody() {
    let (ours, theirs) = (root(), root());
    let (us, them) = (member(&ours, &[&ours], "", "order"), member(&theirs, &[&theirs], "", "pay"));
    assert!(shake(us.client_config(PeerRule::Member).unwrap(), open(&them, Clients::Optional)).is_err());
    assert!(shake(them.client_config(PeerRule::Member).unwrap(), open(&us, Clients::Optional)).is_err());
    let foreign = issued(&ours, &[&ours], &SpiffeId::app("other.domain", "", "pay").unwrap());
    assert!(shake(us.client_config(app("pay", None)).unwrap(), open(&foreign, Clients::Optional)).is_err());
    assert!(shake(foreign.client_config(PeerRule::Member).unwrap(), open(&us, Clients::Required)).is_err());
}

#[test]
fn who_shows_no_certificate_is_served_where_none_is_needed() {
    let root = root();
    let control = issued(&root, &[&root], &SpiffeId::control("mesh.local").unwrap());
    let anonymous = || anonymous_client_config(control.trust(), PeerRule::Control).unwrap();
    shake(anonymous(), open(&control, Clients::Optional)).unwrap();
    assert!(shake(anonymous(), open(&control, Clients::Required)).is_err());
    let first = || anonymous_client_config(control.trust(), PeerRule::FirstContact).unwrap();
    shake(first(), open(&control, Clients::Optional)).unwrap();
    let elsewhere = issued(&root, &[&root], &SpiffeId::control("other.domain").unwrap());
    shake(first(), open(&elsewhere, Clients::Optional)).unwrap();
    assert!(shake(anonymous(), open(&elsewhere, Clients::Optional)).is_err());
    let fake = member(&root, &[&root], "", "control");
    assert!(shake(anonymous(), open(&fake, Clients::Optional)).is_err(), "an app is not the control plane");
    assert!(shake(first(), open(&fake, Clients::Optional)).is_err(), "nor at the first contact");
}

#[test]
fn who_is_refused_gets_no_connection() {
    let root = root();
    let (order, pay) = (member(&root, &[&root], "", "order"), member(&root, &[&root], "", "pay"));
    let denied = order.leaf().serial.clone();
    let refusing = |clients| {
        let denied = denied.clone();
        pay.server_config(PeerRule::Member, clients, Some(Arc::new(move |l| l.serial == denied))).unwrap()
    };
    let client = |i: &Identity| i.client_config(app("pay", None)).unwrap();
    assert!(shake(client(&order), refusing(Clients::Required)).is_err());
    assert!(shake(client(&order), refusing(Clients::Optional)).is_err());
    shake(client(&member(&root, &[&root], "", "order")), refusing(Clients::Required)).unwrap();
}

#[test]
fn old_and_new_leaves_talk_while_roots_overlap() {
    let (old, new) = (root(), root());
    let stages: [(&[&Issuer], &Issuer, &Issuer); 3] =
        [(&[&old, &new], &old, &old), (&[&old, &new], &old, &new), (&[&old, &new], &new, &new)];
    for (trust, one, other) in stages {
        let (a, b) = (member(one, trust, "", "order"), member(other, trust, "", "pay"));
        shake(a.client_config(app("pay", None)).unwrap(), open(&b, Clients::Required)).unwrap();
        shake(b.client_config(app("order", None)).unwrap(), open(&a, Clients::Required)).unwrap();
    }
}

#[test]
fn parts_that_do_not_belong_together_are_no_identity() {
    let (ours, theirs) = (root(), root());
    let id = SpiffeId::app("mesh.local", "", "pay").unwrap();
    let key = Arc::new(PrivateKey::generate().unwrap());
    let signed = ours.sign_request(&key.request().unwrap(), &id, DAY, now()).unwrap();
    let bundle = |i: &Issuer| Arc::new(TrustBundle::new("mesh.local", i.roots().to_vec()).unwrap());
    let make = |key: &Arc<PrivateKey>, trust: &Issuer, now| {
        Identity::new(signed.chain.clone(), key.clone(), bundle(trust), now).map(|_| ())
    };
    make(&key, &ours, now()).unwrap();
    assert_eq!(make(&Arc::new(PrivateKey::generate().unwrap()), &ours, now()), Err(BadIdentity::Mismatch));
    assert!(matches!(make(&key, &theirs, now()), Err(BadIdentity::Untrusted(_))));
    assert!(matches!(make(&key, &ours, now() + 2 * 86400), Err(BadIdentity::Untrusted(_))));
    let root = Identity::new(ours.chain().to_vec(), key.clone(), bundle(&ours), now());
    assert_eq!(root.map(|_| ()), Err(BadIdentity::NoId));
}
