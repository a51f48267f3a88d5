//! Where secrets must not be.
use crate::mesh::{Mesh, Sidecar};
use std::fmt::Write as _;

/// How a P-256 key in clear begins, in PKCS #8 (RFC 5208) and SEC 1 (RFC 5915), as DER.
const CLEAR: [&[u8]; 2] = [
    &[
        0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
        0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x04,
    ],
    &[0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20],
];
/// The same in base64, as far as it does not depend on the key.
const CLEAR_TEXT: [&str; 3] = ["MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG", "MHcCAQEEI", "PRIVATE KEY"];

/// Everything that must hold no secret, by name.
fn places(mesh: &Mesh, sidecars: &[&Sidecar]) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for file in ["control.db", "control.log", "shop.log", "caller.log", "shop-cache", "caller-cache"] {
        all.push((file.to_owned(), mesh.bytes(file)));
    }
    all.push(("control's arguments".into(), mesh.control.cmdline()));
    for s in sidecars {
        all.push(("a sidecar's arguments".into(), s.process.cmdline()));
        for page in ["/config", "/mesh", "/stats", "/metrics", "/events", "/clusters"] {
            all.push((page.to_owned(), s.get(page).unwrap_or_default().into_bytes()));
        }
    }
    for asked in [
        &["token", "list"][..],
        &["ca", "status"],
        &["ca", "signed"],
        &["ca", "denied"],
        &["events"],
        &["audit"],
        &["status"],
    ] {
        let output = mesh.raddle(&[asked, &["-o", "json"]].concat());
        all.push((format!("{asked:?}"), [output.stdout, output.stderr].concat()));
    }
    all
}

/// No key and no token is where somebody may read it. `served` are chains and keys got over SDS.
#[track_caller]
pub(crate) fn nowhere(mesh: &Mesh, sidecars: &[&Sidecar], served: &[(String, String)]) {
    let mut secrets: Vec<Vec<u8>> = CLEAR.iter().map(|c| c.to_vec()).collect();
    secrets.extend(CLEAR_TEXT.map(|t| t.as_bytes().to_vec()));
    for (_, key) in served {
        // Each line of base64, and half a line: whoever wraps it otherwise has that in one piece.
        let lines = key.lines().filter(|l| !l.starts_with("-----"));
        secrets.extend(lines.clone().skip(1).filter(|l| l.len() >= 32).map(|l| l.as_bytes()[..32].to_vec()));
        let der = der_of(key);
        assert!(der.len() > 64, "a key was served");
        // The private number itself: in PKCS #8 of P-256 it begins at byte 36.
        let number = &der[36..68];
        secrets.push(number.to_vec());
        let mut hex = String::new();
        for b in number {
            write!(hex, "{b:02x}").expect("writing to a text does not fail");
        }
        secrets.push(hex.into_bytes());
    }
    for token in ["shop.token", "caller.token", "control.admin-token"] {
        let text = String::from_utf8(mesh.bytes(token)).expect("text");
        let secret = text.trim().rsplit('_').next().expect("a token").to_owned();
        assert!(secret.len() >= 40, "256 bits");
        secrets.push(secret.into_bytes());
    }
    secrets.push(mesh.bytes("control.seal-key"));
    for (place, bytes) in places(mesh, sidecars) {
        for secret in &secrets {
            let found = bytes.windows(secret.len()).any(|w| w == &secret[..]);
            assert!(!found, "{place} holds a secret: {:?}", String::from_utf8_lossy(secret));
        }
    }
}

fn der_of(pem: &str) -> Vec<u8> {
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).expect("a key").secret_der().to_vec()
}
