//! What a client is told when it starts.
use crate::proto::Node;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Gives the TLS configuration for the next connection; `None` = none can be given yet (no certificate, say), and
/// the attempt fails. Asked anew for every connection, so that certificates can rotate.
pub type TlsSource = Arc<dyn Fn() -> Option<Arc<rustls::ClientConfig>> + Send + Sync>;

/// A server that can be asked.
#[derive(Clone)]
pub struct Target {
    /// `http://host:port`, or `https://host:port` with [`tls`](Target::tls).
    pub uri: String,
    /// How TLS is done; needed for `https`, unused for `http`.
    pub tls: Option<TlsSource>,
    /// The name the server's certificate must carry; absent = the URI's host.
    pub server_name: Option<String>,
}

impl Target {
    /// A server without TLS.
    pub fn plain(uri: impl Into<String>) -> Target {
        Target { uri: uri.into(), tls: None, server_name: None }
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("uri", &self.uri)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

/// The variant of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Incremental.
    #[default]
    Delta,
    /// State of the world.
    Sotw,
    /// Incremental; state of the world from a server that does not know it.
    Auto,
}

impl Mode {
    /// As people call it.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Delta => "delta",
            Mode::Sotw => "sotw",
            Mode::Auto => "auto",
        }
    }
}

/// How long is waited between attempts to connect: a random time up to a bound that doubles with each failure,
/// but is at most half of how long the server has been away (a second at least).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackoffOptions {
    /// Bound after the first failure.
    pub first: Duration,
    /// Largest bound.
    pub longest: Duration,
}

impl Default for BackoffOptions {
    fn default() -> BackoffOptions {
        BackoffOptions { first: Duration::from_millis(200), longest: Duration::from_secs(30) }
    }
}

/// What a client is told when it starts.
#[derive(Clone, Debug)]
pub struct Options {
    /// Servers; one is used at a time. They are tried in an order of chance (by [`seed`](Options::seed)).
    pub targets: Vec<Target>,
    /// Who asks.
    pub node: Node,
    /// Variant of the protocol.
    pub mode: Mode,
    /// File that carries what is known over a restart; absent = none. Certificates and keys never go into it.
    pub cache: Option<PathBuf>,
    /// Whether to subscribe to Raddle's rules.
    pub rules: bool,
    /// Name of the secret with the roots of trust; absent = not asked for. Only bundles are taken, never keys.
    pub roots: Option<Arc<str>>,
    /// For servers that are not Raddle's (istiod, go-control-plane): subscribe to all listeners and clusters, and
    /// take services, routes and policies from them.
    pub listen: bool,
    /// A service nobody wants is unsubscribed after this long.
    pub unsubscribe_after: Duration,
    /// A service whose endpoints do not come goes live without any after this long.
    pub warm: Duration,
    /// For jitter and the order of targets.
    pub seed: u64,
    /// Waits between attempts.
    pub backoff: BackoffOptions,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            targets: Vec::new(),
            node: Node::default(),
            mode: Mode::Delta,
            cache: None,
            rules: true,
            roots: None,
            listen: false,
            unsubscribe_after: Duration::from_mins(10),
            warm: Duration::from_secs(5),
            seed: 0,
            backoff: BackoffOptions::default(),
        }
    }
}
