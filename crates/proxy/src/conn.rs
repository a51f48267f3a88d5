//! What a worker keeps of each connection.
//!
//! Small on purpose: an idle connection is this struct, its role's box and nothing else. Buffers come from
//! the worker's pool and go back to it.
use crate::lane::Lane;
use crate::pending::Pending;
use raddle_core::Time;
use raddle_net::{Interest, Key, OutBuf};
use raddle_policy::HeartbeatPlan;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// Why a connection is not read from. It is read again when no reason is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paused(u8);

impl Paused {
    /// The peer's own replies pile up unread.
    pub const OUT_FULL: u8 = 1;
    /// The connection its bytes go to takes no more for now.
    pub const SINK_FULL: u8 = 2;
    /// Its next request waits for a connection of its own.
    pub const NO_CONNECTION: u8 = 4;
    /// The peer has ended its stream.
    pub const ENDED: u8 = 8;

    /// Its handshake is with the handshake threads, or waits for them.
    pub const SHAKING: u8 = 16;

    /// Adds a reason.
    pub fn set(&mut self, why: u8) {
        self.0 |= why;
    }

    /// Removes a reason.
    pub fn clear(&mut self, why: u8) {
        self.0 &= !why;
    }

    /// Whether any reason holds.
    pub fn any(self) -> bool {
        self.0 != 0
    }

    /// Whether this reason holds.
    pub fn has(self, why: u8) -> bool {
        self.0 & why != 0
    }

    /// The reasons in words, for views.
    pub fn names(self) -> Vec<&'static str> {
        [
            (Paused::OUT_FULL, "replies unread"),
            (Paused::SINK_FULL, "receiver full"),
            (Paused::NO_CONNECTION, "waits for a connection"),
            (Paused::ENDED, "peer ended its stream"),
            (Paused::SHAKING, "handshake"),
        ]
        .into_iter()
        .filter_map(|(bit, name)| self.has(bit).then_some(name))
        .collect()
    }
}

/// A connection of any role.
pub struct Conn {
    /// The socket.
    pub fd: OwnedFd,
    /// Bytes for the peer.
    pub out: OutBuf,
    /// The beginning of a frame whose rest has not come yet.
    pub stash: Vec<u8>,
    /// The frame that is being passed through piece by piece, if any.
    pub stream: Option<Box<Stream>>,
    /// What epoll watches it for.
    pub interest: Interest,
    /// Why it is not read from.
    pub paused: Paused,
    /// Whether it waits in the worker's list of connections to flush.
    pub dirty: bool,
    /// When its timer goes off; [`Time::MAX`] = not armed.
    pub timer_at: Time,
    /// When bytes last came from the peer.
    pub read_at: Time,
    /// When the kernel last took bytes for the peer.
    pub wrote_at: Time,
    /// When the frame in `stash` or `stream` began.
    pub frame_since: Time,
    /// Its TLS, if it has any.
    pub tls: Option<Box<crate::tls::Tls>>,
    /// To an endpoint: what it is ([`raddle_policy::Transport::id`]), to compare with what is wanted; 0 = plaintext.
    pub transport: u64,
    /// Who it is from, among those that are told apart; of callers on the inbound side.
    pub row: crate::callers::Row,
    /// It is to go.
    pub leaving: Option<Box<crate::leaving::Leaving>>,
    /// The peer has ended its stream behind what is in `stash`.
    pub ends: bool,
    /// Our side is ended, and what the peer still sends is of no use.
    pub lingers: bool,
    /// What it is.
    pub role: Role,
}

/// A frame too large to be held, on its way from this connection to another.
pub struct Stream {
    /// Bytes still to come.
    pub remaining: u64,
    /// Where they go; `None` = dropped (the receiver is gone or the request was refused).
    pub sink: Option<Key>,
    /// To be XORed onto the last four bytes (the frame's CRC, after the id in it was changed).
    pub crc_mask: u32,
}

/// What a connection is.
pub enum Role {
    /// Accepted, and nothing known of its protocol yet.
    New(Box<Accepted>),
    /// A caller that speaks Bolt or Dubbo.
    Caller(Box<Caller>),
    /// A connection to an endpoint that speaks Bolt or Dubbo.
    Endpoint(Box<Endpoint>),
    /// One side of a TCP relay.
    Relay(Box<Relay>),
    /// Carries HTTP, on either side.
    Http(crate::http::HttpConn),
}

pub use raddle_telemetry::Direction;

/// A connection that a listener accepted.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Number of the listener.
    pub listener: u16,
    /// Its address, if the kernel told.
    pub peer: Option<SocketAddr>,
    /// Where it was going when it was captured; `None` = to the listener.
    pub to: Option<SocketAddr>,
    /// When it was accepted.
    pub since: Time,
    /// Process-wide number of the connection, for logs.
    pub id: u64,
}

/// A caller's connection.
pub struct Caller {
    /// How it came.
    pub accepted: Accepted,
    /// What the request holds of limits that cannot go on yet and is offered again.
    pub blocked: Option<crate::limits::ticket::Ticket>,
    /// Which way its requests go.
    pub direction: Direction,
    /// Requests whose replies it waits for.
    pub in_flight: u32,
    /// When its last request came or its last reply went.
    pub active_at: Time,
    /// It sends or gets frames too large to share a connection, or is slow to read: its requests travel on
    /// connections of its own, where holding back harms nobody else.
    pub private: bool,
    /// The connection that is passing a large reply into `out`; other replies wait in `deferred`.
    pub stream_from: Option<Key>,
    /// Replies that must not be put in the middle of a large one.
    pub deferred: VecDeque<Deferred>,
    /// Bytes in `deferred`.
    pub deferred_bytes: usize,
    /// Connections that are not read until `out` has room.
    pub feeders: Vec<Key>,
    /// It understands GOAWAY.
    pub takes_goaway: bool,
    /// It was told to go away.
    pub told: bool,
    /// Lane of its last frame, for GOAWAY.
    pub lane: Lane,
}

/// A reply that waits behind a large one.
pub struct Deferred {
    /// Its bytes so far.
    pub bytes: Vec<u8>,
    /// The connection more of it comes from; `None` = it is whole.
    pub from: Option<Key>,
}

/// Life of a connection to an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The handshake is under way.
    Connecting,
    /// It takes requests.
    Ready,
    /// It takes no new ones; those in flight finish.
    Retiring,
}

/// A connection to an endpoint.
pub struct Endpoint {
    /// The worker's state of the host.
    pub host: Key,
    /// What it carries.
    pub lane: Lane,
    /// The caller it belongs to; [`Key::NONE`] = shared by all.
    pub owner: Key,
    /// Where it is in its life.
    pub phase: Phase,
    /// When that began.
    pub since: Time,
    /// Requests in flight.
    pub pending: Pending,
    /// Heartbeats.
    pub heartbeat: HeartbeatPlan,
    /// When its last request was sent.
    pub used_at: Time,
    /// Callers that are not read until `out` has room.
    pub feeders: Vec<Key>,
    /// The caller that is passing a large request into `out`.
    pub stream_from: Option<Key>,
    /// Longest time it may retire.
    pub retire_by: Time,
    /// The handshake may take this long, by the policy in force when it was made.
    pub connect_timeout: std::time::Duration,
    /// Close after this long without a request.
    pub idle_timeout: Option<std::time::Duration>,
    /// Since when it is held back by a slow caller while others wait behind.
    pub stalled_since: Option<Time>,
}

/// One side of a TCP relay.
pub struct Relay {
    /// What the request that began it holds of limits, on the caller's side.
    pub ticket: Option<crate::limits::ticket::Ticket>,
    /// How the caller's side came; `None` on the endpoint's side.
    pub accepted: Option<Accepted>,
    /// The other side.
    pub peer: Key,
    /// The worker's state of the host.
    pub host: Key,
    /// The service it counts for.
    pub service: Key,
    /// Row of the metrics it counts in.
    pub cells: u32,
    /// The endpoint's side is still connecting.
    pub connecting: bool,
    /// Which endpoint, for the balancer's accounts.
    pub endpoint: u32,
    /// Endpoints tried so far.
    pub tried: u8,
    /// This side's peer ended its stream.
    pub ended: bool,
    /// The end of the other side's stream was passed on to this side.
    pub shut: bool,
    /// It became a relay for want of bytes to tell its protocol; the first ones may still tell.
    pub undecided: bool,
    /// Limits are asked once the first bytes pass: until then it may turn out to be no TCP.
    pub unasked: bool,
    /// Bytes that came from this side.
    pub bytes: u64,
    /// Which way.
    pub direction: Direction,
    /// When it began.
    pub since: Time,
    /// The caller asked by CONNECT and is told when the endpoint is there.
    pub answer: bool,
    /// It was TCP from the beginning, and not a request first.
    pub plain: bool,
    /// The rule of authorization or limit that refuses it, or would, as logs name it.
    pub rule: Option<Box<str>>,
}
