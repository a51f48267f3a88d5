//! What the server tells of its streams.
use crate::types::Kind;
use serde::Serialize;

/// One stream, as it stands.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StreamInfo {
    /// Grows with every stream of this server.
    pub id: u64,
    /// Node id of the peer.
    pub node: String,
    /// Its app.
    pub app: String,
    /// Its unit.
    pub unit: String,
    /// Its address without port, as it says itself.
    pub address: String,
    /// `raddle`, `envoy`, `grpc` or `other`.
    pub software: &'static str,
    /// SPIFFE id of its certificate.
    pub identity: Option<String>,
    /// `sotw` or `delta`.
    pub variant: &'static str,
    /// Since when, milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// What it subscribed to.
    pub kinds: Vec<KindInfo>,
}

/// A kind of resource on a stream.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct KindInfo {
    /// [`Kind::name`].
    pub kind: &'static str,
    /// Whether it wants whatever there is.
    pub wildcard: bool,
    /// How many names it named.
    pub names: usize,
    /// How many resources it was sent and has not been told to forget.
    pub resources: usize,
    /// Digest of the versions sent.
    pub sent: String,
    /// The digest it acknowledged last; empty = none.
    pub acked: String,
    /// What it refused and nothing newer was accepted of.
    pub nacked: Vec<Nacked>,
}

/// A resource a client refused.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Nacked {
    /// Its name.
    pub name: String,
    /// The version refused.
    pub version: String,
    /// Why, in the client's words, cut at 1,024 bytes.
    pub reason: String,
    /// When, milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// Counters since the start. Arrays are by the order of [`Kind::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Responses sent.
    pub pushes: [u64; Kind::ALL.len()],
    /// Bytes of them.
    pub bytes: u64,
    /// Resources in them.
    pub resources: u64,
    /// Refusals received.
    pub nacks: [u64; Kind::ALL.len()],
    /// Streams open now.
    pub streams: u64,
    /// Streams refused by load protection.
    pub refused: u64,
    /// Streams ended for what the client sent.
    pub violations: u64,
    /// Streams asked to go elsewhere.
    pub shed: u64,
}
