//! What the local mesh API can ask of the sidecar: to publish, to subscribe, to know who the app is.
use raddle_model::Published;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::watch;

/// The sidecar's mesh side, as the API for the local app sees it. Calls return at once; what follows happens in
/// the `mesh` thread.
pub trait MeshHandle: Send + Sync + 'static {
    /// What the app says of itself. Repeated calls replace one another.
    fn configure(&self, app: AppInfo);

    /// What the app said of itself last, and what the sidecar's file says of it.
    fn identity(&self) -> Identity;

    /// Publishes a service, or replaces what was published under its name.
    ///
    /// # Errors
    /// The name or metadata are beyond their bounds, or too many services are published.
    fn publish(&self, service: Published) -> Result<(), MeshError>;

    /// Publishes a service no more. False if it was not published here.
    fn unpublish(&self, name: &str) -> bool;

    /// Whether the registry has acknowledged everything that was said so far.
    fn acknowledged(&self) -> bool;

    /// What is published through this handle now, by name.
    fn published(&self) -> Vec<Published>;

    /// Asks for a service and keeps it, as long as [`MeshHandle::unsubscribe`] is not called as often. The
    /// receiver has what is known now, and is told of every change.
    ///
    /// # Errors
    /// The name is beyond its bounds, or too many are subscribed.
    fn subscribe(&self, name: &str) -> Result<watch::Receiver<Lookup>, MeshError>;

    /// Gives one subscription back. False if there is none.
    fn unsubscribe(&self, name: &str) -> bool;

    /// Where the app is to send its requests: of the outbound listeners that take this protocol the one on `port`,
    /// else the first.
    fn outbound(&self, protocol: Option<raddle_core::Protocol>, port: u16) -> Option<SocketAddr>;

    /// The port callers connect to for what the app serves on its own port `app`: that of the inbound listener that
    /// forwards there; of the first inbound listener if the app's port is not given.
    fn inbound(&self, app: Option<u16>) -> Option<u16>;
}

/// What an app says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppInfo {
    /// Its name, if it says one.
    pub app: Option<String>,
    /// Whatever else: data centre, zone, framework and its version.
    pub facts: BTreeMap<String, String>,
}

/// Who the instance is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Instance id.
    pub id: String,
    /// App, as the sidecar's file says.
    pub app: String,
    /// Deployment unit.
    pub unit: Option<String>,
    /// The address its callers connect to.
    pub address: Option<std::net::IpAddr>,
    /// What the app said last.
    pub said: AppInfo,
}

/// What is known of a service.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Lookup {
    /// Nothing yet.
    #[default]
    Unknown,
    /// The control plane says that there is none.
    Missing,
    /// Its endpoints now; they may be none.
    Found(Arc<[Endpoint]>),
}

/// An endpoint of a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Where it is.
    pub address: SocketAddr,
    /// Share among its peers.
    pub weight: u32,
    /// Deployment unit.
    pub unit: Option<Arc<str>>,
    /// Group.
    pub group: Arc<str>,
    /// Labels.
    pub labels: Arc<raddle_model::Labels>,
}

/// Why something was not done; a sentence for the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MeshError(pub String);

impl fmt::Display for MeshError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for MeshError {}
