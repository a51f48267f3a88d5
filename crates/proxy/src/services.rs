//! A worker's state of the services it serves: balancer, budget, queue. Made at first use, so that a large
//! configuration costs a worker only what it calls.
use crate::call::Call;
use crate::conn::Direction;
use crate::request::Requeued;
use crate::shared::Config;
use crate::worker::Worker;
use ahash::AHashMap;
use raddle_net::{Key, Slab};
use raddle_policy::{BalanceState, Permits, RetryBudget, RouteState, Service};
use raddle_telemetry::ServiceCells;
use std::collections::VecDeque;
use std::sync::Arc;

/// A worker's state of one service.
pub struct ServiceState {
    /// The compiled service of the configuration in force when it was last looked up.
    pub service: Arc<Service>,
    /// That configuration's generation.
    pub generation: u64,
    /// The worker's state of each endpoint's host, in the order of `service.endpoints`.
    pub hosts: Vec<Key>,
    /// Percentages and weights.
    pub route: RouteState,
    /// Balancers, by subset.
    pub balance: AHashMap<u64, BalanceState>,
    /// Retry budget, if retries are asked for.
    pub budget: RetryBudget,
    /// This worker's share of the bound on outstanding requests.
    pub permits: Permits,
    /// Row of its metrics.
    pub row: u32,
    /// Requests that wait for a connection.
    pub waiting: VecDeque<Requeued>,
}

/// The services of a worker.
#[derive(Default)]
pub struct Services {
    slab: Slab<ServiceState>,
    by_name: AHashMap<Box<[u8]>, Key>,
    by_listener: AHashMap<u16, Key>,
    rows: Vec<Arc<ServiceCells>>,
    row_names: Vec<Arc<str>>,
    inbound_rows: AHashMap<Box<[u8]>, u32>,
    outbound_rows: AHashMap<Box<[u8]>, u32>,
}

/// Service names a peer may make up get at most this many rows; the rest share one.
const ROWS_MOST: usize = 4096;

impl Services {
    /// A service's state.
    #[inline]
    pub fn get(&self, key: Key) -> Option<&ServiceState> {
        self.slab.get(key)
    }

    /// A service's state, for change.
    #[inline]
    pub fn get_mut(&mut self, key: Key) -> Option<&mut ServiceState> {
        self.slab.get_mut(key)
    }

    /// The metrics of a row.
    #[inline]
    pub fn cells(&self, row: u32) -> &ServiceCells {
        &self.rows[row as usize]
    }

    /// The service name of a row.
    pub fn row_name(&self, row: u32) -> &str {
        &self.row_names[row as usize]
    }

    /// All services.
    pub fn iter(&self) -> impl Iterator<Item = (Key, &ServiceState)> {
        self.slab.iter()
    }

    /// Forgets a service that no configuration names.
    pub fn forget(&mut self, key: Key) {
        self.slab.remove(key);
    }

    /// Forgets services that the configuration names no more; their waiting requests are dispatched again.
    pub fn forget_removed(&mut self, config: &Config) {
        let gone: Vec<(Box<[u8]>, Key)> = self
            .by_name
            .iter()
            .filter(|(name, _)| config.snapshot.service(name).is_none())
            .map(|(n, k)| (n.clone(), *k))
            .collect();
        for (name, key) in gone {
            // With requests waiting it stays until they are gone, or they would be lost.
            if self.slab.get(key).is_some_and(|s| s.waiting.is_empty()) {
                self.by_name.remove(&name);
                self.slab.remove(key);
            }
        }
    }
}

impl Worker {
    /// The state of the service a request names, made or refreshed as the configuration in force says.
    #[inline]
    pub(crate) fn service_named(&mut self, name: &[u8]) -> Option<Key> {
        if let Some(&key) = self.services.by_name.get(name) {
            let s = self.services.slab.get(key)?;
            if s.generation == self.config.generation {
                return Some(key);
            }
            let now = self.config.snapshot.service(name)?.clone();
            self.refresh(key, now);
            return Some(key);
        }
        let service = self.config.snapshot.service(name)?.clone();
        let row = self.row(Direction::Outbound, name);
        let key = self.make_service(service, row);
        self.services.by_name.insert(name.into(), key);
        Some(key)
    }

    /// The state of the service a call is for, and the name it is known by: `name`, or a shorter one where the
    /// call's protocol has such. With none known, the name is the one that was asked for.
    #[inline]
    pub(crate) fn service_called<'a>(&mut self, call: &Call<'a>, name: &'a [u8]) -> (Option<Key>, &'a [u8]) {
        if let Some(key) = self.service_named(name) {
            return (Some(key), name);
        }
        for shorter in call.shorter_names() {
            if let Some(key) = self.service_named(shorter) {
                return (Some(key), shorter);
            }
        }
        (None, name)
    }

    /// The state of the local app behind a listener.
    pub(crate) fn service_behind(&mut self, listener: u16) -> Option<Key> {
        let known = self.services.by_listener.get(&listener).copied();
        if let Some(key) = known
            && self.services.slab.get(key)?.generation == self.config.generation
        {
            return Some(key);
        }
        let local = self.config.binding(listener)?.local.clone()?;
        if let Some(key) = known {
            self.refresh(key, local);
            return Some(key);
        }
        let row = self.row(Direction::Inbound, local.name.clone().as_bytes());
        let key = self.make_service(local, row);
        self.services.by_listener.insert(listener, key);
        Some(key)
    }

    pub(crate) fn make_service(&mut self, service: Arc<Service>, row: u32) -> Key {
        let hosts = service.endpoints.iter().map(|e| self.host_state(&e.host)).collect();
        let state = ServiceState {
            generation: self.config.generation,
            hosts,
            route: RouteState::default(),
            balance: AHashMap::new(),
            budget: RetryBudget::new(),
            permits: Permits::new(service.outstanding.clone()),
            row,
            waiting: VecDeque::new(),
            service,
        };
        self.services.slab.insert(state)
    }

    /// Brings a service's state to the configuration in force; cheap where the service is unchanged.
    fn refresh(&mut self, key: Key, new: Arc<Service>) {
        let generation = self.config.generation;
        let Some(s) = self.services.slab.get(key) else { return };
        let same = Arc::ptr_eq(&s.service, &new);
        let hosts: Option<Vec<Key>> =
            (!same).then(|| new.endpoints.iter().map(|e| self.host_state(&e.host)).collect());
        let Some(s) = self.services.slab.get_mut(key) else { return };
        s.generation = generation;
        if let Some(hosts) = hosts {
            s.hosts = hosts;
            s.balance.clear();
            s.service = new;
        }
    }

    /// The metrics row of a service name; names beyond the bound share one.
    pub(crate) fn row(&mut self, direction: Direction, name: &[u8]) -> u32 {
        let map = match direction {
            Direction::Inbound => &self.services.inbound_rows,
            Direction::Outbound => &self.services.outbound_rows,
        };
        if let Some(&r) = map.get(name) {
            return r;
        }
        let full = map.len() >= ROWS_MOST;
        let label = if full { std::borrow::Cow::Borrowed("other") } else { String::from_utf8_lossy(name) };
        if full && let Some(&r) = map.get(&b"other"[..]) {
            return r;
        }
        let cells = self.shard.service(direction, &label);
        let row = self.services.rows.len() as u32;
        self.services.rows.push(cells);
        self.services.row_names.push(Arc::from(&*label));
        let key: Box<[u8]> = label.as_bytes().into();
        match direction {
            Direction::Inbound => self.services.inbound_rows.insert(key, row),
            Direction::Outbound => self.services.outbound_rows.insert(key, row),
        };
        row
    }

    /// A small number that stands for a method name; 0 when there are too many.
    pub(crate) fn intern_method(&mut self, name: &[u8]) -> u32 {
        if let Some(&n) = self.methods.get(name) {
            return n;
        }
        if self.method_names.len() >= ROWS_MOST || name.len() > 256 {
            return 0;
        }
        let n = self.method_names.len() as u32;
        self.method_names.push(name.into());
        self.methods.insert(name.into(), n);
        n
    }
}
