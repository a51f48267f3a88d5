//! What lies in the store, told to the book; and the directory it makes, told to everybody.
use super::book::{Book, Published};
use super::fixed::fix;
use super::merge::Merge;
use super::metrics::Counters;
use super::service::{Publications, REQUEST, Shared, WITHDRAWN};
use super::writer::Writer;
use super::{Directory, Instance, Protection};
use crate::keys;
use raddle_core::Time;
use raddle_store::{
    Change, Entry, Expect, Follow, Following, LeaseId, Mirror, Op, Outcome, Store, StoreError, Txn,
};
use raddle_xds::proto::registry_server::RegistryServer;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

/// How often the book looks whether what it keeps may go.
const TICK: Duration = Duration::from_millis(250);
/// Most orphaned sets removed in one commit.
const ORPHANS: usize = 100;

/// How a registry runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How long a publication stays after its stream has ended.
    pub grace: Duration,
    /// Self-protection.
    pub protection: Protection,
    /// Most publication streams.
    pub streams: usize,
    /// Services that are there without being published.
    pub fixed: Vec<raddle_model::Service>,
}

impl Default for Settings {
    fn default() -> Settings {
        let grace = Duration::from_secs(15);
        Settings { grace, protection: Protection::default(), streams: 100_000, fixed: Vec::new() }
    }
}

/// The registry: takes publications, and tells who serves what. Clones are the same.
#[derive(Clone, Debug)]
pub struct Registry {
    directory: watch::Receiver<Arc<Directory>>,
    commands: mpsc::Sender<Command>,
    publications: Publications,
    store: Arc<dyn Store>,
    ending: Arc<watch::Sender<bool>>,
}

#[derive(Debug)]
enum Command {
    Release(Option<Arc<str>>),
    Orphans(Duration, oneshot::Sender<Vec<Entry>>),
    Fixed(Vec<raddle_model::Service>),
}

impl Registry {
    /// Begins following the store, and waits until all that lies in it is known. `lease` is the replica's; while it is
    /// `None` nothing is written.
    pub async fn start(
        store: Arc<dyn Store>,
        lease: watch::Receiver<Option<LeaseId>>,
        settings: Settings,
    ) -> Registry {
        let (end, ending) = watch::channel(false);
        let (tell, mut directory) = watch::channel(None);
        let (commands, orders) = mpsc::channel(16);
        let counters: Arc<Counters> = Arc::default();
        let known: Arc<Mutex<HashSet<Arc<str>>>> = Arc::default();
        let shared = Shared {
            writer: Writer::start(store.clone(), counters.clone()),
            lease,
            grace: settings.grace,
            places: Arc::new(Semaphore::new(settings.streams)),
            counters: counters.clone(),
            known: known.clone(),
            ending,
        };
        let clock = Instant::now();
        let mut book = Book::new(settings.protection, Time::ZERO);
        fix(&mut book, &[], &settings.fixed);
        let follower = Follower {
            clock,
            book,
            merge: Merge::default(),
            fixed: settings.fixed,
            known,
            counters,
            orphaned: HashMap::new(),
        };
        let instances = Follow::start(store.clone(), keys::INSTANCES);
        let services = Follow::start(store.clone(), keys::SERVICES);
        tokio::spawn(follower.run(instances, services, orders, tell));
        // The task tells the first directory or ends with the runtime.
        let _ = directory.wait_for(Option::is_some).await;
        let (tell, told) = watch::channel(directory.borrow().clone().unwrap_or_default());
        tokio::spawn(async move {
            while directory.changed().await.is_ok() {
                if let Some(next) = directory.borrow_and_update().clone() {
                    let _ = tell.send(next);
                }
            }
        });
        let publications = Publications { shared: Arc::new(shared) };
        Registry { directory: told, commands, publications, store, ending: Arc::new(end) }
    }

    /// The directory in force.
    pub fn directory(&self) -> watch::Receiver<Arc<Directory>> {
        self.directory.clone()
    }

    /// The gRPC service.
    pub fn service(&self) -> RegistryServer<Publications> {
        RegistryServer::new(self.publications.clone()).max_decoding_message_size(REQUEST)
    }

    /// What it counts.
    pub fn counters(&self) -> &Counters {
        &self.publications.shared.counters
    }

    /// Lets go what self-protection keeps, of an app or of all.
    pub async fn release(&self, app: Option<&str>) {
        // Fails only when the process ends.
        let _ = self.commands.send(Command::Release(app.map(Into::into))).await;
    }

    /// Replaces the services that are there without being published.
    pub async fn set_fixed(&self, services: Vec<raddle_model::Service>) {
        let _ = self.commands.send(Command::Fixed(services)).await;
    }

    /// Removes service sets that no instance has had for `age`; gives their number. A job for the leader: while nobody
    /// uses a set, publishers write it anew, so that one removed too early is not missed.
    pub async fn collect(&self, age: Duration) -> Result<usize, StoreError> {
        let (tell, told) = oneshot::channel();
        let _ = self.commands.send(Command::Orphans(age, tell)).await;
        let orphans = told.await.unwrap_or_default();
        let mut removed = 0;
        for orphan in orphans {
            let expect = vec![(orphan.key.clone(), Expect::At(orphan.changed))];
            let ops = vec![Op::Delete { key: orphan.key }];
            let outcome = self.store.commit(Txn { expect, ops, relaxed: true }).await?;
            removed += usize::from(matches!(outcome, Outcome::Done(_)));
        }
        Ok(removed)
    }

    /// Ends all publication streams without taking anything back: the sidecars go elsewhere, or come back.
    pub fn end(&self) {
        self.ending.send_replace(true);
    }
}

struct Follower {
    clock: Instant,
    book: Book,
    merge: Merge,
    fixed: Vec<raddle_model::Service>,
    known: Arc<Mutex<HashSet<Arc<str>>>>,
    counters: Arc<Counters>,
    /// Sets nobody uses, and since when.
    orphaned: HashMap<(Arc<str>, Arc<str>), Time>,
}

impl Follower {
    fn now(&self) -> Time {
        Time::ZERO + self.clock.elapsed()
    }

    async fn run(
        mut self,
        mut instances: mpsc::Receiver<Following>,
        mut services: mpsc::Receiver<Following>,
        mut orders: mpsc::Receiver<Command>,
        tell: watch::Sender<Option<Arc<Directory>>>,
    ) {
        let (mut instance_mirror, mut service_mirror) = (Mirror::default(), Mirror::default());
        let (mut have_instances, mut have_services) = (false, false);
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let due = self.merge.due();
            let wait = due.map_or(TICK, |at| at.since(self.now()));
            tokio::select! {
                step = instances.recv() => {
                    let Some(step) = step else { return };
                    for change in instance_mirror.apply(step) {
                        self.instance(change);
                    }
                    have_instances = true;
                }
                step = services.recv() => {
                    let Some(step) = step else { return };
                    for change in service_mirror.apply(step) {
                        self.set(change);
                    }
                    have_services = true;
                }
                order = orders.recv() => match order {
                    Some(order) => self.order(order, &service_mirror),
                    None => return,
                },
                _ = tick.tick() => self.forget_used(),
                () = tokio::time::sleep(wait), if due.is_some() => {}
            }
            if !(have_instances && have_services) {
                continue;
            }
            let now = self.now();
            self.book.tick(now);
            if self.book.is_dirty() {
                self.merge.changed(now);
            }
            if tell.borrow().is_none() || self.merge.due().is_some_and(|at| at <= now) {
                self.tell(now, &tell);
            }
        }
    }

    fn tell(&mut self, now: Time, tell: &watch::Sender<Option<Arc<Directory>>>) {
        let published = self.book.publish();
        self.merge.told(now);
        self.mark_used();
        let first = tell.borrow().is_none();
        if let Some(directory) = published.or_else(|| first.then(|| self.book.directory().clone())) {
            self.counters.directories.fetch_add(1, Relaxed);
            tell.send_replace(Some(directory));
        }
    }

    fn instance(&mut self, change: Change) {
        match change {
            Change::Put(entry) => {
                let Some((app, id)) = split(&entry.key, keys::INSTANCES) else { return };
                if &*entry.value == WITHDRAWN {
                    return self.book.withdraw(app, id);
                }
                match serde_json::from_slice::<Instance>(&entry.value) {
                    Ok(instance) if &*instance.app == app && &*instance.id == id => self.book.put(instance),
                    Ok(_) => tracing::warn!("{}: it holds another instance; it is ignored", entry.key),
                    Err(e) => tracing::warn!("{}: not an instance, it is ignored: {e}", entry.key),
                }
            }
            Change::Delete(key) => {
                let Some((app, id)) = split(&key, keys::INSTANCES) else { return };
                self.book.vanish(self.now(), app, id);
            }
        }
    }

    fn set(&mut self, change: Change) {
        match change {
            Change::Put(entry) => {
                let Some((app, hash)) = split(&entry.key, keys::SERVICES) else { return };
                match serde_json::from_slice::<Vec<Published>>(&entry.value) {
                    Ok(set) => self.book.put_set(&app.into(), &hash.into(), set.into()),
                    Err(e) => tracing::warn!("{}: not a set of services, it is ignored: {e}", entry.key),
                }
            }
            Change::Delete(key) => {
                let Some((app, hash)) = split(&key, keys::SERVICES) else { return };
                self.book.delete_set(app, hash);
            }
        }
    }

    fn order(&mut self, order: Command, services: &Mirror) {
        match order {
            Command::Release(app) => self.book.release(app.as_deref()),
            Command::Fixed(services) => {
                fix(&mut self.book, &self.fixed, &services);
                self.fixed = services;
            }
            Command::Orphans(age, tell) => {
                let now = self.now();
                let old = self.orphaned.iter().filter(|(_, since)| now.since(**since) >= age).take(ORPHANS);
                let entries = old.filter_map(|((app, hash), _)| {
                    services.entries().get(&*format!("{}{app}/{hash}", keys::SERVICES)).cloned()
                });
                // Whoever asked may have gone.
                let _ = tell.send(entries.collect());
            }
        }
    }

    /// Which sets need not be written again.
    fn mark_used(&self) {
        let used = self.book.sets().filter(|(_, _, used)| *used);
        let used = used.map(|(app, hash, _)| format!("{app}/{hash}").into()).collect();
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = used;
    }

    /// Since when sets are not used.
    fn forget_used(&mut self) {
        let now = self.now();
        let mut orphaned = HashMap::new();
        for (app, hash, used) in self.book.sets() {
            if !used {
                let id = (app.clone(), hash.clone());
                let since = self.orphaned.get(&id).copied().unwrap_or(now);
                orphaned.insert(id, since);
            }
        }
        self.orphaned = orphaned;
    }
}

fn split<'a>(key: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    key.strip_prefix(prefix)?.split_once('/')
}
