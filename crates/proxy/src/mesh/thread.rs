//! The thread that joins the sidecar to the control plane.
use super::agent::{Agent, AgentOptions, TokenSource};
use super::feeder::Feeder;
use super::link::{Ask, Link};
use super::local_state::LocalState;
use super::names::{Names, State, Wanted};
use super::sds::{Access, Sds};
use super::{edges, publish, quota, report};
use crate::holding::{self, Held};
use crate::loader::Loader;
use crate::shared::{Message, Shared};
use raddle_identity::TrustBundle;
use raddle_model::{ControlPlane, Sidecar, XdsProtocol};
use raddle_telemetry::{Direction, Registry};
use raddle_xds::client::{self, Handle, Mode, RefusedResource, Target, TlsSource};
use raddle_xds::proto::Node;
use rustls::pki_types::CertificateDer;
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};

/// Changes that come closer together than this are put in force together.
const GATHER: Duration = Duration::from_millis(20);
/// How often the state of the connection is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How often it is looked for services that are not used any more.
const SWEEP: Duration = Duration::from_secs(1);
/// A service nobody wants any more is unsubscribed so soon: whether it is idle was decided before.
const UNSUBSCRIBE: Duration = Duration::from_secs(1);
/// Ready at the latest after this long, whatever the control plane does.
const READY_WITHIN: Duration = Duration::from_secs(5);
/// A control plane that is connected for so long and says nothing has nothing to say.
const QUIET: Duration = Duration::from_millis(500);
/// The first certificate is waited for so long: without it there is nothing to connect with.
const CERTIFICATE_WITHIN: Duration = Duration::from_secs(1);
/// Names shown on the pages.
const SHOWN: usize = 200;

/// What all parts of the thread share.
#[derive(Clone)]
pub(crate) struct Parts {
    pub shared: Arc<Shared>,
    pub loader: Arc<Loader>,
    pub link: Arc<Link>,
    pub local: Arc<LocalState>,
    pub names: Arc<Mutex<Names>>,
    pub node: Node,
    pub control: Arc<ControlPlane>,
    /// The instance's certificate, where TLS or a token is configured.
    pub agent: Option<Agent>,
}

impl Parts {
    /// How TLS to the control plane is done.
    pub(crate) fn tls(&self) -> Option<TlsSource> {
        self.agent.as_ref().map(Agent::tls)
    }

    pub(crate) fn names(&self) -> std::sync::MutexGuard<'_, Names> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs until the process ends.
pub(crate) async fn run(mut parts: Parts, mut asks: mpsc::Receiver<Ask>) {
    parts.agent = agent(&parts);
    tokio::spawn(follow_roots(parts.clone()));
    tokio::spawn(follow_identity(parts.clone()));
    let _sds = sds(&parts).await;
    if let Some(agent) = &parts.agent {
        agent.begun(CERTIFICATE_WITHIN).await;
    }
    let changed = Arc::new(Notify::new());
    let handle = client::spawn(options(&parts), Feeder::new(parts.clone(), changed.clone()));
    tokio::spawn(apply(parts.clone(), changed));
    let (publisher, publications) = watch::channel(publish::Wish::default());
    tokio::spawn(publish::run(parts.clone(), publications));
    tokio::spawn(report::run(parts.clone(), handle.clone()));
    tokio::spawn(publish::watch_port(parts.clone()));
    tokio::spawn(quota::run(parts.clone()));
    for name in preloaded(&parts) {
        if parts.names().keep(&name, parts.shared.clock.now()) {
            handle.want(&name);
        }
    }
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut watcher = Watcher::new();
    loop {
        tokio::select! {
            ask = asks.recv() => match ask {
                None => return,
                Some(Ask::Want(name)) => want(&parts, &handle, &name),
                Some(Ask::Local) => local_changed(&parts, &handle, &publisher),
                Some(Ask::Withdraw(done)) => {
                    publisher.send_modify(|w| w.withdrawn = Some(done));
                }
            },
            _ = look.tick() => watcher.look(&parts, &handle),
        }
    }
}

/// Keeps the instance's certificate, if there is somebody to get it from.
fn agent(parts: &Parts) -> Option<Agent> {
    let control = &parts.control;
    if control.token_file.is_none() && control.sds.is_none() && !control.addresses.iter().any(|a| a.tls) {
        return None;
    }
    let seed = parts.shared.wall_zero_ns ^ 3;
    let options = AgentOptions::new(parts.node.clone(), control.addresses.clone(), seed);
    let token = control.token_file.clone().map_or(TokenSource::None, TokenSource::File);
    Some(Agent::spawn(AgentOptions { roots_file: control.roots_file.clone(), token, ..options }))
}

/// Gives other software on this machine the certificate, if that is configured.
async fn sds(parts: &Parts) -> Option<Sds> {
    let (path, agent) = (parts.control.sds.as_ref()?, parts.agent.as_ref()?);
    match Sds::spawn(path, Access::Owner, agent.identity()).await {
        Ok(sds) => Some(sds),
        Err(e) => {
            tracing::error!(error = %e, "controlPlane.sds: {} cannot be served", path.display());
            None
        }
    }
}

/// Puts the agent's certificate in force for links, unless the sidecar's own settings say another source.
async fn follow_identity(parts: Parts) {
    let Some(agent) = &parts.agent else { return };
    let mut identity = agent.identity();
    loop {
        let now = identity.borrow_and_update().clone();
        let elsewhere = parts.shared.config.load().sidecar.identity.is_some();
        if let Some(identity) = now.filter(|_| !elsewhere) {
            if let Err(e) = parts.shared.set_identity(Some(identity.clone()), None) {
                tracing::error!(error = %e, "the certificate is not taken for links; the one before stays");
                parts.shared.warn("identity_refused", "identity", e.to_string());
            }
            holding::tell_registry(&parts.shared, Held::of(Some(&identity), holding::now_s()));
        }
        if identity.changed().await.is_err() {
            return;
        }
    }
}

/// Gives the agent the roots the control plane says.
async fn follow_roots(parts: Parts) {
    let Some(agent) = &parts.agent else { return };
    let mut roots = parts.link.roots.subscribe();
    while roots.changed().await.is_ok() {
        let said: Vec<CertificateDer<'static>> =
            roots.borrow_and_update().iter().cloned().map(Into::into).collect();
        let Some(identity) = agent.identity().borrow().clone() else { continue };
        match TrustBundle::new(identity.trust().trust_domain(), said) {
            Ok(bundle) => agent.trust(&bundle),
            Err(e) => tracing::warn!("the control plane's roots are not taken: {e}"),
        }
    }
}

/// A request names a service that is not known.
fn want(parts: &Parts, handle: &Handle, name: &str) {
    let wanted = parts.names().want(name, parts.shared.clock.now());
    match wanted {
        Wanted::New | Wanted::Known(State::Pending) => handle.want(name),
        Wanted::Known(State::Missing) => tell_missing(&parts.shared, &[name.into()]),
        // It is in the snapshot, or will be in a moment.
        Wanted::Known(State::Found) => {}
        Wanted::Full => tracing::debug!(service = name, "too many services are asked for"),
    }
}

/// Tells the workers that there are no such services.
pub(crate) fn tell_missing(shared: &Shared, names: &[Arc<str>]) {
    if names.is_empty() {
        return;
    }
    let names: Arc<[Arc<str>]> = names.into();
    shared.workers().iter().for_each(|w| w.tell(Message::Missing(names.clone())));
}

/// The app subscribed, or publishes something else.
fn local_changed(parts: &Parts, handle: &Handle, publisher: &watch::Sender<publish::Wish>) {
    let now = parts.shared.clock.now();
    let (begun, ended) = parts.local.take_wishes();
    for name in begun {
        if parts.names().keep(&name, now) {
            handle.want(&name);
        }
    }
    for name in ended {
        parts.names().release(&name, now);
    }
    publisher.send_modify(|w| w.version += 1);
}

/// Puts in force what was fed: the first change at once, further ones together.
async fn apply(parts: Parts, changed: Arc<Notify>) {
    loop {
        changed.notified().await;
        let began = parts.shared.clock.now();
        let before = parts.shared.config.load().snapshot.link().clone();
        if parts.loader.apply_fed() {
            let took = parts.shared.clock.now().since(began);
            parts.link.cells.apply_time.record(took.as_nanos() as u64);
            parts.link.cells.services.set(parts.loader.fed_services() as i64);
            let config = parts.shared.config.load();
            parts.local.follow(&config.snapshot);
            // What callers are asked for changes at once, in either direction.
            if !Arc::ptr_eq(&before, config.snapshot.link()) {
                parts.link.ask(Ask::Local);
            }
            parts.link.changed.notify_one();
        }
        tokio::time::sleep(GATHER).await;
    }
}

/// Looks at the connection, readiness, and what is not used any more.
struct Watcher {
    began: tokio::time::Instant,
    connected: Option<tokio::time::Instant>,
    swept: tokio::time::Instant,
    ready: bool,
    /// The sidecar's file as it was published from.
    sidecar: Option<Arc<Sidecar>>,
    certificate: super::certificate::Told,
    refused: Vec<RefusedResource>,
    /// How the inbound side is encrypted, as it was reported.
    link: (String, String, u64),
}

impl Watcher {
    fn new() -> Watcher {
        let now = tokio::time::Instant::now();
        Watcher {
            began: now,
            connected: None,
            swept: now,
            ready: false,
            sidecar: None,
            certificate: Default::default(),
            refused: Vec::new(),
            link: Default::default(),
        }
    }

    fn look(&mut self, parts: &Parts, handle: &Handle) {
        let status = handle.status();
        let connected = status.connected.is_some();
        if status.refused != self.refused {
            self.refused.clone_from(&status.refused);
            parts.link.changed.notify_one();
        }
        let encrypted = report::link(&edges::encryption(parts));
        if encrypted != self.link {
            self.link = encrypted;
            parts.link.changed.notify_one();
        }
        parts.link.set_connected(connected);
        if !connected {
            self.connected = None;
        } else if self.connected.is_none() {
            self.connected = Some(tokio::time::Instant::now());
        }
        if !self.ready {
            self.ready = parts.link.answered.load(Ordering::Acquire)
                || self.connected.is_some_and(|t| t.elapsed() >= QUIET)
                || self.began.elapsed() >= READY_WITHIN;
            if self.ready && !parts.shared.draining.load(Ordering::Acquire) {
                parts.shared.ready.store(true, Ordering::Release);
            }
        }
        let sidecar = parts.shared.config.load().sidecar.clone();
        if !self.sidecar.as_ref().is_some_and(|s| Arc::ptr_eq(s, &sidecar)) {
            self.sidecar = Some(sidecar);
            parts.link.ask(Ask::Local);
        }
        if self.swept.elapsed() >= SWEEP {
            self.swept = tokio::time::Instant::now();
            sweep(parts, handle);
            parts.link.cells.wanted.set(parts.names().len() as i64);
            let names = parts.names().counts(SHOWN);
            let certificate = parts.agent.as_ref().map(|a| a.status().borrow().clone());
            if let Some(status) = &certificate {
                self.certificate.follow(status, &parts.link.cells, &parts.shared.events);
            }
            let mut view = parts.link.view();
            view.certificate = certificate;
            view.names = names;
            view.status = status;
        }
    }
}

/// Unsubscribes what no request has named for long.
fn sweep(parts: &Parts, handle: &Handle) {
    let (counts, full) = requests(&parts.shared.registry);
    let used = |name: &str| counts.get(name).copied().or(full.then_some((0, true)));
    let gone = parts.names().sweep(parts.shared.clock.now(), parts.control.idle, used);
    for name in gone {
        handle.unwant(&name);
    }
}

/// Requests so far by outbound service, and whether some are not told apart.
fn requests(registry: &Registry) -> (HashMap<Arc<str>, (u64, bool)>, bool) {
    let all = registry.service_counts(false).into_iter();
    let outbound = all.filter(|c| c.direction == Direction::Outbound);
    let of = |c: raddle_telemetry::ServiceCount| (c.service, (c.ended + c.one_way, c.in_flight > 0));
    (outbound.map(of).collect(), registry.services_are_full())
}

/// Services that are asked for at start.
fn preloaded(parts: &Parts) -> Vec<String> {
    let mut names = parts.control.preload.clone();
    let config = parts.shared.config.load();
    names.extend(config.sidecar.outbound.iter().filter_map(|l| l.service.clone()));
    names
}

fn options(parts: &Parts) -> client::Options {
    let control = &parts.control;
    let cache = control.cache.clone().or_else(|| std::env::var_os("STATE_DIRECTORY").map(Into::into));
    if let Some(folder) = &cache
        && let Err(e) = std::fs::create_dir_all(folder)
    {
        tracing::error!(error = %e, "controlPlane.cache: {} cannot be made", folder.display());
    }
    let file = format!("{}.mesh", file_name(&parts.node.id));
    client::Options {
        targets: control.addresses.iter().map(|a| target(parts, a)).collect(),
        node: parts.node.clone(),
        mode: match control.protocol {
            XdsProtocol::Delta => Mode::Delta,
            XdsProtocol::Sotw => Mode::Sotw,
            XdsProtocol::Auto => Mode::Auto,
        },
        cache: cache.map(|folder| folder.join(file)),
        roots: control.addresses.iter().any(|a| a.tls).then(|| super::ROOTS.into()),
        unsubscribe_after: UNSUBSCRIBE,
        seed: parts.shared.wall_zero_ns,
        ..client::Options::default()
    }
}

fn target(parts: &Parts, address: &raddle_model::ControlAddress) -> Target {
    let tls = parts.tls().filter(|_| address.tls);
    Target { uri: address.to_string(), tls, server_name: None }
}

/// An instance id as part of a file's name.
fn file_name(id: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || "-._".contains(c) { c } else { '_' };
    let text: String = id.chars().map(fit).take(100).collect();
    if text.starts_with('.') { format!("_{text}") } else { text }
}

/// Who this instance is, for the control plane.
pub(crate) fn node_of(sidecar: &Sidecar, address: Option<std::net::IpAddr>) -> Node {
    Node {
        id: sidecar.metadata.name.clone(),
        app: sidecar.app.clone(),
        unit: sidecar.unit.clone().unwrap_or_default(),
        group: sidecar.group.clone(),
        version: sidecar.version.clone().unwrap_or_default(),
        labels: sidecar.labels.clone().into_iter().collect(),
        address: address.map(|a| a.to_string()).unwrap_or_default(),
        software: format!("raddle/{}", env!("CARGO_PKG_VERSION")),
    }
}
