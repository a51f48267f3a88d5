//! Between Raddle's model and Envoy's resources.
//!
//! * [`inward`]: Envoy's resources as the model has them, for sidecars.
//! * [`outward`]: what the control plane knows, as Envoy, gRPC's clients and sidecars read it.
//!
//! What Envoy's types have no field for travels in filter metadata of the name [`METADATA`]: of a cluster `app`,
//! `protocol`, `hosts` (list) and `metadata` (struct); of an endpoint `instance`, `group`, `tls`,
//! `tlsRequired` and `kept`.
pub mod inward;
pub mod outward;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Filter metadata with what only Raddle reads.
pub const METADATA: &str = "raddle";
/// Filter metadata of endpoints by which Envoy makes subsets: labels, and `group`, `version`, `unit` of the instance
/// under [`GROUP`], [`VERSION`] and [`UNIT`], so that they never hide a label.
pub const LB_METADATA: &str = "envoy.lb";
/// Key of the group in [`LB_METADATA`].
pub const GROUP: &str = "raddle.group";
/// Key of the version in [`LB_METADATA`].
pub const VERSION: &str = "raddle.version";
/// Key of the unit in [`LB_METADATA`].
pub const UNIT: &str = "raddle.unit";

/// A service as it is to be translated.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceView<'a> {
    /// Its name: also that of its cluster and of its endpoints.
    pub name: &'a str,
    /// The app that publishes it.
    pub app: &'a str,
    /// As `raddle_core::Protocol::name` says it; empty = the request's.
    pub protocol: &'a str,
    /// Further HTTP hosts.
    pub hosts: &'a [Arc<str>],
    /// The framework's metadata.
    pub metadata: &'a BTreeMap<String, String>,
    /// Its endpoints, in an order that does not change by itself (content hashes are over it).
    pub endpoints: Vec<EndpointView<'a>>,
}

/// One instance of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct EndpointView<'a> {
    /// Instance id.
    pub instance: &'a str,
    /// Where it is.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Share among its peers, 0..=10000.
    pub weight: u32,
    /// Deployment unit; empty = none.
    pub unit: &'a str,
    /// Group; empty = `default`.
    pub group: &'a str,
    /// Version; empty = none.
    pub version: &'a str,
    /// Labels.
    pub labels: &'a BTreeMap<String, String>,
    /// Takes TLS.
    pub tls: bool,
    /// And callers must not fall back to plaintext.
    pub tls_required: bool,
    /// Has vanished and is kept by self-protection.
    pub kept: bool,
}
