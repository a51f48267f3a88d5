//! What listeners say: TLS, capture, where to.
use raddle_core::Protocol;
use raddle_model::{Capture, LoadOptions, PortProtocol, Resources, Source, UnknownDestinations, load};
use std::path::Path;

fn read(name: &str, text: &str) -> Resources {
    match load(&[Source { name: name.into(), text: text.into() }], LoadOptions::default()) {
        Ok((resources, warnings)) => {
            assert_eq!(warnings, []);
            resources
        }
        Err(report) => panic!("{report}"),
    }
}

const CAPTURED: &str = "\
apiVersion: raddle.io/v1
kind: Sidecar
metadata: {name: s}
spec:
  app: web
  inbound:
  - {listen: 0.0.0.0:15006, capture: redirect, tls: {certificate: own}, appProtocol: http}
  - {listen: 127.0.0.1:8443, forward: 127.0.0.1:8080}
  outbound:
  - {listen: 0.0.0.0:15001, capture: tproxy, ports: {3306: tcp, 20880: dubbo}}
  - {listen: 127.0.0.1:3128, unknownDestinations: allow}
  - {listen: 127.0.0.1:3129}
  - {listen: 127.0.0.1:3130, capture: redirect, protocol: tcp, unknownDestinations: deny}
---
apiVersion: raddle.io/v1
kind: Certificate
metadata: {name: own}
spec: {certificate: tls/chain.pem, key: /etc/keys/key.pem}
";

#[test]
fn captured_listeners_need_no_address_of_the_app_and_let_unknown_destinations_pass() {
    let sidecar = read("conf/web.yaml", CAPTURED).sidecar.expect("it has one");
    let [captured, plain] = sidecar.inbound.as_slice() else { panic!("two") };
    assert_eq!((captured.forward, captured.capture), (None, Some(Capture::Redirect)));
    assert_eq!(captured.tls.as_ref().map(|tls| tls.certificate.as_str()), Some("own"));
    assert_eq!(captured.app_protocol, Some(Protocol::Http));
    assert_eq!((plain.capture, plain.tls.is_none(), plain.app_protocol), (None, true, None));
    let unknown: Vec<_> = sidecar.outbound.iter().map(|l| l.unknown_destinations).collect();
    use UnknownDestinations::{Allow, Deny};
    assert_eq!(unknown, [Allow, Allow, Deny, Deny]);
    let port = |port, protocol| PortProtocol { port, protocol };
    assert_eq!(sidecar.outbound[0].ports, [port(3306, Protocol::Tcp), port(20880, Protocol::Dubbo)]);
    assert_eq!((sidecar.limits.max_streams, sidecar.limits.head_timeout.as_secs()), (256, 10));
}

#[test]
fn both_families_may_listen_on_one_port() {
    let text = "apiVersion: raddle.io/v1\nkind: Sidecar\nmetadata: {name: s}\nspec:\n  app: web\n  outbound:\n  \
                - {listen: 0.0.0.0:15001, capture: redirect}\n  - {listen: \"[::]:15001\", capture: redirect}\n  \
                inbound:\n  - {listen: \"[::]:8080\", forward: 127.0.0.1:8080}\n";
    assert_eq!(read("both.yaml", text).sidecar.expect("it has one").outbound.len(), 2);
}

#[test]
fn files_of_certificates_are_found_from_the_folder_of_their_yaml() {
    let certificate = |name| read(name, CAPTURED).certificates.remove(0);
    let own = certificate("/etc/raddle/web.yaml");
    assert_eq!(own.certificate, Path::new("/etc/raddle/tls/chain.pem"));
    assert_eq!(own.key, Path::new("/etc/keys/key.pem"));
    assert_eq!(certificate("web.yaml").certificate, Path::new("tls/chain.pem"));
    assert_eq!(certificate("conf/web.yaml").certificate, Path::new("conf/tls/chain.pem"));
}

#[test]
fn every_protocol_can_be_declared() {
    for protocol in Protocol::ALL {
        let listener = format!("{{listen: '127.0.0.1:1', capture: redirect, protocol: {protocol}}}");
        let text = format!(
            "apiVersion: raddle.io/v1\nkind: Sidecar\nmetadata: {{name: s}}\n\
             spec: {{app: a, inbound: [{listener}]}}\n"
        );
        assert_eq!(read("s.yaml", &text).sidecar.expect("it has one").inbound[0].protocol, Some(protocol));
    }
}
