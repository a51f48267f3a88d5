//! The protocols a listener can carry.
use std::fmt;
use std::str::FromStr;

/// An application protocol, as configuration and metrics name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// SOFARPC's Bolt, version 1 or 2.
    Bolt,
    /// Dubbo 2 (`dubbo://`).
    Dubbo,
    /// HTTP/1.1.
    Http,
    /// HTTP/2, with or without prior knowledge.
    Http2,
    /// gRPC, and Triple, over HTTP/2.
    Grpc,
    /// Bytes without a known framing.
    Tcp,
}

impl Protocol {
    /// Every protocol, in the order the documentation lists them.
    pub const ALL: [Protocol; 6] =
        [Protocol::Bolt, Protocol::Dubbo, Protocol::Http, Protocol::Http2, Protocol::Grpc, Protocol::Tcp];

    /// The name used in configuration and metric labels.
    pub const fn name(self) -> &'static str {
        match self {
            Protocol::Bolt => "bolt",
            Protocol::Dubbo => "dubbo",
            Protocol::Http => "http",
            Protocol::Http2 => "http2",
            Protocol::Grpc => "grpc",
            Protocol::Tcp => "tcp",
        }
    }
}

/// The names of gRPC's statuses; the index is the code. Source: gRPC's `statuscodes.md`.
pub const GRPC_STATUSES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The gRPC status a reply of this HTTP status means that has none of its own. Source: gRPC's
/// `http-grpc-status-mapping.md`.
pub const fn grpc_status_of_http(status: u16) -> u8 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// The HTTP status for a gRPC status, where the caller does not speak gRPC. Source: `google/rpc/code.proto`.
pub const fn http_status_of_grpc(status: u8) -> u16 {
    match status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(s: &str) -> Result<Protocol, UnknownProtocol> {
        Protocol::ALL.into_iter().find(|p| p.name() == s).ok_or(UnknownProtocol)
    }
}

/// The text names no [`Protocol`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownProtocol;

impl fmt::Display for UnknownProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected one of bolt, dubbo, http, http2, grpc, tcp")
    }
}

impl std::error::Error for UnknownProtocol {}
