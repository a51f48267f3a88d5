//! A listener that ends TLS: the first byte tells it, plaintext stays allowed beside it.
use crate::http_sides::{HOST, get, nothing_is_left, service};
use raddle_testkit::h1::Client;
use raddle_testkit::h2::{self, PREFACE, flag, kind};
use raddle_testkit::h2_hpack::Block;
use raddle_testkit::http::{H2Side, http_server};
use raddle_testkit::{Config, PATIENCE, Running, TcpServer, free_addr};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use tempfile::TempDir;

type Tls = StreamOwned<ClientConnection, TcpStream>;

struct Secure {
    sidecar: Running,
    listen: SocketAddr,
    root: CertificateDer<'static>,
    _server: TcpServer,
    _dir: TempDir,
}

fn secure() -> Secure {
    let pair = rcgen::KeyPair::generate().unwrap();
    let made = rcgen::CertificateParams::new(vec![HOST.into()]).unwrap().self_signed(&pair).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.pem()).unwrap();
    std::fs::write(&key, pair.serialize_pem()).unwrap();
    let server = http_server(|mut c| while c.request().is_some() && c.ok("answer") {});
    let listen = free_addr();
    let spec = format!("{{certificate: \"{}\", key: \"{}\"}}", cert.display(), key.display());
    let config = Config::new()
        .workers(1)
        .sidecar(&format!("outbound: [{{listen: \"{listen}\", tls: {{certificate: site}}}}]"))
        .sidecar("limits: {headTimeout: 300ms, detectTimeout: 50ms}")
        .document("Certificate", "site", &spec);
    let sidecar = Running::start(&service(config, HOST, "http", &[server.addr]));
    Secure { sidecar, listen, root: made.der().clone(), _server: server, _dir: dir }
}

impl Secure {
    fn connect(&self, alpn: &[&[u8]]) -> Tls {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|a| a.to_vec()).collect();
        let name = ServerName::try_from(HOST).unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(self.listen).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        StreamOwned::new(client, stream)
    }
}

/// Reads until `what` has come.
#[track_caller]
fn until_reads(s: &mut Tls, what: &[u8]) {
    let (mut all, mut room) = (Vec::new(), [0; 4096]);
    while !all.windows(what.len()).any(|w| w == what) {
        match s.read(&mut room) {
            Ok(n @ 1..) => all.extend_from_slice(&room[..n]),
            e => panic!("{e:?} after {}", String::from_utf8_lossy(&all)),
        }
    }
}

fn speaks_h2(s: &mut Tls) {
    s.write_all(PREFACE).unwrap();
    s.write_all(&h2::encode(kind::SETTINGS, 0, 0, &[])).unwrap();
    let block = Block::request("GET", HOST, "/").0;
    s.write_all(&h2::encode(kind::HEADERS, flag::WHOLE, 1, &block)).unwrap();
    until_reads(s, b"answer");
}

#[test]
fn one_port_serves_both_versions_with_tls_and_without() {
    let s = secure();
    for _ in 0..3 {
        let mut one = s.connect(&[b"http/1.1"]);
        for _ in 0..3 {
            one.write_all(get("/").as_bytes()).unwrap();
            until_reads(&mut one, b"answer");
        }
        assert_eq!(one.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        let mut two = s.connect(&[b"h2", b"http/1.1"]);
        speaks_h2(&mut two);
        assert_eq!(two.conn.alpn_protocol(), Some(&b"h2"[..]));
        let mut none = s.connect(&[]);
        none.write_all(get("/").as_bytes()).unwrap();
        until_reads(&mut none, b"answer");
        let mut plain = Client::connect(s.listen);
        plain.send(get("/"));
        assert_eq!(plain.response("GET").unwrap().body, b"answer");
        let mut plain = H2Side::connect(s.listen, &[]);
        let id = plain.get(HOST, "/");
        assert_eq!(plain.done(id).body, b"answer");
    }
    nothing_is_left(&s.sidecar);
}

#[test]
fn garbage_behind_the_first_byte_and_a_handshake_that_stops_end_only_themselves() {
    let s = secure();
    let mut good = s.connect(&[b"http/1.1"]);
    for bytes in [&b"\x16garbage that is no handshake"[..], b"\x16\x03\x01\xff\xff\x00", b"\x16"] {
        let mut c = Client::connect(s.listen);
        c.send(bytes);
        let (_, ended) = c.rest(PATIENCE);
        assert!(ended, "{bytes:?}");
        good.write_all(get("/").as_bytes()).unwrap();
        until_reads(&mut good, b"answer");
    }
    assert_eq!(s.sidecar.admin.metric("raddle_panics_total", &[]), 0);
    s.sidecar.admin.until_metric("raddle_connections_active", &["caller"], |n| n == 1);
    nothing_is_left(&s.sidecar);
}

#[test]
fn a_caller_that_says_close_notify_still_gets_its_answer_and_an_orderly_end() {
    let s = secure();
    let mut c = s.connect(&[b"http/1.1"]);
    c.write_all(get("/").as_bytes()).unwrap();
    c.conn.send_close_notify();
    c.flush().unwrap();
    let mut all = Vec::new();
    // An end without close_notify would be an error: bytes could be missing.
    c.read_to_end(&mut all).unwrap();
    assert!(all.ends_with(b"answer"), "{}", String::from_utf8_lossy(&all));
    nothing_is_left(&s.sidecar);
}

#[test]
fn a_head_that_does_not_come_in_time_is_told_so() {
    let s = secure();
    let mut c = Client::connect(s.listen);
    c.send("GET / HTTP/1.1\r\nHost: sh");
    let begun = std::time::Instant::now();
    assert_eq!(c.response("GET").unwrap().status(), 408);
    assert!(begun.elapsed() < PATIENCE / 2);
    c.closes(PATIENCE).unwrap();
    nothing_is_left(&s.sidecar);
}
