//! How connections are taken.
mod ca_support;

use axum::Router;
use axum::extract::{ConnectInfo, Extension};
use axum::routing::get;
use ca_support::until;
use raddle_control::serve::{Limits, Tls, serve};
use raddle_identity::{
    ALPN_H1, Clients, DenyList, Identity, Issuer, PeerRule, PrivateKey, SpiffeId, TrustBundle,
    anonymous_client_config,
};
use raddle_xds::server::PeerIdentity;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ServerConfig};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{oneshot, watch};

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

async fn who(
    Extension(peer): Extension<PeerIdentity>,
    from: Option<Extension<ConnectInfo<SocketAddr>>>,
) -> String {
    let from = from.map(|f| f.0.0.ip().to_string());
    format!("{} from {}", peer.0.as_deref().unwrap_or("nobody"), from.as_deref().unwrap_or("nowhere"))
}

/// How many long requests have begun.
static BEGUN: AtomicUsize = AtomicUsize::new(0);

async fn long() -> &'static str {
    BEGUN.fetch_add(1, Ordering::SeqCst);
    // Works on, while the server is told to end.
    tokio::time::sleep(Duration::from_millis(300)).await;
    "done"
}

fn router() -> Router {
    Router::new().route("/", get(who)).route("/long", get(long))
}

/// A server; it ends when the sender is used or dropped, and says when it has.
async fn start(tls: Option<Tls>, limits: Limits) -> (SocketAddr, oneshot::Sender<()>, oneshot::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (end, ended) = oneshot::channel();
    let (done, over) = oneshot::channel();
    tokio::spawn(async move {
        serve(listener, router(), tls, limits, async { drop(ended.await) }).await;
        let _ = done.send(());
    });
    (address, end, over)
}

async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), path: &str) -> std::io::Result<String> {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await?;
    let mut bytes = vec![0; 4096];
    let mut len = 0;
    loop {
        match stream.read(&mut bytes[len..]).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            n => len += n,
        }
        let text = String::from_utf8_lossy(&bytes[..len]).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && head.to_lowercase().contains(&format!("content-length: {}", body.len()))
        {
            return Ok(body.to_owned());
        }
    }
}

struct Parties {
    issuer: Issuer,
    trust: Arc<TrustBundle>,
}

impl Parties {
    fn new() -> Parties {
        let issuer = Issuer::generate("mesh.local", Duration::from_secs(86400), now()).unwrap();
        let trust = Arc::new(TrustBundle::new("mesh.local", issuer.roots().to_vec()).unwrap());
        Parties { issuer, trust }
    }

    fn member(&self, id: &SpiffeId, lifetime: u64) -> Identity {
        let key = PrivateKey::generate().unwrap();
        let request = key.request().unwrap();
        let signed = self.issuer.sign_request(&request, id, Duration::from_secs(lifetime), now()).unwrap();
        Identity::new(signed.chain, Arc::new(key), self.trust.clone(), now()).unwrap()
    }

    fn server(&self) -> Arc<ServerConfig> {
        let own = self.member(&SpiffeId::control("mesh.local").unwrap(), 3600);
        let mut config = own.server_config(PeerRule::Member, Clients::Optional, None).unwrap();
        config.alpn_protocols = vec![ALPN_H1.to_vec()];
        Arc::new(config)
    }

    fn anonymous(&self) -> ClientConfig {
        anonymous_client_config(&self.trust, PeerRule::Control).unwrap()
    }
}

fn pay() -> SpiffeId {
    SpiffeId::app("mesh.local", "", "pay").unwrap()
}

async fn connect(
    to: SocketAddr,
    config: ClientConfig,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(to).await?;
    let name = ServerName::try_from("localhost").unwrap();
    tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

#[tokio::test]
async fn requests_say_who_has_proven_what_and_from_where() {
    let parties = Parties::new();
    let (config, configs) = watch::channel(parties.server());
    let (to, _end, _) = start(Some(configs.into()), Limits::default()).await;
    let mut nobody = connect(to, parties.anonymous()).await.unwrap();
    assert_eq!(ask(&mut nobody, "/").await.unwrap(), "nobody from 127.0.0.1");
    let client = parties.member(&pay(), 3600).client_config(PeerRule::Control).unwrap();
    let mut somebody = connect(to, client).await.unwrap();
    assert_eq!(ask(&mut somebody, "/").await.unwrap(), "spiffe://mesh.local/app/pay from 127.0.0.1");

    // A new configuration is for new connections; old ones go on.
    let others = Parties::new();
    config.send_replace(others.server());
    assert!(connect(to, parties.anonymous()).await.is_err());
    let mut new = connect(to, others.anonymous()).await.unwrap();
    assert_eq!(ask(&mut new, "/").await.unwrap(), "nobody from 127.0.0.1");
    assert!(ask(&mut somebody, "/").await.is_ok());
}

#[tokio::test]
async fn a_connection_lasts_no_longer_than_the_right_to_it() {
    let parties = Parties::new();
    let (deny, denied) = watch::channel(Arc::new(DenyList::default()));
    let (_config, config) = watch::channel(parties.server());
    let limits = Limits { drain: Duration::from_millis(100), ..Limits::default() };
    let (to, _end, _) = start(Some(Tls { config, denied: Some(denied) }), limits).await;
    let client = |lifetime| parties.member(&pay(), lifetime).client_config(PeerRule::Control).unwrap();
    let mut long = connect(to, client(3600)).await.unwrap();
    let mut short = connect(to, client(2)).await.unwrap();
    assert!(ask(&mut long, "/").await.is_ok() && ask(&mut short, "/").await.is_ok());
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(10), short.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "its certificate has ended");
    assert!(ask(&mut long, "/").await.is_ok());
    deny.send_modify(|list| Arc::make_mut(list).ids.extend([pay()]));
    let ended = tokio::time::timeout(Duration::from_secs(10), long.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "it is denied");
}

#[tokio::test]
async fn who_says_nothing_loses_the_connection_and_holds_up_nobody() {
    let parties = Parties::new();
    let (_config, configs) = watch::channel(parties.server());
    let limits = Limits { patience: Duration::from_millis(200), handshakes: 1, ..Limits::default() };
    let (to, _end, _) = start(Some(configs.into()), limits).await;
    let (plain, _end_plain, _) = start(None, limits).await;
    let mut silent = Vec::new();
    for address in [to, to, to, plain] {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    let mut quick = connect(to, parties.anonymous()).await.unwrap();
    assert!(ask(&mut quick, "/").await.is_ok());
    for stream in &mut silent {
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok());
    }
    assert!(ask(&mut quick, "/").await.is_ok(), "who has asked may be silent");
}

#[tokio::test]
async fn at_the_end_requests_in_flight_are_answered() {
    let (to, end, over) = start(None, Limits::default()).await;
    let mut idle = TcpStream::connect(to).await.unwrap();
    assert!(ask(&mut idle, "/").await.is_ok());
    let mut busy = TcpStream::connect(to).await.unwrap();
    let answer = tokio::spawn(async move { ask(&mut busy, "/long").await });
    until("it is asked", async || BEGUN.load(Ordering::SeqCst) == 1).await;
    end.send(()).unwrap();
    assert_eq!(answer.await.unwrap().unwrap(), "done");
    tokio::time::timeout(Duration::from_secs(10), over).await.unwrap().unwrap();
    assert!(TcpStream::connect(to).await.is_err());
}

#[tokio::test]
async fn unix_sockets_are_served_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let (_end, ended) = oneshot::channel::<()>();
    tokio::spawn(serve(listener, router(), None, Limits::default(), async { drop(ended.await) }));
    let mut stream = UnixStream::connect(&path).await.unwrap();
    assert_eq!(ask(&mut stream, "/").await.unwrap(), "nobody from nowhere");
}
