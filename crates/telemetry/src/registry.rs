//! All cells of a process: handed out to workers, merged for readers.
use crate::cell::Snapshot;
use crate::cells::{
    AdaptiveCells, Bounds, BreakerCells, Family, HostCells, LimitCells, LinkCells, LogCells, MeshCells,
    RuleCells, ServiceCells, WorkerCells,
};
use crate::exposition::{Exposition, clip, escape};
use crate::labels::Direction;
use crate::process;
use crate::table::{Entry, Name, OTHER, Table, let_go};
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// What tells services apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ServiceName {
    pub(crate) direction: Direction,
    pub(crate) service: Arc<str>,
}

impl Name for ServiceName {
    fn other(&self) -> ServiceName {
        ServiceName { direction: self.direction, service: OTHER.into() }
    }

    fn labels(&self) -> String {
        format!("direction=\"{}\",service=\"{}\"", self.direction.name(), escape(&self.service))
    }
}

/// What tells endpoints apart; none is `other`.
pub(crate) type HostName = Option<SocketAddr>;

impl Name for HostName {
    fn other(&self) -> HostName {
        None
    }

    fn labels(&self) -> String {
        match self {
            Some(address) => format!("endpoint=\"{address}\""),
            None => format!("endpoint=\"{OTHER}\""),
        }
    }
}

/// What tells rules apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct RuleName(pub(crate) Arc<str>);

impl Name for RuleName {
    fn other(&self) -> RuleName {
        RuleName(OTHER.into())
    }

    fn labels(&self) -> String {
        format!("rule=\"{}\"", escape(&self.0))
    }
}

#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) services: Table<ServiceName, ServiceCells>,
    pub(crate) hosts: Table<HostName, HostCells>,
    pub(crate) rules: Table<RuleName, RuleCells>,
    pub(crate) limits: Table<RuleName, LimitCells>,
    pub(crate) breakers: Table<RuleName, BreakerCells>,
}

/// All metrics of one process.
#[derive(Debug)]
pub struct Registry {
    pub(crate) shards: Vec<Arc<Shard>>,
    pub(crate) tables: Arc<Tables>,
    /// The access log's writer threads' own: more than one only while a log replaces another.
    log_writers: Mutex<Vec<Arc<LogCells>>>,
    /// What comes from the control plane; only the thread that joins it may write them.
    pub mesh: Arc<MeshCells>,
    /// What holds of link encryption; only the thread that keeps the gates may write them.
    pub link: Arc<LinkCells>,
    /// What holds of adaptive limiting; only the thread that decides may write them.
    pub adaptive: Arc<AdaptiveCells>,
    pub(crate) started: Instant,
}

/// One worker's cells. Only that worker may write them; it reaches the fixed ones as fields
/// (`shard.accepted`, see [`WorkerCells`]).
#[derive(Debug)]
pub struct Shard {
    worker: usize,
    cells: Arc<WorkerCells>,
    /// The worker's share of the access log's numbers.
    pub log: Arc<LogCells>,
    tables: Arc<Tables>,
}

impl Deref for Shard {
    type Target = WorkerCells;
    #[inline]
    fn deref(&self) -> &WorkerCells {
        &self.cells
    }
}

impl Shard {
    /// The worker's number, from 0.
    pub fn worker(&self) -> usize {
        self.worker
    }

    /// The worker's cells of a service.
    ///
    /// Takes a lock and may allocate: ask when the configuration comes or at first use, and keep the
    /// handle. Past [`Bounds::services`] names in use, the handle is that of the service `other`; a
    /// name whose handles are all dropped may lose its series to a new name.
    pub fn service(&self, direction: Direction, service: &str) -> Arc<ServiceCells> {
        let service = clip(service).into();
        self.tables.services.cells(self.worker, ServiceName { direction, service })
    }

    /// The worker's cells of an endpoint; bounded as [`Shard::service`] is.
    pub fn host(&self, endpoint: SocketAddr) -> Arc<HostCells> {
        self.tables.hosts.cells(self.worker, Some(endpoint))
    }

    /// The worker's cells of a rule of authorization; bounded as [`Shard::service`] is.
    pub fn rule(&self, rule: &str) -> Arc<RuleCells> {
        self.tables.rules.cells(self.worker, RuleName(clip(rule).into()))
    }

    /// The worker's cells of a limit or a breaker, `KIND/NAME`; bounded as [`Shard::service`] is.
    pub fn limit(&self, rule: &str) -> Arc<LimitCells> {
        self.tables.limits.cells(self.worker, RuleName(clip(rule).into()))
    }

    /// The worker's cells of a breaker's state, `CircuitBreaker/NAME`; bounded as [`Shard::service`] is.
    pub fn breaker(&self, rule: &str) -> Arc<BreakerCells> {
        self.tables.breakers.cells(self.worker, RuleName(clip(rule).into()))
    }
}

impl Registry {
    /// The metrics of a process with so many workers.
    pub fn new(workers: usize) -> Arc<Registry> {
        Registry::with_bounds(workers, Bounds::default())
    }

    /// The same with other bounds on the number of series.
    pub fn with_bounds(workers: usize, bounds: Bounds) -> Arc<Registry> {
        let tables = Arc::new(Tables {
            services: Table::new(workers, bounds.services),
            hosts: Table::new(workers, bounds.hosts),
            rules: Table::new(workers, bounds.rules),
            limits: Table::new(workers, bounds.rules),
            breakers: Table::new(workers, bounds.rules),
        });
        let shard = |worker| {
            let tables = Arc::clone(&tables);
            Arc::new(Shard { worker, cells: Arc::default(), log: Arc::default(), tables })
        };
        let shards = (0..workers).map(shard).collect();
        Arc::new(Registry {
            shards,
            tables,
            log_writers: Mutex::default(),
            mesh: Arc::default(),
            link: Arc::default(),
            adaptive: Arc::default(),
            started: Instant::now(),
        })
    }

    /// The cells of one worker.
    ///
    /// # Panics
    /// If there is no such worker: the number of workers is fixed when the registry is made.
    pub fn shard(&self, worker: usize) -> Arc<Shard> {
        Arc::clone(&self.shards[worker])
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.shards.len()
    }

    /// The durations of a service's requests so far, over all workers; empty if it has no series.
    pub fn latency(&self, direction: Direction, service: &str) -> Snapshot {
        let name = ServiceName { direction, service: clip(service).into() };
        let mut sum = Snapshot::default();
        for (_, entry) in self.tables.services.entries().iter().filter(|(key, _)| *key == name) {
            entry.resolved().for_each(|cells| sum.merge(&cells.latency.snapshot()));
        }
        sum
    }

    /// The durations of all requests of a direction so far, over all workers and services.
    pub fn latency_of(&self, direction: Direction) -> Snapshot {
        let mut sum = Snapshot::default();
        for (_, entry) in self.tables.services.entries().iter().filter(|(key, _)| key.direction == direction)
        {
            entry.resolved().for_each(|cells| sum.merge(&cells.latency.snapshot()));
        }
        sum
    }

    /// Everything in the Prometheus text format, version 0.0.4
    /// (`text/plain; version=0.0.4; charset=utf-8`).
    pub fn render(&self) -> String {
        let mut out = Exposition::default();
        let labels = format!("version=\"{}\",revision=\"{REVISION}\"", env!("CARGO_PKG_VERSION"));
        out.family(&BUILD_INFO);
        out.sample(BUILD_INFO.name, "", &labels, "", 1);
        out.family(&WORKERS);
        out.sample(WORKERS.name, "", "", "", self.workers());
        process::expose(&mut out);
        WorkerCells::expose(&[Entry::of(self.shards.iter().map(|s| Arc::clone(&s.cells)))], &mut out);
        LogCells::expose(&[Entry::of(self.log_cells())], &mut out);
        MeshCells::expose(&[Entry::of(std::iter::once(Arc::clone(&self.mesh)))], &mut out);
        LinkCells::expose(&[Entry::of(std::iter::once(Arc::clone(&self.link)))], &mut out);
        AdaptiveCells::expose(&[Entry::of(std::iter::once(Arc::clone(&self.adaptive)))], &mut out);
        ServiceCells::expose(&sorted(self.tables.services.entries()), &mut out);
        HostCells::expose(&sorted(self.tables.hosts.entries()), &mut out);
        RuleCells::expose(&sorted(self.tables.rules.entries()), &mut out);
        LimitCells::expose(&sorted(self.tables.limits.entries()), &mut out);
        BreakerCells::expose(&sorted(self.tables.breakers.entries()), &mut out);
        out.finish()
    }

    pub(crate) fn log_cells(&self) -> impl Iterator<Item = Arc<LogCells>> {
        let writers = self.log_writers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.shards.iter().map(|s| Arc::clone(&s.log)).chain(writers)
    }

    /// Cells for one writer thread of an access log: those of one that has ended, or new ones.
    pub(crate) fn log_writer(&self) -> Arc<LogCells> {
        let mut writers = self.log_writers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(free) = writers.iter().find(|cells| let_go(cells)) {
            return Arc::clone(free);
        }
        let cells = Arc::<LogCells>::default();
        writers.push(Arc::clone(&cells));
        cells
    }
}

/// The source revision, if the build was told it.
const REVISION: &str = match option_env!("RADDLE_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};

pub(crate) const BUILD_INFO: Family = Family {
    name: "raddle_build_info",
    kind: crate::cell::Kind::Gauge,
    constant: r#"version="",revision="""#,
    label: "",
    unit: "always 1",
    help: "The version that runs, as labels.",
};

pub(crate) const WORKERS: Family = Family {
    name: "raddle_workers",
    kind: crate::cell::Kind::Gauge,
    constant: "",
    label: "",
    unit: "threads",
    help: "Worker threads.",
};

/// In the order of the names, so that two scrapes can be compared.
fn sorted<K: Ord, C>(mut entries: Vec<(K, Arc<Entry<C>>)>) -> Vec<Arc<Entry<C>>> {
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    entries.into_iter().map(|(_, entry)| entry).collect()
}
