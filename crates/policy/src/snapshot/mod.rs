//! Resources compiled into what the workers read, shared by them all and never changed.
//!
//! Compiling takes the previous snapshot: services that are the same keep their `Arc`, hosts keep their
//! health, counters keep counting.

mod compile;
pub mod host;
pub mod index;
pub mod policy;
pub mod service;
pub mod subset;

use crate::route::plan::Identity;
use crate::route::program::Program;
use ahash::RandomState;
use host::{Changes, Host};
use policy::Policy;
use raddle_core::Time;
use raddle_model as model;
use service::Service;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;

/// One configuration, compiled.
#[derive(Debug)]
pub struct Snapshot {
    /// Greater than that of every snapshot before.
    pub generation: u64,
    /// This process; an unnamed one of no app if the resources have none.
    pub sidecar: Arc<model::Sidecar>,
    services: HashMap<Name, Arc<Service>, RandomState>,
    order: Vec<Name>,
    hosts: HashMap<SocketAddr, Arc<Host>, RandomState>,
    me: Identity,
    programs: HashMap<Arc<str>, Arc<Program>, RandomState>,
    policies: HashMap<Arc<str>, Arc<Policy>, RandomState>,
    builtin: Arc<Policy>,
    changes: Arc<Changes>,
    /// Last id given to a service, a revision of one, or a subset.
    next_id: u64,
}

/// A name that is found by its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Name(Arc<str>);

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.as_bytes().hash(state);
    }
}

impl Borrow<[u8]> for Name {
    fn borrow(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Snapshot {
    /// Compiles `res`; hosts that `prev` did not have begin no slow start. See [`Snapshot::compile_at`].
    pub fn compile(res: model::Resources, prev: Option<&Snapshot>) -> Snapshot {
        Snapshot::compile_at(res, prev, Time::ZERO)
    }

    /// Compiles `res` at `now`, which is when hosts that `prev` did not have begin their slow start (none
    /// does without a `prev`: where all are new, no one is).
    pub fn compile_at(res: model::Resources, prev: Option<&Snapshot>, now: Time) -> Snapshot {
        compile::Compiler::new(res.sidecar, prev, now).run(res.services, res.policies, res.routes)
    }

    /// The service of that name. One hash look-up.
    pub fn service(&self, name: &[u8]) -> Option<&Arc<Service>> {
        self.services.get(name)
    }

    /// All services, in file order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.order.iter().filter_map(|name| self.services.get(name))
    }

    /// All hosts of all services, each once, in no order.
    pub fn hosts(&self) -> impl Iterator<Item = &Arc<Host>> {
        self.hosts.values()
    }

    /// The host of an address.
    pub fn host(&self, addr: SocketAddr) -> Option<&Arc<Host>> {
        self.hosts.get(&addr)
    }
}
