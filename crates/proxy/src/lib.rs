//! The sidecar: the life of a connection and of a request.
//!
//! One thread per core, each a [`worker::Worker`] with its own epoll set, connections, hosts and services;
//! what they share is in [`shared`], and none of it is locked on a request's way. Where to read:
//!
//! * [`request`]: a request's life, downwards. Start here. It goes on in [`waiting`], [`reply`], [`answer`] and
//!   ends in [`record`].
//! * [`caller`], [`endpoint`], [`relay`]: the two sides of a connection that many share (Bolt, Dubbo), and TCP.
//! * [`frame`], [`call`], [`lane`]: what differs between the protocols that go that way, and nothing else.
//! * [`worker`]: the turn of the loop, with [`writing`] and [`timers`]; [`listening`], [`accept`], [`closing`],
//!   [`drain`]: how connections begin and end.
//! * [`tls`]: between a socket and everything else; [`links`]: who the sidecar is to others; [`handshake`]: off the
//!   workers. To endpoints: `secure` and `turning`, from the wish for TLS to connections that are what is wanted.
//!   From callers: [`gate`] and [`leaving`], strict and how connections from before it end; `trust`: judging again;
//!   [`callers`]: who calls; `introduce`: telling the app.
//! * `authorize`: who may. [`limits`]: how many may.
//! * [`hosts`], [`services`], [`pending`]: what a worker remembers.
//! * [`sidecar`]: putting it together: threads, signals; [`loader`]: files and reload. [`admin`]: answers for people.
//!
//! What is decided where: crate `policy` decides, this crate does.
#![forbid(unsafe_code)]

pub mod accept;
pub mod admin;
pub mod answer;
mod authorize;
pub mod call;
pub mod caller;
pub mod callers;
pub mod closing;
pub mod conn;
pub mod destination;
mod drain;
pub mod endpoint;
pub mod fault;
pub mod frame;
pub mod gate;
pub mod handshake;
pub mod health;
pub mod holding;
pub mod hosts;
pub mod http;
mod introduce;
pub mod lane;
pub mod lease;
pub mod leaving;
pub mod limits;
pub mod links;
pub mod listening;
pub mod loader;
pub mod mesh;
pub mod pending;
pub(crate) mod probe;
pub mod record;
pub(crate) mod refused;
pub mod relay;
pub mod reply;
pub mod request;
pub(crate) mod secure;
pub mod services;
pub mod shared;
pub mod sidecar;
pub mod timers;
pub mod tls;
pub(crate) mod trust;
pub(crate) mod turning;
pub mod waiting;
pub mod worker;
pub mod writing;

pub use sidecar::{Options, Sidecar};
