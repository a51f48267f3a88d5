//! What [`ServerIdentity::load`] makes of files, and what it says about those it cannot use.
mod common;

use common::{Made, make, make_with};
use raddle_identity::ServerIdentity;
use rcgen::CertificateParams;
use std::path::Path;

fn says(cert: &Path, key: &Path, words: &[&str]) {
    let e = ServerIdentity::load(cert, key).unwrap_err().to_string();
    for w in words {
        assert!(e.contains(w), "{w:?} is not in: {e}");
    }
}

fn write(m: &Made, name: &str, text: &[u8]) -> std::path::PathBuf {
    let path = m.dir.path().join(name);
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn chain_and_key_may_be_in_one_file() {
    let m = make();
    let mut both = std::fs::read(&m.key).unwrap();
    both.extend(std::fs::read(&m.cert).unwrap());
    let both = write(&m, "both.pem", &both);
    ServerIdentity::load(&both, &both).unwrap();
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let m = make();
    says(&m.dir.path().join("no.pem"), &m.key, &["no.pem", "No such file"]);
    says(&m.cert, &m.dir.path().join("no.key"), &["no.key", "No such file"]);
    says(m.dir.path(), &m.key, &["cannot be read"]);
}

#[test]
fn the_wrong_file_is_said_to_be_what_it_is() {
    let m = make();
    says(&m.key, &m.key, &["key.pem holds no certificate, but a private key", "certificate first"]);
    says(&m.cert, &m.cert, &["cert.pem holds no private key, but a certificate", "PKCS#8"]);
    let empty = write(&m, "empty.pem", b"");
    says(&empty, &m.key, &["empty.pem holds no certificate;"]);
    let der = write(&m, "cert.der", &m.der);
    says(&der, &m.key, &["cert.der holds no certificate;"]);
    let large = write(&m, "large", &vec![b'a'; 2 << 20]);
    says(&large, &m.key, &["larger than 1048576 bytes"]);
}

#[test]
fn damage_is_found_where_it_is() {
    let m = make();
    let text = std::fs::read_to_string(&m.cert).unwrap();
    let cut = write(&m, "cut.pem", &text.as_bytes()[..text.len() - 30]);
    says(&cut, &m.key, &["cut.pem is no PEM"]);
    let noise = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let second = write(&m, "second.pem", format!("{text}{noise}").as_bytes());
    says(&second, &m.key, &["certificate 2 cannot be read"]);
    let bad = write(&m, "bad.key", b"-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n");
    says(&m.cert, &bad, &["bad.key: the private key cannot be used", "ECDSA P-256"]);
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (m, other) = (make(), make());
    says(
        &m.cert,
        &other.key,
        &["key.pem: the private key is not that of the first certificate in", "cert.pem"],
    );
}

#[test]
fn an_encrypted_key_is_refused_with_the_way_out() {
    let m = make();
    let head = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let k = write(&m, "e.key", head.as_bytes());
    says(&m.cert, &k, &["e.key: the private key is encrypted", "openssl pkey"]);
    let old = "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMIIB\n-----END RSA PRIVATE KEY-----\n";
    let k = write(&m, "old.key", old.as_bytes());
    says(&m.cert, &k, &["old.key: the private key is encrypted"]);
}

#[test]
fn an_expired_certificate_serves_with_a_warning() {
    let mut params = CertificateParams::new(vec!["mesh.test".into()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2020, 2, 29);
    params.not_after = rcgen::date_time_ymd(2021, 3, 1);
    let m = make_with(params);
    let id = ServerIdentity::load(&m.cert, &m.key).unwrap();
    assert_eq!(id.validity().not_before, 1_582_934_400);
    assert_eq!(id.validity().not_after, 1_614_556_800);
    let later = id.validity().not_after + 40 * 86400;
    assert_eq!(
        id.warning(later).unwrap().to_string(),
        "the certificate expired 40 days ago; clients refuse it, renew it"
    );
    assert!(id.warning(1_600_000_000).is_none());
}

#[test]
fn the_key_shows_in_no_error_and_no_debug_output() {
    let m = make();
    let id = ServerIdentity::load(&m.cert, &m.key).unwrap();
    let pem = m.pair.serialize_pem();
    let line = pem.lines().nth(1).unwrap();
    let bytes = format!("{:?}", &m.pair.serialize_der()[40..60]);
    let other = make();
    let e = ServerIdentity::load(&other.cert, &m.key).unwrap_err();
    let bytes = bytes.trim_matches(['[', ']']);
    for text in [format!("{id:?}"), format!("{:?}", id.config()), format!("{e:?} {e}")] {
        assert!(!text.contains(line) && !text.contains(bytes), "{text}");
    }
}
