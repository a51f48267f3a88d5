//! Configuration: read whole, checked whole, put in force whole; watched, and read again.
use crate::mesh::fed::Fed;
use crate::shared::{Binding, Config, Listener, Message, Shared};
use crate::sidecar::{Options, StartError};
use raddle_core::Time;
use raddle_identity::{Identity, ServerIdentity};
use raddle_model::{
    AccessLog as LogSettings, CallerIdentity, Capture, Endpoint, IdentitySource, LoadOptions, LogFormat,
    Metadata, Mistake, Resources, UnknownDestinations,
};
use raddle_model::{Service as ServiceDoc, Sidecar as SidecarDoc, Source};
use raddle_net::original::{Mode, make_transparent};
use raddle_net::socket;
use raddle_policy::Snapshot;
use raddle_telemetry::{AccessLog, AccessLogOptions, AccessLogTarget, Direction, Format, LogHandle};
use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Reads and applies configuration; keeps what a reload must compare with.
pub struct Loader {
    pub(crate) options: Options,
    pub(crate) shared: OnceLock<Arc<Shared>>,
    pub(crate) state: Mutex<LoadState>,
    /// The process's log, for `/log-level`.
    pub log: Option<LogHandle>,
}

pub(crate) struct LoadState {
    pub(crate) stamp: u64,
    /// Files of the certificates of the last load, and what they were like before they were read.
    pub(crate) secrets: (Vec<PathBuf>, u64),
    /// What the sidecar's identity was read from last, and what was read; `None` = it does not come from files.
    pub(crate) identity: Option<Arc<Identity>>,
    pub(crate) local: Option<Snapshot>,
    /// What the files say, without their services.
    pub(crate) files: Resources,
    /// The names of the files' services, in order.
    pub(crate) file_services: Vec<Arc<str>>,
    /// What the control plane says.
    pub(crate) fed: Fed,
    pub(crate) next_listener: u16,
    /// Every listener that may still be open.
    pub(crate) listeners: Vec<Weak<Listener>>,
    pub(crate) access_log: Option<(LogSettings, AccessLog)>,
    /// What the last load came to.
    pub(crate) status: LoadStatus,
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

impl Loader {
    pub(crate) fn state(&self) -> std::sync::MutexGuard<'_, LoadState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Services of the control plane that files hide.
    pub(crate) fn hidden(&self) -> Vec<String> {
        self.state().fed.shadowed().to_vec()
    }

    /// How many services the control plane keeps current here.
    pub(crate) fn fed_services(&self) -> usize {
        self.state().fed.services()
    }

    /// What the last load came to.
    pub fn status(&self) -> LoadStatus {
        self.state().status.clone()
    }

    pub(crate) fn reload_if_changed(&self) -> bool {
        let changed = {
            let state = self.state();
            let (secrets, seen) = &state.secrets;
            stamp_of(&self.options.paths) != state.stamp || stamp_files(secrets) != *seen
        };
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
                report(&[], &r.warnings);
                return refuse(shared, &mut state, r.mistakes.iter().map(ToString::to_string).collect());
            }
        };
        report(&[], &warnings);
        let old = shared.config.load_full();
        let config = match compile(resources, Some(&old), &mut state, shared.clock.now()) {
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
        let source = config.sidecar.identity.clone();
        shared.put_config(config);
        shared.workers().iter().for_each(|w| w.tell(Message::Reload));
        if source != old.sidecar.identity || state.identity.is_some() {
            put_identity(shared, &state, source.as_ref());
        }
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

pub(crate) fn refuse(shared: &Shared, state: &mut LoadState, mistakes: Vec<String>) {
    tracing::error!(mistakes = mistakes.len(), "the new configuration is refused; the present one stays");
    for m in mistakes.iter().take(20) {
        tracing::error!("{m}");
    }
    shared.warn("config_refused", "configuration", mistakes.first().cloned().unwrap_or_default());
    state.status.refused += 1;
    state.status.mistakes = mistakes;
}

/// Says that a rule of the control plane is refused; the control plane is told, too.
pub(crate) fn refuse_rule(id: &str, revision: &str, reason: &str) {
    tracing::error!(rule = id, revision, "a rule is refused; the one before stays: {reason}");
}

pub(crate) fn report(mistakes: &[Mistake], warnings: &[Mistake]) {
    for m in mistakes {
        tracing::error!("{m}");
    }
    for w in warnings {
        tracing::warn!("{w}");
    }
}

pub(crate) fn workers_of(sidecar: Option<&SidecarDoc>) -> usize {
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

pub(crate) fn read_all(paths: &[PathBuf]) -> Result<(Vec<Source>, u64), StartError> {
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
pub(crate) fn stamp_of(paths: &[PathBuf]) -> u64 {
    stamp_files(&files_of(paths).unwrap_or_default())
}

fn stamp_files(files: &[PathBuf]) -> u64 {
    let mut h = DefaultHasher::new();
    for f in files {
        stamp_file(f, &mut h);
    }
    h.finish()
}

pub(crate) fn stamp_file(path: &Path, h: &mut DefaultHasher) {
    use std::os::unix::fs::MetadataExt;
    path.hash(h);
    if let Ok(m) = std::fs::metadata(path) {
        (m.ino(), m.len(), m.mtime(), m.mtime_nsec()).hash(h);
    }
}

pub(crate) fn status_of(generation: u64, sources: &[Source], warnings: &[Mistake]) -> LoadStatus {
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
pub(crate) fn compile(
    mut resources: Resources,
    old: Option<&Config>,
    state: &mut LoadState,
    now: Time,
) -> Result<Config, StartError> {
    let identity = resources.sidecar.as_ref().and_then(|s| s.identity.clone());
    let mut secrets: Vec<_> =
        resources.certificates.iter().flat_map(|c| [c.certificate.clone(), c.key.clone()]).collect();
    if let Some(IdentitySource::Files { roots, .. }) = &identity {
        secrets.push(roots.clone());
    }
    // A half-changed pair is refused; the other half's change is then the next reason to look.
    state.secrets = (secrets.clone(), stamp_files(&secrets));
    let certificates = load_certificates(&resources)?;
    let identity = load_identity(&resources, identity.as_ref())?;
    let file_services: Vec<Arc<str>> =
        resources.services.iter().map(|s| Arc::from(s.metadata.name.as_str())).collect();
    let own = file_services.iter().cloned().collect();
    let services = std::mem::take(&mut resources.services);
    let files = resources.clone();
    resources.services = services;
    let before = old.map(|c| &*c.snapshot);
    let fed = state.fed.merge(&mut resources, &own, before);
    let snapshot = Snapshot::compile_fed(resources, fed, before, now);
    let sidecar = snapshot.sidecar.clone();
    let local = Snapshot::compile_at(local_apps(&sidecar), state.local.as_ref(), now);
    let mut bindings = Vec::new();
    for l in &sidecar.inbound {
        let listener = listener(old, state, l.listen, Direction::Inbound, l.capture)?;
        bindings.push(Binding {
            listener,
            name: format!("inbound {}", l.listen).into(),
            protocol: l.protocol,
            local: local.service(local_name(l.listen).as_bytes()).cloned(),
            default_service: None,
            capture: l.capture.map(mode_of),
            ports: l.ports.clone().into(),
            passes: false,
            app_protocol: l.app_protocol,
            app_tls: l.app_tls.clone().into(),
            tells_caller: l.caller_identity == CallerIdentity::Headers,
            tls: tls_of(&certificates, l.tls.as_ref()),
        });
    }
    for l in &sidecar.outbound {
        let listener = listener(old, state, l.listen, Direction::Outbound, l.capture)?;
        bindings.push(Binding {
            listener,
            name: format!("outbound {}", l.listen).into(),
            protocol: l.protocol,
            local: None,
            default_service: l.service.as_deref().map(Arc::from),
            capture: l.capture.map(mode_of),
            ports: l.ports.clone().into(),
            passes: l.unknown_destinations == UnknownDestinations::Allow,
            app_protocol: None,
            app_tls: Box::default(),
            tells_caller: false,
            tls: tls_of(&certificates, l.tls.as_ref()),
        });
    }
    // The same again is no change: nobody need look at connections for it.
    state.identity = match (identity, state.identity.take()) {
        (Some(new), Some(old)) if new.same(&old) => Some(old),
        (new, _) => new.map(Arc::new),
    };
    state.local = Some(local);
    state.files = files;
    state.file_services = file_services;
    state.fed.settled();
    let generation = old.map_or(1, |c| c.generation + 1);
    Ok(Config { generation, snapshot: Arc::new(snapshot), sidecar, bindings })
}

/// Certificates by name, read anew with each load.
type Certificates = HashMap<String, Arc<rustls::ServerConfig>>;

fn load_certificates(resources: &Resources) -> Result<Certificates, StartError> {
    let load = |c: &raddle_model::Certificate| {
        let identity = ServerIdentity::load(&c.certificate, &c.key)
            .map_err(|e| StartError::Certificate(c.metadata.name.clone(), e))?;
        Ok((c.metadata.name.clone(), identity.config().clone()))
    };
    resources.certificates.iter().map(load).collect()
}

/// Reads the sidecar's identity, if it comes from files.
fn load_identity(
    resources: &Resources,
    source: Option<&IdentitySource>,
) -> Result<Option<Identity>, StartError> {
    let Some(IdentitySource::Files { certificate, roots }) = source else { return Ok(None) };
    // That it is there was checked with the references.
    let Some(c) = resources.certificates.iter().find(|c| c.metadata.name == *certificate) else {
        return Ok(None);
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64);
    let identity = Identity::load(&c.certificate, &c.key, roots, now);
    identity.map(Some).map_err(|e| StartError::Certificate(certificate.clone(), e))
}

/// Puts the identity that was read in force, unless it is already.
pub(crate) fn put_identity(shared: &Shared, state: &LoadState, source: Option<&IdentitySource>) {
    let now = shared.links.load();
    let (new, old) = (&state.identity, &now.identity);
    let same = match (new, old) {
        (Some(new), Some(old)) => Arc::ptr_eq(new, old),
        // What other sources said is theirs to take back.
        (None, _) => !matches!(source, None | Some(IdentitySource::Files { .. })) || old.is_none(),
        (Some(_), None) => false,
    };
    if same {
        return;
    }
    if let Err(e) = shared.set_identity(new.clone(), None) {
        tracing::error!(error = %e, "the identity is refused; the one before stays in force");
        shared.warn("identity_refused", "identity", e.to_string());
    } else if let Some(i) = new {
        tracing::info!(id = %i.id(), serial = %i.leaf().serial, not_after = i.not_after(), "identity of files");
    }
}

fn tls_of(all: &Certificates, tls: Option<&raddle_model::ListenerTls>) -> Option<Arc<rustls::ServerConfig>> {
    all.get(&tls?.certificate).cloned()
}

pub(crate) fn local_name(listen: SocketAddr) -> String {
    format!("inbound {listen}")
}

/// The local app behind each inbound listener, as a service of one endpoint.
pub(crate) fn local_apps(sidecar: &SidecarDoc) -> Resources {
    let service = |name: String, address| ServiceDoc {
        metadata: Metadata { name, ..Metadata::default() },
        app: sidecar.app.clone(),
        protocol: None,
        hosts: Vec::new(),
        endpoints: vec![Endpoint {
            address,
            unit: sidecar.unit.clone(),
            group: "default".into(),
            weight: 100,
            labels: Default::default(),
            tls: None,
        }],
    };
    // A listener without `forward` serves each connection's original destination.
    let listeners = sidecar.inbound.iter().filter_map(|l| Some((l.listen, l.forward?)));
    let services = listeners.map(|(listen, forward)| service(local_name(listen), forward)).collect();
    Resources { sidecar: Some(sidecar.clone()), services, ..Resources::default() }
}

const fn mode_of(capture: Capture) -> Mode {
    match capture {
        Capture::Redirect => Mode::Redirect,
        Capture::Tproxy => Mode::Tproxy,
    }
}

pub(crate) fn listener(
    old: Option<&Config>,
    state: &mut LoadState,
    addr: SocketAddr,
    direction: Direction,
    capture: Option<Capture>,
) -> Result<Arc<Listener>, StartError> {
    let listener = open_listener(old, state, addr, direction)?;
    if capture == Some(Capture::Tproxy) {
        make_transparent(&listener.fd).map_err(|e| {
            let what = format!(
                "{} listener {addr}: `capture: tproxy` needs the capability NET_ADMIN (setcap \
                 cap_net_admin+ep, or AmbientCapabilities=CAP_NET_ADMIN); `redirect` needs none",
                direction.name()
            );
            StartError::Os(what, e)
        })?;
    }
    Ok(listener)
}

fn open_listener(
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
    let new = Arc::new(Listener { id, fd, addr, direction, gate: Default::default() });
    state.listeners.push(Arc::downgrade(&new));
    Ok(new)
}

/// Opens the access log anew if its settings changed, and gives every worker its logger.
pub(crate) fn open_access_log(
    shared: &Arc<Shared>,
    state: &mut LoadState,
    want: LogSettings,
) -> Result<(), StartError> {
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
