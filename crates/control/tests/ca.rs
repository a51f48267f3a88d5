//! Who gets which certificate, and who does not; how roots take each other's place.
mod ca_support;

use ca_support::{Mesh, asker, code, csr, until};
use raddle_control::ca::{Asker, Ca, CaError, CaOptions, DenyTarget, SignError, Stage, Step};
use raddle_control::tokens::Tokens;
use raddle_identity::{
    Clients, GivenCa, Identity, Issuer, Leaf, PeerRule, PrivateKey, SpiffeId, TrustBundle, crypto,
};
use raddle_store::{Embedded, Store};
use std::sync::Arc;
use std::time::Duration;

#[tokio::test]
async fn a_token_gets_the_name_it_is_bound_to_and_no_other() {
    let mesh = Mesh::new().await;
    let ca = mesh.ca().await;
    let token = mesh.token("pay", Some("u1"), Some("pay-1"), false).await;
    let answer = mesh.sign(&ca, &Asker::default(), ("pay-1", "pay", "u1"), &token).await.unwrap();
    let leaf = Leaf::read(&answer.chain[0]).unwrap();
    assert_eq!(leaf.id.to_string(), "spiffe://mesh.local/unit/u1/app/pay");
    assert_eq!(leaf.not_after as u64, answer.not_after);
    for (node, wrong) in [
        (("pay-1", "order", "u1"), "app"),
        (("pay-1", "PAY", "u1"), "app"),
        (("pay-1", "pay", "u2"), "unit"),
        (("pay-1", "pay", ""), "unit"),
        (("pay-2", "pay", "u1"), "instance"),
    ] {
        let said = mesh.sign(&ca, &Asker::default(), node, &token).await.unwrap_err();
        assert!(matches!(&said, SignError::Forbidden(why) if why.contains(wrong)), "{node:?}: {said}");
    }
    for node in
        [("", "pay", "u1"), ("pay-1", "", "u1"), ("pay-1", "pay/../order", "u1"), ("a\nb", "pay", "u1")]
    {
        let said = mesh.sign(&ca, &Asker::default(), node, &token).await.unwrap_err();
        assert!(matches!(said, SignError::Invalid(_)), "{node:?}: {said}");
    }
}

#[tokio::test]
async fn who_proves_nothing_gets_nothing() {
    let mesh = Mesh::new().await;
    let ca = mesh.ca().await;
    let api = mesh.api_token().await;
    let expired = mesh.expired_token("pay").await;
    let revoked = mesh.token("pay", None, None, false).await;
    mesh.tokens.revoke(revoked.split('_').nth(1).unwrap()).await.unwrap();
    let made_up = format!("rdl_{}_{}", "0".repeat(16), "0".repeat(64));
    for token in ["", "pay", "a.b.c", &made_up, &expired, &revoked] {
        let said = mesh.sign(&ca, &Asker::default(), ("pay-1", "pay", ""), token).await.unwrap_err();
        assert!(matches!(said, SignError::NotProven(_)), "{token}: {said}");
    }
    let said = mesh.sign(&ca, &Asker::default(), ("pay-1", "pay", ""), &api).await.unwrap_err();
    assert!(matches!(said, SignError::Forbidden(_)), "{said}");
}

#[tokio::test]
async fn a_one_time_token_gives_one_certificate_on_any_replica() {
    let mesh = Mesh::new().await;
    let (ca, tokens) = (mesh.ca().await, Tokens::open(mesh.store.clone(), None).await.unwrap());
    let other = Ca::open(mesh.store.clone(), tokens.clone(), mesh.options()).await.unwrap();
    let token = mesh.token("pay", None, None, true).await;
    until("the other replica knows the token", async || tokens.authenticate(&token).is_ok()).await;
    let nobody = Asker::default();
    let first = csr();
    let requests = [
        mesh.request(("pay-1", "pay", ""), &token, &first),
        mesh.request(("pay-1", "pay", ""), &token, &csr()),
    ];
    let (a, b) = tokio::join!(ca.sign(&nobody, &requests[0]), other.sign(&nobody, &requests[1]));
    assert_eq!(u8::from(a.is_ok()) + u8::from(b.is_ok()), 1, "{a:?} {b:?}");
    let (winner, loser) = if a.is_ok() { (0, 1) } else { (1, 0) };
    for ca in [&ca, &other] {
        let said = ca.sign(&nobody, &requests[loser]).await.unwrap_err();
        assert_eq!(
            said,
            SignError::NotProven("the token was good for one certificate and has been used".into())
        );
        // The answer may have been lost: the same key is signed again.
        ca.sign(&nobody, &requests[winner]).await.unwrap();
    }
}

#[tokio::test]
async fn a_certificate_renews_its_own_name_and_no_other() {
    let mesh = Mesh::new().await;
    let ca = mesh.ca().await;
    let token = mesh.token("order", None, None, false).await;
    let answer = mesh.sign(&ca, &Asker::default(), ("order-1", "order", "u1"), &token).await.unwrap();
    let order = asker(&answer);
    mesh.sign(&ca, &order, ("order-1", "order", "u1"), "").await.unwrap();
    for node in [("pay-1", "pay", "u1"), ("order-1", "order", "u2"), ("order-1", "order", "")] {
        let said = mesh.sign(&ca, &order, node, "").await.unwrap_err();
        assert!(matches!(said, SignError::Forbidden(_)), "{node:?}: {said}");
    }
    // Nor with a token of somebody else that it got hold of.
    let stolen = mesh.token("pay", None, None, false).await;
    let said = mesh.sign(&ca, &order, ("pay-1", "pay", ""), &stolen).await.unwrap_err();
    assert!(matches!(said, SignError::Forbidden(_)), "{said}");
    // The connection may live longer than the certificate.
    mesh.wait(86_401);
    let said = mesh.sign(&ca, &order, ("order-1", "order", "u1"), "").await.unwrap_err();
    assert!(matches!(said, SignError::NotProven(_)), "{said}");
}

#[tokio::test]
async fn the_control_planes_own_name_is_nobody_elses() {
    let mesh = Mesh::new().await;
    let ca = mesh.ca().await;
    let own = ca.identity().borrow().clone();
    assert_eq!(own.id().to_string(), "spiffe://mesh.local/control");
    let asker = Asker { peer: Some(Arc::new(own.leaf().clone())), from: None };
    for node in [("c", "control", ""), ("c", "", ""), ("c", "pay", "")] {
        assert!(mesh.sign(&ca, &asker, node, "").await.is_err(), "{node:?}");
    }
}

#[tokio::test]
async fn a_request_that_is_none_is_refused_after_the_proof() {
    let mesh = Mesh::new().await;
    let ca = mesh.ca().await;
    let token = mesh.token("pay", None, None, true).await;
    let mut changed = csr();
    *changed.last_mut().unwrap() ^= 1;
    for bad in [vec![], vec![0; 100], vec![0x30; 20_000], changed] {
        let request = mesh.request(("pay-1", "pay", ""), &token, &bad);
        let said = ca.sign(&Asker::default(), &request).await.unwrap_err();
        assert!(matches!(said, SignError::Invalid(_)), "{said}");
    }
    // None of it used the token.
    mesh.sign(&ca, &Asker::default(), ("pay-1", "pay", ""), &token).await.unwrap();
}

#[tokio::test]
async fn who_is_denied_gets_no_certificate_until_the_denial_is_taken_back() {
    let mesh = Mesh::new().await;
    let (ca, other) = (mesh.ca().await, mesh.ca().await);
    let token = mesh.token("pay", None, None, false).await;
    let answer = mesh.sign(&ca, &Asker::default(), ("pay-1", "pay", ""), &token).await.unwrap();
    let pay = asker(&answer);
    let serial = pay.peer.as_ref().unwrap().serial.to_string();
    let by_serial = DenyTarget::parse(&serial).unwrap();
    ca.deny(&by_serial, "key stolen", "admin").await.unwrap();
    until("the other replica denies it", async || other.denials().len() == 1).await;
    for ca in [&ca, &other] {
        let said = mesh.sign(ca, &pay, ("pay-1", "pay", ""), "").await.unwrap_err();
        assert!(matches!(said, SignError::Forbidden(_)), "{said}");
    }
    // The name is not denied, only that certificate.
    mesh.sign(&ca, &Asker::default(), ("pay-1", "pay", ""), &token).await.unwrap();
    let by_id = DenyTarget::parse("spiffe://mesh.local/app/pay").unwrap();
    let told = ca.deny(&by_id, "taken over", "admin").await.unwrap();
    assert_eq!(told.target, "spiffe://mesh.local/app/pay");
    let said = mesh.sign(&ca, &Asker::default(), ("pay-1", "pay", ""), &token).await.unwrap_err();
    assert_eq!(said, SignError::Forbidden("spiffe://mesh.local/app/pay is denied".into()));
    assert!(ca.undeny(&by_id).await.unwrap() && ca.undeny(&by_serial).await.unwrap());
    assert!(!ca.undeny(&by_id).await.unwrap());
    mesh.sign(&ca, &pay, ("pay-1", "pay", ""), "").await.unwrap();
    assert!(DenyTarget::parse("").is_none() && DenyTarget::parse("pay").is_none());
}

#[tokio::test]
async fn who_asks_too_often_waits() {
    let mesh = Mesh::new().await;
    let ca = mesh.ca().await;
    let token = mesh.token("pay", None, None, false).await;
    let mut refused = 0;
    for _ in 0..30 {
        let signed = mesh.sign(&ca, &Asker::default(), ("pay-1", "pay", ""), &token).await;
        refused += u8::from(matches!(signed, Err(SignError::TooOften(_))));
    }
    assert_eq!(refused, 10);
    mesh.sign(&ca, &Asker::default(), ("pay-2", "pay", ""), &token).await.unwrap();
    // Guessing is slow; who has a certificate does not wait behind those who guess.
    let from = Some("10.0.0.1".parse().unwrap());
    for _ in 0..50 {
        let asker = Asker { peer: None, from };
        assert!(matches!(
            mesh.sign(&ca, &asker, ("x", "pay", ""), "guess").await,
            Err(SignError::NotProven(_))
        ));
    }
    let asker_there = Asker { peer: None, from };
    assert!(matches!(
        mesh.sign(&ca, &asker_there, ("x", "pay", ""), "guess").await,
        Err(SignError::TooOften(_))
    ));
    let answer = mesh.sign(&ca, &Asker::default(), ("pay-3", "pay", ""), &token).await.unwrap();
    let known = Asker { from, ..asker(&answer) };
    mesh.sign(&ca, &known, ("pay-3", "pay", ""), "").await.unwrap();
}

#[tokio::test]
async fn what_was_signed_is_recorded_and_forgotten_in_time() {
    let mesh = Mesh::new().await;
    let ca = mesh.ca().await;
    let token = mesh.token("pay", None, None, false).await;
    let from = Some("10.0.0.7".parse().unwrap());
    let answer = mesh.sign(&ca, &Asker { peer: None, from }, ("pay-1", "pay", ""), &token).await.unwrap();
    let leaf = Leaf::read(&answer.chain[0]).unwrap();
    let issued = ca.issued(100).await.unwrap();
    let [one] = &issued[..] else { panic!("{issued:?}") };
    assert_eq!(
        (&one.serial, &*one.id, &*one.instance),
        (&leaf.serial.to_string(), "spiffe://mesh.local/app/pay", "pay-1")
    );
    assert_eq!((&*one.from, one.not_after), ("10.0.0.7", leaf.not_after));
    assert!(one.proof.starts_with("token ") && !one.proof.contains(token.rsplit('_').next().unwrap()));
    mesh.wait(20 * 86400);
    ca.tick().await.unwrap();
    assert_eq!(ca.issued(100).await.unwrap().len(), 1, "it ended 19 days ago");
    mesh.wait(20 * 86400);
    ca.tick().await.unwrap();
    assert_eq!(ca.issued(100).await.unwrap().len(), 0);
}

#[tokio::test]
async fn replicas_that_start_at_once_share_one_authority() {
    let mesh = Mesh::new().await;
    let all = futures_util::future::join_all((0..4).map(|_| mesh.ca())).await;
    let roots: Vec<_> = all.iter().map(|ca| ca.trust().borrow().roots().to_vec()).collect();
    assert!(roots.iter().all(|r| *r == roots[0] && r.len() == 1));
    let token = mesh.token("pay", None, None, false).await;
    for ca in &all {
        let answer = mesh.sign(ca, &Asker::default(), ("pay-1", "pay", ""), &token).await.unwrap();
        assert_eq!(*answer.roots[0], *roots[0][0]);
    }
}

#[tokio::test]
async fn the_authoritys_key_is_in_the_store_only_sealed() {
    let mesh = Mesh::new().await;
    let dir = tempfile::tempdir().unwrap();
    let issuer = Issuer::generate("mesh.local", Duration::from_secs(86400), mesh.now()).unwrap();
    let given = ca_support::files(dir.path(), &issuer);
    let ca =
        Ca::open(mesh.store.clone(), mesh.tokens.clone(), CaOptions { given: Some(given), ..mesh.options() })
            .await
            .unwrap();
    let token = mesh.token("pay", None, None, false).await;
    mesh.sign(&ca, &Asker::default(), ("pay-1", "pay", ""), &token).await.unwrap();

    let mut dump = Vec::new();
    for entry in mesh.store.list("").await.unwrap().entries {
        dump.extend_from_slice(entry.key.as_bytes());
        dump.extend_from_slice(&entry.value);
    }
    let shown = format!(
        "{ca:?} {:?} {:?} {}",
        ca.state(),
        mesh.options(),
        serde_json::to_string(&ca.issued(9).await.unwrap()).unwrap()
    );
    let seal = std::fs::read(mesh.options().seal_key).unwrap();
    for place in [&dump[..], shown.as_bytes()] {
        for (secret, what) in secrets(&issuer, &seal, &token) {
            let found = place.windows(secret.len()).any(|w| w.eq_ignore_ascii_case(&secret));
            assert!(!found, "{what}");
        }
    }
    assert!(String::from_utf8_lossy(&dump).contains("sealed"));
}

/// The key in every form it could leak in.
fn secrets(issuer: &Issuer, seal: &[u8], token: &str) -> Vec<(Vec<u8>, &'static str)> {
    let der = issuer.key().der();
    // PKCS#8 of P-256: the scalar is 32 bytes, 36 bytes from the beginning.
    let scalar = &der[36..68];
    let pem = issuer.key().pem();
    let line = pem.lines().nth(1).unwrap().as_bytes().to_vec();
    vec![
        (der.to_vec(), "DER"),
        (crypto::hex(der).into_bytes(), "DER in hexadecimal"),
        (scalar.to_vec(), "scalar"),
        (crypto::hex(scalar).into_bytes(), "scalar in hexadecimal"),
        (line[20..60].to_vec(), "PEM"),
        (format!("{:?}", &scalar[..16]).trim_matches(['[', ']']).as_bytes().to_vec(), "scalar as numbers"),
        (seal.to_vec(), "seal key"),
        (crypto::hex(seal).into_bytes(), "seal key in hexadecimal"),
        (token.rsplit('_').next().unwrap().as_bytes().to_vec(), "token"),
    ]
}

#[tokio::test]
async fn another_seal_key_opens_nothing_and_none_is_made_beside_it() {
    let mesh = Mesh::new().await;
    drop(mesh.ca().await);
    let open = async |options| Ca::open(mesh.store.clone(), mesh.tokens.clone(), options).await.unwrap_err();
    let missing = mesh.dir.path().join("other.key");
    let said = open(CaOptions { seal_key: missing.clone(), ..mesh.options() }).await;
    assert!(matches!(said, CaError::Seal(_)) && !missing.exists(), "{said}");
    std::fs::write(&missing, [9; 32]).unwrap();
    std::fs::set_permissions(&missing, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let said = open(CaOptions { seal_key: missing, ..mesh.options() }).await.to_string();
    assert!(said.contains("was sealed with key") && said.contains("give the file"), "{said}");
    let said = open(CaOptions { trust_domain: "other.domain".into(), ..mesh.options() }).await.to_string();
    assert!(said.contains("a mesh keeps its trust domain"), "{said}");
    // Without leave no key file is made, even if the store is empty.
    let store: Arc<dyn Store> = Arc::new(Embedded::in_memory().unwrap());
    let options =
        CaOptions { seal_key: mesh.dir.path().join("none"), create_seal_key: false, ..mesh.options() };
    assert!(matches!(Ca::open(store, mesh.tokens.clone(), options).await, Err(CaError::Seal(_))));
}

/// A member with a certificate that the authority signed now, trusting whom it trusts now.
async fn member(mesh: &Mesh, ca: &Ca, app: &str) -> Identity {
    let key = PrivateKey::generate().unwrap();
    let token = mesh.token(app, None, None, false).await;
    let request = mesh.request(
        (&format!("{app}-{}", crypto::hex(&crypto::random::<4>())), app, ""),
        &token,
        &key.request().unwrap(),
    );
    let answer = ca.sign(&Asker::default(), &request).await.unwrap();
    let der = |all: Vec<bytes::Bytes>| all.into_iter().map(|c| c.to_vec().into()).collect::<Vec<_>>();
    let trust = TrustBundle::new("mesh.local", der(answer.roots)).unwrap();
    Identity::new(der(answer.chain), Arc::new(key), Arc::new(trust), mesh.now()).unwrap()
}

/// Whether both take each other, in both directions.
fn talk(mesh: &Mesh, a: &Identity, b: &Identity) -> bool {
    let one = |client: &Identity, server: &Identity| {
        let rule = PeerRule::App { app: server.id().app_name().into(), unit: None };
        let server = server.server_config(PeerRule::Member, Clients::Required, None).unwrap();
        ca_support::shake(client.client_config(rule).unwrap(), server, mesh.now())
    };
    one(a, b) && one(b, a)
}

#[tokio::test]
async fn old_and_new_certificates_talk_at_every_stage_of_a_rotation() {
    let mesh = Mesh::new().await;
    let (ca, other) = (mesh.ca().await, mesh.ca().await);
    let mut trust = ca.trust();
    let before = member(&mesh, &ca, "order").await;
    let old_root = trust.borrow_and_update().roots().to_vec();

    // Announced: both trusted, the old one signs.
    let state = ca.rotate(None, Some(Duration::from_secs(3600))).await.unwrap();
    assert!(matches!(state.rotation.as_ref().unwrap().stage, Stage::Announced { .. }));
    assert_eq!(trust.borrow_and_update().roots().len(), 2, "the new root is told");
    assert!(matches!(ca.rotate(None, None).await, Err(CaError::Rotation(_))), "one at a time");
    until("the other replica trusts it", async || other.trust().borrow().roots().len() == 2).await;
    assert_eq!(ca.advance(false).await.unwrap(), Step::Waits);
    let announced = member(&mesh, &other, "pay").await;
    assert!(talk(&mesh, &before, &announced));
    assert!(
        raddle_identity::verify_chain(
            announced.chain(),
            &TrustBundle::new("mesh.local", old_root.clone()).unwrap(),
            mesh.now()
        )
        .is_ok()
    );

    // The time comes: whichever replica looks first switches.
    mesh.wait(3600);
    other.tick().await.unwrap();
    until("the first replica switches too", async || ca.state().signing != state.signing).await;
    let switched = member(&mesh, &ca, "pay").await;
    assert!(
        raddle_identity::verify_chain(
            switched.chain(),
            &TrustBundle::new("mesh.local", old_root.clone()).unwrap(),
            mesh.now()
        )
        .is_err()
    );
    // Who has not renewed since the announcement was told the new root; who has, has it from the answer.
    let told = before.with_trust(trust.borrow().clone());
    assert!(talk(&mesh, &told, &switched) && talk(&mesh, &announced, &switched));
    // The control plane's own certificate is of the new authority, at once.
    let own = ca.identity().borrow().clone();
    assert!(
        raddle_identity::verify_chain(
            own.chain(),
            &TrustBundle::new("mesh.local", old_root.clone()).unwrap(),
            mesh.now()
        )
        .is_err()
    );

    // What the old one signed runs out, then it goes.
    mesh.wait(86_400);
    ca.tick().await.unwrap();
    assert_eq!(ca.trust().borrow().roots().len(), 2, "clocks may differ");
    mesh.wait(601);
    ca.tick().await.unwrap();
    let left = ca.trust().borrow().roots().to_vec();
    assert!(left.len() == 1 && left != old_root);
    until("the other replica forgets it too", async || other.trust().borrow().roots().len() == 1).await;
    let after = member(&mesh, &other, "order").await;
    assert!(talk(&mesh, &after, &member(&mesh, &ca, "pay").await));
    // A replica that starts now takes up where the others are.
    let late = mesh.ca().await;
    assert_eq!(late.state(), ca.state());
}

#[tokio::test]
async fn a_rotation_is_taken_back_at_every_stage() {
    let mesh = Mesh::new().await;
    let ca = mesh.ca().await;
    let first = ca.state();
    ca.rotate(None, None).await.unwrap();
    ca.revert().await.unwrap();
    assert_eq!(*ca.state(), *first);
    assert_eq!(ca.trust().borrow().roots().len(), 1);
    ca.rotate(None, None).await.unwrap();
    assert_eq!(ca.advance(true).await.unwrap(), Step::Switched);
    let of_new = member(&mesh, &ca, "pay").await;
    ca.revert().await.unwrap();
    assert_eq!(ca.state().signing, first.signing);
    let of_old = member(&mesh, &ca, "order").await;
    assert!(talk(&mesh, &of_new, &of_old), "both are trusted until what the new one signed has ended");
    assert_eq!(ca.advance(true).await.unwrap(), Step::Finished);
    assert!(!talk(&mesh, &of_new, &member(&mesh, &ca, "order").await));
    assert!(matches!(ca.advance(true).await, Err(CaError::Rotation(_))));
    assert!(matches!(ca.revert().await, Err(CaError::Rotation(_))));
}

#[tokio::test]
async fn a_root_near_its_end_is_replaced_without_being_asked_for() {
    let mesh = Mesh::new().await;
    let options = CaOptions { root_lifetime: Duration::from_secs(100 * 86400), ..mesh.options() };
    let ca = Ca::open(mesh.store.clone(), mesh.tokens.clone(), options).await.unwrap();
    ca.tick().await.unwrap();
    assert!(ca.state().rotation.is_none());
    mesh.wait(91 * 86400);
    ca.tick().await.unwrap();
    assert!(ca.state().rotation.is_some());
}

#[tokio::test]
async fn a_given_authority_takes_the_place_of_the_one_there_is() {
    let mesh = Mesh::new().await;
    let first = mesh.ca().await;
    let dir = tempfile::tempdir().unwrap();
    let issuer = Issuer::generate("mesh.local", Duration::from_secs(86400 * 365), mesh.now()).unwrap();
    let given = Some(ca_support::files(dir.path(), &issuer));
    let options = CaOptions { given, ..mesh.options() };
    let ca = Ca::open(mesh.store.clone(), mesh.tokens.clone(), options.clone()).await.unwrap();
    let rotation = ca.state().rotation.clone().unwrap();
    assert_eq!((&*rotation.to, ca.state().authorities.len()), (issuer.id(), 2));
    // Told again it changes nothing.
    let again = Ca::open(mesh.store.clone(), mesh.tokens.clone(), options).await.unwrap();
    assert_eq!(again.state().rotation, Some(rotation));
    until("the first replica knows it", async || first.state().rotation.is_some()).await;
    let bad = GivenCa { cert: dir.path().join("none.pem"), ..ca_support::files(dir.path(), &issuer) };
    assert!(matches!(ca.rotate(Some(bad), None).await, Err(CaError::Issuer(_))));
}

#[tokio::test]
async fn the_own_certificate_is_renewed_and_names_where_it_is_called() {
    let mesh = Mesh::new().await;
    let options = CaOptions { hosts: vec!["control.example".into(), "10.1.2.3".into()], ..mesh.options() };
    let ca = Ca::open(mesh.store.clone(), mesh.tokens.clone(), options).await.unwrap();
    let mut serving = ca.serving();
    serving.mark_unchanged();
    let own = ca.identity().borrow().clone();
    let (_, certificate) = x509_parser::parse_x509_certificate(&own.chain()[0]).unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names.len(), 6, "its id, three local names, two given");
    ca.tick().await.unwrap();
    assert!(!serving.has_changed().unwrap());
    mesh.wait(43_300);
    ca.tick().await.unwrap();
    assert!(serving.has_changed().unwrap());
    assert_ne!(ca.identity().borrow().leaf().serial, own.leaf().serial);
    let bad = CaOptions { hosts: vec!["no host".into()], ..mesh.options() };
    assert!(Ca::open(mesh.store.clone(), mesh.tokens.clone(), bad).await.is_err());
}

#[tokio::test]
async fn over_grpc_only_what_the_connection_proves_counts() {
    let mesh = Mesh::new().await;
    let ca = mesh.ca().await;
    let server = ca_support::serve(&ca).await;
    let token = mesh.token("pay", None, None, false).await;
    let anonymous =
        raddle_identity::anonymous_client_config(&ca.trust().borrow(), PeerRule::Control).unwrap();
    let mut client = server.client(anonymous).await.unwrap();
    let mut ask = async |node: (&str, &str, &str), token: &str| {
        client.sign(mesh.request(node, token, &csr())).await.map_err(|s| code(&s))
    };
    ask(("pay-1", "pay", ""), &token).await.unwrap();
    assert_eq!(ask(("pay-1", "pay", ""), "").await.unwrap_err(), "Unauthenticated");
    assert_eq!(ask(("pay-1", "order", ""), &token).await.unwrap_err(), "PermissionDenied");

    let pay = member(&mesh, &ca, "pay").await;
    let mut client = server.client(pay.client_config(PeerRule::Control).unwrap()).await.unwrap();
    client.sign(mesh.request(("pay-1", "pay", ""), "", &csr())).await.unwrap();
    let said = client.sign(mesh.request(("order-1", "order", ""), "", &csr())).await.unwrap_err();
    assert_eq!(code(&said), "PermissionDenied");

    // Denied, it loses the connection it has and gets no other.
    ca.deny(&DenyTarget::Id(SpiffeId::app("mesh.local", "", "pay").unwrap()), "test", "test").await.unwrap();
    until("the connection is closed", || {
        let mut client = client.clone();
        let request = mesh.request(("pay-1", "pay", ""), "", &csr());
        async move { client.sign(request).await.is_err_and(|s| code(&s) != "PermissionDenied") }
    })
    .await;
    let Ok(mut again) = server.client(pay.client_config(PeerRule::Control).unwrap()).await else { return };
    // In TLS 1.3 the client learns of the refusal with its first request.
    let said = again.sign(mesh.request(("pay-1", "pay", ""), "", &csr())).await.unwrap_err();
    assert_ne!(code(&said), "PermissionDenied");
}
