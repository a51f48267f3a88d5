//! Resources compiled into what the workers read, shared by them all and never changed.
//!
//! Compiling takes the previous snapshot: services that are the same keep their `Arc`, hosts keep their
//! health, counters keep counting.

mod authority;
mod compile;
pub mod host;
pub mod index;
pub mod policy;
pub mod service;
pub mod subset;

use crate::authz;
use crate::limit;
use crate::link::LinkPlan;
use crate::route::plan::Identity;
use crate::route::program::Program;
use ahash::RandomState;
use authority::{Authorities, Lowered};
pub use compile::Fed;
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
    authorities: Authorities,
    hosts: HashMap<SocketAddr, Listed, RandomState>,
    me: Identity,
    programs: HashMap<Arc<str>, Arc<Program>, RandomState>,
    policies: HashMap<Arc<str>, Arc<Policy>, RandomState>,
    builtin: Arc<Policy>,
    changes: Arc<Changes>,
    /// What holds for the own inbound side.
    link: Arc<LinkPlan>,
    /// Who may call the own inbound side.
    authorization: Arc<authz::Rules>,
    /// What holds requests back.
    limits: Arc<limit::Rules>,
    /// Last id given to a service, a revision of one, or a subset.
    next_id: u64,
}

/// A host of some service.
#[derive(Debug)]
struct Listed {
    host: Arc<Host>,
    /// Index into `order` of the first service that lists it.
    service: u32,
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
        Snapshot::compile_fed(res, Vec::new(), prev, now)
    }

    /// The same with services from elsewhere. Those of `res` come first, and win where names are equal.
    pub fn compile_fed(res: model::Resources, fed: Vec<Fed>, prev: Option<&Snapshot>, now: Time) -> Snapshot {
        compile::Compiler::new(res.sidecar.clone(), prev, now).run(res, fed)
    }

    /// Link encryption of the own inbound side; the same `Arc` as long as it does not change.
    pub fn link(&self) -> &Arc<LinkPlan> {
        &self.link
    }

    /// Who may call the own inbound side; the same `Arc` as long as it does not change.
    pub fn authorization(&self) -> &Arc<authz::Rules> {
        &self.authorization
    }

    /// What holds requests back; the same `Arc` as long as it does not change.
    pub fn limits(&self) -> &Arc<limit::Rules> {
        &self.limits
    }

    /// Counts changes of what any host's connections are wanted to be, over all snapshots.
    pub fn transports(&self) -> u64 {
        self.changes.transports()
    }

    /// The service of that name. One hash look-up.
    pub fn service(&self, name: &[u8]) -> Option<&Arc<Service>> {
        self.services.get(name)
    }

    /// The service that an HTTP request for this authority (`Host` or `:authority`, port included if it has
    /// one) is for. In this order: a service of just that name; one of the host's name; one that has the host
    /// among its `hosts`; one with the longest wildcard that covers it. Letters' case makes no difference, nor
    /// does a dot at the host's end. Costs two hash look-ups each, and one for each label if there are
    /// wildcards.
    pub fn service_for_host(&self, authority: &[u8]) -> Option<&Arc<Service>> {
        let asked = Lowered::new(authority)?;
        let named = |name: &[u8]| {
            self.services.get(name).or_else(|| self.services.get(self.authorities.named(name)?))
        };
        named(asked.whole())
            .or_else(|| named(asked.host()))
            .or_else(|| self.services.get(self.authorities.of_host(asked.host())?))
    }

    /// The host of an authority as services are asked for by it: in lower case, without port, without a dot at
    /// the end. `None` for one that can name no service.
    pub fn host_name(authority: &[u8]) -> Option<Box<[u8]>> {
        let lowered = Lowered::new(authority)?;
        (!lowered.host().is_empty()).then(|| lowered.host().into())
    }

    /// The service that has an endpoint at this address; the first in file order if several have. A mapped
    /// IPv4 address is that address.
    pub fn service_at(&self, addr: SocketAddr) -> Option<&Arc<Service>> {
        let addr = SocketAddr::new(addr.ip().to_canonical(), addr.port());
        let listed = self.hosts.get(&addr)?;
        self.services.get(self.order.get(listed.service as usize)?)
    }

    /// All services, in file order.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.order.iter().filter_map(|name| self.services.get(name))
    }

    /// All hosts of all services, each once, in no order.
    pub fn hosts(&self) -> impl Iterator<Item = &Arc<Host>> {
        self.hosts.values().map(|listed| &listed.host)
    }

    /// The host of an address.
    pub fn host(&self, addr: SocketAddr) -> Option<&Arc<Host>> {
        self.hosts.get(&addr).map(|listed| &listed.host)
    }
}
