//! The client on real sockets: against the real server, and against a scripted one that does what servers should not.
#[path = "client/catalog.rs"]
mod catalog;
#[path = "client/real.rs"]
mod real;
#[path = "client/scripted.rs"]
mod scripted;
#[path = "client/tls.rs"]
mod tls;
#[path = "client/world.rs"]
mod world;
