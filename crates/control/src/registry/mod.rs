//! Who serves what.
//!
//! * [`service`]: the gRPC service that takes publications and writes them to the store.
//! * [`Registry`]: that, and what lies in the store told to the book.
//! * [`book`]: pure: instances and service sets in, a [`Directory`] out; [`guard`]: when vanished instances are kept;
//!   [`merge`]: how changes are merged; [`check`]: what may be published.
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

pub mod book;
pub mod check;
pub mod guard;
pub mod merge;
pub mod metrics;
pub mod service;
mod writer;

mod fixed;
mod follow;

pub use book::Book;
pub use follow::{Registry, Settings};
pub use guard::Protection;

/// Who serves what, at one moment. Never changed: the next one shares what did not change.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    /// Grows with every change.
    pub generation: u64,
    /// Services by name.
    pub services: BTreeMap<Arc<str>, Arc<Listed>>,
    /// Instances by app.
    pub apps: BTreeMap<Arc<str>, Arc<App>>,
    /// The whole mesh is protected: so large a share of all instances vanished at once that none is let go.
    pub protected: bool,
}

/// A service with its endpoints.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// Its name.
    pub name: Arc<str>,
    /// The app that publishes it (the first by name if several do).
    pub app: Arc<str>,
    /// Protocol as `raddle_core::Protocol::name` says it; empty = the request's.
    pub protocol: Arc<str>,
    /// Further HTTP hosts.
    pub hosts: Vec<Arc<str>>,
    /// Framework metadata.
    pub metadata: BTreeMap<String, String>,
    /// Its endpoints, by instance id.
    pub endpoints: Vec<Endpoint>,
    /// The list is the last good one: too many instances vanished at once (self-protection).
    pub protected: bool,
}

/// One instance of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// The instance.
    pub instance: Arc<Instance>,
    /// Port of this service.
    pub port: u16,
    /// The instance has vanished and is kept by self-protection.
    pub kept: bool,
}

/// The instances of an app.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct App {
    /// By id.
    pub instances: BTreeMap<Arc<str>, Arc<Instance>>,
    /// Those of them that have vanished and are kept by self-protection.
    pub kept: BTreeSet<Arc<str>>,
    /// Too many of the app's instances vanished at once: those are kept.
    pub protected: bool,
}

/// A running copy of an app.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// Unique in the mesh.
    pub id: Arc<str>,
    /// Its app.
    pub app: Arc<str>,
    /// Deployment unit; empty = none.
    pub unit: Arc<str>,
    /// Group; `default` if it has no other.
    pub group: Arc<str>,
    /// Version; empty = none.
    pub version: Arc<str>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Where it is.
    pub address: IpAddr,
    /// Share among its peers, 0..=10000.
    pub weight: u32,
    /// Holds a certificate and takes TLS.
    pub tls: bool,
    /// And callers must not fall back to plaintext.
    #[serde(default)]
    pub tls_required: bool,
    /// Hash of the services it publishes (`services/APP/HASH` in the store).
    pub services: Arc<str>,
}
