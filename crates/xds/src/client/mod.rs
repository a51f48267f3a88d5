//! The client: what a sidecar has from a control plane, kept current over one stream.
//!
//! [`spawn`] starts it. Services are asked for by name when they are first called ([`Handle::want`]); their
//! endpoints follow by themselves. What arrives is given to a [`Sink`], whose refusals go back to the server by
//! name. A server that dies takes nothing away: what is there stays, for ever, and a [cache](Options::cache) on
//! disk carries it over a restart.
//!
//! `machine` decides (pure: time is an argument, messages go in and out), `transport` speaks gRPC, `driver` ties
//! them together, `cache` is the file. It works against any xDS v3 server, as far as [`crate::translate`] goes.
mod assembly;
mod backoff;
mod cache;
#[doc(hidden)]
pub mod check;
mod driver;
mod handle;
mod machine;
mod node;
mod options;
mod routing;
mod sink;
mod transport;

pub use driver::spawn;
pub use handle::{Handle, RefusedResource, Status};
pub use options::{BackoffOptions, Mode, Options, Target, TlsSource};
pub use sink::{Marks, Refused, RuleDoc, Sink, Update};
