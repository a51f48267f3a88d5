//! A trust domain made for a test, certificates of it in files, and TLS callers.
use raddle_identity::{
    Identity, Issuer, PeerRule, PrivateKey, SpiffeId, TrustBundle, chain_pem, read_request,
};
use raddle_testkit::frame::{Ask, Frame, FrameReader};
use raddle_testkit::{Config, PATIENCE};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

pub(crate) const DOMAIN: &str = "mesh.test";

pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

/// An authority, and a folder with the callee's certificate.
pub(crate) struct Mesh {
    pub(crate) issuer: Issuer,
    pub(crate) dir: TempDir,
    domain: String,
}

impl Mesh {
    pub(crate) fn new() -> Mesh {
        Mesh::of(DOMAIN)
    }

    pub(crate) fn of(domain: &str) -> Mesh {
        let issuer = Issuer::generate(domain, Duration::from_secs(86_400), now()).unwrap();
        let mesh = Mesh { issuer, dir: tempfile::tempdir().unwrap(), domain: domain.into() };
        mesh.write("pay", Duration::from_secs(3600));
        mesh.write_roots(mesh.issuer.roots());
        mesh
    }

    /// Signs for an app: its chain, and its key.
    pub(crate) fn sign(&self, app: &str, life: Duration) -> (Vec<CertificateDer<'static>>, PrivateKey) {
        let key = PrivateKey::generate().unwrap();
        let proven = read_request(&key.request().unwrap()).unwrap();
        let id = SpiffeId::app(&self.domain, "u1", app).unwrap();
        let signed = self.issuer.sign(&proven, &id, life, now()).unwrap();
        (signed.chain, key)
    }

    /// Puts a new certificate of the callee into the files, as renewal tools do it.
    pub(crate) fn write(&self, app: &str, life: Duration) {
        let (chain, key) = self.sign(app, life);
        let text = chain_pem(&chain) + &key.pem();
        self.put("pay.pem", text.as_bytes());
    }

    pub(crate) fn write_roots(&self, roots: &[CertificateDer<'static>]) {
        let bundle = TrustBundle::new(DOMAIN, roots.to_vec()).unwrap();
        self.put("roots.pem", bundle.pem().as_bytes());
    }

    fn put(&self, name: &str, text: &[u8]) {
        let draft = self.dir.path().join(format!("{name}.new"));
        std::fs::write(&draft, text).unwrap();
        std::fs::rename(draft, self.path(name)).unwrap();
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// The callee's configuration has its identity from the files.
    pub(crate) fn held_by(&self, config: Config) -> Config {
        let show = |p: &Path| p.display().to_string();
        let pem = show(&self.path("pay.pem"));
        config
            .sidecar(&format!(
                "identity: {{certificate: mine, rootsFile: \"{}\"}}",
                show(&self.path("roots.pem"))
            ))
            .document("Certificate", "mine", &format!("{{certificate: \"{pem}\", key: \"{pem}\"}}"))
    }

    /// What a caller is, signed here.
    pub(crate) fn caller(&self, app: &str, life: Duration) -> Identity {
        let (chain, key) = self.sign(app, life);
        let trust = TrustBundle::new(&self.domain, self.issuer.roots().to_vec()).unwrap();
        Identity::new(chain, Arc::new(key), Arc::new(trust), now()).unwrap()
    }

    pub(crate) fn client(&self, app: &str) -> Arc<ClientConfig> {
        client_of(&self.caller(app, Duration::from_secs(3600)))
    }
}

pub(crate) fn client_of(identity: &Identity) -> Arc<ClientConfig> {
    let rule = PeerRule::App { app: "pay".into(), unit: None };
    Arc::new(identity.client_config(rule).unwrap())
}

/// Bytes both ways, encrypted or not.
pub(crate) trait Bytes: Read + Write + Send {}
impl<T: Read + Write + Send> Bytes for T {}

pub(crate) type Tls = StreamOwned<ClientConnection, TcpStream>;

pub(crate) fn tls(to: SocketAddr, config: &Arc<ClientConfig>) -> Tls {
    let name = ServerName::try_from("pay.test").unwrap();
    let client = ClientConnection::new(config.clone(), name).unwrap();
    StreamOwned::new(client, plain(to))
}

pub(crate) fn plain(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Reads and writes of one stream by two owners.
#[derive(Clone)]
pub(crate) struct Wire(Arc<Mutex<Box<dyn Bytes>>>);

impl Read for Wire {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.lock().unwrap().read(into)
    }
}

/// A Bolt caller.
pub(crate) struct Bolt {
    wire: Wire,
    frames: FrameReader<Wire>,
}

impl Bolt {
    pub(crate) fn over(stream: impl Bytes + 'static) -> Bolt {
        let wire = Wire(Arc::new(Mutex::new(Box::new(stream))));
        Bolt { frames: FrameReader::new(wire.clone()), wire }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut wire = self.wire.0.lock().unwrap();
        wire.write_all(bytes)?;
        wire.flush()
    }

    pub(crate) fn ask(&mut self, ask: &Ask) -> io::Result<()> {
        self.send(&ask.bytes())
    }

    pub(crate) fn frame(&mut self) -> io::Result<Option<Frame>> {
        self.frames.next_frame()
    }

    /// Asks and reads what is answered.
    pub(crate) fn call(&mut self, ask: &Ask) -> Frame {
        self.ask(ask).unwrap();
        self.frame().unwrap().expect("an answer")
    }
}

/// Sends one request of HTTP/1.1 and reads its response's status, fields and body.
pub(crate) fn http(stream: &mut impl Bytes, path: &str) -> io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: pay\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    response(stream)
}

pub(crate) fn response(stream: &mut impl Read) -> io::Result<String> {
    let mut all = Vec::new();
    loop {
        if let Some(end) = all.windows(4).position(|w| w == b"\r\n\r\n") {
            let text = String::from_utf8_lossy(&all).into_owned();
            let length = text[..end].lines().find_map(|l| {
                let (name, value) = l.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
            });
            if all.len() >= end + 4 + length.unwrap_or(0) {
                return Ok(text);
            }
        }
        let mut room = [0; 4096];
        match stream.read(&mut room)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => all.extend_from_slice(&room[..n]),
        }
    }
}
