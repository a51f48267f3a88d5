//! Makes a [`Snapshot`] out of resources and the snapshot before.
use super::host::{Changes, Host};
use super::index::Traits;
use super::policy::Policy;
use super::service::{Endpoint, Service};
use super::{Authorities, Listed, Name, Snapshot};
use crate::authz;
use crate::limit;
use crate::link::{LinkPlan, Transport};
use crate::permits;
use crate::route::plan::{DEFAULT_GROUP, Identity, Plan};
use crate::route::program::Program;
use ahash::RandomState;
use raddle_core::Time;
use raddle_model as model;
use raddle_model::Labels;
use std::collections::HashMap;
use std::sync::Arc;

/// Smaller consistent-hash rings are built by the first request that needs them.
const LARGE_RING: usize = 256;

/// A service beside those of the resources.
#[derive(Debug)]
pub enum Fed {
    /// One that is new, or changed.
    New(model::Service),
    /// One of an earlier snapshot that did not change; rules and policies that concern it may have. Costs next to
    /// nothing where they did not.
    Kept(Arc<Service>),
}

impl Fed {
    fn named(&self) -> (&str, &str) {
        match self {
            Fed::New(s) => (&s.metadata.name, &s.app),
            Fed::Kept(s) => (&s.name, &s.app),
        }
    }
}

pub(super) struct Compiler<'p> {
    prev: Option<&'p Snapshot>,
    now: Time,
    snap: Snapshot,
    same_identity: bool,
    intern: Intern,
}

impl<'p> Compiler<'p> {
    pub(super) fn new(
        sidecar: Option<model::Sidecar>,
        prev: Option<&'p Snapshot>,
        now: Time,
    ) -> Compiler<'p> {
        let sidecar = sidecar.unwrap_or_else(unnamed);
        let me = Identity::of(&sidecar);
        let same_identity = prev.is_some_and(|p| p.me == me);
        let snap = Snapshot {
            generation: prev.map_or(1, |p| p.generation + 1),
            sidecar: Arc::new(sidecar),
            services: HashMap::default(),
            order: Vec::new(),
            authorities: Authorities::default(),
            hosts: HashMap::default(),
            me,
            programs: HashMap::default(),
            policies: HashMap::default(),
            builtin: prev.map_or_else(|| Arc::new(Policy::builtin()), |p| p.builtin.clone()),
            changes: prev.map_or_else(|| Arc::new(Changes::default()), |p| p.changes.clone()),
            next_id: prev.map_or(0, |p| p.next_id),
            link: Arc::default(),
            authorization: Arc::default(),
            limits: Arc::default(),
        };
        Compiler { prev, now, snap, same_identity, intern: Intern::default() }
    }

    pub(super) fn run(mut self, res: model::Resources, fed: Vec<Fed>) -> Snapshot {
        self.link(&res.encryption);
        self.authorization(&res.authorization);
        self.limits(&res);
        let model::Resources { services, policies, routes, .. } = res;
        let policies = self.policies(policies);
        let programs = self.programs(routes);
        let policies_to = TargetIndex::new(policies.iter().map(|p| &p.to));
        let programs_to = TargetIndex::new(programs.iter().map(|p| &p.to));
        self.snap.services.reserve(services.len());
        self.snap.hosts.reserve(services.iter().map(|s| s.endpoints.len()).max().unwrap_or(0));
        self.snap.hosts.reserve(self.prev.map_or(0, |p| p.hosts.len()));
        let listed = services.into_iter().map(Fed::New);
        self.snap.services.reserve(fed.len());
        for service in listed.chain(fed) {
            let (name, app) = service.named();
            if self.snap.services.contains_key(name.as_bytes()) {
                continue;
            }
            let policy = most_specific(&policies, policies_to.reaching(name, app));
            let policy = policy.unwrap_or_else(|| self.snap.builtin.clone());
            let programs: Vec<_> =
                programs_to.reaching(name, app).into_iter().map(|i| programs[i].clone()).collect();
            let service = match service {
                Fed::New(service) => self.service(service, policy, programs),
                Fed::Kept(service) => self.kept(service, policy, programs),
            };
            let name = Name(service.name.clone());
            self.snap.authorities.add(&name, &service.hosts);
            self.snap.order.push(name.clone());
            self.snap.services.insert(name, service);
        }
        self.snap
    }

    /// What holds for the own inbound side.
    fn link(&mut self, rules: &[model::LinkEncryption]) {
        let plan = LinkPlan::choose(rules.iter().filter(|r| self.snap.me.within(&r.scope)));
        self.snap.link = match self.prev {
            Some(prev) if *prev.link == plan => prev.link.clone(),
            _ => Arc::new(plan),
        };
    }

    /// Who may call the own inbound side.
    fn authorization(&mut self, rules: &[model::Authorization]) {
        let own: Vec<_> = rules.iter().filter(|r| self.snap.me.within(&r.scope)).collect();
        self.snap.authorization = match self.prev {
            Some(prev) if prev.authorization.same(&own) => prev.authorization.clone(),
            _ => Arc::new(authz::Rules::new(own)),
        };
    }

    /// What holds requests back.
    fn limits(&mut self, res: &model::Resources) {
        let me = &self.snap.me;
        let adaptive = res.adaptive.iter().filter(|r| me.within(&r.scope)).enumerate();
        // The narrowest scope; among equals the first.
        let adaptive = adaptive.min_by_key(|(i, r)| (usize::MAX - r.scope.specificity(), *i)).map(|(_, r)| r);
        let rates: Vec<_> = res.rates.iter().filter(|r| me.within(&r.scope)).collect();
        let breakers: Vec<_> = res.breakers.iter().filter(|r| me.within(&r.scope)).collect();
        self.snap.limits = match self.prev {
            Some(prev) if prev.limits.same(adaptive, &rates, &breakers) => prev.limits.clone(),
            prev => Arc::new(limit::Rules::new(adaptive, &rates, &breakers, prev.map(|p| &*p.limits))),
        };
    }

    /// The policies that reach this sidecar, in order.
    fn policies(&mut self, policies: Vec<model::TrafficPolicy>) -> Vec<Arc<Policy>> {
        let mut out = Vec::new();
        for policy in policies {
            if !self.snap.me.within(&policy.scope) {
                continue;
            }
            let old = self.prev.and_then(|p| p.policies.get(policy.metadata.name.as_str()));
            let policy = match old {
                Some(old) if old.same(&policy) => old.clone(),
                _ => Arc::new(Policy::compile(policy)),
            };
            if let Some(name) = &policy.name {
                self.snap.policies.insert(name.clone(), policy.clone());
            }
            out.push(policy);
        }
        out
    }

    /// The routes that reach this sidecar, in order.
    fn programs(&mut self, routes: Vec<model::Route>) -> Vec<Arc<Program>> {
        let mut out = Vec::new();
        for route in routes {
            if !self.snap.me.within(&route.scope) {
                continue;
            }
            let name = route.metadata.name.as_str();
            let program = match self.prev.and_then(|p| p.programs.get(name)) {
                Some(old) if old.same(&route) => old.clone(),
                _ => Arc::new(Program::compile(route)),
            };
            self.snap.programs.insert(program.name.clone(), program.clone());
            out.push(program);
        }
        out
    }

    fn service(
        &mut self,
        mut source: model::Service,
        policy: Arc<Policy>,
        programs: Vec<Arc<Program>>,
    ) -> Arc<Service> {
        let hosts = std::mem::take(&mut source.hosts);
        let old = self.prev.and_then(|p| p.service(source.metadata.name.as_bytes()));
        if let Some(old) = old
            && self.same_identity
            && *old.app == *source.app
            && *old.hosts == *hosts
            && old.protocol == source.protocol
            && Arc::ptr_eq(&old.policy, &policy)
            && same_programs(&old.plan.programs, &programs)
            && same_endpoints(&old.endpoints, &source.endpoints)
        {
            for endpoint in &old.endpoints {
                self.keep_host(endpoint);
            }
            return old.clone();
        }
        let app = self.intern.text(source.app);
        let same_app = old.is_some_and(|o| *o.app == *app);
        let mut before = old.map_or(&[][..], |o| &o.endpoints).iter();
        let mut endpoints = Vec::with_capacity(source.endpoints.len());
        for source in source.endpoints {
            let same = before.next().filter(|before| same_app && same_endpoint(before, &source));
            endpoints.push(match same {
                Some(before) => self.keep(before),
                None => self.endpoint(source, &app),
            });
        }
        let ids = &mut self.snap.next_id;
        let id = old.map_or_else(|| next(ids), |o| o.id);
        let revision = next(ids);
        let plan = Plan::new(programs, &endpoints, &policy, &self.snap.me, ids);
        if policy.hash_on().is_some() {
            // Here, as a worker that built a large ring with its first request would stall all others.
            for subset in plan.subsets().filter(|s| s.members.len() >= LARGE_RING) {
                subset.ring(&endpoints);
            }
        }
        Arc::new(Service {
            name: old.map_or_else(|| Arc::from(source.metadata.name), |o| o.name.clone()),
            app,
            protocol: source.protocol,
            hosts: hosts.into(),
            endpoints,
            policy,
            outstanding: old.map_or_else(|| Arc::new(permits::Shared::default()), |o| o.outstanding.clone()),
            id,
            revision,
            plan,
            changes: self.snap.changes.clone(),
        })
    }

    /// A service whose content is that of an earlier snapshot; what concerns it may be new.
    fn kept(
        &mut self,
        service: Arc<Service>,
        policy: Arc<Policy>,
        programs: Vec<Arc<Program>>,
    ) -> Arc<Service> {
        for endpoint in &service.endpoints {
            self.keep_host(endpoint);
        }
        if self.same_identity
            && Arc::ptr_eq(&service.policy, &policy)
            && same_programs(&service.plan.programs, &programs)
        {
            return service;
        }
        let ids = &mut self.snap.next_id;
        let revision = next(ids);
        let plan = Plan::new(programs, &service.endpoints, &policy, &self.snap.me, ids);
        Arc::new(Service {
            name: service.name.clone(),
            app: service.app.clone(),
            protocol: service.protocol,
            hosts: service.hosts.clone(),
            endpoints: service.endpoints.clone(),
            policy,
            outstanding: service.outstanding.clone(),
            id: service.id,
            revision,
            plan,
            changes: service.changes.clone(),
        })
    }

    fn keep(&mut self, endpoint: &Endpoint) -> Endpoint {
        self.keep_host(endpoint);
        endpoint.clone()
    }

    /// The first service that lists a host says what its connections are to be.
    fn keep_host(&mut self, endpoint: &Endpoint) {
        let service = self.snap.order.len() as u32;
        let host = &endpoint.host;
        self.snap.hosts.entry(host.addr).or_insert_with(|| {
            host.set_transport(endpoint.transport.as_ref());
            Listed { host: host.clone(), service }
        });
    }

    fn endpoint(&mut self, source: model::Endpoint, app: &str) -> Endpoint {
        let transport = self.intern.transport(Transport::of(&source, app));
        let addr = source.address;
        // The service is entered in `order` when it is compiled.
        let service = self.snap.order.len() as u32;
        let listed = self.snap.hosts.entry(addr).or_insert_with(|| {
            let changes = &self.snap.changes;
            let host = match self.prev {
                None => Arc::new(Host::new(addr, Time::ZERO, changes.clone())),
                Some(prev) => match prev.host(addr) {
                    Some(host) => host.clone(),
                    None => Arc::new(Host::new(addr, self.now, changes.clone())),
                },
            };
            host.set_transport(transport.as_ref());
            Listed { host, service }
        });
        Endpoint {
            host: listed.host.clone(),
            weight: source.weight,
            unit: source.unit.map(|u| self.intern.text(u)),
            group: self.intern.text(source.group),
            labels: self.intern.labels(source.labels),
            transport,
        }
    }
}

impl Endpoint {
    pub(crate) fn traits(&self) -> Traits<'_> {
        Traits { group: &self.group, unit: self.unit.as_deref(), labels: &self.labels, weight: self.weight }
    }
}

fn next(ids: &mut u64) -> u64 {
    *ids += 1;
    *ids
}

fn same_programs(a: &[Arc<Program>], b: &[Arc<Program>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

fn same_endpoints(a: &[Endpoint], b: &[model::Endpoint]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_endpoint(a, b))
}

fn same_endpoint(a: &Endpoint, b: &model::Endpoint) -> bool {
    a.host.addr == b.address
        && a.weight == b.weight
        && *a.group == *b.group
        && a.unit.as_deref() == b.unit.as_deref()
        && *a.labels == b.labels
        && same_tls(a.transport.as_deref(), b.tls.as_ref())
}

/// Whether both say the same of TLS; app and unit are compared elsewhere.
fn same_tls(a: Option<&Transport>, b: Option<&model::EndpointTls>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => {
            a.required == b.required
                && a.ids.len() == b.ids.len()
                && a.ids.iter().zip(&b.ids).all(|(a, b)| **a == **b)
        }
        _ => false,
    }
}

/// Shares equal texts and labels between endpoints.
#[derive(Default)]
struct Intern {
    texts: HashMap<String, Arc<str>, RandomState>,
    none: Arc<Labels>,
    last: Arc<Labels>,
    transport: Option<Arc<Transport>>,
}

impl Intern {
    fn text(&mut self, text: String) -> Arc<str> {
        self.texts.entry(text).or_insert_with_key(|t| Arc::from(t.as_str())).clone()
    }

    /// Endpoints of one unit tend to follow one another, too.
    fn transport(&mut self, made: Option<Arc<Transport>>) -> Option<Arc<Transport>> {
        let made = made?;
        if self.transport.as_ref() != Some(&made) {
            self.transport = Some(made);
        }
        self.transport.clone()
    }

    /// Endpoints of one group tend to follow one another: comparing with the last one finds most.
    fn labels(&mut self, labels: Labels) -> Arc<Labels> {
        if labels.is_empty() {
            return self.none.clone();
        }
        if *self.last != labels {
            self.last = Arc::new(labels);
        }
        self.last.clone()
    }
}

/// Finds which of many targets a service is of, without asking each.
struct TargetIndex<'t> {
    targets: Vec<&'t model::Target>,
    by_service: HashMap<&'t str, Vec<usize>, RandomState>,
    by_app: HashMap<&'t str, Vec<usize>, RandomState>,
    everything: Vec<usize>,
}

impl<'t> TargetIndex<'t> {
    fn new(targets: impl Iterator<Item = &'t model::Target>) -> TargetIndex<'t> {
        let mut index = TargetIndex {
            targets: targets.collect(),
            by_service: HashMap::default(),
            by_app: HashMap::default(),
            everything: Vec::new(),
        };
        for (i, target) in index.targets.iter().enumerate() {
            if !target.services.is_empty() {
                for service in &target.services {
                    index.by_service.entry(service).or_default().push(i);
                }
            } else if let Some(app) = &target.app {
                index.by_app.entry(app).or_default().push(i);
            } else {
                index.everything.push(i);
            }
        }
        index
    }

    /// Those that reach the service, ascending.
    fn reaching(&self, service: &str, app: &str) -> Vec<usize> {
        let named = self.by_service.get(service).into_iter().flatten();
        let of_app = self.by_app.get(app).into_iter().flatten();
        let mut out: Vec<usize> = named
            .chain(of_app)
            .chain(&self.everything)
            .copied()
            .filter(|&i| self.targets[i].app.as_ref().is_none_or(|of| of == app))
            .collect();
        out.sort_unstable();
        out.dedup();
        out
    }
}

/// The policy that names the service wins over one that names its app, that over one for everything; among
/// equals the one with the narrower scope, then the first in file order.
fn most_specific(policies: &[Arc<Policy>], reaching: Vec<usize>) -> Option<Arc<Policy>> {
    let rank = |i: usize| {
        let (to, narrow) = (&policies[i].to, policies[i].scope.specificity());
        (to.services.is_empty(), to.app.is_none(), usize::MAX - narrow, i)
    };
    reaching.into_iter().min_by_key(|&i| rank(i)).map(|i| policies[i].clone())
}

fn unnamed() -> model::Sidecar {
    model::Sidecar {
        metadata: model::Metadata::default(),
        app: String::new(),
        unit: None,
        group: DEFAULT_GROUP.to_owned(),
        version: None,
        labels: Labels::new(),
        address: None,
        workers: None,
        admin: None,
        inbound: Vec::new(),
        outbound: Vec::new(),
        limits: model::Limits::default(),
        drain: model::Drain::default(),
        replies: model::Replies::default(),
        access_log: model::AccessLog::default(),
        control_plane: None,
        publish: None,
        local_mesh: None,
        identity: None,
    }
}
