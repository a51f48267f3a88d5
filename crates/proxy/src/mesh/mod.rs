//! The sidecar in the mesh: what it gets from a control plane, and what it tells it.
//!
//! One thread, `mesh`, with a tokio current-thread runtime: nothing of it is on a request's way. A control plane
//! that is away changes nothing for what is known already.
//!
//! * [`thread`]: the thread; [`link`] the way to it. [`names`]: which services are asked for, and for how long.
//! * [`feeder`] and [`fed`]: what the control plane said, merged with the files. [`demand`]: requests that wait for
//!   services to be known.
//! * [`publish`]: what the app serves, to the registry, and with [`offer`] whether callers are to encrypt; [`report`]: what runs here and how it goes, with [`edges`] who calls; [`channel`]:
//!   connections for both.
//! * [`quota`]: rates that all sidecars have together.
//! * [`agent`]: the sidecar's certificate, [`certificate`] tells how it goes; [`sds`]: the same for other software on the machine;
//!   [`secrets`]: the identity from another agent instead.
//! * [`handle`]: what the local mesh API asks for, with [`local_state`] behind it; [`local`]: that API.
pub mod agent;
pub(crate) mod certificate;
pub(crate) mod channel;
pub(crate) mod demand;
pub(crate) mod edges;
pub mod fed;
pub(crate) mod feeder;
pub mod handle;
pub(crate) mod limits;
pub mod link;
pub mod local;
pub(crate) mod local_state;
pub(crate) mod names;
pub(crate) mod offer;
pub(crate) mod publish;
pub(crate) mod quota;
pub(crate) mod report;
pub mod sds;
pub(crate) mod secrets;
pub(crate) mod start;
pub(crate) mod thread;

pub use handle::{AppInfo, Endpoint, Identity, Lookup, MeshError, MeshHandle};

/// Name of the secret with the roots of trust.
pub(crate) const ROOTS: &str = "raddle-trust";
