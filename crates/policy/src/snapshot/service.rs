//! A service as workers see it: its endpoints, the policy in force, the rules that concern it.
use crate::hash;
use crate::permits;
use crate::route::{Attributes, plan::Plan};
use crate::snapshot::host::{Changes, Host};
use crate::snapshot::policy::Policy;
use crate::snapshot::subset::Subset;
use raddle_core::Protocol;
use raddle_model::{HashOn, Labels};
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

impl Service {
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

/// The hash of a request attribute, the same in every sidecar.
pub(crate) fn hash_of(on: &HashOn, req: &impl Attributes, seed: u64) -> Option<u64> {
    match on {
        HashOn::Header(name) => req.header(name).map(|v| hash::stable(seed, v)),
        HashOn::Method => req.method().map(|v| hash::stable(seed, v)),
        HashOn::CallerIp => req.caller_ip().map(|ip| match ip {
            std::net::IpAddr::V4(ip) => hash::stable(seed, &ip.octets()),
            std::net::IpAddr::V6(ip) => hash::stable(seed, &ip.octets()),
        }),
    }
}
