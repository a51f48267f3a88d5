//! What workers share: the configuration in force, metrics, events. Nothing here is locked on a request's way.
use crate::conn::Direction;
use arc_swap::ArcSwap;
use crossbeam_channel::Sender;
use raddle_core::{Protocol, Time};
use raddle_model::{Limits, PortProtocol, Sidecar};
use raddle_net::original::{Mode, Opened, is_local};
use raddle_net::{Clock, Waker};
use raddle_policy::{LinkPlan, Service, Snapshot};
use raddle_telemetry::{AccessLogger, Event, Events, Registry, Severity};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};

/// A listening socket, shared by all workers: each is woken in turn and takes what it can.
pub struct Listener {
    /// Number, never used again in this process.
    pub id: u16,
    /// The socket.
    pub fd: OwnedFd,
    /// The address as configured.
    pub addr: SocketAddr,
    /// Which way its requests go.
    pub direction: Direction,
    /// Who comes in plaintext, and whether that is taken.
    pub gate: crate::gate::GateCell,
}

/// What a listener's configuration says; it may change while the socket stays.
#[derive(Clone)]
pub struct Binding {
    /// The socket.
    pub listener: Arc<Listener>,
    /// As logs name it.
    pub name: Box<str>,
    /// Declared protocol; `None` = detect.
    pub protocol: Option<Protocol>,
    /// Inbound: the local app as a service of one endpoint. Outbound: none.
    pub local: Option<Arc<Service>>,
    /// Outbound: the service of bytes that name none.
    pub default_service: Option<Arc<str>>,
    /// How the kernel leads connections here that were made to elsewhere.
    pub capture: Option<Mode>,
    /// Protocols by port of the original destination.
    pub ports: Box<[PortProtocol]>,
    /// Outbound: what no service names passes through to where it was meant to go.
    pub passes: bool,
    /// Inbound: what the local app speaks, if not what the caller does.
    pub app_protocol: Option<Protocol>,
    /// Inbound: ports on which the app ends TLS itself.
    pub app_tls: Box<[u16]>,
    /// Inbound: the app is told who calls.
    pub tells_caller: bool,
    /// Serves TLS beside plaintext.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

impl Binding {
    /// The declared protocol of a connection that was made to `to`; `None` = detect.
    pub fn declared(&self, to: Option<SocketAddr>) -> Option<Protocol> {
        let port = to.map(|to| to.port());
        let by_port = self.ports.iter().find(|p| Some(p.port) == port).map(|p| p.protocol);
        by_port.or(self.protocol)
    }
}

/// One loaded configuration. Replaced as a whole.
pub struct Config {
    /// Counts loads.
    pub generation: u64,
    /// Services, routes and policies, compiled.
    pub snapshot: Arc<Snapshot>,
    /// The sidecar's own settings.
    pub sidecar: Arc<Sidecar>,
    /// Its listeners.
    pub bindings: Vec<Binding>,
}

impl Config {
    /// The bounds in force.
    pub fn limits(&self) -> &Limits {
        &self.sidecar.limits
    }

    /// Whether an endpoint or the local app is at `addr`.
    pub fn names_host(&self, addr: &SocketAddr) -> bool {
        self.snapshot.host(*addr).is_some() || self.sidecar.inbound.iter().any(|l| l.forward == Some(*addr))
    }

    /// Whether any listener captures.
    pub fn captures(&self) -> bool {
        self.bindings.iter().any(|b| b.capture.is_some())
    }

    /// Whether `addr` is where one of the sidecar's own listeners accepts.
    pub fn is_own(&self, addr: SocketAddr) -> bool {
        self.bindings.iter().map(|b| b.listener.addr).any(|l| {
            let everywhere = l.ip().is_unspecified() && l.is_ipv4() == addr.is_ipv4();
            l.port() == addr.port() && (l.ip() == addr.ip() || (everywhere && is_local(addr.ip())))
        })
    }

    /// The binding of a listener, unless it was removed.
    pub fn binding(&self, listener: u16) -> Option<&Binding> {
        self.bindings.iter().find(|b| b.listener.id == listener)
    }
}

/// A question to a worker, answered in its own thread.
pub type Ask = Box<dyn FnOnce(&mut crate::worker::Worker) + Send>;

/// What other threads tell a worker.
pub enum Message {
    /// A connection that another worker accepted for it.
    Accepted {
        /// The socket.
        fd: OwnedFd,
        /// The caller's address.
        peer: Option<SocketAddr>,
        /// The listener's number.
        listener: u16,
    },
    /// A new configuration is in [`Shared::config`].
    Reload,
    /// Another identity is in [`Shared::links`].
    Links,
    /// Plaintext is refused on a listener, or is not any more.
    Gate {
        /// The listener's number.
        listener: u16,
        /// Since when, and by what; `None` = it is taken.
        strict: Option<(Time, Arc<LinkPlan>)>,
    },
    /// A session comes back from the handshake threads.
    Shaken(Box<crate::handshake::Shaken>),
    /// The access log to write from now on.
    Log(Option<AccessLogger>),
    /// The control plane says that there are no services of these names.
    Missing(Arc<[Arc<str>]>),
    /// Run this.
    Ask(Ask),
    /// Stop accepting, let requests finish, tell callers.
    Drain,
    /// End now: requests in flight are answered with `DR`.
    Stop,
}

/// How to reach a worker.
pub struct WorkerHandle {
    /// Its inbox.
    pub inbox: Sender<Message>,
    /// Makes it look.
    pub waker: Waker,
    /// Callers' connections it has: new ones go where there are fewest.
    pub callers: Arc<AtomicUsize>,
}

impl WorkerHandle {
    /// Sends a message and wakes the worker. A worker that has ended ignores it.
    pub fn tell(&self, m: Message) {
        if self.inbox.send(m).is_ok() {
            self.waker.wake();
        }
    }
}

/// What all threads of a sidecar see.
pub struct Shared {
    /// The configuration in force.
    pub config: ArcSwap<Config>,
    /// The rule of adaptive limiting in force, and its state.
    pub limits: arc_swap::ArcSwapOption<crate::limits::Limiting>,
    /// Wakes the thread that decides about it.
    pub limiter: crate::limits::thread::Bell,
    /// Who counts limits that hold for all sidecars together, once there is somebody.
    pub quota: OnceLock<Arc<dyn crate::limits::Quota>>,
    /// The identity in force.
    pub links: ArcSwap<crate::links::Links>,
    /// Where handshakes are done.
    pub shakers: crate::handshake::Shakers,
    /// Metrics.
    pub registry: Arc<Registry>,
    /// Events.
    pub events: Events,
    /// The clock.
    pub clock: Clock,
    /// Wall-clock nanoseconds at the clock's zero, for logs.
    pub wall_zero_ns: u64,
    /// The workers, once they run.
    pub workers: OnceLock<Vec<WorkerHandle>>,
    /// Connections to endpoints, where any listener captures: one that comes back is a loop.
    pub opened: Opened,
    /// Next connection number.
    pub next_conn: AtomicU64,
    /// Accepted connections now, over all workers, for `maxConnections`.
    pub connections: AtomicUsize,
    /// The way to the thread that joins the control plane, if one is configured.
    pub mesh: OnceLock<Arc<crate::mesh::link::Link>>,
    /// Every worker accepts.
    pub ready: AtomicBool,
    /// A drain has begun.
    pub draining: AtomicBool,
}

impl Shared {
    /// Records an event that is worse than it should be.
    pub fn warn(&self, kind: &'static str, subject: impl Into<String>, message: impl Into<String>) {
        self.events.record(Event::new(kind, Severity::Warning, subject, message));
    }

    /// Records an event people may want to know of.
    pub fn note(&self, kind: &'static str, subject: impl Into<String>, message: impl Into<String>) {
        self.events.record(Event::new(kind, Severity::Info, subject, message));
    }

    /// The workers.
    pub fn workers(&self) -> &[WorkerHandle] {
        self.workers.get().map_or(&[], Vec::as_slice)
    }
}
