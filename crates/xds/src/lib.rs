//! xDS v3: the protocol between control plane and data plane, both ends, and Raddle's resources in it.
//!
//! * [`proto`]: Raddle's own messages; Envoy's are the crate `envoy-types`.
//! * [`resource`]: a resource, encoded once for everybody who gets it; [`types`] their type URLs.
//! * [`server`]: ADS, state-of-the-world and incremental. [`client`]: the same from the other end.
//! * [`digest`](mod@digest): whether both ends mean the same rules.
//! * [`translate`]: services, endpoints and rules to Envoy's resources and back.
//!
//! The protocol's rules are state machines without sockets or clocks; the gRPC around them is thin.
#![forbid(unsafe_code)]

pub mod client;
pub mod digest;
pub mod proto;
pub mod resource;
pub mod server;
pub mod translate;
pub mod types;
