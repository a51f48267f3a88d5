//! Directory and rules as xDS resources, and what each peer gets of them.
//!
//! [`Discovery`] is the catalog of the xDS server. `snapshot` is all there is at one generation, with what changed on
//! the way; `card` a service with its encoded resources; `view` what a sidecar sees of them, `foreign` what Envoy and
//! gRPC's clients do; [`slice`](mod@slice) which endpoints of a large service.
mod card;
mod foreign;
pub mod slice;
mod snapshot;
mod view;

pub use view::TRUST;

use crate::registry::Directory;
use crate::rules::RuleBook;
use raddle_xds::digest::digest;
use raddle_xds::proto::Node;
use raddle_xds::resource::Resource;
use raddle_xds::server::{Catalog, Peer, View};
use raddle_xds::translate::outward;
use raddle_xds::types::Kind;
use snapshot::Snapshot;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::watch;
use view::Seen;

/// The catalog: what the xDS server has its resources from. Clones are the same.
#[derive(Clone, Debug)]
pub struct Discovery {
    snapshot: Arc<RwLock<Arc<Snapshot>>>,
    generation: watch::Receiver<u64>,
    slice: usize,
}

/// What discovery is made of; each a value that changes.
#[derive(Clone, Debug)]
pub struct Sources {
    /// Who serves what.
    pub directory: watch::Receiver<Arc<Directory>>,
    /// The rules.
    pub rules: watch::Receiver<Arc<RuleBook>>,
    /// Roots in force, each DER; absent = there is no certificate authority.
    pub roots: Option<watch::Receiver<Arc<Vec<Vec<u8>>>>>,
}

impl Discovery {
    /// Follows its sources in a task of the caller's runtime. `slice`: endpoints a peer gets of each group of a large
    /// service; 0 = all.
    pub fn start(mut sources: Sources, slice: usize) -> Discovery {
        let first = step(&Snapshot::default(), &mut sources).unwrap_or_default();
        let (tell, generation) = watch::channel(first.generation);
        let snapshot = Arc::new(RwLock::new(Arc::new(first)));
        let shared = snapshot.clone();
        tokio::spawn(async move {
            while changed(&mut sources).await {
                let current = shared.read().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some(next) = step(&current, &mut sources) {
                    let generation = next.generation;
                    *shared.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
                    tell.send_replace(generation);
                }
            }
        });
        Discovery { snapshot, generation, slice }
    }

    /// The rules a node should run, by KIND/NAME and revision, if it has subscribed to these services.
    pub fn expected(&self, node: &Node, services: &dyn Fn(&str) -> bool) -> Vec<(Arc<str>, Arc<str>)> {
        let peer = Peer { node: node.clone(), ..Peer::default() };
        let seen = self.seen(peer);
        seen.rules(services).map(|r| (r.resource.name.clone(), r.hash.clone())).collect()
    }

    /// The digest a node should report. Another one is drift: it runs something else, or has not applied it yet.
    pub fn digest(&self, node: &Node, services: &dyn Fn(&str) -> bool) -> String {
        digest(self.expected(node, services))
    }

    fn seen(&self, peer: Peer) -> Seen {
        let snapshot = self.snapshot.read().unwrap_or_else(PoisonError::into_inner).clone();
        Seen { snapshot, peer, slice: self.slice }
    }
}

impl Catalog for Discovery {
    fn generation(&self) -> watch::Receiver<u64> {
        self.generation.clone()
    }

    fn view(&self, peer: &Peer) -> Box<dyn View> {
        Box::new(self.seen(peer.clone()))
    }
}

/// Waits until a source changes; false when the directory's is gone.
async fn changed(sources: &mut Sources) -> bool {
    let roots = async {
        match &mut sources.roots {
            Some(roots) if roots.has_changed().is_ok() => drop(roots.changed().await),
            _ => std::future::pending().await,
        }
    };
    let rules = async {
        if sources.rules.changed().await.is_err() {
            // Whoever told the rules is gone; what they told stays.
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        done = sources.directory.changed() => done.is_ok(),
        () = rules => true,
        () = roots => true,
    }
}

fn step(current: &Snapshot, sources: &mut Sources) -> Option<Snapshot> {
    let directory = sources.directory.borrow_and_update().clone();
    let rules = sources.rules.borrow_and_update().clone();
    let roots = sources.roots.as_mut().map(|r| r.borrow_and_update().clone());
    let trust = roots.filter(|r| !r.is_empty()).map(|roots| {
        let bundle = outward::trust_bundle(TRUST, &roots);
        Arc::new(Resource::new(Kind::Secret, TRUST, &bundle))
    });
    current.next(directory, rules, trust)
}
