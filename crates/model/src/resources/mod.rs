//! The resource kinds a static sidecar reads, as plain typed values.
//!
//! Everything here has been validated: a value that exists is a value that can run. The YAML behind it is
//! described field by field where it is decoded.
mod actions;
mod authorization;
mod limit;
mod link;
mod mesh;
mod policy;
mod rollout;
mod route;
mod scope;
mod service;
mod sidecar;

pub use actions::*;
pub use authorization::*;
pub use limit::*;
pub use link::*;
pub use mesh::*;
pub use policy::*;
pub use rollout::*;
pub use route::*;
pub use scope::*;
pub use service::*;
pub use sidecar::*;

use raddle_core::Protocol;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// Labels of an instance or resource.
pub type Labels = BTreeMap<String, String>;

/// Where a resource was read from, for messages (`shop.yaml:12:3`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Origin {
    /// Path of the file as it was named.
    pub file: String,
    /// 1-based line of the document's first key.
    pub line: u32,
    /// 1-based column.
    pub column: u32,
}

/// All resources of one static configuration.
#[derive(Clone, Debug, Default)]
pub struct Resources {
    /// The one sidecar document, if present.
    pub sidecar: Option<Sidecar>,
    /// Services, in file order; names are unique.
    pub services: Vec<Service>,
    /// Traffic policies, in file order; names are unique.
    pub policies: Vec<TrafficPolicy>,
    /// Routes, in file order; names are unique.
    pub routes: Vec<Route>,
    /// Certificates, in file order; names are unique.
    pub certificates: Vec<Certificate>,
    /// Rules of link encryption, in file order; names are unique.
    pub encryption: Vec<LinkEncryption>,
    /// Rules of authorization, in file order; names are unique.
    pub authorization: Vec<Authorization>,
    /// Rules of adaptive limiting, in file order; names are unique.
    pub adaptive: Vec<AdaptiveLimit>,
    /// Rate limits, in file order; names are unique.
    pub rates: Vec<RateLimit>,
    /// Circuit breakers, in file order; names are unique.
    pub breakers: Vec<CircuitBreaker>,
}

/// What every kind of rule has.
#[derive(Clone, Copy, Debug)]
pub struct RuleHead<'r> {
    /// Its kind, as files write it.
    pub kind: &'static str,
    /// Who it is.
    pub metadata: &'r Metadata,
    /// Which sidecars.
    pub scope: &'r Scope,
    /// How a change of it spreads.
    pub rollout: Option<&'r Rollout>,
    /// Which callee, for kinds of the callers' side that say one.
    pub target: Option<&'r Target>,
}

impl Resources {
    /// Adds the rules of another configuration.
    pub fn add_rules(&mut self, other: &Resources) {
        self.policies.extend_from_slice(&other.policies);
        self.routes.extend_from_slice(&other.routes);
        self.encryption.extend_from_slice(&other.encryption);
        self.authorization.extend_from_slice(&other.authorization);
        self.adaptive.extend_from_slice(&other.adaptive);
        self.rates.extend_from_slice(&other.rates);
        self.breakers.extend_from_slice(&other.breakers);
    }

    /// The heads of all rules, kind by kind.
    pub fn rules(&self) -> impl Iterator<Item = RuleHead<'_>> {
        macro_rules! heads {
            ($list:ident, $kind:literal $(, $to:ident)?) => {
                self.$list.iter().map(|r| RuleHead {
                    kind: $kind,
                    metadata: &r.metadata,
                    scope: &r.scope,
                    rollout: r.rollout.as_ref(),
                    target: None$(.or(Some(&r.$to)))?,
                })
            };
        }
        let routes = heads!(routes, "Route", to);
        let policies = heads!(policies, "TrafficPolicy", to);
        let links = heads!(encryption, "LinkEncryption");
        let access = heads!(authorization, "Authorization");
        let adaptive = heads!(adaptive, "AdaptiveLimit");
        let rates = heads!(rates, "RateLimit");
        let breakers = heads!(breakers, "CircuitBreaker");
        routes.chain(policies).chain(links).chain(access).chain(adaptive).chain(rates).chain(breakers)
    }
}

/// `metadata` of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// Unique among resources of its kind.
    pub name: String,
    /// Free labels.
    pub labels: Labels,
    /// Where it was read.
    #[serde(skip)]
    pub origin: Origin,
    /// Hash of the resource's decoded content: equal between two loads = unchanged, wherever it stands in its
    /// file. Filled by [`load`](crate::load()); means nothing across versions of Raddle.
    #[serde(skip)]
    pub fingerprint: u64,
}
/// `kind: Certificate`: files with a certificate chain and its key, for listeners that end TLS.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// Name that listeners give.
    pub metadata: Metadata,
    /// The certificate and those that vouch for it, PEM. A relative path was joined to the folder of the
    /// YAML file.
    pub certificate: PathBuf,
    /// Its private key, PEM; joined in the same way.
    pub key: PathBuf,
}

/// What a rule is about on the callee side; every given part must hold, all empty = everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The callee's app.
    pub app: Option<String>,
    /// Service names.
    pub services: Vec<String>,
    /// Methods.
    pub methods: Vec<String>,
}

// The signature is serde's.
#[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref)]
pub(crate) fn protocol<S: serde::Serializer>(p: &Option<Protocol>, s: S) -> Result<S::Ok, S::Error> {
    match p {
        Some(p) => s.serialize_str(p.name()),
        None => s.serialize_none(),
    }
}
