//! Takes connections and serves requests on them: gRPC and REST alike, HTTP/1.1 and HTTP/2, with TLS or without.
//!
//! Each request carries [`PeerIdentity`], [`PeerCertificate`] if there is one, `axum`'s `ConnectInfo<SocketAddr>` and
//! `tonic`'s `TcpConnectInfo` as extensions. gRPC services come as [`axum::Router`] too
//! (`tonic::service::Routes::into_axum_router`).
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use raddle_identity::{DenyList, Leaf};
use raddle_xds::server::PeerIdentity;
use rustls::ServerConfig;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::TcpConnectInfo;
use tower::ServiceExt;

/// Where connections come from.
#[derive(Debug)]
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A Unix socket; never with TLS.
    Unix(UnixListener),
}

impl From<TcpListener> for Listener {
    fn from(l: TcpListener) -> Listener {
        Listener::Tcp(l)
    }
}

impl From<UnixListener> for Listener {
    fn from(l: UnixListener) -> Listener {
        Listener::Unix(l)
    }
}

/// TLS of a listener. New connections use the configuration in force; it must check certificates that clients show,
/// and need none ([`raddle_identity`] makes such).
#[derive(Clone, Debug)]
pub struct Tls {
    /// The configuration in force.
    pub config: watch::Receiver<Arc<ServerConfig>>,
    /// Who is not let in although their certificate is good. Whoever gets on it loses the connections they have.
    pub denied: Option<watch::Receiver<Arc<DenyList>>>,
}

impl From<watch::Receiver<Arc<ServerConfig>>> for Tls {
    fn from(config: watch::Receiver<Arc<ServerConfig>>) -> Tls {
        Tls { config, denied: None }
    }
}

/// How much is served at once, and how long one waits.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once; more wait in the listener's queue.
    pub connections: usize,
    /// TLS handshakes at once that have begun to cost.
    pub handshakes: usize,
    /// From the connection to the end of its handshake, and again to the end of its first request's head.
    pub patience: Duration,
    /// Requests at once on one HTTP/2 connection.
    pub streams: u32,
    /// How long requests in flight have when the server ends, or when the client's certificate does.
    pub drain: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 16 * 1024,
            handshakes: 64,
            patience: Duration::from_secs(10),
            streams: 256,
            drain: Duration::from_secs(5),
        }
    }
}

/// The certificate that the peer has proven to hold; an extension of its requests.
#[derive(Clone, Debug)]
pub struct PeerCertificate(pub Arc<Leaf>);

/// Serves until `shutdown` is done; requests in flight then have [`Limits::drain`].
pub async fn serve(
    listener: impl Into<Listener>,
    router: Router,
    tls: Option<Tls>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) {
    let listener = listener.into();
    let (end, ending) = watch::channel(false);
    let shared =
        Arc::new(Shared { router, tls, limits, ending, handshakes: Semaphore::new(limits.handshakes) });
    let places = Arc::new(Semaphore::new(limits.connections));
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        while connections.try_join_next().is_some() {}
        let next = async {
            // Never closed.
            let place = places.clone().acquire_owned().await.ok();
            (place, accept(&listener).await)
        };
        let (place, socket) = tokio::select! {
            () = &mut shutdown => break,
            next = next => next,
        };
        let shared = shared.clone();
        connections.spawn(async move {
            match socket {
                Socket::Tcp(socket, from) => shared.tcp(socket, from).await,
                Socket::Unix(socket) => shared.connection(socket, &Origin::default()).await,
            }
            drop(place);
        });
    }
    drop(listener);
    let _ = end.send(true);
    let all = async { while connections.join_next().await.is_some() {} };
    // Connections end by themselves within `drain`; the rest is for those in a handshake.
    let _ = timeout(limits.drain + Duration::from_millis(100), all).await;
    connections.shutdown().await;
}

enum Socket {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

/// The next connection. Errors are of single connections, or of the process (no descriptors left): it goes on.
async fn accept(listener: &Listener) -> Socket {
    loop {
        let error = match listener {
            Listener::Tcp(l) => match l.accept().await {
                Ok((socket, from)) => return Socket::Tcp(socket, from),
                Err(e) => e,
            },
            Listener::Unix(l) => match l.accept().await {
                Ok((socket, _)) => return Socket::Unix(socket),
                Err(e) => e,
            },
        };
        tracing::debug!("cannot accept a connection: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Default)]
struct Origin {
    tcp: Option<TcpConnectInfo>,
    leaf: Option<Arc<Leaf>>,
}

impl Origin {
    fn mark(&self, request: &mut Request<Body>) {
        let extensions = request.extensions_mut();
        extensions.insert(PeerIdentity(self.leaf.as_ref().map(|l| l.id.to_string())));
        if let Some(leaf) = &self.leaf {
            extensions.insert(PeerCertificate(leaf.clone()));
        }
        if let Some(info) = &self.tcp {
            extensions.insert(info.clone());
            if let Some(address) = info.remote_addr {
                extensions.insert(ConnectInfo(address));
            }
        }
    }
}

struct Shared {
    router: Router,
    tls: Option<Tls>,
    limits: Limits,
    ending: watch::Receiver<bool>,
    handshakes: Semaphore,
}

impl Shared {
    async fn tcp(&self, socket: TcpStream, from: SocketAddr) {
        let _ = socket.set_nodelay(true);
        let tcp = Some(TcpConnectInfo { local_addr: socket.local_addr().ok(), remote_addr: Some(from) });
        let Some(tls) = &self.tls else {
            return self.connection(socket, &Origin { tcp, leaf: None }).await;
        };
        let stream = match timeout(self.limits.patience, self.handshake(socket, tls)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(e)) => return tracing::debug!("{from}: the handshake failed: {e}"),
            Err(_) => return tracing::debug!("{from}: no handshake within {:?}", self.limits.patience),
        };
        let shown = stream.get_ref().1.peer_certificates().and_then(|c| c.first());
        let leaf = match shown.map(|c| Leaf::read(c)) {
            Some(None) => return tracing::debug!("{from}: the certificate has no identity"),
            Some(Some(leaf)) => Some(Arc::new(leaf)),
            None => None,
        };
        self.connection(stream, &Origin { tcp, leaf }).await;
    }

    async fn handshake(&self, socket: TcpStream, tls: &Tls) -> std::io::Result<TlsStream<TcpStream>> {
        // Until the client has said something it costs next to nothing and takes nobody's place.
        let hello = LazyConfigAcceptor::new(rustls::server::Acceptor::default(), socket).await?;
        let _place = self.handshakes.acquire().await;
        let config = tls.config.borrow().clone();
        hello.into_stream(config).await
    }

    /// Serves the requests of one connection, until it, the server or the right to it ends.
    async fn connection<S>(&self, stream: S, origin: &Origin)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let asked = AtomicBool::new(false);
        let service = hyper::service::service_fn(|request: Request<Incoming>| {
            asked.store(true, Ordering::Relaxed);
            let mut request = request.map(Body::new);
            origin.mark(&mut request);
            self.router.clone().oneshot(request)
        });
        let builder = self.builder();
        let mut connection =
            std::pin::pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
        let silent = async {
            tokio::time::sleep(self.limits.patience).await;
            if asked.load(Ordering::Relaxed) {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            _ = connection.as_mut() => return,
            () = silent => return,
            () = self.over(origin) => {}
        }
        connection.as_mut().graceful_shutdown();
        let _ = timeout(self.limits.drain, connection).await;
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            // Also how long a connection may be kept for the next request.
            .header_read_timeout(self.limits.patience.max(Duration::from_secs(60)))
            .max_buf_size(64 * 1024);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(self.limits.streams)
            .max_header_list_size(64 * 1024)
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(20));
        builder
    }

    /// Done when nothing more is to be served on the connection.
    async fn over(&self, origin: &Origin) {
        let mut ending = self.ending.clone();
        let ended = async {
            // An error means that the server is gone.
            let _ = ending.wait_for(|over| *over).await;
        };
        let Some(leaf) = &origin.leaf else { return ended.await };
        let denied = async {
            if let Some(mut list) = self.tls.as_ref().and_then(|t| t.denied.clone())
                && list.wait_for(|l| l.denies(leaf)).await.is_ok()
            {
                return;
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = ended => {}
            () = denied => {}
            () = tokio::time::sleep(until(leaf.not_after)) => {}
        }
    }
}

/// From now to a time in seconds since 1970.
fn until(time: i64) -> Duration {
    let time = UNIX_EPOCH + Duration::from_secs(time.max(0) as u64);
    time.duration_since(SystemTime::now()).unwrap_or_default()
}
