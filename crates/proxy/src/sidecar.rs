//! Putting a sidecar together: configuration files, listeners, threads, reload, signals.
use crate::shared::{Binding, Config, Listener, Message, Shared, WorkerHandle};
use crate::worker::{Parts, Worker};
use arc_swap::ArcSwap;
use raddle_core::Time;
use raddle_model::{
    AccessLog as LogSettings, Endpoint, LoadOptions, LogFormat, Metadata, Mistake, Report, Resources,
};
use raddle_model::{Service as ServiceDoc, Sidecar as SidecarDoc, Source};
use raddle_net::{Clock, socket};
use raddle_policy::Snapshot;
use raddle_telemetry::{
    AccessLog, AccessLogOptions, AccessLogTarget, Direction, Events, Format, LogHandle, Registry,
};
use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often configuration files are looked at.
const WATCH_EVERY: Duration = Duration::from_millis(250);

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
    /// Anything else the OS refused.
    Os(String, std::io::Error),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(report) => write!(f, "{report}"),
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

/// Reads and applies configuration; keeps what a reload must compare with.
pub struct Loader {
    options: Options,
    shared: OnceLock<Arc<Shared>>,
    state: Mutex<LoadState>,
    /// The process's log, for `/log-level`.
    pub log: Option<LogHandle>,
}

struct LoadState {
    stamp: u64,
    local: Option<Snapshot>,
    next_listener: u16,
    /// Every listener that may still be open.
    listeners: Vec<Weak<Listener>>,
    access_log: Option<(LogSettings, AccessLog)>,
    /// What the last load came to.
    status: LoadStatus,
}

/// The outcome of the last load, for views.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct LoadStatus {
    /// Loads that were applied.
    pub generation: u64,
    /// Hash of the content in force.
    pub revision: String,
    /// When it was applied, seconds since the Unix epoch.
    pub loaded_at: u64,
    /// Files read.
    pub files: Vec<String>,
    /// Loads that were refused since the start.
    pub refused: u64,
    /// Mistakes of the last refused load, if it came after the one in force.
    pub mistakes: Vec<String>,
    /// Warnings of the load in force.
    pub warnings: Vec<String>,
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
            local: None,
            next_listener: 0,
            listeners: Vec::new(),
            access_log: None,
            status: status_of(1, &sources, &warnings),
        };
        let config = compile(resources, None, &mut state, &options, now)?;
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let shared = Arc::new(Shared {
            config: ArcSwap::from_pointee(config),
            registry,
            events,
            clock,
            wall_zero_ns: (wall.as_nanos() as u64).saturating_sub(clock.now().as_nanos()),
            workers: OnceLock::new(),
            next_conn: 1.into(),
            connections: AtomicUsize::new(0),
            ready: false.into(),
            draining: false.into(),
        });
        let log_settings = shared.config.load().sidecar.access_log.clone();
        open_access_log(&shared, &mut state, log_settings)?;
        let loader = Arc::new(Loader { options, shared: OnceLock::new(), state: Mutex::new(state), log });
        let _ = loader.shared.set(shared.clone());
        let threads = spawn_workers(&shared, &loader, workers)?;
        let mut sidecar = Sidecar { shared, threads, loader, admin: None };
        sidecar.start_admin()?;
        sidecar.watch()?;
        sidecar.shared.ready.store(true, Ordering::Release);
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
        std::thread::Builder::new()
            .name("config".into())
            .spawn(move || {
                let mut settled = raddle_net::memory::resident();
                for look in 1u64.. {
                    std::thread::sleep(WATCH_EVERY);
                    let Some(l) = loader.upgrade() else { return };
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
        self.shared.workers().iter().for_each(|w| w.tell(Message::Drain));
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

    /// Waits for every worker's end.
    pub fn join(self) {
        for t in self.threads {
            let _ = t.join();
        }
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

impl Loader {
    fn state(&self) -> std::sync::MutexGuard<'_, LoadState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the last load came to.
    pub fn status(&self) -> LoadStatus {
        self.state().status.clone()
    }

    fn reload_if_changed(&self) -> bool {
        let seen = self.state().stamp;
        let changed = stamp_of(&self.options.paths) != seen;
        if changed {
            self.reload();
        }
        changed
    }

    /// Reads the files and, if they are right as a whole, puts them in force; else the present
    /// configuration stays as it is and the mistakes are told.
    pub fn reload(&self) {
        let Some(shared) = self.shared.get() else { return };
        let began = Instant::now();
        let mut state = self.state();
        let (sources, stamp) = match read_all(&self.options.paths) {
            Ok(read) => read,
            Err(e) => {
                state.stamp = stamp_of(&self.options.paths);
                return refuse(shared, &mut state, vec![e.to_string()]);
            }
        };
        state.stamp = stamp;
        let (resources, warnings) = match raddle_model::load(&sources, LoadOptions::default()) {
            Ok(r) => r,
            Err(r) => {
                report(&r.mistakes, &r.warnings);
                return refuse(shared, &mut state, r.mistakes.iter().map(ToString::to_string).collect());
            }
        };
        report(&[], &warnings);
        let old = shared.config.load_full();
        let config = match compile(resources, Some(&old), &mut state, &self.options, shared.clock.now()) {
            Ok(c) => c,
            Err(e) => return refuse(shared, &mut state, vec![e.to_string()]),
        };
        if workers_of(Some(&config.sidecar)) != shared.workers().len() {
            tracing::warn!("a change of `workers` takes effect at the next start");
        }
        let generation = config.generation;
        let log = config.sidecar.access_log.clone();
        let refused = state.status.refused;
        state.status = LoadStatus { refused, ..status_of(generation, &sources, &warnings) };
        shared.config.store(Arc::new(config));
        shared.workers().iter().for_each(|w| w.tell(Message::Reload));
        if let Err(e) = open_access_log(shared, &mut state, log) {
            tracing::error!(error = %e, "the access log stays as it was");
        }
        let ms = began.elapsed().as_millis() as u64;
        tracing::info!(generation, revision = state.status.revision, took_ms = ms, "configuration applied");
        shared.note(
            "config_applied",
            state.status.revision.clone(),
            format!("generation {generation}, {ms} ms"),
        );
    }
}

fn refuse(shared: &Shared, state: &mut LoadState, mistakes: Vec<String>) {
    tracing::error!(mistakes = mistakes.len(), "the new configuration is refused; the present one stays");
    for m in mistakes.iter().take(20) {
        tracing::error!("{m}");
    }
    shared.warn("config_refused", "configuration", mistakes.first().cloned().unwrap_or_default());
    state.status.refused += 1;
    state.status.mistakes = mistakes;
}

fn report(mistakes: &[Mistake], warnings: &[Mistake]) {
    for m in mistakes {
        tracing::error!("{m}");
    }
    for w in warnings {
        tracing::warn!("{w}");
    }
}

fn workers_of(sidecar: Option<&SidecarDoc>) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    sidecar.and_then(|s| s.workers).map_or(cores.min(2), usize::from).max(1)
}

/// The files behind the given paths: directories stand for the YAML and JSON files in them.
pub fn files_of(paths: &[PathBuf]) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let mut inside: Vec<PathBuf> = std::fs::read_dir(path)?
            .filter_map(|e| e.ok().map(|e| e.path()))
            .filter(|p| matches!(p.extension().and_then(|e| e.to_str()), Some("yaml" | "yml" | "json")))
            .collect();
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

fn read_all(paths: &[PathBuf]) -> Result<(Vec<Source>, u64), StartError> {
    // The stamp first: a change while reading is then seen at the next look.
    let stamp = stamp_of(paths);
    let all = paths.first().cloned().unwrap_or_default();
    let files = files_of(paths).map_err(|e| StartError::Read(all, e))?;
    let mut sources = Vec::with_capacity(files.len());
    for f in files {
        let text = std::fs::read_to_string(&f).map_err(|e| StartError::Read(f.clone(), e))?;
        sources.push(Source { name: f.display().to_string(), text });
    }
    Ok((sources, stamp))
}

/// What tells changed files from unchanged ones without reading them.
fn stamp_of(paths: &[PathBuf]) -> u64 {
    let mut h = DefaultHasher::new();
    for f in files_of(paths).unwrap_or_default() {
        stamp_file(&f, &mut h);
    }
    h.finish()
}

fn stamp_file(path: &Path, h: &mut DefaultHasher) {
    use std::os::unix::fs::MetadataExt;
    path.hash(h);
    if let Ok(m) = std::fs::metadata(path) {
        (m.ino(), m.len(), m.mtime(), m.mtime_nsec()).hash(h);
    }
}

fn status_of(generation: u64, sources: &[Source], warnings: &[Mistake]) -> LoadStatus {
    let mut h = DefaultHasher::new();
    for s in sources {
        s.text.hash(&mut h);
    }
    LoadStatus {
        generation,
        revision: format!("{:016x}", h.finish()),
        loaded_at: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        files: sources.iter().map(|s| s.name.clone()).collect(),
        refused: 0,
        mistakes: Vec::new(),
        warnings: warnings.iter().map(ToString::to_string).collect(),
    }
}

/// Compiles resources; listeners that stay keep their sockets, new ones are opened.
fn compile(
    resources: Resources,
    old: Option<&Config>,
    state: &mut LoadState,
    _options: &Options,
    now: Time,
) -> Result<Config, StartError> {
    let sidecar = Arc::new(resources.sidecar.clone().unwrap_or_else(|| {
        // The loader demands one; without it there is nothing to listen on.
        unreachable_sidecar()
    }));
    let local = Snapshot::compile_at(local_apps(&sidecar), state.local.as_ref(), now);
    let snapshot = Snapshot::compile_at(resources, old.map(|c| &*c.snapshot), now);
    let mut bindings = Vec::new();
    for l in &sidecar.inbound {
        let listener = listener(old, state, l.listen, Direction::Inbound)?;
        bindings.push(Binding {
            listener,
            name: format!("inbound {}", l.listen).into(),
            protocol: l.protocol,
            local: local.service(local_name(l.listen).as_bytes()).cloned(),
            default_service: None,
        });
    }
    for l in &sidecar.outbound {
        let listener = listener(old, state, l.listen, Direction::Outbound)?;
        bindings.push(Binding {
            listener,
            name: format!("outbound {}", l.listen).into(),
            protocol: l.protocol,
            local: None,
            default_service: l.service.as_deref().map(Arc::from),
        });
    }
    state.local = Some(local);
    let generation = old.map_or(1, |c| c.generation + 1);
    Ok(Config { generation, snapshot: Arc::new(snapshot), sidecar, bindings })
}

fn unreachable_sidecar() -> SidecarDoc {
    SidecarDoc {
        metadata: Metadata::default(),
        app: String::new(),
        unit: None,
        group: "default".into(),
        labels: Default::default(),
        workers: None,
        admin: None,
        inbound: Vec::new(),
        outbound: Vec::new(),
        limits: Default::default(),
        replies: Default::default(),
        drain: Default::default(),
        access_log: Default::default(),
    }
}

fn local_name(listen: SocketAddr) -> String {
    format!("inbound {listen}")
}

/// The local app behind each inbound listener, as a service of one endpoint.
fn local_apps(sidecar: &SidecarDoc) -> Resources {
    let services = sidecar.inbound.iter().map(|l| ServiceDoc {
        metadata: Metadata { name: local_name(l.listen), ..Metadata::default() },
        app: sidecar.app.clone(),
        protocol: None,
        endpoints: vec![Endpoint {
            address: l.forward,
            unit: sidecar.unit.clone(),
            group: "default".into(),
            weight: 100,
            labels: Default::default(),
        }],
    });
    let services = services.collect();
    Resources { sidecar: Some(sidecar.clone()), services, ..Resources::default() }
}

fn listener(
    old: Option<&Config>,
    state: &mut LoadState,
    addr: SocketAddr,
    direction: Direction,
) -> Result<Arc<Listener>, StartError> {
    let same = |l: &Listener| l.addr == addr && l.direction == direction;
    if let Some(b) = old.and_then(|c| c.bindings.iter().find(|b| same(&b.listener))) {
        return Ok(b.listener.clone());
    }
    // Removed a moment ago and wanted again, while a worker still holds it: its port would seem taken.
    state.listeners.retain(|l| l.strong_count() > 0);
    if let Some(l) = state.listeners.iter().filter_map(Weak::upgrade).find(|l| same(l)) {
        return Ok(l);
    }
    let what = format!("{} listener", direction.name());
    let fd = socket::listen(addr).map_err(|error| StartError::Listen { what, addr, error })?;
    let id = state.next_listener;
    state.next_listener += 1;
    let new = Arc::new(Listener { id, fd, addr, direction });
    state.listeners.push(Arc::downgrade(&new));
    Ok(new)
}

/// Opens the access log anew if its settings changed, and gives every worker its logger.
fn open_access_log(shared: &Arc<Shared>, state: &mut LoadState, want: LogSettings) -> Result<(), StartError> {
    if let Some((have, log)) = &state.access_log
        && have.path == want.path
        && have.format == want.format
    {
        log.set_sample(want.sample);
        return Ok(());
    }
    let new = match &want.path {
        None => None,
        Some(path) => {
            let target = match path.as_str() {
                "stdout" => AccessLogTarget::Stdout,
                p => AccessLogTarget::File(p.into()),
            };
            let format = match want.format {
                LogFormat::Text => Format::Text,
                LogFormat::Json => Format::Json,
            };
            let options = AccessLogOptions { target, format, sample: want.sample };
            let log = AccessLog::start(options, &shared.registry, shared.events.clone())
                .map_err(|e| StartError::Os(format!("access log {path}"), e))?;
            Some(log)
        }
    };
    for (i, w) in shared.workers().iter().enumerate() {
        w.tell(Message::Log(new.as_ref().map(|l| l.logger(&shared.registry.shard(i)))));
    }
    state.access_log = new.map(|l| (want, l));
    Ok(())
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
        let parts = Parts { id, shared: shared.clone(), inbox, callers: callers.clone(), log, seed };
        let worker = Worker::new(parts).map_err(os)?;
        handles.push(WorkerHandle { inbox: tx, waker: worker.waker(), callers });
        workers.push(worker);
    }
    let _ = shared.workers.set(handles);
    workers
        .into_iter()
        .enumerate()
        .map(|(id, w)| {
            std::thread::Builder::new().name(format!("worker-{id}")).spawn(move || w.run()).map_err(os)
        })
        .collect()
}
