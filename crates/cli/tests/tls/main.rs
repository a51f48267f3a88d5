//! A control plane and sidecars joined by TLS alone, as real processes: a token gets the first certificate, that one
//! everything else.
mod client;
mod issue;
mod mesh;
mod secrets;

use client::{anonymous, dial, member, publish, report, secret, sign, subscribe};
use mesh::{Mesh, PATIENCE, Sidecar};
use raddle_testkit::{Ask, BoltClient, BoltServer, free_addr, until};
use serde_json::Value;
use std::net::SocketAddr;
use tonic::Code;

const SERVICE: &str = "shop.Cart:1.0";

fn block<T>(wait: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(wait)
}

/// An app `shop` with a sidecar that publishes it, and a caller's sidecar.
fn pair(mesh: &Mesh, app: SocketAddr) -> (Sidecar, Sidecar, SocketAddr) {
    mesh.invite("shop");
    mesh.invite("caller");
    let (inbound, outbound) = (free_addr(), free_addr());
    let shop = mesh.sidecar(
        "shop",
        &format!(
            "  inbound: [{{listen: \"{inbound}\", forward: \"{app}\"}}]\n  publish: {{services: [{{name: \"{SERVICE}\", \
             protocol: bolt, port: {}}}]}}\n",
            inbound.port()
        ),
    );
    let caller = mesh.sidecar("caller", &format!("  outbound: [{{listen: \"{outbound}\"}}]\n"));
    shop.until("it is published", |m| m["publication"]["acknowledged"] == true);
    (shop, caller, outbound)
}

#[track_caller]
fn carries(outbound: SocketAddr) {
    let status = BoltClient::connect(outbound).call(&Ask::to(SERVICE).id(1)).head.status;
    assert_eq!(status, 0, "a request is carried");
}

/// The serial numbers and authorities of what was signed for an app.
fn signed(mesh: &Mesh, app: &str) -> Vec<Value> {
    let all = mesh.json(&["ca", "signed"]);
    let all = all["items"].as_array().or(all.as_array()).expect("a list").clone();
    all.into_iter().filter(|s| s["identity"] == format!("spiffe://mesh.local/unit/u1/app/{app}")).collect()
}

#[test]
fn a_token_joins_a_sidecar_and_its_certificates_keep_it_there() {
    let mesh = Mesh::start();
    let app = BoltServer::echo();
    let (shop, caller, outbound) = pair(&mesh, app.addr);
    carries(outbound);
    let first = block(secret(&shop.socket, "default"));
    until(PATIENCE, "metrics say when it ends", || {
        shop.metric("raddle_certificate_renewals_total") > 0
            && shop.metric("raddle_certificate_expiry_timestamp_seconds") > 1_700_000_000
    });

    // Both are renewed by themselves, and nobody notices.
    let connected = |m: &Value| !m["connected"].is_null();
    shop.until_renewed(1);
    caller.until_renewed(1);
    assert!(
        signed(&mesh, "shop").iter().any(|s| s["proof"].as_str().unwrap_or("").starts_with("certificate "))
    );
    let second = block(secret(&shop.socket, "default"));
    assert_ne!(first, second, "SDS has the new one");
    carries(outbound);

    // The authority is replaced: both are trusted, then the new one signs, then the old one is gone.
    let old = mesh.json(&["ca", "status"])["signing"].clone();
    mesh.done(&["ca", "rotate", "--hold", "1h"]);
    let roots = |s: &Sidecar| block(secret(&s.socket, "ROOTCA")).0.matches("BEGIN CERTIFICATE").count();
    until(PATIENCE, "sidecars trust both", || roots(&shop) == 2 && roots(&caller) == 2);
    mesh.done(&["ca", "rotate", "--step"]);
    let new = mesh.json(&["ca", "status"])["signing"].clone();
    assert_ne!(old, new);
    until(PATIENCE, "the new authority has signed for both", || {
        ["shop", "caller"].iter().all(|app| signed(&mesh, app).iter().any(|s| s["authority"] == new))
    });
    carries(outbound);
    mesh.done(&["ca", "rotate", "--step"]);
    until(PATIENCE, "the old root is trusted no more", || roots(&shop) == 1 && roots(&caller) == 1);
    shop.until_renewed(1);
    let page = shop.until("it is connected", connected);
    assert_eq!(page["publication"]["acknowledged"], true, "{page}");
    assert!(page["certificate"]["problem"].is_null(), "{page}");
    carries(outbound);
    secrets::nowhere(&mesh, &[&shop, &caller], &[first, second]);

    // Who is denied is out, at once and for good; what it knows it keeps.
    let count = signed(&mesh, "caller").len();
    mesh.done(&["ca", "deny", "spiffe://mesh.local/unit/u1/app/caller", "--reason", "stolen"]);
    caller.until("it is out", |m| m["connected"].is_null());
    caller.until("it gets no certificate", |m| m["certificate"]["failures"].as_u64() > Some(0));
    assert_eq!(signed(&mesh, "caller").len(), count);
    assert!(caller.metric("raddle_certificate_failures_total") > 0);
    assert!(caller.mesh()["connected"].is_null());
    carries(outbound);
    shop.until("others stay", connected);
    secrets::nowhere(&mesh, &[&shop, &caller], &[]);
}

#[test]
fn nobody_speaks_for_another_app() {
    let mesh = Mesh::start();
    mesh.invite("shop");
    mesh.invite("bank");
    block(async {
        let (_agent, tls) = member(&mesh, "shop").await;
        let shop = dial(mesh.tls, &tls).await.expect("connected");
        assert_eq!(publish(&shop, "shop").await.expect("its own"), "");
        subscribe(&shop, "shop").await.expect("its own");
        let refused = |result: Result<(), tonic::Status>, code: Code| {
            let status = result.expect_err("it is refused");
            assert_eq!(status.code(), code, "{}", status.message());
        };
        refused(publish(&shop, "bank").await.map(|_| ()), Code::PermissionDenied);
        refused(subscribe(&shop, "bank").await, Code::PermissionDenied);
        // What is served says it itself.
        if report(&shop, "shop").await.is_ok() {
            refused(report(&shop, "bank").await, Code::PermissionDenied);
        }
        refused(sign(&shop, "bank", "").await, Code::PermissionDenied);
        // Not even with a stolen token, on a connection that has an owner.
        let token = String::from_utf8(mesh.bytes("bank.token")).expect("text");
        refused(sign(&shop, "bank", &token).await, Code::PermissionDenied);

        let nobody = dial(mesh.tls, &anonymous(&mesh)).await.expect("connected");
        refused(publish(&nobody, "bank").await.map(|_| ()), Code::Unauthenticated);
        refused(subscribe(&nobody, "bank").await, Code::Unauthenticated);
        refused(report(&nobody, "bank").await, Code::Unauthenticated);
        refused(sign(&nobody, "bank", "").await, Code::Unauthenticated);
        refused(sign(&nobody, "bank", "rdl_0000000000000000_none").await, Code::Unauthenticated);
        let own = String::from_utf8(mesh.bytes("shop.token")).expect("text");
        refused(sign(&nobody, "bank", &own).await, Code::PermissionDenied);
        sign(&nobody, "bank", &token).await.expect("its own token");
    });
}

/// An address of this machine that others can reach; none in a machine without network.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    // Nothing is sent: connecting a datagram socket only chooses the route. The address is for documentation.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified())
}

#[test]
fn rest_off_loopback_is_tls_or_nothing() {
    let Some(own) = own_address() else { return eprintln!("skipped: this machine has no other address") };
    let dir = tempfile::tempdir().expect("a folder");
    let store = dir.path().join("refused.db").display().to_string();
    let listen = format!("{own}:0");
    let args = ["control", "--store", &store, "--grpc-listen", "off", "--tls-listen", "off", "--rest-listen"];
    let refused = std::process::Command::new(env!("CARGO_BIN_EXE_raddle")).args(args).arg(&listen).output();
    let refused = refused.expect("the binary runs");
    let says = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(2), "{says}");
    assert!(says.contains("--insecure-listen"), "{says}");

    let mesh = Mesh::listening(&listen);
    let ask = |url: &str, more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_raddle"));
        command.args(["ca", "status", "--server", url]).args(more);
        for name in ["RADDLE_TOKEN", "RADDLE_TOKEN_FILE", "RADDLE_CA_FILE"] {
            command.env_remove(name);
        }
        command.output().expect("the binary runs")
    };
    let token = mesh.path("control.admin-token").display().to_string();
    let url = format!("https://{}", mesh.rest);
    let plain = ask(&format!("http://{}", mesh.rest), &["--token-file", &token]);
    assert!(!plain.status.success(), "a token is not sent in plaintext");
    let unknown = ask(&url, &["--token-file", &token]);
    assert!(!unknown.status.success(), "nobody vouches for it");
    let file = mesh.path("control.roots.pem").display().to_string();
    let done = ask(&url, &["--ca-file", &file, "--token-file", &token]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let nameless = ask(&url, &["--ca-file", &file]);
    assert!(!nameless.status.success(), "a token is needed");
}
