//! A service as workers see it: its endpoints, the policy in force, the rules that concern it.
use crate::hash;
use crate::link::Transport;
use crate::permits;
use crate::route::Attributes;
use crate::route::plan::{DEFAULT_GROUP, Identity, Plan};
use crate::snapshot::host::{Changes, Host};
use crate::snapshot::policy::Policy;
use crate::snapshot::subset::Subset;
use raddle_core::{Protocol, Time};
use raddle_model::{HashOn, Labels};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// One instance of a service.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// Its address and health, shared by every service that lists it.
    pub host: Arc<Host>,
    /// Share among its peers; 0 = none at all.
    pub weight: u32,
    /// Deployment unit.
    pub unit: Option<Arc<str>>,
    /// Group.
    pub group: Arc<str>,
    /// Labels.
    pub labels: Arc<Labels>,
    /// Who is expected at the other end of a TLS connection; `None` = plaintext.
    pub transport: Option<Arc<Transport>>,
}

/// A service compiled for the workers. It is the same `Arc` in every snapshot in which nothing that
/// concerns it differs.
#[derive(Debug)]
pub struct Service {
    /// The name requests carry.
    pub name: Arc<str>,
    /// The application that publishes it.
    pub app: Arc<str>,
    /// Protocol of its endpoints; absent = the request's.
    pub protocol: Option<Protocol>,
    /// Further HTTP hosts that mean it.
    pub hosts: Box<[String]>,
    /// Its instances, in file order; indexes into it name endpoints everywhere.
    pub endpoints: Vec<Endpoint>,
    /// How it is called.
    pub policy: Arc<Policy>,
    /// Requests outstanding from this sidecar; keeps counting over configurations.
    pub outstanding: Arc<permits::Shared>,
    /// Stays with the name over configurations: key per-worker state of the service by it.
    pub id: u64,
    /// Differs for every compilation of the service: indexes and subsets of another revision mean nothing.
    pub revision: u64,
    pub(crate) plan: Plan,
    pub(crate) changes: Arc<Changes>,
}

/// Set in the ids of services that no snapshot has.
const ON_THE_FLY: u64 = 1 << 63;

impl Service {
    /// A service of one endpoint that no snapshot has: for connections that pass through to where they were
    /// meant to go. No rule or policy concerns it, and its host's state is its own.
    ///
    /// Its id is the same whenever it is made for the same address, and no service of a snapshot has it.
    pub fn single(name: &str, app: &str, addr: SocketAddr, protocol: Option<Protocol>) -> Arc<Service> {
        let changes = Arc::new(Changes::default());
        let endpoints = vec![Endpoint {
            host: Arc::new(Host::new(addr, Time::ZERO, changes.clone())),
            weight: 1,
            unit: None,
            group: Arc::from(DEFAULT_GROUP),
            labels: Arc::default(),
            transport: None,
        }];
        let policy = Arc::new(Policy::builtin());
        let id = ON_THE_FLY | id_of(addr);
        let plan = Plan::new(Vec::new(), &endpoints, &policy, &Identity::nobody(), &mut 0);
        Arc::new(Service {
            name: Arc::from(name),
            app: Arc::from(app),
            protocol,
            hosts: Box::default(),
            endpoints,
            policy,
            outstanding: Arc::default(),
            id,
            revision: id,
            plan,
            changes,
        })
    }

    /// Whether a rule or the policy looks at the method, so that it is worth looking for.
    pub fn needs_method(&self) -> bool {
        self.plan.needs_method
    }

    /// The hash of the request attribute the balancer hashes; absent if it hashes none or the request has
    /// none. It is the same in every sidecar.
    pub fn hash_key(&self, req: &impl Attributes) -> Option<u64> {
        self.policy.hash_on().and_then(|on| hash_of(on, req, 0))
    }

    /// Whether so few members of `subset` are healthy that their health is ignored.
    pub fn panics(&self, subset: &Subset) -> bool {
        let healthy = subset.counts(&self.endpoints, self.changes.count()).healthy;
        subset.panics(healthy, self.policy.settings.panic_threshold)
    }

    /// How many members of `subset` may take a request: not found unhealthy, not known to be unreachable.
    pub fn usable(&self, subset: &Subset) -> u32 {
        subset.counts(&self.endpoints, self.changes.count()).usable
    }

    /// The subset a request gets that no rule sends elsewhere, own unit preferred by policy.
    pub fn default_subset(&self) -> &Subset {
        self.near(&self.plan.default)
    }
}

/// A number for an address: of IPv4 exact, of IPv6 a hash of 62 bits.
fn id_of(addr: SocketAddr) -> u64 {
    const SIX: u64 = 1 << 62;
    match addr {
        SocketAddr::V4(v4) => u64::from(v4.ip().to_bits()) << 16 | u64::from(v4.port()),
        SocketAddr::V6(v6) => SIX | hash::stable(u64::from(v6.port()), &v6.ip().octets()) & (SIX - 1),
    }
}

/// The hash of a request attribute, the same in every sidecar.
pub(crate) fn hash_of(on: &HashOn, req: &impl Attributes, seed: u64) -> Option<u64> {
    match on {
        HashOn::Header(name) => req.header(name).map(|v| hash::stable(seed, v)),
        HashOn::Method => req.method().map(|v| hash::stable(seed, v)),
        HashOn::CallerIp => req.caller_ip().map(|ip| match ip {
            IpAddr::V4(ip) => hash::stable(seed, &ip.octets()),
            IpAddr::V6(ip) => hash::stable(seed, &ip.octets()),
        }),
    }
}
