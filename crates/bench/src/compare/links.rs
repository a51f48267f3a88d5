//! Two sidecars with a link between them, in plaintext or TLS: of Raddle, and of Envoy.
use super::peers::{self, Kind, LOOPBACK, Peer, Program, service};
use super::pki::{Files, Pki};
use super::process::{self, Bench};
use crate::Protocol;
use serde_json::{Value, json};
use std::io;
use std::net::SocketAddr;

/// What is spoken between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Link {
    Plaintext,
    Tls,
}

/// What a table calls such a pair.
pub(super) fn name(kind: Kind, link: Link) -> String {
    let how = match link {
        Link::Plaintext => "plaintext",
        Link::Tls => "TLS",
    };
    format!("{} {how}", kind.program())
}

/// A pair: requests go into the first.
pub(super) struct Pair {
    pub(super) caller: Peer,
    pub(super) callee: Peer,
}

/// Starts two proxies of one kind, one worker each, in front of `upstream`. Both hold certificates in any case: what
/// differs is the link.
pub(super) fn start(
    bench: &Bench,
    program: &Program,
    protocol: Protocol,
    link: Link,
    pki: &Pki,
    upstream: SocketAddr,
) -> io::Result<Pair> {
    let files = format!("link-{protocol}-{:?}-{link:?}", program.kind);
    let callee = callee(bench, program, protocol, link, pki, (&format!("{files}-callee"), upstream))?;
    let (listen, admin) = (process::free_address(LOOPBACK)?, process::free_address(LOOPBACK)?);
    let name = format!("{files}-caller");
    let caller = if program.kind == Kind::Raddle {
        let yaml = caller_yaml(protocol, link, pki, [listen, admin, callee.listen]);
        peers::start_raddle(bench, program, &name, &yaml, listen, admin)?
    } else {
        let clusters = [("echo".to_owned(), vec![callee.listen])];
        let config = peers::envoy(protocol, listen, admin, &clusters);
        let config =
            if link == Link::Tls { envoy_tls(&config, protocol, &pki.caller, true)? } else { config };
        peers::start_envoy(bench, program, &name, &config, listen, admin)?
    };
    Ok(Pair { caller, callee })
}

/// The callee's proxy alone; `named`: its files and the app it forwards to.
pub(super) fn callee(
    bench: &Bench,
    program: &Program,
    protocol: Protocol,
    link: Link,
    pki: &Pki,
    named: (&str, SocketAddr),
) -> io::Result<Peer> {
    let (name, upstream) = named;
    let (listen, admin) = (process::free_address(LOOPBACK)?, process::free_address(LOOPBACK)?);
    if program.kind == Kind::Raddle {
        let yaml = callee_yaml(protocol, pki, [listen, admin, upstream]);
        return peers::start_raddle(bench, program, name, &yaml, listen, admin);
    }
    let config = peers::envoy(protocol, listen, admin, &[("echo".to_owned(), vec![upstream])]);
    let config = if link == Link::Tls { envoy_tls(&config, protocol, &pki.callee, false)? } else { config };
    peers::start_envoy(bench, program, name, &config, listen, admin)
}

/// A sidecar's document with an identity, one worker, and the access log on with the default sampling.
fn sidecar(files: &Files, admin: SocketAddr, listener: &str) -> String {
    format!(
        "apiVersion: raddle.io/v1\nkind: Sidecar\nmetadata: {{name: {app}}}\nspec:\n  app: {app}\n  workers: 1\n  \
         admin: \"{admin}\"\n  {listener}\n  accessLog: {{path: {app}-access.log}}\n  {}\n{}",
        files.identity(),
        files.document(),
        app = files.app,
    )
}

fn callee_yaml(protocol: Protocol, pki: &Pki, [listen, admin, upstream]: [SocketAddr; 3]) -> String {
    let listener =
        format!("inbound: [{{listen: \"{listen}\", forward: \"{upstream}\", protocol: {protocol}}}]");
    let rule = "---\napiVersion: raddle.io/v1\nkind: LinkEncryption\nmetadata: {name: bench}\nspec: {mode: permissive}\n";
    sidecar(&pki.callee, admin, &listener) + rule
}

fn caller_yaml(protocol: Protocol, link: Link, pki: &Pki, [listen, admin, to]: [SocketAddr; 3]) -> String {
    let service = service(protocol, protocol.usual_service(), &[to]);
    let service = match link {
        Link::Plaintext => service,
        Link::Tls => service.replace(&format!("\"{to}\"}}"), &format!("\"{to}\", tls: {{required: true}}}}")),
    };
    sidecar(&pki.caller, admin, &format!("outbound: [{{listen: \"{listen}\"}}]")) + &service
}

/// The same configuration of Envoy with mutual TLS 1.3: on its cluster, or on its listener.
fn envoy_tls(config: &str, protocol: Protocol, files: &Files, upstream: bool) -> io::Result<String> {
    let mut config: Value = serde_json::from_str(config)?;
    let alpn: &[&str] = if matches!(protocol, Protocol::Http2 | Protocol::Grpc) { &["h2"] } else { &[] };
    let common = json!({
        "tls_certificates": [{
            "certificate_chain": {"filename": files.certificate}, "private_key": {"filename": files.key},
        }],
        "validation_context": {"trusted_ca": {"filename": files.roots}},
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "alpn_protocols": alpn,
    });
    let socket = |kind: &str, mut context: Value| {
        context["@type"] =
            json!(format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}"));
        json!({"name": "envoy.transport_sockets.tls", "typed_config": context})
    };
    let parts = &mut config["static_resources"];
    if upstream {
        parts["clusters"][0]["transport_socket"] =
            socket("UpstreamTlsContext", json!({"common_tls_context": common}));
    } else {
        parts["listeners"][0]["filter_chains"][0]["transport_socket"] = socket(
            "DownstreamTlsContext",
            json!({"common_tls_context": common, "require_client_certificate": true}),
        );
    }
    Ok(config.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::peers::assert_loads;
    use std::sync::Arc;

    #[test]
    fn raddle_takes_the_configurations_written_for_it() {
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench { dir: dir.path().to_owned(), stop: Arc::default(), proxy_cpu: None };
        let pki = Pki::make(&bench).unwrap();
        let addresses = [1, 2, 3].map(|port| SocketAddr::new(LOOPBACK, port));
        for protocol in [Protocol::Bolt, Protocol::Http2] {
            assert_loads("callee", callee_yaml(protocol, &pki, addresses));
            for link in [Link::Plaintext, Link::Tls] {
                let yaml = caller_yaml(protocol, link, &pki, addresses);
                assert_eq!(yaml.contains("tls: {required: true}"), link == Link::Tls, "{yaml}");
                assert_loads("caller", yaml);
            }
        }
    }

    #[test]
    fn envoy_gets_its_certificates_on_the_right_side() {
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench { dir: dir.path().to_owned(), stop: Arc::default(), proxy_cpu: None };
        let pki = Pki::make(&bench).unwrap();
        let [a, b, c] = [1, 2, 3].map(|port| SocketAddr::new(LOOPBACK, port));
        let config = peers::envoy(Protocol::Bolt, a, b, &[("echo".into(), vec![c])]);
        let upstream = envoy_tls(&config, Protocol::Bolt, &pki.caller, true).unwrap();
        let downstream = envoy_tls(&config, Protocol::Bolt, &pki.callee, false).unwrap();
        assert!(upstream.contains("UpstreamTlsContext") && !upstream.contains("DownstreamTlsContext"));
        assert!(downstream.contains("\"require_client_certificate\":true"));
    }
}
