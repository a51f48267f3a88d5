//! Certificates made for the test, and peers that are not ours: `rustls` with its own buffers.
#![allow(dead_code, reason = "each test file uses its part")]
use raddle_identity::{ServerIdentity, TlsSession};
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion};
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;

pub(crate) struct Made {
    pub(crate) dir: TempDir,
    pub(crate) cert: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) pair: KeyPair,
    pub(crate) der: CertificateDer<'static>,
}

pub(crate) fn make() -> Made {
    make_with(CertificateParams::new(vec!["mesh.test".into()]).unwrap())
}

pub(crate) fn make_with(params: CertificateParams) -> Made {
    let pair = KeyPair::generate().unwrap();
    let made = params.self_signed(&pair).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, made.pem()).unwrap();
    std::fs::write(&key, pair.serialize_pem()).unwrap();
    Made { dir, cert, key, der: made.der().clone(), pair }
}

pub(crate) fn client_config(
    m: &Made,
    alpn: &[&[u8]],
    version: &'static SupportedProtocolVersion,
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(m.der.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut c = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    c.alpn_protocols = alpn.iter().map(|a| a.to_vec()).collect();
    c
}

pub(crate) fn name() -> ServerName<'static> {
    ServerName::try_from("mesh.test").unwrap()
}

/// A foreign client and our server, with nothing between them but memory.
pub(crate) struct Pair {
    pub(crate) client: ClientConnection,
    pub(crate) server: TlsSession,
    /// How many bytes at a time reach the server.
    pub(crate) step: usize,
    /// What the server's application got.
    pub(crate) got: Vec<u8>,
    /// What the client's application got.
    pub(crate) back: Vec<u8>,
    /// Cipher bytes on their way to the client.
    pub(crate) to_client: Vec<u8>,
}

impl Pair {
    pub(crate) fn new(m: &Made, alpn: &[&[u8]], version: &'static SupportedProtocolVersion) -> Pair {
        Pair::of(m, client_config(m, alpn, version))
    }

    pub(crate) fn of(m: &Made, config: ClientConfig) -> Pair {
        let id = ServerIdentity::load(&m.cert, &m.key).unwrap();
        Pair::with(&id, Arc::new(config))
    }

    pub(crate) fn with(id: &ServerIdentity, config: Arc<ClientConfig>) -> Pair {
        Pair {
            client: ClientConnection::new(config, name()).unwrap(),
            server: TlsSession::server(id.config().clone()).unwrap(),
            step: usize::MAX,
            got: vec![],
            back: vec![],
            to_client: vec![],
        }
    }

    /// Cipher bytes the client wants to send.
    pub(crate) fn client_bytes(&mut self) -> Vec<u8> {
        let mut bytes = vec![];
        while self.client.wants_write() {
            self.client.write_tls(&mut bytes).unwrap();
        }
        bytes
    }

    /// Moves bytes both ways until there are none.
    pub(crate) fn pump(&mut self) -> Result<(), raddle_identity::TlsError> {
        loop {
            let mut bytes = self.client_bytes();
            let quiet = bytes.is_empty();
            for piece in bytes.chunks_mut(self.step) {
                let mut at = 0;
                while at < piece.len() {
                    at += self.server.feed(&mut piece[at..], &mut self.got, 4096)?;
                }
                self.server.take_handshake_output(&mut self.to_client);
            }
            if quiet && self.to_client.is_empty() {
                return Ok(());
            }
            self.deliver();
        }
    }

    /// Gives the client what is on its way.
    pub(crate) fn deliver(&mut self) {
        let bytes = std::mem::take(&mut self.to_client);
        let mut rd = &bytes[..];
        while !rd.is_empty() {
            self.client.read_tls(&mut rd).unwrap();
            let state = self.client.process_new_packets().unwrap();
            let start = self.back.len();
            self.back.resize(start + state.plaintext_bytes_to_read(), 0);
            std::io::Read::read_exact(&mut self.client.reader(), &mut self.back[start..]).unwrap();
        }
    }
}
