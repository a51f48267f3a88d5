//! What a rule of a `Route` does to the requests it takes, besides sending them somewhere.
use raddle_core::Reason;
use raddle_core::protocol::{grpc_status_of_http, http_status_of_grpc};
use serde::Serialize;
use std::time::Duration;

/// Everything a rule does to a request and its reply. The default does nothing.
///
/// All texts that go into HTTP messages have been checked: they hold no byte that could end a line or a
/// field.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Actions {
    /// What the endpoint sees in place of what the caller asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rewrite: Option<Rewrite>,
    /// The caller is told to ask elsewhere. Excludes `respond` and everything about an endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redirect: Option<Redirect>,
    /// The sidecar answers by itself. Excludes `redirect` and everything about an endpoint.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub respond: Option<Respond>,
    /// Another service gets copies; its replies are dropped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mirror: Option<Mirror>,
    /// Faults made on purpose.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Changes of headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<HeaderMutation>,
}

/// What the endpoint sees in place of what the caller asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rewrite {
    /// The path; the query stays.
    pub path: Option<PathRewrite>,
    /// `Host` or `:authority`.
    pub authority: Option<String>,
}

/// How a path is changed. A query is never part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum PathRewrite {
    /// The whole path becomes this one.
    Exact(String),
    /// The leading segments change; paths that do not begin with them stay as they are. Both begin with `/`; a
    /// slash at the end of either makes no difference.
    Prefix {
        /// Leading segments, such as `/api`: of `/api` and `/api/x`, but not of `/apis`.
        from: String,
        /// What stands in their place.
        to: String,
    },
}

/// The caller is told to ask elsewhere. At least one of scheme, authority and path is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
    /// Absent = as the caller asked.
    pub scheme: Option<Scheme>,
    /// Host, or host:port; absent = as the caller asked.
    pub authority: Option<String>,
    /// Absent = as the caller asked.
    pub path: Option<PathRewrite>,
}

/// The scheme of a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plaintext.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// As it stands in a URI.
    pub const fn name(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// The sidecar's own reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Respond {
    /// 200..=599.
    pub status: u16,
    /// Its headers, names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// Its body; empty for a status that has none.
    pub body: String,
}

/// Copies of requests for another service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mirror {
    /// The service that gets them.
    pub service: String,
    /// Share of the rule's requests that is copied, in millionths.
    pub percent_ppm: u32,
}

/// Faults made on purpose. At least one is given; a request may meet both, the delay first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// The request waits before it goes on.
    pub delay: Option<Delay>,
    /// The request is answered with a failure.
    pub abort: Option<Abort>,
}

/// A wait made on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Delay {
    /// How long.
    pub time: Duration,
    /// Share of the rule's requests, in millionths.
    pub percent_ppm: u32,
}

/// A failure made on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Abort {
    /// How it looks.
    pub status: AbortStatus,
    /// Share of the rule's requests, in millionths.
    pub percent_ppm: u32,
}

/// How a failure made on purpose looks to the caller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum AbortStatus {
    /// As the protocol says `FI`.
    #[default]
    Reason,
    /// This HTTP status, 400..=599; gRPC calls get the status that belongs to it.
    Http(u16),
    /// This gRPC status, 1..=16; other HTTP requests get the status that belongs to it.
    Grpc(u8),
}

impl AbortStatus {
    /// The HTTP status of the failure.
    pub const fn http(self) -> u16 {
        match self {
            AbortStatus::Reason => Reason::Injected.http_status(),
            AbortStatus::Http(status) => status,
            AbortStatus::Grpc(status) => http_status_of_grpc(status),
        }
    }

    /// The gRPC status of the failure.
    pub const fn grpc(self) -> u8 {
        match self {
            AbortStatus::Reason => Reason::Injected.grpc_status(),
            AbortStatus::Http(status) => grpc_status_of_http(status),
            AbortStatus::Grpc(status) => status,
        }
    }
}

/// Changes of headers, of requests on their way to the endpoint and of replies on their way to the caller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeaderMutation {
    /// Of requests.
    pub request: HeaderOps,
    /// Of replies.
    pub response: HeaderOps,
}

/// Changes of headers, done in the order of the fields. Names are in lower case.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HeaderOps {
    /// Headers taken away.
    pub remove: Vec<String>,
    /// Headers that get this one value, whatever they had.
    pub set: Vec<(String, String)>,
    /// Values added to those that are there.
    pub add: Vec<(String, String)>,
}

impl HeaderOps {
    /// Whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.remove.is_empty() && self.set.is_empty() && self.add.is_empty()
    }
}
