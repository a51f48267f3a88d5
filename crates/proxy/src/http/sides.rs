//! What a connection that carries HTTP keeps, on the caller's side and on the endpoint's.
use super::pipe::Pipe;
use crate::conn::{Accepted, Direction};
use bytes::Bytes;
use raddle_core::Time;
use raddle_net::Key;
use raddle_wire::http::h1::Decoder;
use std::task::Waker;
use std::time::Duration;

/// One connection that carries HTTP.
pub enum HttpConn {
    /// A caller's, HTTP/1.x.
    Down1(Box<Down1>),
    /// A caller's, HTTP/2.
    Down2(Box<Down2>),
    /// An endpoint's, HTTP/1.1.
    Up1(Box<Up1>),
    /// An endpoint's, HTTP/2.
    Up2(Box<Up2>),
}

/// What a caller's HTTP/1.x connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// A request's head is awaited.
    Head,
    /// A request's body is read.
    Body(Decoder),
    /// The request is read; its response is awaited.
    Waiting,
    /// The response is out, the body is still coming and of no use.
    Discarding {
        /// Finds the body's end.
        decoder: Decoder,
        /// Bytes it may still have.
        left: u64,
    },
    /// Nothing more is read; it closes when all is written.
    Closing,
}

/// A caller's HTTP/1.x connection.
pub struct Down1 {
    /// How it was accepted.
    pub accepted: Accepted,
    /// Which way its requests go.
    pub direction: Direction,
    pub(crate) doing: Doing,
    /// The exchange under way.
    pub exchange: Option<Key>,
    /// When it last began or ended one.
    pub active_at: Time,
    /// It closes when the exchange is over.
    pub last: bool,
}

/// A caller's HTTP/2 connection.
pub struct Down2 {
    /// How it was accepted.
    pub accepted: Accepted,
    /// Which way its requests go.
    pub direction: Direction,
    pub(crate) pipe: Pipe,
    pub(crate) h2: Server,
    pub(crate) waker: Waker,
    /// Its exchanges.
    pub exchanges: Vec<Key>,
    /// When it last began or ended one.
    pub active_at: Time,
    /// It was told to send no more requests.
    pub told: bool,
}

pub(crate) enum Server {
    Handshake(h2::server::Handshake<Pipe, Bytes>),
    Open(h2::server::Connection<Pipe, Bytes>),
    /// Being driven, or over.
    Away,
}

/// An endpoint's HTTP/1.1 connection.
pub struct Up1 {
    /// The host.
    pub host: Key,
    /// The TCP handshake is under way.
    pub connecting: bool,
    /// Since when it exists or is idle.
    pub since: Time,
    /// Bound of the TCP handshake.
    pub connect_timeout: Duration,
    /// Closed when idle for this long.
    pub idle_timeout: Duration,
    /// The exchange under way.
    pub exchange: Option<Key>,
    pub(crate) body: Option<Decoder>,
    /// The response allows another request.
    pub keep: bool,
    /// Requests it carried.
    pub served: u64,
    /// No more requests; it closes after the exchange under way.
    pub retiring: bool,
}

/// An endpoint's HTTP/2 connection.
pub struct Up2 {
    /// The host.
    pub host: Key,
    /// The TCP handshake is under way.
    pub connecting: bool,
    /// Since when it exists.
    pub since: Time,
    /// Bound of the TCP handshake.
    pub connect_timeout: Duration,
    /// Closed when idle for this long.
    pub idle_timeout: Option<Duration>,
    pub(crate) pipe: Pipe,
    pub(crate) h2: Client,
    pub(crate) send: Option<h2::client::SendRequest<Bytes>>,
    pub(crate) waker: Waker,
    /// A stream of it has ended.
    pub served: bool,
    /// Streams in use.
    pub active: u32,
    /// Streams it may have at once, by policy.
    pub most: u32,
    /// When a stream was last begun or ended.
    pub used_at: Time,
    /// No more requests; it closes after those under way.
    pub retiring: bool,
    pub(crate) pinger: Option<h2::PingPong>,
    /// When an endpoint that was silent was last asked whether it lives.
    pub pinged: Option<Time>,
    /// How long it may be silent with streams under way before it is asked.
    pub quiet_for: Duration,
}

pub(crate) enum Client {
    Handshake(h2ClientHandshake),
    Open(Box<h2::client::Connection<Pipe, Bytes>>),
    /// Being driven, or over.
    Away,
}

/// What `h2::client::Builder::handshake` gives, which has no name.
#[allow(non_camel_case_types)]
pub(crate) type h2ClientHandshake = std::pin::Pin<
    Box<
        dyn std::future::Future<
                Output = Result<
                    (h2::client::SendRequest<Bytes>, h2::client::Connection<Pipe, Bytes>),
                    h2::Error,
                >,
            >,
    >,
>;

impl HttpConn {
    /// Whether it leads to an endpoint.
    pub fn is_upstream(&self) -> bool {
        matches!(self, HttpConn::Up1(_) | HttpConn::Up2(_))
    }

    /// Whether its TCP handshake is under way.
    pub fn connecting(&self) -> bool {
        match self {
            HttpConn::Up1(u) => u.connecting,
            HttpConn::Up2(u) => u.connecting,
            HttpConn::Down1(_) | HttpConn::Down2(_) => false,
        }
    }

    /// Whether it leads to an endpoint and takes no more requests.
    pub fn retiring(&self) -> bool {
        match self {
            HttpConn::Up1(u) => u.retiring,
            HttpConn::Up2(u) => u.retiring,
            HttpConn::Down1(_) | HttpConn::Down2(_) => false,
        }
    }

    /// How it was accepted, if it is a caller's.
    pub fn accepted(&self) -> Option<&Accepted> {
        match self {
            HttpConn::Down1(d) => Some(&d.accepted),
            HttpConn::Down2(d) => Some(&d.accepted),
            HttpConn::Up1(_) | HttpConn::Up2(_) => None,
        }
    }

    /// The host it leads to, if it leads to an endpoint.
    pub fn host(&self) -> Option<Key> {
        match self {
            HttpConn::Up1(u) => Some(u.host),
            HttpConn::Up2(u) => Some(u.host),
            HttpConn::Down1(_) | HttpConn::Down2(_) => None,
        }
    }
}
