//! `raddle ca issue`, for software without a sidecar.
use crate::mesh::Mesh;
use crate::signed;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

fn issue(mesh: &Mesh, app: &str, token: &str, out: &str) -> Output {
    let path = |name: &str| mesh.path(name).display().to_string();
    Command::new(env!("CARGO_BIN_EXE_raddle"))
        .args(["ca", "issue", "--app", app, "--unit", "u1", "--control", &mesh.tls.to_string()])
        .args(["--token-file", &path(token), "--roots-file", &path("roots.pem"), "--out", &path(out)])
        .output()
        .expect("the binary runs")
}

#[test]
fn a_token_gets_a_certificate_of_its_app_and_of_no_other() {
    let mesh = Mesh::start();
    mesh.invite("ledger");
    let done = issue(&mesh, "ledger", "ledger.token", "ledger-tls");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.contains("spiffe://mesh.local/unit/u1/app/ledger"), "{said}");
    let mode = |name: &str| fs::metadata(mesh.path(name)).expect(name).permissions().mode() & 0o777;
    assert_eq!(mode("ledger-tls"), 0o700);
    for name in ["cert.pem", "key.pem", "roots.pem"] {
        assert_eq!(mode(&format!("ledger-tls/{name}")), 0o600, "{name}");
    }
    let key = fs::read_to_string(mesh.path("ledger-tls/key.pem")).expect("a key");
    assert!(key.contains("PRIVATE KEY") && !said.contains("PRIVATE KEY"));
    assert_eq!(signed(&mesh, "ledger").len(), 1, "the control plane has noted it");

    let again = issue(&mesh, "ledger", "ledger.token", "ledger-tls");
    assert!(!again.status.success(), "a folder that is there is not written to");
    assert_eq!(fs::read_to_string(mesh.path("ledger-tls/key.pem")).expect("a key"), key);
    let other = issue(&mesh, "pay", "ledger.token", "pay-tls");
    let why = String::from_utf8_lossy(&other.stderr).into_owned();
    assert!(!other.status.success() && why.contains("signs no certificate"), "{why}");
    assert!(!mesh.path("pay-tls").exists(), "what was not got leaves nothing");
}
