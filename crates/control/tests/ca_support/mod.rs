//! A mesh with a clock that the test moves.
#![allow(dead_code, clippy::unused_self, reason = "each test file uses its part")]
use hyper_util::rt::TokioIo;
use raddle_control::ca::{Asker, Ca, CaOptions, SignError};
use raddle_control::serve::{Limits, serve as run};
use raddle_control::tokens::{Kind, NewToken, Role, Tokens};
use raddle_identity::{GivenCa, Issuer, Leaf, PrivateKey, chain_pem};
use raddle_store::{Embedded, Store};
use raddle_xds::proto::certificates_client::CertificatesClient;
use raddle_xds::proto::{Node, SignRequest, SignResponse};
use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tonic::transport::{Channel, Endpoint, Error, Uri};

pub(crate) struct Mesh {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) dir: tempfile::TempDir,
    ahead: Arc<AtomicI64>,
}

impl Mesh {
    pub(crate) async fn new() -> Mesh {
        let store: Arc<dyn Store> = Arc::new(Embedded::in_memory().unwrap());
        let tokens = Tokens::open(store.clone(), None).await.unwrap();
        Mesh { store, tokens, dir: tempfile::tempdir().unwrap(), ahead: Arc::default() }
    }

    pub(crate) fn options(&self) -> CaOptions {
        let ahead = self.ahead.clone();
        CaOptions {
            seal_key: self.dir.path().join("seal.key"),
            clock: Arc::new(move || real() + ahead.load(Ordering::SeqCst)),
            ..CaOptions::default()
        }
    }

    pub(crate) async fn ca(&self) -> Arc<Ca> {
        Ca::open(self.store.clone(), self.tokens.clone(), self.options()).await.unwrap()
    }

    pub(crate) fn now(&self) -> i64 {
        real() + self.ahead.load(Ordering::SeqCst)
    }

    /// Lets time pass.
    pub(crate) fn wait(&self, seconds: i64) {
        self.ahead.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) async fn token(
        &self,
        app: &str,
        unit: Option<&str>,
        instance: Option<&str>,
        once: bool,
    ) -> String {
        let text = |t: Option<&str>| t.map(str::to_owned);
        let kind = Kind::Bootstrap { app: app.into(), unit: text(unit), instance: text(instance), once };
        self.make(kind, None).await
    }

    pub(crate) async fn api_token(&self) -> String {
        self.make(Kind::Api { role: Role::Admin }, None).await
    }

    /// A token whose time is over.
    pub(crate) async fn expired_token(&self, app: &str) -> String {
        let kind = Kind::Bootstrap { app: app.into(), unit: None, instance: None, once: false };
        let token = self.make(kind, Some(Duration::ZERO)).await;
        until("the token has expired", async || self.tokens.authenticate(&token).is_err()).await;
        token
    }

    async fn make(&self, kind: Kind, lifetime: Option<Duration>) -> String {
        let new = NewToken { name: "test".into(), kind, lifetime, by: "test".into() };
        self.tokens.create(new).await.unwrap().1.to_string()
    }

    pub(crate) fn request(
        &self,
        (id, app, unit): (&str, &str, &str),
        token: &str,
        csr: &[u8],
    ) -> SignRequest {
        let node = Node { id: id.into(), app: app.into(), unit: unit.into(), ..Node::default() };
        SignRequest { node: Some(node), request: csr.to_vec().into(), token: token.into() }
    }

    pub(crate) async fn sign(
        &self,
        ca: &Ca,
        asker: &Asker,
        node: (&str, &str, &str),
        token: &str,
    ) -> Result<SignResponse, SignError> {
        ca.sign(asker, &self.request(node, token, &csr())).await
    }
}

fn real() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

pub(crate) fn csr() -> Vec<u8> {
    PrivateKey::generate().unwrap().request().unwrap()
}

/// Who asks with the certificate that was answered.
pub(crate) fn asker(answer: &SignResponse) -> Asker {
    Asker { peer: Some(Arc::new(Leaf::read(&answer.chain[0]).unwrap())), from: None }
}

pub(crate) fn code(status: &tonic::Status) -> String {
    format!("{:?}", status.code())
}

/// Waits until it is so, for at most ten seconds.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !so().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An authority in files.
pub(crate) fn files(dir: &Path, issuer: &Issuer) -> GivenCa {
    let given =
        GivenCa { cert: dir.join("ca-cert.pem"), key: dir.join("ca-key.pem"), chain: None, roots: None };
    std::fs::write(&given.cert, chain_pem(issuer.chain())).unwrap();
    std::fs::write(&given.key, issuer.key().pem().as_bytes()).unwrap();
    given
}

/// A clock that stands.
#[derive(Debug)]
struct At(i64);

impl TimeProvider for At {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0 as u64)))
    }
}

/// Whether client and server take each other at a time.
pub(crate) fn shake(mut client: ClientConfig, mut server: ServerConfig, now: i64) -> bool {
    client.time_provider = Arc::new(At(now));
    server.time_provider = Arc::new(At(now));
    let name = ServerName::try_from("any.name").unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    for _ in 0..8 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        server.read_tls(&mut &bytes[..]).unwrap();
        if server.process_new_packets().is_err() {
            return false;
        }
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
        }
        if client.process_new_packets().is_err() {
            return false;
        }
    }
    !client.is_handshaking() && !server.is_handshaking()
}

/// A control plane that serves certificates over TLS.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    _end: tokio::sync::oneshot::Sender<()>,
}

pub(crate) async fn serve(ca: &Arc<Ca>) -> Server {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = tonic::service::Routes::new(ca.service()).prepare().into_axum_router();
    let (end, ended) = tokio::sync::oneshot::channel();
    let tls = ca.tls();
    tokio::spawn(async move {
        run(listener, router, Some(tls), Limits::default(), async { drop(ended.await) }).await;
    });
    Server { address, _end: end }
}

impl Server {
    pub(crate) async fn client(
        &self,
        mut config: ClientConfig,
    ) -> Result<CertificatesClient<Channel>, Error> {
        config.alpn_protocols = vec![b"h2".to_vec()];
        let (config, address) = (Arc::new(config), self.address);
        let connector = tower::service_fn(move |_: Uri| {
            let config = config.clone();
            async move {
                let stream = tokio::net::TcpStream::connect(address).await?;
                let name = ServerName::try_from("localhost").unwrap();
                let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await?;
                Ok::<_, std::io::Error>(TokioIo::new(stream))
            }
        });
        let endpoint = Endpoint::from_static("http://control");
        endpoint.connect_with_connector(connector).await.map(CertificatesClient::new)
    }
}
