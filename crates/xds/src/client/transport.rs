//! gRPC: a stream to one server.
use super::machine::{Message, Variant};
use super::options::Target;
use discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient as Client;
use envoy_types::pb::envoy::service::discovery::v3 as discovery;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::http::Uri;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

/// Largest message taken.
const LARGEST: usize = 64 << 20;
/// Bound of connecting, the TLS handshake included.
const CONNECT: Duration = Duration::from_secs(5);
/// Pings on a connection, and how long their answer may take: a server that is gone without a word is noticed.
const PING: Duration = Duration::from_secs(15);
const PONG: Duration = Duration::from_secs(10);

/// Messages on their way into the stream; what comes after waits in the machine.
pub(super) const QUEUE: usize = 8;

/// Why a stream or an attempt ended.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) reason: String,
    /// How long the server asks to stay away.
    pub(super) hint: Option<Duration>,
    /// The server does not know this variant of the protocol.
    pub(super) unknown: bool,
}

impl Failure {
    pub(super) fn new(reason: impl Into<String>) -> Failure {
        Failure { reason: reason.into(), hint: None, unknown: false }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Failure {
        Failure {
            reason: format!("{}: {}", status.code(), status.message()),
            hint: hint(&status),
            unknown: status.code() == Code::Unimplemented,
        }
    }
}

/// A response of either variant.
pub(super) enum Response {
    Delta(discovery::DeltaDiscoveryResponse),
    Sotw(discovery::DiscoveryResponse),
}

/// The receiving half of a stream.
pub(super) enum Responses {
    Delta(Streaming<discovery::DeltaDiscoveryResponse>),
    Sotw(Streaming<discovery::DiscoveryResponse>),
}

impl Responses {
    /// The next response.
    pub(super) async fn next(&mut self) -> Result<Response, Failure> {
        let next = match self {
            Responses::Delta(stream) => stream.message().await.map(|r| r.map(Response::Delta)),
            Responses::Sotw(stream) => stream.message().await.map(|r| r.map(Response::Sotw)),
        };
        next?.ok_or_else(|| Failure::new("the server ended the stream"))
    }
}

/// Opens a stream that takes its messages from `messages`. Resolves when the server answers, for which it may wait
/// for the first message.
pub(super) async fn open(
    target: Target,
    variant: Variant,
    messages: mpsc::Receiver<Message>,
) -> Result<Responses, Failure> {
    let channel = connect(&target).await?;
    let mut client =
        Client::new(channel).max_decoding_message_size(LARGEST).max_encoding_message_size(LARGEST);
    let messages = ReceiverStream::new(messages);
    use futures_util::StreamExt;
    Ok(match variant {
        Variant::Delta => {
            let only = |message| async move {
                match message {
                    Message::Delta(request) => Some(request),
                    Message::Sotw(_) => None,
                }
            };
            Responses::Delta(client.delta_aggregated_resources(messages.filter_map(only)).await?.into_inner())
        }
        Variant::Sotw => {
            let only = |message| async move {
                match message {
                    Message::Sotw(request) => Some(request),
                    Message::Delta(_) => None,
                }
            };
            Responses::Sotw(client.stream_aggregated_resources(messages.filter_map(only)).await?.into_inner())
        }
    })
}

trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

async fn connect(target: &Target) -> Result<Channel, Failure> {
    let bad = |what: &str| {
        Failure::new(format!("{}: {what}; give http://host:port or https://host:port", target.uri))
    };
    let uri: Uri = target.uri.parse().map_err(|_| bad("is no URI"))?;
    let secure = match uri.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(bad("has no such scheme")),
    };
    let authority = uri.authority().ok_or_else(|| bad("has no host"))?;
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let tls = if secure { Some(tls(target, &host)?) } else { None };
    // The library refuses https without its own TLS; what is above the socket here is plain to it.
    let plain = format!("http://{authority}");
    let connector = tower::service_fn(move |_: Uri| {
        let (host, tls) = (host.clone(), tls.clone());
        async move { Ok::<_, io::Error>(TokioIo::new(socket(&host, port, tls).await?)) }
    });
    let endpoint = Endpoint::from_shared(plain)
        .map_err(|e| Failure::new(format!("{}: {e}", target.uri)))?
        .origin(uri.clone())
        .user_agent("raddle")
        .map_err(|e| Failure::new(e.to_string()))?
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PONG)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(1 << 20);
    let connecting = endpoint.connect_with_connector(connector);
    match tokio::time::timeout(CONNECT, connecting).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(e)) => Err(Failure::new(format!("{}: {}", target.uri, causes(&e)))),
        Err(_) => Err(Failure::new(format!("{}: no connection within {CONNECT:?}", target.uri))),
    }
}

#[derive(Clone)]
struct Tls {
    config: Arc<rustls::ClientConfig>,
    name: ServerName<'static>,
}

/// The TLS configuration of this moment.
fn tls(target: &Target, host: &str) -> Result<Tls, Failure> {
    let source = target
        .tls
        .as_ref()
        .ok_or_else(|| Failure::new(format!("{}: needs TLS, and there is none", target.uri)))?;
    let mut config =
        source().ok_or_else(|| Failure::new(format!("{}: no TLS configuration yet", target.uri)))?;
    if config.alpn_protocols.is_empty() {
        Arc::make_mut(&mut config).alpn_protocols = vec![b"h2".to_vec()];
    }
    let name = target.server_name.as_deref().unwrap_or(host).to_owned();
    let name = ServerName::try_from(name)
        .map_err(|_| Failure::new(format!("{}: the server's name is no name", target.uri)))?;
    Ok(Tls { config, name })
}

async fn socket(host: &str, port: u16, tls: Option<Tls>) -> io::Result<Box<dyn Socket>> {
    let stream = TcpStream::connect((host, port)).await?;
    stream.set_nodelay(true)?;
    Ok(match tls {
        None => Box::new(stream),
        Some(tls) => Box::new(tokio_rustls::TlsConnector::from(tls.config).connect(tls.name, stream).await?),
    })
}

/// An error with what caused it.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

/// How long a server asks to stay away: gRPC's push-back (proposal A6) or the same in our
/// server's words, in milliseconds, or HTTP's `retry-after`, in
/// seconds.
fn hint(status: &Status) -> Option<Duration> {
    let text = |name| status.metadata().get(name)?.to_str().ok();
    if let Some(pushback) = text("grpc-retry-pushback-ms").or_else(|| text("retry-after-ms")) {
        // Negative = do not retry. A sidecar without a control plane has nowhere else to go, so: much later.
        return Some(pushback.trim().parse().map_or(Duration::from_mins(1), Duration::from_millis));
    }
    text("retry-after")?.trim().parse().ok().map(Duration::from_secs)
}
