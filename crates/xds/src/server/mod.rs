//! The server: what a stream subscribed to, what it has, and what it must be sent.
pub mod admission;
mod codec;
pub mod delta;
mod options;
mod peer;
mod refusals;
mod response;
mod service;
pub mod sotw;
mod status;
mod stream;
mod streams;
mod subscription;

pub use options::{Admission, Limits, Options};
pub use response::{Response, Variant};
pub use status::{Counters, KindInfo, Nacked, StreamInfo};
pub use subscription::Violation;

use crate::proto::Node;
use crate::resource::Resource;
use crate::types::Kind;
use admission::Gate;
use std::sync::{Arc, Mutex};
use std::time::{Instant, SystemTime, UNIX_EPOCH};
use streams::Streams;
use tokio::sync::watch;

/// Where a server has its resources from. Cheap to ask; answers of one generation agree with each other.
pub trait Catalog: Send + Sync + 'static {
    /// The generation in force; it grows with every change.
    fn generation(&self) -> watch::Receiver<u64>;
    /// What a peer may see now.
    fn view(&self, peer: &Peer) -> Box<dyn View>;
}

/// What one peer sees at one generation.
pub trait View: Send {
    /// The generation.
    fn generation(&self) -> u64;
    /// The resource of that name, if there is one for this peer. `subscribed` tells which clusters (services) the
    /// peer has named on the stream; rules are for those only.
    fn get(&self, kind: Kind, name: &str) -> Option<Arc<Resource>>;
    /// All resources of a kind that a wildcard subscription of this peer means. For rules: those whose scope and
    /// rollout reach the peer and which concern its app or one of the services it subscribed to.
    fn all(&self, kind: Kind, services: &dyn Fn(&str) -> bool) -> Vec<Arc<Resource>>;
    /// What may differ from the view of generation `since`, by kind and name; `None` = everything may.
    fn changed(&self, since: u64) -> Option<Vec<(Kind, Arc<str>)>>;
}

/// Who is at the other end of a stream.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// What it says of itself, in Raddle's terms (from the xDS node: id, cluster = app, locality.zone = unit, metadata
    /// `raddle`: group, version, labels, address).
    pub node: Node,
    /// What software it is.
    pub software: Software,
    /// SPIFFE id of its certificate; `None` = plaintext on loopback.
    pub identity: Option<String>,
    /// Metadata of the xDS node, for Envoy's listeners and the like: flattened `a.b` keys, scalar values as text.
    pub metadata: Vec<(String, String)>,
}

/// SPIFFE id of the certificate that the peer of a connection has proven; `None` = it has shown none, or there is no TLS.
/// A request's extension, put there by whoever serves the connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerIdentity(pub Option<String>);

/// The software of a peer, by its user agent: what resources it wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Software {
    /// A Raddle sidecar.
    Raddle,
    /// Envoy.
    Envoy,
    /// One of gRPC's own clients.
    Grpc,
    /// Anything else.
    #[default]
    Other,
}

/// What a request was.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// It asked for something, or repeated itself.
    Subscribed {
        /// Of what kind.
        kind: Kind,
    },
    /// It answered no response that is waited for; what it asked for counts.
    Stale {
        /// Of what kind.
        kind: Kind,
    },
    /// A response was taken.
    Ack {
        /// Of what kind.
        kind: Kind,
        /// The response's version.
        version: String,
    },
    /// A response was refused.
    Nack {
        /// Of what kind.
        kind: Kind,
        /// The response's version.
        version: String,
        /// What of it.
        refused: Vec<Nacked>,
        /// In the client's words.
        reason: String,
    },
    /// It was about a type the server does not know.
    Unknown,
}

/// The server. Clones are the same server.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    catalog: Arc<dyn Catalog>,
    options: Options,
    gate: Mutex<Gate>,
    streams: Arc<Streams>,
    started: Instant,
    /// First part of nonces: differs between servers and starts.
    tag: String,
}

impl Server {
    /// A server of that catalog's resources.
    pub fn new(catalog: Arc<dyn Catalog>, options: Options) -> Server {
        let gate = Mutex::new(Gate::new(options.admission.clone()));
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let tag = format!("{:x}", since.as_millis());
        let inner = Inner { catalog, options, gate, streams: Arc::default(), started: Instant::now(), tag };
        Server { inner: Arc::new(inner) }
    }

    /// Its gRPC services: ADS, and CDS, EDS, LDS, RDS and SDS alone; both variants of each.
    pub fn routes(&self) -> tonic::service::Routes {
        service::routes(&self.inner)
    }

    /// All streams, by id.
    pub fn streams(&self) -> Vec<StreamInfo> {
        self.inner.streams.infos()
    }

    /// Counters since the start.
    pub fn counters(&self) -> Counters {
        self.inner.streams.counters()
    }

    /// Asks the oldest streams to go elsewhere, `share` (0..=1) of all: each ends with UNAVAILABLE at a time of its
    /// own within [`Options::shed_over`]. Gives their number.
    pub fn shed(&self, share: f64) -> usize {
        self.inner.streams.shed(share, self.inner.options.shed_over)
    }
}
