//! The sidecar: the life of a connection and of a request.
//!
//! One thread per core, each a [`worker::Worker`] with its own epoll set, connections, hosts and services;
//! what they share is in [`shared`], and none of it is locked on a request's way. Where to read:
//!
//! * [`request`]: a request's life, downwards. Start here.
//! * [`caller`], [`endpoint`], [`relay`]: the two sides of a Bolt connection, and TCP.
//! * [`worker`]: the turn of the loop; [`accept`], [`closing`], [`drain`]: how connections begin and end.
//! * [`hosts`], [`services`], [`pending`]: what a worker remembers.
//! * [`sidecar`]: putting it together: files, reload, threads, signals. [`admin`]: answers for people.
//!
//! What is decided where: crate `policy` decides, this crate does.
#![forbid(unsafe_code)]

pub mod accept;
pub mod admin;
pub mod caller;
pub mod closing;
pub mod conn;
pub mod drain;
pub mod endpoint;
pub mod health;
pub mod hosts;
pub mod pending;
pub mod relay;
pub mod request;
pub mod services;
pub mod shared;
pub mod sidecar;
pub mod worker;

pub use sidecar::{Options, Sidecar};
