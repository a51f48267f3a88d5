//! Putting a sidecar together: configuration files, listeners, threads, reload, signals.
use crate::limits::Limiting;
use crate::loader::{LoadState, Loader, compile, open_access_log, read_all, report, status_of, workers_of};
use crate::mesh::link::Ask;
use crate::shared::{Message, Shared, WorkerHandle};
use crate::worker::{Parts, Worker};
use arc_swap::{ArcSwap, ArcSwapOption};
use raddle_model::{LoadOptions, Report};
use raddle_net::{Clock, socket};
use raddle_telemetry::{Events, Format, LogHandle, Registry};
use raddle_xds::client::{Refused, Update};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often configuration files are looked at.
const WATCH_EVERY: Duration = Duration::from_millis(250);

/// Longest wait for the registry when a drain begins.
const WITHDRAW_WITHIN: Duration = Duration::from_secs(1);

/// How long new connections are still taken after the registry knows: callers act on its news when they get to it, and
/// one that does so late must not find nobody.
const MOVE_AWAY: Duration = Duration::from_millis(500);

/// With this much more resident memory than after the last time, freed memory is given back again.
const GROWN: u64 = 8 << 20;

/// What `raddle proxy` is told.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Configuration files, or directories of them.
    pub paths: Vec<PathBuf>,
    /// Admin address instead of the configured one.
    pub admin: Option<SocketAddr>,
    /// Log level, e.g. `info` or `info,raddle_proxy=debug`.
    pub log_level: String,
    /// Log lines as JSON.
    pub log_json: bool,
}

/// Why a sidecar did not start.
#[derive(Debug)]
pub enum StartError {
    /// The configuration has mistakes.
    Config(Report),
    /// A file could not be read.
    Read(PathBuf, std::io::Error),
    /// An address could not be listened on.
    Listen {
        /// What for.
        what: String,
        /// The address.
        addr: SocketAddr,
        /// What the OS said.
        error: std::io::Error,
    },
    /// A certificate cannot be served: its name, and why.
    Certificate(String, raddle_identity::IdentityError),
    /// Anything else the OS refused.
    Os(String, std::io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(report) => write!(f, "{report}"),
            StartError::Certificate(name, e) => write!(f, "Certificate {name}: {e}"),
            StartError::Read(path, e) => write!(f, "{}: {e}", path.display()),
            StartError::Listen { what, addr, error } if error.kind() == std::io::ErrorKind::AddrInUse => {
                let by =
                    socket::who_listens(addr.port()).map_or_else(String::new, |w| format!(" by pid {w}"));
                write!(
                    f,
                    "{what}: port {} is taken{by}; stop it, or give another address in the configuration",
                    addr.port()
                )
            }
            StartError::Listen { what, addr, error } => write!(f, "{what}: cannot listen on {addr}: {error}"),
            StartError::Os(what, e) => write!(f, "{what}: {e}"),
        }
    }
}

impl std::error::Error for StartError {}

/// A running sidecar.
pub struct Sidecar {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    loader: Arc<Loader>,
    admin: Option<SocketAddr>,
}

impl Sidecar {
    /// Starts a sidecar; it accepts when this returns.
    ///
    /// # Errors
    /// Mistakes in the configuration, taken ports, want of resources.
    pub fn start(options: Options, log: Option<LogHandle>) -> Result<Sidecar, StartError> {
        socket::raise_open_files();
        let (sources, stamp) = read_all(&options.paths)?;
        let (resources, warnings) =
            raddle_model::load(&sources, LoadOptions::default()).map_err(StartError::Config)?;
        report(&[], &warnings);
        let clock = Clock::new();
        let now = clock.now();
        let workers = workers_of(resources.sidecar.as_ref());
        let registry = Registry::new(workers);
        let events = Events::default();
        let mut state = LoadState {
            stamp,
            secrets: Default::default(),
            identity: None,
            local: None,
            files: Default::default(),
            file_services: Vec::new(),
            fed: Default::default(),
            next_listener: 0,
            listeners: Vec::new(),
            access_log: None,
            status: status_of(1, &sources, &warnings),
        };
        let config = compile(resources, None, &mut state, now)?;
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let limiting = Limiting::of(&config.snapshot, None, workers);
        let shared = Arc::new(Shared {
            limits: ArcSwapOption::new(limiting),
            limiter: Default::default(),
            quota: OnceLock::new(),
            config: ArcSwap::from_pointee(config),
            registry,
            events,
            clock,
            wall_zero_ns: (wall.as_nanos() as u64).saturating_sub(clock.now().as_nanos()),
            workers: OnceLock::new(),
            links: arc_swap::ArcSwap::from_pointee(crate::links::Links::none()),
            opened: Default::default(),
            shakers: Default::default(),
            next_conn: 1.into(),
            connections: AtomicUsize::new(0),
            mesh: OnceLock::new(),
            ready: false.into(),
            draining: false.into(),
        });
        let log_settings = shared.config.load().sidecar.access_log.clone();
        open_access_log(&shared, &mut state, log_settings)?;
        let source = shared.config.load().sidecar.identity.clone();
        crate::loader::put_identity(&shared, &state, source.as_ref());
        let loader = Arc::new(Loader { options, shared: OnceLock::new(), state: Mutex::new(state), log });
        let _ = loader.shared.set(shared.clone());
        let threads = spawn_workers(&shared, &loader, workers)?;
        let mut sidecar = Sidecar { shared, threads, loader, admin: None };
        sidecar.start_admin()?;
        sidecar.watch()?;
        crate::limits::thread::start(&sidecar.shared)
            .map_err(|e| StartError::Os("limits thread".into(), e))?;
        crate::mesh::start::start(&sidecar.shared, &sidecar.loader)?;
        // With a control plane, its thread says when there is enough to serve with.
        let alone = sidecar.shared.mesh.get().is_none();
        sidecar.shared.ready.store(alone, Ordering::Release);
        sidecar.say_ready();
        Ok(sidecar)
    }

    fn start_admin(&mut self) -> Result<(), StartError> {
        let configured = self.shared.config.load().sidecar.admin;
        let Some(addr) = self.loader.options.admin.or(configured) else {
            return crate::health::start(self.shared.clone(), None, self.loader.clone())
                .map(|_| ())
                .map_err(|e| StartError::Os("health checks".into(), e));
        };
        let fd =
            socket::listen(addr).map_err(|error| StartError::Listen { what: "admin".into(), addr, error })?;
        self.admin = socket::local_addr(&fd);
        crate::health::start(self.shared.clone(), Some(fd), self.loader.clone())
            .map(|_| ())
            .map_err(|e| StartError::Os("admin thread".into(), e))
    }

    fn watch(&self) -> Result<(), StartError> {
        let loader = Arc::downgrade(&self.loader);
        let mut holding = crate::holding::Holding::default();
        let mut gates = crate::gate::Gates::default();
        // Once before anybody is told that the sidecar is ready: what is strict from the start is so from then on.
        let held = holding.look(&self.shared);
        gates.look(&self.shared, held);
        std::thread::Builder::new()
            .name("config".into())
            .spawn(move || {
                let mut settled = raddle_net::memory::resident();
                for look in 1u64.. {
                    std::thread::sleep(WATCH_EVERY);
                    let Some(l) = loader.upgrade() else { return };
                    if let Some(shared) = l.shared.get() {
                        let held = holding.look(shared);
                        gates.look(shared, held);
                    }
                    let reloaded = l.reload_if_changed();
                    let grown = look.is_multiple_of(40) && raddle_net::memory::resident() > settled + GROWN;
                    if reloaded || grown {
                        raddle_net::memory::give_back();
                        settled = raddle_net::memory::resident();
                    }
                }
            })
            .map(|_| ())
            .map_err(|e| StartError::Os("config thread".into(), e))
    }

    fn say_ready(&self) {
        let c = self.shared.config.load();
        let listeners: Vec<String> = c
            .bindings
            .iter()
            .map(|b| format!("{} {}", b.listener.direction.name(), b.listener.addr))
            .collect();
        tracing::info!(
            app = c.sidecar.app,
            listeners = listeners.join(", "),
            admin = self.admin.map(|a| a.to_string()),
            services = c.snapshot.services().count(),
            workers = self.threads.len(),
            "ready"
        );
        self.shared.note("started", c.sidecar.metadata.name.clone(), "the sidecar is ready");
    }

    /// The admin address in use.
    pub fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// What all threads share.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Begins to drain: accept no more, tell callers, let requests finish.
    pub fn drain(&self) {
        self.shared.ready.store(false, Ordering::Release);
        self.shared.draining.store(true, Ordering::Release);
        self.shared.note("draining", "sidecar", "no new connections; requests in flight finish");
        let shared = self.shared.clone();
        let tell = move || {
            withdraw(&shared);
            shared.workers().iter().for_each(|w| w.tell(Message::Drain));
        };
        if self.shared.mesh.get().is_none() {
            return tell();
        }
        // Callers are to move away before connections end. Nobody waits for that here.
        if std::thread::Builder::new().name("withdraw".into()).spawn(tell).is_err() {
            self.shared.workers().iter().for_each(|w| w.tell(Message::Drain));
        }
    }

    /// Ends now.
    pub fn stop(&self) {
        self.shared.workers().iter().for_each(|w| w.tell(Message::Stop));
    }

    /// Reads the configuration again.
    pub fn reload(&self) {
        self.loader.reload();
        let state = self.loader.state();
        if let Some((_, log)) = &state.access_log {
            log.reopen();
        }
    }

    /// Whether every worker has ended.
    pub fn ended(&self) -> bool {
        self.threads.iter().all(JoinHandle::is_finished)
    }

    /// Takes an update as if the control plane had sent it, and puts it in force: for whoever embeds a sidecar and
    /// knows services by other means, and for tests. Gives back what is refused.
    pub fn feed(&self, mut update: Update) -> Vec<Refused> {
        let missing = std::mem::take(&mut update.missing);
        let refused = self.loader.feed(update);
        self.loader.apply_fed();
        crate::mesh::thread::tell_missing(&self.shared, &missing);
        refused
    }

    /// Waits for every worker's end.
    pub fn join(self) {
        for t in self.threads {
            let _ = t.join();
        }
        self.shared.limiter.end();
        if let Some((_, log)) = self.loader.state().access_log.take() {
            log.stop(Duration::from_secs(1));
        }
    }

    /// Runs until a signal ends it: SIGTERM or SIGINT drains, a second one ends it now, SIGHUP reloads.
    /// Returns the process's exit code.
    pub fn run(options: Options) -> i32 {
        let format = if options.log_json { Format::Json } else { Format::Text };
        let level = if options.log_level.is_empty() { "info" } else { &options.log_level };
        let log = match raddle_telemetry::init_log(level, format) {
            Ok(log) => Some(log),
            Err(e) => {
                eprintln!("raddle: {e}");
                return 2;
            }
        };
        let signals = match listen_for_signals() {
            Ok(s) => s,
            Err(e) => {
                eprintln!("raddle: signals: {e}");
                return 1;
            }
        };
        let sidecar = match Sidecar::start(options, log) {
            Ok(s) => s,
            Err(e @ StartError::Config(_)) => {
                eprintln!("{e}");
                return 3;
            }
            Err(e) => {
                eprintln!("raddle: {e}");
                return 1;
            }
        };
        let mut asked = 0;
        loop {
            let pause = Duration::from_millis(if asked == 0 { 500 } else { 20 });
            match signals.recv_timeout(pause) {
                Ok(signal_hook::consts::SIGHUP) => sidecar.reload(),
                Ok(_) => {
                    asked += 1;
                    if asked == 1 {
                        tracing::info!("draining; a second signal ends it now");
                        sidecar.drain();
                    } else {
                        sidecar.stop();
                    }
                }
                Err(_) => {}
            }
            if sidecar.ended() {
                tracing::info!("ended");
                sidecar.join();
                return 0;
            }
        }
    }
}

/// Has the registry forget what is published here, and waits until it has, within bounds.
fn withdraw(shared: &Shared) {
    let Some(link) = shared.mesh.get() else { return };
    let (done, withdrawn) = crossbeam_channel::bounded(1);
    if !link.ask(Ask::Withdraw(done)) {
        return;
    }
    match withdrawn.recv_timeout(WITHDRAW_WITHIN) {
        Ok(()) => std::thread::sleep(MOVE_AWAY),
        Err(_) => tracing::warn!("the registry did not acknowledge the withdrawal in time"),
    }
}

/// SIGTERM, SIGINT and SIGHUP as messages.
fn listen_for_signals() -> std::io::Result<crossbeam_channel::Receiver<i32>> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let (tx, rx) = crossbeam_channel::unbounded();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for s in signals.forever() {
            if tx.send(s).is_err() {
                return;
            }
        }
    })?;
    Ok(rx)
}

fn spawn_workers(shared: &Arc<Shared>, loader: &Loader, n: usize) -> Result<Vec<JoinHandle<()>>, StartError> {
    let os = |e| StartError::Os("worker".into(), e);
    let mut workers = Vec::new();
    let mut handles = Vec::new();
    let state = loader.state();
    for id in 0..n {
        let (tx, inbox) = crossbeam_channel::unbounded();
        let callers = Arc::new(AtomicUsize::new(0));
        let log = state.access_log.as_ref().map(|(_, l)| l.logger(&shared.registry.shard(id)));
        let seed = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_nanos() as u64)
            ^ (id as u64) << 48;
        let (poller, waker) = crate::worker::reactor().map_err(os)?;
        handles.push(WorkerHandle { inbox: tx, waker: waker.clone(), callers: callers.clone() });
        workers.push(Parts { id, shared: shared.clone(), inbox, callers, log, seed, poller, waker });
    }
    let _ = shared.workers.set(handles);
    workers
        .into_iter()
        .enumerate()
        .map(|(id, parts)| {
            let run = move || Worker::new(parts).run();
            std::thread::Builder::new().name(format!("worker-{id}")).spawn(run).map_err(os)
        })
        .collect()
}
