//! What the local app publishes and subscribes to, behind the local mesh API.
use super::handle::{AppInfo, Endpoint, Identity, Lookup, MeshError, MeshHandle};
use super::link::{Ask, Link};
use crate::shared::Shared;
use raddle_core::Protocol;
use raddle_model::Published;
use raddle_policy::Snapshot;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// Most services an app publishes, and most it subscribes to.
const MOST: usize = 10_000;
/// Longest name, most metadata and the longest of it, as the registry takes them.
const NAME_LONGEST: usize = 512;
const METADATA_MOST: usize = 64;
const VALUE_LONGEST: usize = 4096;

/// The state, and the thread to tell of its changes.
pub(crate) struct LocalState {
    shared: Arc<Shared>,
    link: Arc<Link>,
    id: String,
    address: Option<IpAddr>,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    said: AppInfo,
    published: BTreeMap<String, Published>,
    subscribed: HashMap<String, Subscribed>,
    begun: Vec<String>,
    ended: Vec<String>,
}

struct Subscribed {
    times: u32,
    /// Revision of the service that was told last.
    revision: Option<u64>,
    told: watch::Sender<Lookup>,
}

impl LocalState {
    pub(crate) fn new(shared: Arc<Shared>, link: Arc<Link>, address: Option<IpAddr>) -> LocalState {
        let id = shared.config.load().sidecar.metadata.name.clone();
        LocalState { shared, link, id, address, inside: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The address callers connect to.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// Names that were subscribed to and given back since the last time.
    pub(crate) fn take_wishes(&self) -> (Vec<String>, Vec<String>) {
        let mut inside = self.lock();
        (std::mem::take(&mut inside.begun), std::mem::take(&mut inside.ended))
    }

    /// Tells subscribers what a new snapshot says.
    pub(crate) fn follow(&self, snapshot: &Snapshot) {
        for (name, s) in &mut self.lock().subscribed {
            let now = snapshot.service(name.as_bytes());
            let revision = now.map(|n| n.revision);
            if revision != s.revision {
                s.revision = revision;
                s.told.send_replace(now.map_or(Lookup::Unknown, |n| Lookup::Found(endpoints(n))));
            }
        }
    }

    /// Tells subscribers that there are no such services.
    pub(crate) fn missing(&self, names: &[Arc<str>]) {
        let mut inside = self.lock();
        for name in names {
            if let Some(s) = inside.subscribed.get_mut(&**name) {
                s.revision = None;
                s.told.send_replace(Lookup::Missing);
            }
        }
    }
}

fn endpoints(service: &raddle_policy::Service) -> Arc<[Endpoint]> {
    let endpoint = |e: &raddle_policy::Endpoint| Endpoint {
        address: e.host.addr,
        weight: e.weight,
        unit: e.unit.clone(),
        group: e.group.clone(),
        labels: e.labels.clone(),
    };
    service.endpoints.iter().map(endpoint).collect()
}

fn check_name(name: &str) -> Result<(), MeshError> {
    let fit = !name.is_empty()
        && name.len() <= NAME_LONGEST
        && !name.chars().any(|c| c.is_control() || c.is_whitespace());
    let problem = || format!("a service's name has 1..={NAME_LONGEST} bytes and no blanks");
    fit.then_some(()).ok_or_else(|| MeshError(problem()))
}

impl MeshHandle for LocalState {
    fn configure(&self, app: AppInfo) {
        let own = self.shared.config.load().sidecar.app.clone();
        if app.app.as_ref().is_some_and(|said| *said != own) {
            tracing::warn!(said = app.app, own, "the app calls itself otherwise; the sidecar's file holds");
        }
        self.lock().said = app;
    }

    fn identity(&self) -> Identity {
        let config = self.shared.config.load();
        Identity {
            id: self.id.clone(),
            app: config.sidecar.app.clone(),
            unit: config.sidecar.unit.clone(),
            address: self.address,
            said: self.lock().said.clone(),
        }
    }

    fn publish(&self, service: Published) -> Result<(), MeshError> {
        check_name(&service.name)?;
        let long = |(k, v): (&String, &String)| k.len() > VALUE_LONGEST || v.len() > VALUE_LONGEST;
        if service.metadata.len() > METADATA_MOST || service.metadata.iter().any(long) {
            let text = format!("at most {METADATA_MOST} entries of metadata, of {VALUE_LONGEST} bytes each");
            return Err(MeshError(text));
        }
        let mut inside = self.lock();
        if inside.published.len() >= MOST && !inside.published.contains_key(&service.name) {
            return Err(MeshError(format!("{MOST} services are published already")));
        }
        if inside.published.get(&service.name) != Some(&service) {
            inside.published.insert(service.name.clone(), service);
            drop(inside);
            self.link.ask(Ask::Local);
        }
        Ok(())
    }

    fn unpublish(&self, name: &str) -> bool {
        let was = self.lock().published.remove(name).is_some();
        if was {
            self.link.ask(Ask::Local);
        }
        was
    }

    fn acknowledged(&self) -> bool {
        self.link.view().publication.acknowledged
    }

    fn published(&self) -> Vec<Published> {
        self.lock().published.values().cloned().collect()
    }

    fn subscribe(&self, name: &str) -> Result<watch::Receiver<Lookup>, MeshError> {
        check_name(name)?;
        let mut inside = self.lock();
        if let Some(s) = inside.subscribed.get_mut(name) {
            s.times += 1;
            return Ok(s.told.subscribe());
        }
        if inside.subscribed.len() >= MOST {
            return Err(MeshError(format!("{MOST} services are subscribed to already")));
        }
        let config = self.shared.config.load();
        let known = config.snapshot.service(name.as_bytes());
        let lookup = known.map_or(Lookup::Unknown, |k| Lookup::Found(endpoints(k)));
        let (told, receiver) = watch::channel(lookup);
        let subscribed = Subscribed { times: 1, revision: known.map(|k| k.revision), told };
        inside.subscribed.insert(name.to_owned(), subscribed);
        inside.begun.push(name.to_owned());
        drop(inside);
        self.link.ask(Ask::Local);
        Ok(receiver)
    }

    fn unsubscribe(&self, name: &str) -> bool {
        let mut inside = self.lock();
        let Some(s) = inside.subscribed.get_mut(name) else { return false };
        s.times -= 1;
        if s.times == 0 {
            inside.subscribed.remove(name);
            inside.ended.push(name.to_owned());
            drop(inside);
            self.link.ask(Ask::Local);
        }
        true
    }

    fn outbound(&self, protocol: Option<Protocol>, port: u16) -> Option<SocketAddr> {
        let config = self.shared.config.load();
        let takes = |p: Option<Protocol>| p.is_none() || protocol.is_none() || p == protocol;
        let mut fit = config.sidecar.outbound.iter().filter(|l| takes(l.protocol)).map(|l| l.listen);
        let first = fit.clone().next()?;
        Some(fit.find(|l| l.port() == port).unwrap_or(first))
    }

    fn inbound(&self, app: Option<u16>) -> Option<u16> {
        let config = self.shared.config.load();
        let mut all = config.sidecar.inbound.iter();
        let found = match app {
            None => all.next(),
            Some(app) => all.find(|l| l.forward.is_none_or(|f| f.port() == app)),
        }?;
        // A listener that captures is not connected to: callers go to the app's port, and are led there.
        Some(match (app, found.forward) {
            (Some(app), None) => app,
            _ => found.listen.port(),
        })
    }
}
