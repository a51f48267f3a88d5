//! What an authority signs, and what it refuses; judged by OpenSSL too, where it is installed.
use raddle_identity::{
    BadRequest, GivenCa, Identity, Issuer, IssuerError, Leaf, MAX_REQUEST, PeerRule, PrivateKey, SpiffeId,
    TrustBundle, chain_pem, read_request,
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, SanType};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: Duration = Duration::from_secs(86400);

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

fn issuer() -> Issuer {
    Issuer::generate("mesh.local", 365 * DAY, now()).unwrap()
}

fn pay() -> SpiffeId {
    SpiffeId::app("mesh.local", "u1", "pay").unwrap()
}

/// OpenSSL's output, or nothing where it is not installed.
fn openssl(dir: &Path, args: &str) -> Option<String> {
    let out = Command::new("openssl").current_dir(dir).args(args.split(' ')).output().ok()?;
    Some(String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr))
}

#[test]
fn what_is_signed_holds_the_given_name_and_verifies_with_openssl() {
    let issuer = issuer();
    let key = PrivateKey::generate().unwrap();
    let signed = issuer.sign_request(&key.request().unwrap(), &pay(), DAY, now()).unwrap();
    let leaf = Leaf::read(&signed.chain[0]).unwrap();
    assert_eq!((&leaf.id, &leaf.serial), (&pay(), &signed.serial));
    assert_eq!(leaf.not_after, signed.not_after);
    assert!(leaf.not_before <= now() - 60 && leaf.not_after <= now() + 86400);
    let trust = Arc::new(TrustBundle::new("mesh.local", issuer.roots().to_vec()).unwrap());
    Identity::new(signed.chain.clone(), Arc::new(key), trust.clone(), now()).unwrap();

    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("roots.pem"), trust.pem()).unwrap();
    std::fs::write(dir.path().join("leaf.pem"), chain_pem(&signed.chain)).unwrap();
    let Some(said) = openssl(dir.path(), "verify -x509_strict -purpose sslclient -CAfile roots.pem leaf.pem")
    else {
        return;
    };
    assert!(said.contains("leaf.pem: OK"), "{said}");
    let text = openssl(dir.path(), "x509 -in leaf.pem -noout -text").unwrap();
    for part in [
        "URI:spiffe://mesh.local/unit/u1/app/pay",
        "X509v3 Subject Alternative Name: critical",
        "TLS Web Server Authentication, TLS Web Client Authentication",
        "CA:FALSE",
        "Digital Signature",
        "ecdsa-with-SHA256",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_server_is_signed_with_the_names_it_is_called_by() {
    let issuer = issuer();
    let key = PrivateKey::generate().unwrap();
    let id = SpiffeId::control("mesh.local").unwrap();
    let hosts = ["localhost".to_owned(), "127.0.0.1".into(), "::1".into(), "control.mesh.example".into()];
    let signed = issuer.sign_server(&key, &id, &hosts, DAY, now()).unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&signed.chain[0]).unwrap();
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names.len(), 5);
    assert!(matches!(
        issuer.sign_server(&key, &id, &["no host".into()], DAY, now()),
        Err(IssuerError::BadHost(_))
    ));
}

#[test]
fn names_and_uses_of_a_request_are_ignored() {
    let pair = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["evil.example".into()]).unwrap();
    params.subject_alt_names.push(SanType::URI("spiffe://mesh.local/unit/u1/app/admin".try_into().unwrap()));
    params.distinguished_name.push(DnType::CommonName, "admin");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    let request = params.serialize_request(&pair).unwrap();
    let signed = issuer().sign_request(request.der(), &pay(), DAY, now()).unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&signed.chain[0]).unwrap();
    assert!(!certificate.is_ca());
    assert_eq!(certificate.subject().iter().count(), 0);
    let names = certificate.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names.len(), 1);
    assert_eq!(Leaf::read(&signed.chain[0]).unwrap().id, pay());
    assert!(!certificate.key_usage().unwrap().unwrap().value.key_cert_sign());
}

#[test]
fn a_changed_request_is_refused_wherever_it_was_changed() {
    let key = PrivateKey::generate().unwrap();
    let request = key.request().unwrap();
    for at in 0..request.len() {
        let mut changed = request.clone();
        changed[at] ^= 1;
        assert!(read_request(&changed).is_err(), "byte {at}");
    }
    for len in 0..request.len() {
        assert_eq!(read_request(&request[..len]).unwrap_err(), BadRequest::Unreadable);
    }
    let longer = [&request[..], b"\0"].concat();
    assert_eq!(read_request(&longer).unwrap_err(), BadRequest::Unreadable);
    assert_eq!(read_request(&vec![0x30; MAX_REQUEST + 1]).unwrap_err(), BadRequest::TooLarge);
}

#[test]
fn kinds_of_keys_are_taken_or_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let cases = [
        ("rsa:1024", "", Some(BadRequest::Weak)),
        ("rsa:2048", "", None),
        ("ec -pkeyopt ec_paramgen_curve:P-384", "", None),
        ("ec -pkeyopt ec_paramgen_curve:P-256", "", None),
        ("ec -pkeyopt ec_paramgen_curve:secp256k1", "", Some(BadRequest::Unsupported)),
        ("ed25519", "", None),
        ("rsa:2048", " -sha1", Some(BadRequest::Unsupported)),
    ];
    for (kind, digest, wanted) in cases {
        let args = format!(
            "req -new -nodes -subj /CN=x -newkey {kind} -keyout k.pem -outform DER -out r.der{digest}"
        );
        let _ = std::fs::remove_file(dir.path().join("r.der"));
        let Some(said) = openssl(dir.path(), &args) else { return };
        let request = std::fs::read(dir.path().join("r.der")).expect(&said);
        let read = read_request(&request);
        assert_eq!(read.as_ref().err(), wanted.as_ref(), "{kind}{digest}");
        if read.is_ok() {
            issuer().sign_request(&request, &pay(), DAY, now()).unwrap();
        }
    }
}

/// A root and an intermediate as OpenSSL makes them, in the layout of Istio's `cacerts`.
fn cacerts(dir: &Path, kind: &str) -> Option<()> {
    std::fs::write(
        dir.join("x.cnf"),
        "[ca]\nbasicConstraints=critical,CA:TRUE,pathlen:0\nkeyUsage=critical,keyCertSign,cRLSign\n\
         subjectKeyIdentifier=hash\n[leaf]\nbasicConstraints=CA:FALSE\n",
    )
    .unwrap();
    openssl(
        dir,
        &format!(
            "req -x509 -nodes -newkey {kind} -keyout root-key.pem -out root-cert.pem -days 30 -subj /C=DE/O=Acme/OU=a/OU=b/CN=Root"
        ),
    )?;
    openssl(
        dir,
        &format!(
            "req -new -nodes -newkey {kind} -keyout ca-key.pem -out ca.csr -subj /O=Acme/OU=mesh/OU=two/CN=Intermediate"
        ),
    )?;
    openssl(
        dir,
        "x509 -req -in ca.csr -CA root-cert.pem -CAkey root-key.pem -CAcreateserial -days 20 -extfile x.cnf -extensions ca -out ca-cert.pem",
    )?;
    let both =
        [std::fs::read(dir.join("ca-cert.pem")).unwrap(), std::fs::read(dir.join("root-cert.pem")).unwrap()];
    std::fs::write(dir.join("cert-chain.pem"), both.concat()).unwrap();
    Some(())
}

#[test]
fn a_given_intermediate_signs_what_verifies_against_its_root() {
    for kind in ["ec -pkeyopt ec_paramgen_curve:P-256", "rsa:2048", "ed25519"] {
        let dir = tempfile::tempdir().unwrap();
        let Some(()) = cacerts(dir.path(), kind) else { return };
        let issuer = GivenCa::directory(dir.path()).load(now()).expect(kind);
        let key = PrivateKey::generate().unwrap();
        let signed = issuer.sign_request(&key.request().unwrap(), &pay(), 3650 * DAY, now()).unwrap();
        assert_eq!(signed.chain.len(), 2, "the intermediate goes along, the root does not");
        assert!(signed.not_after <= issuer.validity().not_after, "no longer than the authority");
        std::fs::write(dir.path().join("leaf.pem"), chain_pem(&signed.chain)).unwrap();
        let said = openssl(dir.path(), "verify -CAfile root-cert.pem -untrusted leaf.pem leaf.pem").unwrap();
        assert!(said.contains("leaf.pem: OK"), "{kind}: {said}");
        // Kept and put together again it is the same.
        let again =
            Issuer::restore(issuer.chain().to_vec(), issuer.roots().to_vec(), issuer.key().der(), now())
                .unwrap();
        assert_eq!(again.id(), issuer.id());
    }
}

#[test]
fn a_given_authority_that_cannot_be_one_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let Some(()) = cacerts(dir.path(), "ec -pkeyopt ec_paramgen_curve:P-256") else { return };
    let given = GivenCa::directory(dir.path());
    let said = |g: &GivenCa, now: i64| g.load(now).unwrap_err().to_string();

    let wrong_key = GivenCa { key: dir.path().join("root-key.pem"), ..given.clone() };
    assert_eq!(said(&wrong_key, now()), "the key is not that of the authority's certificate");
    assert_eq!(said(&given, now() + 25 * 86400), "the authority expired 5 days ago");
    assert!(said(&given, now() - 25 * 86400).starts_with("the authority becomes valid in"));

    openssl(dir.path(), "req -new -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -keyout leaf-key.pem -out leaf.csr -subj /CN=leaf").unwrap();
    openssl(dir.path(), "x509 -req -in leaf.csr -CA ca-cert.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile x.cnf -extensions leaf -out leaf.pem").unwrap();
    let leaf =
        GivenCa { cert: dir.path().join("leaf.pem"), key: dir.path().join("leaf-key.pem"), ..given.clone() };
    assert!(said(&leaf, now()).starts_with("certificate 1 of the chain is not an authority's"));

    openssl(dir.path(), "x509 -req -in leaf.csr -CA ca-cert.pem -CAkey ca-key.pem -CAcreateserial -days 2 -extfile x.cnf -extensions ca -out below.pem").unwrap();
    let below =
        GivenCa { cert: dir.path().join("below.pem"), key: dir.path().join("leaf-key.pem"), ..given.clone() };
    assert!(said(&below, now()).contains("(path length)"));

    let other = tempfile::tempdir().unwrap();
    cacerts(other.path(), "ed25519").unwrap();
    let stray = GivenCa { roots: Some(other.path().join("root-cert.pem")), ..given.clone() };
    assert!(said(&stray, now()).contains("does not verify against its roots"));

    let missing = GivenCa { key: dir.path().join("nothing"), ..given };
    assert!(said(&missing, now()).contains("nothing cannot be read"));
}

#[test]
fn an_expired_authority_signs_nothing() {
    let issuer = issuer();
    let request = PrivateKey::generate().unwrap().request().unwrap();
    let late = now() + 366 * 86400;
    assert!(matches!(issuer.sign_request(&request, &pay(), DAY, late), Err(IssuerError::Expired(_))));
}

#[test]
fn keys_show_in_no_debug_output() {
    let issuer = issuer();
    let key = PrivateKey::generate().unwrap();
    let signed = issuer.sign_request(&key.request().unwrap(), &pay(), DAY, now()).unwrap();
    let trust = Arc::new(TrustBundle::new("mesh.local", issuer.roots().to_vec()).unwrap());
    let pem = key.pem().to_string();
    let secret = key.der()[36..52].to_vec();
    let shown = format!("{issuer:?} {key:?}");
    let identity = Identity::new(signed.chain, Arc::new(key), trust, now()).unwrap();
    let said = format!("{shown} {identity:?} {:?}", identity.client_config(PeerRule::Member).unwrap());
    assert!(!said.contains(pem.lines().nth(1).unwrap()));
    assert!(!said.contains(&raddle_identity::crypto::hex(&secret)) && !said.contains(&format!("{secret:?}")));
}

/// A number from 0 to `below`, always the same ones.
fn chance(state: &mut u64, below: usize) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state % below.max(1) as u64) as usize
}

#[test]
fn whatever_comes_as_a_request_or_certificate_is_read_or_refused() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/csr");
    let mut seeds: Vec<Vec<u8>> =
        std::fs::read_dir(corpus).unwrap().map(|f| std::fs::read(f.unwrap().path()).unwrap()).collect();
    assert!(seeds.len() >= 4);
    seeds.push(PrivateKey::generate().unwrap().request().unwrap());
    let keys: Vec<Vec<u8>> =
        seeds.iter().filter_map(|s| Some(read_request(s).ok()?.der().to_vec())).collect();
    let mut state = 0x2545_f491_4f6c_dd1d;
    for round in 0..20_000 {
        let mut bytes = seeds[round % seeds.len()].clone();
        for _ in 0..=chance(&mut state, 4) {
            if bytes.is_empty() {
                break;
            }
            let at = chance(&mut state, bytes.len());
            match chance(&mut state, 4) {
                0 => bytes[at] = chance(&mut state, 256) as u8,
                1 => drop(bytes.drain(at..(at + chance(&mut state, 8)).min(bytes.len()))),
                2 => bytes.insert(at, [0x30, 0x80, 0xff, 0x84][chance(&mut state, 4)]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        // Neither panics; and no other key than the one that signed comes out.
        if let Ok(key) = read_request(&bytes) {
            assert!(keys.contains(&key.der().to_vec()));
        }
        let _ = Leaf::read(&bytes);
    }
}
