//! A service and its resources, each encoded when first asked for and then the same for everybody.
use crate::registry::{Endpoint, Listed};
use raddle_model::PolicySettings;
use raddle_xds::resource::Resource;
use raddle_xds::translate::outward::{self, Subset};
use raddle_xds::translate::{EndpointView, ServiceView};
use raddle_xds::types::Kind;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Variants of a service's resources that are kept; beyond, they are made anew each time.
const VARIANTS: usize = 64;

/// A service at one moment, with what was encoded of it.
#[derive(Debug)]
pub(super) struct Card {
    pub(super) listed: Arc<Listed>,
    cluster: OnceLock<Arc<Resource>>,
    endpoints: OnceLock<Arc<Resource>>,
    /// Resources that not every peer gets alike, by kind, name and what they depend on.
    variants: Mutex<HashMap<(Kind, String, u64), Arc<Resource>>>,
}

impl Card {
    pub(super) fn new(listed: Arc<Listed>) -> Card {
        Card { listed, cluster: OnceLock::new(), endpoints: OnceLock::new(), variants: Mutex::default() }
    }

    /// CDS as sidecars get it: their policies come as rules.
    pub(super) fn cluster(&self) -> Arc<Resource> {
        let make = || {
            let cluster = outward::cluster(&self.view(&[]), &PolicySettings::default());
            Arc::new(Resource::new(Kind::Cluster, self.listed.name.clone(), &cluster))
        };
        self.cluster.get_or_init(make).clone()
    }

    /// EDS, whole.
    pub(super) fn endpoints(&self) -> Arc<Resource> {
        let make = || {
            let all: Vec<&Endpoint> = self.listed.endpoints.iter().collect();
            Arc::new(Resource::new(
                Kind::Endpoints,
                self.listed.name.clone(),
                &outward::endpoints(&self.view(&all)),
            ))
        };
        self.endpoints.get_or_init(make).clone()
    }

    /// EDS, a part that is one peer's only.
    pub(super) fn slice(&self, chosen: &[&Endpoint]) -> Arc<Resource> {
        let assignment = outward::endpoints(&self.view(chosen));
        Arc::new(Resource::new(Kind::Endpoints, self.listed.name.clone(), &assignment))
    }

    /// EDS of a subset, for clients that make none by themselves.
    pub(super) fn subset(&self, subset: &Subset) -> Arc<Resource> {
        let name = subset.name(&self.listed.name);
        self.variant(Kind::Endpoints, &name, 0, || {
            let all: Vec<&Endpoint> = self.listed.endpoints.iter().collect();
            Resource::new(Kind::Endpoints, name.clone(), &outward::subset_endpoints(&self.view(&all), subset))
        })
    }

    /// A resource that depends on something beside the service; `on` is a hash of that.
    pub(super) fn variant(
        &self,
        kind: Kind,
        name: &str,
        on: u64,
        make: impl FnOnce() -> Resource,
    ) -> Arc<Resource> {
        let id = (kind, name.to_owned(), on);
        if let Some(made) = self.variants.lock().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return made.clone();
        }
        let made = Arc::new(make());
        let mut variants = self.variants.lock().unwrap_or_else(PoisonError::into_inner);
        if variants.len() >= VARIANTS {
            variants.clear();
        }
        variants.insert(id, made.clone());
        made
    }

    /// The service with these of its endpoints, as it is translated.
    pub(super) fn view<'a>(&'a self, endpoints: &[&'a Endpoint]) -> ServiceView<'a> {
        let listed = &*self.listed;
        ServiceView {
            name: &listed.name,
            app: &listed.app,
            protocol: &listed.protocol,
            hosts: &listed.hosts,
            metadata: &listed.metadata,
            endpoints: endpoints.iter().map(|e| endpoint(e)).collect(),
        }
    }
}

fn endpoint(e: &Endpoint) -> EndpointView<'_> {
    let i = &*e.instance;
    EndpointView {
        instance: &i.id,
        address: i.address,
        port: e.port,
        weight: i.weight,
        unit: &i.unit,
        group: &i.group,
        version: &i.version,
        labels: &i.labels,
        tls: i.tls,
        tls_required: i.tls_required,
        kept: e.kept,
    }
}
