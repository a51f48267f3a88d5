//! `kind: Sidecar`: the process, its listeners and bounds.
use super::{ControlPlane, IdentitySource, Labels, Metadata, Publish, protocol};
use raddle_core::Protocol;
use serde::Serialize;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// `kind: Sidecar`: this process.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sidecar {
    /// Name of this instance.
    pub metadata: Metadata,
    /// The application beside the sidecar.
    pub app: String,
    /// Deployment unit; requests prefer endpoints of the same unit.
    pub unit: Option<String>,
    /// Group of this instance; `default` when not given.
    pub group: String,
    /// Version of the app.
    pub version: Option<String>,
    /// Labels of this instance.
    pub labels: Labels,
    /// This instance's address, as scopes see it.
    pub address: Option<IpAddr>,
    /// Worker threads; absent = 2, or the cores if fewer.
    pub workers: Option<u16>,
    /// Admin address; absent = none.
    pub admin: Option<SocketAddr>,
    /// Listeners for requests to the local app.
    pub inbound: Vec<InboundListener>,
    /// Listeners for requests of the local app.
    pub outbound: Vec<OutboundListener>,
    /// Bounds that protect the sidecar.
    pub limits: Limits,
    /// How the sidecar says its own rejections to the local app.
    pub replies: Replies,
    /// How a shutdown proceeds.
    pub drain: Drain,
    /// Access log.
    pub access_log: AccessLog,
    /// Where services and rules come from beside the files; absent = nowhere.
    pub control_plane: Option<ControlPlane>,
    /// What the app serves, for the registry.
    pub publish: Option<Publish>,
    /// Address of the API for apps whose framework knows a mesh; absent = none.
    pub local_mesh: Option<SocketAddr>,
    /// Where the certificate for links comes from; absent = the control plane, if it is spoken to by TLS or a token is
    /// given, else there is none.
    pub identity: Option<IdentitySource>,
}

/// One inbound listener.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InboundListener {
    /// Address to accept on.
    pub listen: SocketAddr,
    /// The local app's address; absent (with `capture` only) = the connection's original destination.
    pub forward: Option<SocketAddr>,
    /// Declared protocol; absent = detected from the first bytes.
    #[serde(serialize_with = "protocol")]
    pub protocol: Option<Protocol>,
    /// What the app speaks if not what a request came in: HTTP/1.1 or HTTP/2. Absent = the request's own.
    #[serde(serialize_with = "protocol")]
    pub app_protocol: Option<Protocol>,
    /// TLS that ends here; plaintext stays allowed on the same port.
    pub tls: Option<ListenerTls>,
    /// Ports on which the app ends TLS itself: it passes through.
    pub app_tls: Vec<u16>,
    /// How the app is told who calls.
    pub caller_identity: CallerIdentity,
    /// How connections are led here that were made to somewhere else; absent = they are not.
    pub capture: Option<Capture>,
    /// Protocols by port of the original destination; such connections are not sniffed.
    pub ports: Vec<PortProtocol>,
}

/// How the app behind an inbound listener is told who calls. What others say under the names used for it never gets past
/// the sidecar, told or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CallerIdentity {
    /// By fields of the request, if the caller has a certificate that was verified.
    #[default]
    Headers,
    /// Not at all.
    None,
}

/// One outbound listener.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct OutboundListener {
    /// Address to accept on.
    pub listen: SocketAddr,
    /// Declared protocol; absent = detected from the first bytes.
    #[serde(serialize_with = "protocol")]
    pub protocol: Option<Protocol>,
    /// Service for bytes that name none (TCP).
    pub service: Option<String>,
    /// TLS that ends here; plaintext stays allowed on the same port.
    pub tls: Option<ListenerTls>,
    /// How connections are led here that were made to somewhere else; absent = they are not.
    pub capture: Option<Capture>,
    /// Protocols by port of the original destination; such connections are not sniffed.
    pub ports: Vec<PortProtocol>,
    /// What becomes of requests and bytes for what no service names.
    pub unknown_destinations: UnknownDestinations,
}

/// TLS that a listener ends. Whether a connection is TLS tells its first byte.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTls {
    /// Name of a [`Certificate`](super::Certificate).
    pub certificate: String,
}

/// How the kernel leads connections to a listener that were made to other addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Capture {
    /// Their destination is rewritten (iptables `REDIRECT`) and asked for with `SO_ORIGINAL_DST`.
    Redirect,
    /// They keep their destination (iptables `TPROXY`); the socket is transparent.
    Tproxy,
}

/// The protocol of connections to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortProtocol {
    /// Port of the original destination.
    pub port: u16,
    /// What is spoken there; `tcp` for protocols in which the server speaks first.
    #[serde(serialize_with = "protocol_name")]
    pub protocol: Protocol,
}

/// What becomes of requests and bytes for what no service names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownDestinations {
    /// They pass through to where they were meant to go: the original destination, the target of a CONNECT,
    /// the host of an absolute URI.
    Allow,
    /// They are refused with `NC`.
    Deny,
}

/// Bounds of the sidecar.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Limits {
    /// Largest frame accepted, bytes.
    pub max_frame: u32,
    /// Largest header (class name and header map) accepted, bytes.
    pub max_header: u32,
    /// Bytes waiting to be written to one peer before its producers are held back.
    pub buffer_soft: u32,
    /// Bytes waiting for one slow caller before it is reset.
    pub buffer_hard: u32,
    /// Most accepted connections at once; 0 = as many as the OS gives.
    pub max_connections: u32,
    /// How long the first bytes of a connection are awaited before it is treated as TCP.
    pub detect_timeout: Duration,
    /// How long a frame that has begun may take to arrive whole.
    pub frame_timeout: Duration,
    /// A caller's connection with nothing in flight is closed after this long without a byte.
    pub idle_timeout: Duration,
    /// How long the head of an HTTP request may take to arrive whole.
    pub head_timeout: Duration,
    /// Most HTTP/2 streams a caller may have open at once on a connection.
    pub max_streams: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_frame: 64 << 20,
            max_header: 64 << 10,
            buffer_soft: 256 << 10,
            buffer_hard: 16 << 20,
            max_connections: 0,
            detect_timeout: Duration::from_millis(100),
            frame_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_mins(10),
            head_timeout: Duration::from_secs(10),
            max_streams: 256,
        }
    }
}

/// How the sidecar says its own rejections to the local app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Replies {
    /// By the protocol's own status for the reason. Clients map it to the exception they know for it; Java
    /// clients do not read the text that goes with it.
    #[default]
    Status,
    /// In the form whose text the client shows to its user, where the request tells which client it is.
    Readable,
}

/// How a shutdown proceeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// Longest wait for requests in flight.
    pub timeout: Duration,
}

impl Default for Drain {
    fn default() -> Drain {
        Drain { timeout: Duration::from_secs(30) }
    }
}

/// Access log settings.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessLog {
    /// File to append to, `stdout`, or absent = off.
    pub path: Option<String>,
    /// Line format.
    pub format: LogFormat,
    /// Share of successful requests logged, 0..=1; failures always are.
    pub sample: f64,
}

impl Default for AccessLog {
    fn default() -> AccessLog {
        AccessLog { path: None, format: LogFormat::Text, sample: 0.01 }
    }
}

/// Format of access-log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line of `key=value`-like columns.
    Text,
    /// One JSON object a line.
    Json,
}

// The signature is serde's.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn protocol_name<S: serde::Serializer>(p: &Protocol, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(p.name())
}
