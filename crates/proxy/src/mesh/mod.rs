//! The sidecar in the mesh: what it gets from a control plane, and what it tells it.
//!
//! One thread, `mesh`, with a tokio current-thread runtime: nothing of it is on a request's way. A control plane
//! that is away changes nothing for what is known already.
//!
//! * [`handle`]: what the local mesh API asks for. [`local`]: that API.
pub mod handle;
pub mod local;

pub use handle::{AppInfo, Endpoint, Identity, Lookup, MeshError, MeshHandle};
