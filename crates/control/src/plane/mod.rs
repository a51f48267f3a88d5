//! The whole control plane: its parts made, joined, and ended in order.
//!
//! [`ControlPlane::start`] reads from top to bottom: what listens is opened first, so that a taken port is known before
//! anything is written; then the store, the replica, and what follows them.
mod gate;
mod listen;
mod options;
mod roots;

pub use options::{Addresses, Keep, Options, StartError};

use crate::ca::{Ca, CaOptions};
use crate::discovery::{Discovery, Sources};
use crate::election::{self, Replica, Term};
use crate::events::Events;
use crate::quota::Quota;
use crate::registry::{Directory, Registry, Settings};
use crate::reports::Reports;
use crate::rules::{Known, RuleBook, Rules};
use crate::tokens::Tokens;
use crate::{api, serve};
use listen::Sockets;
use raddle_model::LoadOptions;
use raddle_store::{Embedded, EmbeddedOptions, Etcd, EtcdOptions, Store};
use raddle_xds::server::Server;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// How often the leader looks for service sets that nobody uses, and how long they must have been so.
const COLLECT: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(600));
const COLLECT_JOB: &str = "collect";
/// How long the store's history is kept for watches.
const HISTORY: Duration = Duration::from_secs(600);
/// Requests at once on one connection: sidecars have a handful, a relay or a test many.
const STREAMS: u32 = 4096;

/// The control plane.
#[derive(Debug)]
pub struct ControlPlane;

/// A running control plane. Its parts are for those who ask about it.
pub struct Running {
    /// What it counts and shows.
    pub parts: Parts,
    addresses: Addresses,
    end: watch::Sender<bool>,
    tasks: JoinSet<()>,
    replica: Arc<Replica>,
}

/// The parts that tell about themselves. Clones are the same.
#[derive(Clone)]
pub struct Parts {
    /// Where everything is kept.
    pub store: Arc<dyn Store>,
    /// Who serves what.
    pub registry: Registry,
    /// The rules.
    pub rules: watch::Receiver<Arc<RuleBook>>,
    /// Both as resources.
    pub discovery: Discovery,
    /// The streams they go to.
    pub xds: Server,
    /// What sidecars say.
    pub reports: Arc<Reports>,
    /// Rates that all sidecars have together.
    pub quota: Arc<Quota>,
}

impl ControlPlane {
    /// Starts all parts in the caller's runtime; returns when it serves.
    pub async fn start(options: Options) -> Result<Running, StartError> {
        let fixed = services(&options.resources)?;
        let (sockets, addresses) = Sockets::open(&options).await?;
        let store = open(&options.store).await?;
        let id: Arc<str> = options.id.clone().unwrap_or_else(name).into();
        let (end, ending) = watch::channel(false);
        let mut tasks = JoinSet::new();

        let announced = addresses.grpc.into_iter().chain(addresses.tls).map(|a| a.to_string()).collect();
        let replica = Replica::join(store.clone(), id.clone(), announced);
        election::housekeep(&replica, HISTORY);
        let events = Events::start(store.clone(), id.clone());
        let tokens = tokens(&options, store.clone()).await?;
        let ca = authority(&options, &addresses, &store, &tokens, &events).await?;

        let settings = Settings {
            grace: options.grace,
            protection: options.protection.clone(),
            fixed,
            ..Settings::default()
        };
        let registry = Registry::start(store.clone(), replica.lease(), settings).await;
        tasks.spawn(collect(registry.clone(), replica.lead(COLLECT_JOB)));
        let names = registry.directory();
        let rules = Rules::start(store.clone(), move || known(&names.borrow()), events.clone());
        let book = rules.book();
        let reports = Reports::start(store.clone(), &replica, book.clone());
        reports.know(events.clone(), registry.directory());
        rules.heed(reports.clone());
        rules.lead(&replica, reports.clone());
        // They are followed for as long as somebody has them.
        tasks.spawn(hold(rules.clone(), over(ending.clone())));
        let roots = ca.as_ref().map(|ca| roots::follow(ca.trust(), options.roots_file()));
        let sources = Sources { directory: registry.directory(), rules: book.clone(), roots };
        let discovery = Discovery::start(sources, options.slice);
        let xds = Server::new(Arc::new(discovery.clone()), xds_options(&options, &id));
        let alone = !matches!(options.store, Keep::Etcd(_));
        let quota = Quota::start(store.clone(), &replica, book.clone(), alone);
        let parts = Parts {
            store: store.clone(),
            registry: registry.clone(),
            rules: book.clone(),
            discovery,
            xds,
            reports: reports.clone(),
            quota: quota.clone(),
        };

        let mut grpc = parts.xds.routes().add_service(registry.service()).add_service(reports.service());
        grpc = grpc.add_service(quota.service()).add_service(quota.rls());
        if let Some(ca) = &ca {
            grpc = grpc.add_service(ca.service());
        }
        let grpc = grpc.into_axum_router();
        let limits =
            serve::Limits { connections: options.max_streams, streams: STREAMS, ..serve::Limits::default() };
        if let Some(listener) = sockets.grpc {
            tasks.spawn(serve::serve(listener, grpc.clone(), None, limits, over(ending.clone())));
        }
        let tls = ca.as_ref().map(|ca| ca.tls());
        if let (Some(listener), Some(tls)) = (sockets.tls, tls.clone()) {
            let grpc = gate::proven(grpc);
            tasks.spawn(serve::serve(listener, grpc, Some(tls), limits, over(ending.clone())));
        }
        if let Some(listener) = sockets.rest {
            let local = addresses.rest.is_some_and(|a| a.ip().is_loopback());
            let tokens = (!options.no_auth).then_some(tokens);
            let plane = Some(parts.clone());
            let directory: watch::Receiver<Arc<Directory>> = registry.directory();
            let asked = api::Parts {
                store,
                directory,
                book,
                events,
                desk: Some(Arc::new(rules)),
                replica: id,
                tokens,
                ca,
                plane,
            };
            let limits = serve::Limits::default();
            let tls = tls.filter(|_| !local);
            tasks.spawn(serve::serve(listener, api::router(asked), tls, limits, over(ending)));
        }
        Ok(Running { parts, addresses, end, tasks, replica })
    }
}

impl Running {
    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Ends in order: streams are told to go elsewhere, what they published stays until they have come back there.
    pub async fn end(mut self) {
        if let Err(e) = self.replica.leave().await {
            tracing::warn!("its jobs are free when its lease has ended only: {e}");
        }
        self.parts.registry.end();
        self.parts.reports.end();
        self.parts.quota.end();
        self.parts.xds.shed(1.0);
        self.end.send_replace(true);
        let patience = tokio::time::sleep(serve::Limits::default().drain + Duration::from_secs(1));
        tokio::pin!(patience);
        // One task collects and has no end: the others end by themselves.
        while self.tasks.len() > 1 {
            tokio::select! {
                _ = self.tasks.join_next() => {}
                () = &mut patience => break,
            }
        }
        self.tasks.shutdown().await;
    }
}

/// Runs a control plane until the process is told to end (SIGTERM or SIGINT; a second one ends it at once). `ready` is
/// called when it serves.
pub fn run(options: Options, ready: impl FnOnce(&Addresses)) -> Result<(), StartError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("control")
        .enable_all()
        .build()
        .map_err(|e| StartError::Option(format!("no threads: {e}")))?;
    runtime.block_on(async {
        let running = ControlPlane::start(options).await?;
        ready(running.addresses());
        listen::told_to_end().await;
        tracing::info!("the control plane ends");
        tokio::spawn(async {
            listen::told_to_end().await;
            std::process::exit(1);
        });
        running.end().await;
        Ok(())
    })
}

/// The names that rules may speak of without a warning.
fn known(directory: &Directory) -> Known {
    Known {
        apps: directory.apps.keys().cloned().collect(),
        services: directory.services.keys().cloned().collect(),
    }
}

fn xds_options(options: &Options, id: &str) -> raddle_xds::server::Options {
    let mut xds = raddle_xds::server::Options { identifier: id.to_owned(), ..Default::default() };
    xds.admission.streams = options.max_streams;
    xds
}

async fn open(keep: &Keep) -> Result<Arc<dyn Store>, StartError> {
    match keep {
        Keep::File(path) => {
            let path = path.clone();
            let opened =
                tokio::task::spawn_blocking(move || Embedded::open(path, EmbeddedOptions::default()));
            let store = opened.await.map_err(|e| StartError::Option(format!("the store: {e}")))?;
            Ok(Arc::new(store.map_err(StartError::Store)?))
        }
        Keep::Memory => Ok(Arc::new(Embedded::in_memory().map_err(StartError::Store)?)),
        Keep::Etcd(urls) => {
            let store = Etcd::connect(EtcdOptions::new(urls.iter().map(String::as_str))).await;
            Ok(Arc::new(store.map_err(StartError::Store)?))
        }
    }
}

/// The tokens; at the first start one for administrators is put beside the store.
async fn tokens(options: &Options, store: Arc<dyn Store>) -> Result<Arc<Tokens>, StartError> {
    let first = options.first_token().filter(|_| !options.no_auth);
    let fresh = first.as_ref().filter(|file| !file.exists()).cloned();
    let tokens =
        Tokens::open(store, first.as_deref()).await.map_err(|e| StartError::Option(e.to_string()))?;
    if let Some(file) = fresh.filter(|file| file.exists()) {
        tracing::info!("the first admin token is in {}", file.display());
    }
    Ok(tokens)
}

/// Services of the files; anything else in them is refused.
fn services(sources: &[raddle_model::Source]) -> Result<Vec<raddle_model::Service>, StartError> {
    if sources.is_empty() {
        return Ok(Vec::new());
    }
    let loaded = raddle_model::load(sources, LoadOptions::rules_only());
    let (resources, warnings) = loaded.map_err(|report| StartError::Resources(report.to_string()))?;
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    if resources.rules().next().is_some() || resources.sidecar.is_some() || !resources.certificates.is_empty()
    {
        let why = "--resources takes documents of kind Service only; rules are applied with `raddle apply`";
        return Err(StartError::Resources(why.into()));
    }
    Ok(resources.services)
}

/// A name for this process: the host's and the process's.
fn name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}-{}", if host.is_empty() { "control" } else { host }, std::process::id())
}

async fn hold(rules: Arc<Rules>, over: impl Future<Output = ()>) {
    over.await;
    drop(rules);
}

async fn over(mut ending: watch::Receiver<bool>) {
    // The sender is dropped only after everything has ended.
    let _ = ending.wait_for(|e| *e).await;
}

/// Removes service sets that nobody uses, while this replica leads that job.
async fn collect(registry: Registry, term: watch::Receiver<Option<Term>>) {
    let mut beat = tokio::time::interval(COLLECT.0);
    loop {
        beat.tick().await;
        if term.borrow().is_none() {
            continue;
        }
        match registry.collect(COLLECT.1).await {
            Ok(0) => {}
            Ok(n) => tracing::info!("{n} service sets that nobody uses are removed"),
            Err(e) => tracing::warn!("service sets that nobody uses are not removed: {e}"),
        }
    }
}

/// The authority; none if there is no TLS listener to serve with it. Its own certificate has the addresses that are
/// listened on, too.
async fn authority(
    options: &Options,
    addresses: &Addresses,
    store: &Arc<dyn Store>,
    tokens: &Arc<Tokens>,
    events: &Events,
) -> Result<Option<Arc<Ca>>, StartError> {
    let Some(ca) = options.ca.clone().filter(|_| options.tls.is_some()) else { return Ok(None) };
    let listened = addresses.tls.into_iter().chain(addresses.rest).map(|a| a.ip());
    let listened = listened.filter(|ip| !ip.is_unspecified() && !ip.is_loopback()).map(|ip| ip.to_string());
    let mut hosts: Vec<String> = ca.hosts.iter().cloned().chain(listened).collect();
    hosts.sort_unstable();
    hosts.dedup();
    let ca = CaOptions { events: Some(events.clone()), hosts, ..ca };
    let ca = Ca::open(store.clone(), tokens.clone(), ca).await;
    ca.map(Some).map_err(|e| StartError::Option(format!("the certificate authority: {e}")))
}
