//! How a control plane runs, and why one does not start.
use crate::registry::Protection;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Where the control plane keeps what it knows.
#[derive(Clone, Debug)]
pub enum Keep {
    /// In one file, for one control plane.
    File(PathBuf),
    /// Nowhere: it is gone with the process. For tests and demonstrations.
    Memory,
    /// In an etcd cluster that several control planes share; its URLs.
    Etcd(Vec<String>),
}

/// How the control plane runs.
#[derive(Clone, Debug)]
pub struct Options {
    /// The store.
    pub store: Keep,
    /// Name of this replica; absent = one is made.
    pub id: Option<String>,
    /// xDS and registry in plaintext; absent = not at all.
    pub grpc: Option<SocketAddr>,
    /// The same over TLS.
    pub tls: Option<SocketAddr>,
    /// REST.
    pub rest: Option<SocketAddr>,
    /// REST demands no token; on loopback only.
    pub no_auth: bool,
    /// Where the first administrator's token is put; absent = beside the file everything is kept in.
    pub admin_token_file: Option<PathBuf>,
    /// The certificate authority; absent = none, and no TLS.
    pub ca: Option<crate::ca::CaOptions>,
    /// Plaintext may listen elsewhere than on loopback.
    pub insecure_listen: bool,
    /// Services that are there without being published, as files have them.
    pub resources: Vec<raddle_model::Source>,
    /// How long a publication stays after its stream has ended.
    pub grace: Duration,
    /// Self-protection.
    pub protection: Protection,
    /// Most streams at once.
    pub max_streams: usize,
    /// Endpoints that one sidecar gets of a large service; 0 = all.
    pub slice: usize,
}

impl Options {
    /// Where the first administrator's token is put.
    pub(crate) fn first_token(&self) -> Option<PathBuf> {
        match (&self.admin_token_file, &self.store) {
            (Some(file), _) => Some(file.clone()),
            (None, Keep::File(store)) => Some(store.with_extension("admin-token")),
            (None, _) => None,
        }
    }
}

impl Options {
    /// Where the authority's roots are put for people, sidecars and the command line: beside the file everything is
    /// kept in.
    pub(crate) fn roots_file(&self) -> Option<PathBuf> {
        match &self.store {
            Keep::File(store) => Some(store.with_extension("roots.pem")),
            _ => None,
        }
    }
}

impl Default for Options {
    fn default() -> Options {
        let local = |port| Some(SocketAddr::from(([127, 0, 0, 1], port)));
        Options {
            store: Keep::File("raddle-control.db".into()),
            id: None,
            grpc: local(15010),
            tls: local(15012),
            rest: local(7070),
            no_auth: false,
            admin_token_file: None,
            ca: None,
            insecure_listen: false,
            resources: Vec::new(),
            grace: Duration::from_secs(15),
            protection: Protection::default(),
            max_streams: 20_000,
            slice: 0,
        }
    }
}

/// Where a running control plane listens.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// xDS and registry in plaintext.
    pub grpc: Option<SocketAddr>,
    /// The same over TLS.
    pub tls: Option<SocketAddr>,
    /// REST.
    pub rest: Option<SocketAddr>,
}

/// Why a control plane did not start; a sentence for people.
#[derive(Debug)]
pub enum StartError {
    /// An address cannot be listened on: what for, which, the flag that changes it, why.
    Listen(&'static str, SocketAddr, &'static str, std::io::Error),
    /// Plaintext off loopback was not allowed: of what, and where.
    Plaintext(&'static str, SocketAddr),
    /// The store does not open.
    Store(raddle_store::StoreError),
    /// The resources given have mistakes, or cannot be read.
    Resources(String),
    /// Something else that was given is wrong.
    Option(String),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Listen(what, address, flag, e) if e.kind() == std::io::ErrorKind::AddrInUse => {
                write!(f, "{what}: port {} is taken ({address}); use {flag}", address.port())
            }
            StartError::Listen(what, address, flag, e) => {
                write!(f, "{what}: cannot listen on {address} ({flag}): {e}")
            }
            StartError::Plaintext(what, address) => write!(
                f,
                "plaintext {what} listens on loopback only, and {address} is not: use --tls-listen, or \
                 --insecure-listen if the network is trusted"
            ),
            StartError::Store(e) => write!(f, "{e}"),
            StartError::Resources(e) | StartError::Option(e) => f.write_str(e),
        }
    }
}

impl std::error::Error for StartError {}
