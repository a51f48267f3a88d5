//! The book of instances and service sets: what the store tells goes in, a [`Directory`] comes out. Pure.
use super::guard::{Guard, Protection};
use super::{App, Directory, Endpoint, Instance, Listed};
use raddle_core::Time;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

/// A service as an app publishes it; an element of the sets under `services/APP/HASH`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Published {
    /// Its name.
    pub name: Arc<str>,
    /// Its protocol, as [`raddle_core::Protocol::name`] says it; empty = the request's.
    #[serde(default)]
    pub protocol: Arc<str>,
    /// Its port.
    pub port: u16,
    /// Further HTTP hosts.
    #[serde(default)]
    pub hosts: Vec<Arc<str>>,
    /// Framework metadata.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// The services that some instances of an app publish, sorted by name.
pub type ServiceSet = Arc<[Published]>;

/// What is known of an app.
#[derive(Debug, Default)]
struct Entry {
    live: BTreeMap<Arc<str>, Arc<Instance>>,
    /// Vanished, and still listed.
    kept: BTreeMap<Arc<str>, Arc<Instance>>,
    /// Vanished just now, in order, and still listed as if nothing were.
    leaving: VecDeque<(Time, Arc<Instance>)>,
    /// Vanished within the window, in order, and listed no more.
    vanished: VecDeque<(Time, Arc<Instance>)>,
    /// Listed instances by the hash of their set.
    members: HashMap<Arc<str>, BTreeMap<Arc<str>, Arc<Instance>>>,
    sets: HashMap<Arc<str>, ServiceSet>,
    /// Sets that are in the store no more; forgotten when the last member goes.
    stale: BTreeSet<Arc<str>>,
    guard: Guard,
    /// An operator let go what is kept.
    released: bool,
}

/// A service set: app and hash.
type SetId = (Arc<str>, Arc<str>);

/// The book.
#[derive(Debug)]
pub struct Book {
    rules: Protection,
    /// Nothing vanishes before.
    hold: Time,
    apps: BTreeMap<Arc<str>, Entry>,
    /// Which sets have a service.
    by_service: HashMap<Arc<str>, BTreeSet<SetId>>,
    guard: Guard,
    dirty_services: BTreeSet<Arc<str>>,
    dirty_apps: BTreeSet<Arc<str>>,
    current: Arc<Directory>,
}

impl Book {
    /// An empty one, of a control plane that starts now.
    pub fn new(rules: Protection, now: Time) -> Book {
        let hold = now + rules.grace;
        Book {
            rules,
            hold,
            apps: BTreeMap::new(),
            by_service: HashMap::new(),
            guard: Guard::default(),
            dirty_services: BTreeSet::new(),
            dirty_apps: BTreeSet::new(),
            current: Arc::default(),
        }
    }

    /// The directory as of the last [`Book::publish`].
    pub fn directory(&self) -> &Arc<Directory> {
        &self.current
    }

    /// Whether something changed since the last [`Book::publish`].
    pub fn is_dirty(&self) -> bool {
        !self.dirty_services.is_empty() || !self.dirty_apps.is_empty()
    }

    /// Whether [`Book::tick`] may have something to do later.
    pub fn is_waiting(&self) -> bool {
        self.guard.on() || self.apps.values().any(|e| e.guard.on() || !e.is_settled())
    }

    /// The ids of the instances that are there, by app.
    pub fn live(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>)> {
        self.apps.iter().flat_map(|(app, e)| e.live.keys().map(move |id| (app, id)))
    }

    /// All sets: app, hash, and whether a listed instance has it.
    pub fn sets(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, bool)> {
        self.apps.iter().flat_map(|(app, e)| e.sets.keys().map(move |h| (app, h, e.members.contains_key(h))))
    }

    /// Whether the set is known and used by a listed instance.
    pub fn uses(&self, app: &str, hash: &str) -> bool {
        self.apps.get(app).is_some_and(|e| e.sets.contains_key(hash) && e.members.contains_key(hash))
    }

    /// A service set is there.
    pub fn put_set(&mut self, app: &Arc<str>, hash: &Arc<str>, set: ServiceSet) {
        let entry = self.apps.entry(app.clone()).or_default();
        entry.stale.remove(hash);
        if entry.sets.get(hash) == Some(&set) {
            return;
        }
        if let Some(old) = entry.sets.insert(hash.clone(), set.clone()) {
            self.unlink(app, hash, &old);
        }
        for service in set.iter() {
            self.by_service.entry(service.name.clone()).or_default().insert((app.clone(), hash.clone()));
            self.dirty_services.insert(service.name.clone());
        }
    }

    /// A service set is in the store no more. While listed instances have it, it is remembered.
    pub fn delete_set(&mut self, app: &str, hash: &str) {
        let Some((app, entry)) = self.apps.get_key_value(app) else { return };
        let app = app.clone();
        if entry.members.contains_key(hash) {
            if let Some(entry) = self.apps.get_mut(&app) {
                entry.stale.insert(hash.into());
            }
            return;
        }
        self.forget_set(&app, hash);
    }

    fn forget_set(&mut self, app: &Arc<str>, hash: &str) {
        let Some(entry) = self.apps.get_mut(app) else { return };
        entry.stale.remove(hash);
        if let Some((hash, set)) = entry.sets.remove_entry(hash) {
            self.unlink(app, &hash, &set);
        }
    }

    fn unlink(&mut self, app: &Arc<str>, hash: &Arc<str>, set: &ServiceSet) {
        for service in set.iter() {
            if let Some(sets) = self.by_service.get_mut(&service.name) {
                sets.remove(&(app.clone(), hash.clone()));
                if sets.is_empty() {
                    self.by_service.remove(&service.name);
                }
            }
            self.dirty_services.insert(service.name.clone());
        }
    }

    /// An instance is there.
    pub fn put(&mut self, instance: Instance) {
        let (app, id) = (instance.app.clone(), instance.id.clone());
        let entry = self.apps.entry(app.clone()).or_default();
        entry.vanished.retain(|(_, i)| i.id != id);
        if entry.live.get(&id).is_some_and(|old| **old == instance) {
            return;
        }
        let old = entry.live.remove(&id).or_else(|| entry.kept.remove(&id)).or_else(|| entry.stop(&id));
        // What did not change stays the same object.
        let instance =
            old.as_ref().filter(|old| ***old == instance).cloned().unwrap_or_else(|| Arc::new(instance));
        if let Some(old) = old {
            self.unlist(&old);
        }
        if let Some(entry) = self.apps.get_mut(&app) {
            entry.live.insert(id, instance.clone());
        }
        self.list(&instance);
    }

    /// An instance says that it serves no more: it goes, whatever else is kept.
    pub fn withdraw(&mut self, app: &str, id: &str) {
        let Some(entry) = self.apps.get_mut(app) else { return };
        entry.vanished.retain(|(_, i)| &*i.id != id);
        let old = entry.live.remove(id).or_else(|| entry.kept.remove(id));
        if let Some(old) = old.or_else(|| entry.stop(id)) {
            self.unlist(&old);
        }
    }

    /// An instance is there no more, without having said so. Whether it is kept is decided by the next
    /// [`Book::tick`], which sees everything that vanished at once.
    pub fn vanish(&mut self, now: Time, app: &str, id: &str) {
        let Some(entry) = self.apps.get_mut(app) else { return };
        let Some(old) = entry.live.remove(id) else { return };
        if now < self.hold || entry.guard.on() || self.guard.on() {
            entry.kept.insert(old.id.clone(), old.clone());
            self.touch(&old);
        } else {
            entry.leaving.push_back((now, old));
        }
    }

    /// Looks whether protection of an app or of the mesh begins or ends, and does what follows. To be called after
    /// changes, and now and then while [`Book::is_waiting`].
    pub fn tick(&mut self, now: Time) {
        if now < self.hold {
            return;
        }
        let (mut live, mut gone) = (0, 0);
        let mut left = Vec::new();
        for (app, entry) in &mut self.apps {
            while entry.vanished.front().is_some_and(|(at, _)| now.since(*at) > self.rules.window) {
                entry.vanished.pop_front();
            }
            let lost = entry.kept.len() + entry.vanished.len() + entry.leaving.len();
            let was = entry.guard.on();
            if was != entry.guard.look(&self.rules, now, entry.live.len(), lost) {
                self.dirty_apps.insert(app.clone());
            }
            live += entry.live.len();
            gone += lost;
        }
        self.guard.look(&self.rules, now, live, gone);
        for entry in self.apps.values_mut().filter(|e| !self.guard.on() && !e.guard.on()) {
            while entry.leaving.front().is_some_and(|(at, _)| now.since(*at) >= self.rules.settle) {
                let Some((at, instance)) = entry.leaving.pop_front() else { break };
                entry.vanished.push_back((at, instance.clone()));
                left.push(instance);
            }
        }
        for instance in &left {
            self.unlist(instance);
        }
        self.settle();
    }

    /// An operator says that what protection keeps is really gone; of one app, or of the whole mesh.
    pub fn release(&mut self, app: Option<&str>) {
        if app.is_none() {
            self.guard.release();
        }
        for (name, entry) in &mut self.apps {
            if app.is_none_or(|app| app == &**name) {
                entry.guard.release();
                entry.vanished.clear();
                let leaving = entry.leaving.drain(..).map(|(_, i)| (i.id.clone(), i));
                entry.kept.extend(leaving);
                entry.released = true;
                self.dirty_apps.insert(name.clone());
            }
        }
        self.settle();
    }

    /// Lists what is kept, lets go what is not.
    fn settle(&mut self) {
        let (mut back, mut gone) = (Vec::new(), Vec::new());
        for entry in self.apps.values_mut() {
            let released = std::mem::take(&mut entry.released);
            if !released && (self.guard.on() || entry.guard.on()) {
                for (_, instance) in entry.vanished.drain(..).chain(entry.leaving.drain(..)) {
                    entry.kept.insert(instance.id.clone(), instance.clone());
                    back.push(instance);
                }
            } else {
                gone.extend(std::mem::take(&mut entry.kept).into_values());
            }
        }
        for instance in &back {
            self.list(instance);
        }
        for instance in &gone {
            self.unlist(instance);
        }
        self.apps.retain(|app, e| {
            let stays =
                !(e.live.is_empty() && e.kept.is_empty() && e.vanished.is_empty() && e.sets.is_empty());
            if !stays {
                self.dirty_apps.insert(app.clone());
            }
            stays
        });
    }

    fn list(&mut self, instance: &Arc<Instance>) {
        if let Some(entry) = self.apps.get_mut(&instance.app) {
            let members = entry.members.entry(instance.services.clone()).or_default();
            members.insert(instance.id.clone(), instance.clone());
        }
        self.touch(instance);
    }

    fn unlist(&mut self, instance: &Arc<Instance>) {
        self.touch(instance);
        let Some(entry) = self.apps.get_mut(&instance.app) else { return };
        let Some(members) = entry.members.get_mut(&instance.services) else { return };
        members.remove(&instance.id);
        if members.is_empty() {
            entry.members.remove(&instance.services);
            if entry.stale.contains(&instance.services) {
                self.forget_set(&instance.app, &instance.services);
            }
        }
    }

    /// Its app's and services' lists are to be made anew.
    fn touch(&mut self, instance: &Instance) {
        self.dirty_apps.insert(instance.app.clone());
        let set = self.apps.get(&instance.app).and_then(|e| e.sets.get(&instance.services));
        for service in set.iter().flat_map(|s| s.iter()) {
            self.dirty_services.insert(service.name.clone());
        }
    }

    /// The directory as of now; what did not change is the same object as before. `None` = nothing changed.
    pub fn publish(&mut self) -> Option<Arc<Directory>> {
        let mut next = (*self.current).clone();
        let mut changed = next.protected != self.guard.on();
        next.protected = self.guard.on();
        for name in std::mem::take(&mut self.dirty_services) {
            let listed = self.listed(&name);
            if next.services.get(&name).map(|l| &**l) == listed.as_ref() {
                continue;
            }
            changed = true;
            match listed {
                Some(listed) => next.services.insert(name, Arc::new(listed)),
                None => next.services.remove(&name),
            };
        }
        for name in std::mem::take(&mut self.dirty_apps) {
            let app = self.apps.get(&name).map(Entry::app).filter(|a| !a.instances.is_empty());
            if next.apps.get(&name).map(|a| &**a) == app.as_ref() {
                continue;
            }
            changed = true;
            match app {
                Some(app) => next.apps.insert(name, Arc::new(app)),
                None => next.apps.remove(&name),
            };
        }
        if !changed {
            return None;
        }
        next.generation += 1;
        self.current = Arc::new(next);
        Some(self.current.clone())
    }

    /// A service with its endpoints. It is there as long as a set that has it is, if need be without endpoints.
    fn listed(&self, name: &Arc<str>) -> Option<Listed> {
        let sets = self.by_service.get(name)?;
        let mut first: Option<(&Arc<str>, &Published)> = None;
        let mut endpoints = Vec::new();
        for (app, hash) in sets {
            let Some(entry) = self.apps.get(app) else { continue };
            let Some(service) = entry.sets.get(hash).and_then(|set| set.iter().find(|s| s.name == *name))
            else {
                continue;
            };
            let members = entry.members.get(hash);
            if first.is_none() || (members.is_some() && endpoints.is_empty()) {
                first = Some((app, service));
            }
            endpoints.extend(members.iter().flat_map(|m| m.values()).map(|instance| Endpoint {
                instance: instance.clone(),
                port: service.port,
                kept: entry.kept.contains_key(&instance.id),
            }));
        }
        let (app, service) = first?;
        endpoints.sort_by(|a, b| a.instance.id.cmp(&b.instance.id));
        Some(Listed {
            name: name.clone(),
            app: app.clone(),
            protocol: service.protocol.clone(),
            hosts: service.hosts.clone(),
            metadata: service.metadata.clone(),
            protected: endpoints.iter().any(|e| e.kept),
            endpoints,
        })
    }
}

impl Entry {
    /// Whether nothing is on its way out.
    fn is_settled(&self) -> bool {
        self.kept.is_empty() && self.vanished.is_empty() && self.leaving.is_empty()
    }

    /// Takes an instance from those that have just vanished.
    fn stop(&mut self, id: &str) -> Option<Arc<Instance>> {
        let at = self.leaving.iter().position(|(_, i)| &*i.id == id)?;
        self.leaving.remove(at).map(|(_, instance)| instance)
    }

    fn app(&self) -> App {
        App {
            instances: (self.live.values().chain(self.kept.values()))
                .chain(self.leaving.iter().map(|(_, i)| i))
                .map(|i| (i.id.clone(), i.clone()))
                .collect(),
            kept: self.kept.keys().cloned().collect(),
            protected: self.guard.on(),
        }
    }
}
