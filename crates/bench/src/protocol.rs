//! The protocols the generator and the echo server speak.
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A protocol of [`serve`](crate::serve()), [`load`](crate::load()) and [`compare`](crate::compare()).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// SOFARPC's Bolt, version 1 or 2.
    #[default]
    Bolt,
    /// Dubbo 2 with Hessian 2.
    Dubbo,
    /// HTTP/1.1, connections kept alive, no pipelining.
    Http,
    /// HTTP/2 without TLS, by prior knowledge.
    Http2,
    /// gRPC unary calls over HTTP/2 without TLS.
    Grpc,
    /// Fixed-size chunks, echoed in order.
    Tcp,
}

impl Protocol {
    /// Every protocol, in the order help texts list them.
    pub const ALL: [Protocol; 6] =
        [Protocol::Bolt, Protocol::Dubbo, Protocol::Http, Protocol::Http2, Protocol::Grpc, Protocol::Tcp];

    /// The name on the command line and in results.
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

    /// The name in headings.
    pub const fn title(self) -> &'static str {
        match self {
            Protocol::Bolt => "Bolt",
            Protocol::Dubbo => "Dubbo",
            Protocol::Http => "HTTP/1.1",
            Protocol::Http2 => "HTTP/2",
            Protocol::Grpc => "gRPC",
            Protocol::Tcp => "TCP",
        }
    }

    /// The service asked for where none is named: `interface:version` for Bolt and Dubbo, a gRPC service, or
    /// an HTTP host.
    pub const fn usual_service(self) -> &'static str {
        match self {
            Protocol::Bolt | Protocol::Dubbo | Protocol::Tcp => "bench.Echo:1.0",
            Protocol::Grpc => "bench.Echo",
            Protocol::Http | Protocol::Http2 => "echo.bench",
        }
    }

    /// Whether many requests are in flight on one connection.
    pub const fn is_multiplexed(self) -> bool {
        !matches!(self, Protocol::Http)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Protocol {
    type Err = UnknownProtocol;

    fn from_str(text: &str) -> Result<Protocol, UnknownProtocol> {
        Protocol::ALL.into_iter().find(|p| p.name() == text).ok_or(UnknownProtocol)
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
