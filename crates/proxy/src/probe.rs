//! Active health checks as they go over the wire, one connection each.
use crate::lane::Lane;
use crate::links::Links;
use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use raddle_model::CheckKind;
use raddle_policy::Host;
use raddle_wire::{bolt, dubbo};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How a check's connection is made: as those that carry requests are, or it would be taken for a plaintext caller.
pub(crate) struct Way {
    tls: Option<Arc<ClientConfig>>,
    required: bool,
}

impl Way {
    /// To a host now.
    pub(crate) fn to(host: &Host, links: &Links, kind: &CheckKind) -> Way {
        let lane = match kind {
            CheckKind::Http { .. } => Lane::Http1,
            CheckKind::Grpc { .. } => Lane::Http2,
            CheckKind::Tcp | CheckKind::Bolt | CheckKind::Dubbo => Lane::Dubbo,
        };
        let wanted = host.transport();
        Way {
            required: wanted.as_ref().is_some_and(|t| t.required),
            tls: wanted.and_then(|t| links.client(&t, lane)),
        }
    }

    async fn connect(&self, addr: SocketAddr) -> io::Result<Stream> {
        let plain = TcpStream::connect(addr).await?;
        let Some(config) = &self.tls else {
            return match self.required {
                true => Err(other("this sidecar has no certificate")),
                false => Ok(Box::new(plain)),
            };
        };
        let name = ServerName::IpAddress(addr.ip().into());
        match TlsConnector::from(config.clone()).connect(name, plain).await {
            Ok(s) => Ok(Box::new(s)),
            Err(e) if self.required => Err(e),
            Err(_) => Ok(Box::new(TcpStream::connect(addr).await?)),
        }
    }
}

trait Bytewise: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Bytewise for T {}

type Stream = Box<dyn Bytewise>;

/// Asks an endpoint whether it serves; an error if it does not.
pub(crate) async fn probe(addr: SocketAddr, kind: CheckKind, way: Way) -> io::Result<()> {
    if kind == CheckKind::Tcp {
        return TcpStream::connect(addr).await.map(drop);
    }
    let mut stream = way.connect(addr).await?;
    match kind {
        CheckKind::Tcp => Ok(()),
        CheckKind::Bolt => bolt_heartbeat(&mut stream).await,
        CheckKind::Dubbo => dubbo_heartbeat(&mut stream).await,
        CheckKind::Http { path } => http_get(stream, addr, &path).await,
        CheckKind::Grpc { service } => grpc_check(stream, addr, &service).await,
    }
}

/// A GET is answered with 2xx or 3xx.
async fn http_get(stream: Stream, addr: SocketAddr, path: &str) -> io::Result<()> {
    let (mut send, conn) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(other)?;
    let driven = tokio::task::spawn_local(conn);
    let request = hyper::Request::get(path)
        .header("host", addr.to_string())
        .header("user-agent", "raddle-health-check")
        .header("connection", "close")
        .body(Empty::<Bytes>::new())
        .map_err(other)?;
    let response = send.send_request(request).await.map_err(other)?;
    driven.abort();
    let fine = response.status().is_success() || response.status().is_redirection();
    if fine { Ok(()) } else { Err(other(response.status())) }
}

/// `grpc.health.v1.Health/Check` says SERVING.
async fn grpc_check(stream: Stream, addr: SocketAddr, service: &str) -> io::Result<()> {
    let (send, conn) = h2::client::handshake(stream).await.map_err(other)?;
    let driven = tokio::task::spawn_local(conn);
    let mut send = send.ready().await.map_err(other)?;
    let request = http::Request::post(format!("http://{addr}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .map_err(other)?;
    let (response, mut stream) = send.send_request(request, false).map_err(other)?;
    stream.send_data(health_request(service), true).map_err(other)?;
    let mut body = response.await.map_err(other)?.into_body();
    let mut message = Vec::new();
    while let Some(data) = body.data().await {
        let data = data.map_err(other)?;
        let _ = body.flow_control().release_capacity(data.len());
        message.extend_from_slice(&data);
        if message.len() > 64 {
            break;
        }
    }
    driven.abort();
    // One message: no compression, its length, field 1 (status) = 1 (SERVING).
    match message.as_slice() {
        [0, 0, 0, 0, 2, 0x08, 1, ..] => Ok(()),
        _ => Err(other("it does not say that it serves")),
    }
}

/// A `HealthCheckRequest` in gRPC's framing: field 1, the service's name.
fn health_request(service: &str) -> Bytes {
    // Longer names are no services': one byte of length is enough.
    let name = &service.as_bytes()[..service.len().min(127)];
    let mut message = Vec::new();
    if !name.is_empty() {
        message.extend_from_slice(&[0x0A, name.len() as u8]);
        message.extend_from_slice(name);
    }
    let mut out = vec![0, 0, 0, 0, message.len() as u8];
    out.extend_from_slice(&message);
    out.into()
}

fn other(e: impl std::fmt::Display) -> io::Error {
    io::Error::other(e.to_string())
}

async fn dubbo_heartbeat(stream: &mut Stream) -> io::Result<()> {
    let mut out = Vec::new();
    dubbo::encode::heartbeat(&mut out, 1);
    stream.write_all(&out).await?;
    let mut answer = [0u8; dubbo::Head::LEN];
    // A server may have an event of its own to say first.
    for _ in 0..4 {
        stream.read_exact(&mut answer).await?;
        let Ok(dubbo::Parsed::Head(h)) = dubbo::Head::parse(&answer, &dubbo::Limits::default()) else {
            break;
        };
        if h.is_heartbeat() && h.kind == dubbo::Kind::Response {
            // Node's servers answer with status 0.
            return Ok(());
        }
        let mut body = stream.take(u64::from(h.body_len));
        tokio::io::copy(&mut body, &mut tokio::io::sink()).await?;
    }
    Err(io::Error::from(io::ErrorKind::InvalidData))
}

async fn bolt_heartbeat(stream: &mut Stream) -> io::Result<()> {
    let mut out = Vec::new();
    bolt::encode::heartbeat(&mut out, bolt::Variant::V1, 1, bolt::CODEC_HESSIAN, 3000, &[]);
    stream.write_all(&out).await?;
    let mut answer = [0u8; 20];
    stream.read_exact(&mut answer).await?;
    match bolt::Head::parse(&answer, &bolt::Limits::default()) {
        Ok(bolt::Parsed::Head(h)) if h.command == bolt::Command::Heartbeat && h.status == 0 => Ok(()),
        _ => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}
