//! How a sidecar joins the control plane, and what it publishes there.
use super::{Labels, protocol};
use raddle_core::Protocol;
use serde::Serialize;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// `spec.controlPlane`: where services and rules come from beside the files.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ControlPlane {
    /// Its replicas; any of them will do.
    pub addresses: Vec<ControlAddress>,
    /// Plaintext is allowed off loopback, too.
    pub insecure: bool,
    /// Roots its certificate is checked with, PEM.
    pub roots_file: Option<PathBuf>,
    /// The token the first certificate is got with.
    pub token_file: Option<PathBuf>,
    /// Folder of the last good state; absent = the service manager's, if it gives one, else none.
    pub cache: Option<PathBuf>,
    /// Longest a request waits for a service that is asked for because of it.
    pub wait: Duration,
    /// Services asked for at start.
    pub preload: Vec<String>,
    /// Services that were asked for because of a request are dropped after this long without one.
    pub idle: Duration,
    /// How resources are asked for.
    pub protocol: XdsProtocol,
    /// Socket on which other software on this machine gets the instance's certificate; absent = none.
    pub sds: Option<PathBuf>,
}

/// A replica of the control plane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ControlAddress {
    /// Whether it is spoken to by TLS.
    pub tls: bool,
    /// A name, an IPv4 address, or an IPv6 address in brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl ControlAddress {
    /// Whether it is on this machine for certain.
    pub fn is_loopback(&self) -> bool {
        let bare = self.host.trim_start_matches('[').trim_end_matches(']');
        self.host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl std::fmt::Display for ControlAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

impl Serialize for ControlAddress {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// The variant of xDS a sidecar asks by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum XdsProtocol {
    /// Changes only.
    Delta,
    /// The state of the world.
    Sotw,
    /// Changes only where the server knows them.
    #[default]
    Auto,
}

/// `spec.publish`: what the app beside the sidecar serves.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Publish {
    /// The address callers connect to; absent = where the first inbound listener accepts, else this host's.
    pub address: Option<IpAddr>,
    /// Share of requests among its peers, 0..=10000.
    pub weight: u32,
    /// What is served.
    pub services: Vec<Published>,
    /// Published only while this port of this machine accepts connections.
    pub watch_port: Option<u16>,
}

/// A service the app serves.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// The name requests carry.
    pub name: String,
    /// What it speaks; absent = the request's.
    #[serde(serialize_with = "protocol")]
    pub protocol: Option<Protocol>,
    /// The port callers connect to.
    pub port: u16,
    /// Further HTTP hosts that mean it.
    pub hosts: Vec<String>,
    /// What a framework wants its callers to know.
    pub metadata: Labels,
}
