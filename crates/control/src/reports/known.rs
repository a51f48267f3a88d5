//! Who calls whom, as the other parts ask for it; and what the reports need of those: whose an address is, and where
//! events go.
use super::edges::{AppLinks, CallerLink};
use super::{Reports, now};
use crate::events::Events;
use crate::registry::{Directory, Instance};
use crate::rules::{Callers, PlaintextCaller, Seen};
use raddle_model::Scope;
use raddle_xds::proto::ReportRequest;
use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How long it may take until a new instance's address is known.
const STALE: Duration = Duration::from_secs(2);
/// Events are told no more often than this, so that what happens at the same time is one of them.
const TELL: Duration = Duration::from_millis(500);

/// Apps by address; `None` = several have it.
type Apps = HashMap<IpAddr, Option<Arc<str>>>;

/// What the reports know of the rest of the control plane.
#[derive(Default)]
pub(super) struct Known {
    rest: OnceLock<(Events, watch::Receiver<Arc<Directory>>)>,
    addresses: Mutex<(Option<Instant>, Arc<Apps>)>,
    told: Mutex<Option<Instant>>,
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").finish_non_exhaustive()
    }
}

impl Reports {
    /// Names callers by the directory's addresses from now on, and tells what happens to links.
    pub fn know(self: &Arc<Reports>, events: Events, directory: watch::Receiver<Arc<Directory>>) {
        let follow = directory.clone();
        if self.known.rest.set((events, directory)).is_ok() {
            tokio::spawn(follow_instances(Arc::downgrade(self), follow));
        }
    }

    /// Who calls an app.
    pub fn links(&self, app: &str) -> AppLinks {
        self.state().edges.of(app, now())
    }

    /// The apps of which callers are known.
    pub fn called(&self) -> Vec<Arc<str>> {
        self.state().edges.apps()
    }

    /// Whose the addresses of callers are that nobody named.
    pub(super) fn whose(&self, report: &ReportRequest) -> HashMap<String, Arc<str>> {
        let unknown = report.edges.iter().filter(|e| e.caller.is_empty() && !e.address.is_empty());
        let mut unknown = unknown.map(|e| &e.address).peekable();
        if unknown.peek().is_none() {
            return HashMap::new();
        }
        let addresses = self.addresses();
        let app = |address: &String| {
            let ip: IpAddr = address.parse().ok()?;
            Some((address.clone(), addresses.get(&ip.to_canonical())?.clone()?))
        };
        unknown.filter_map(app).collect()
    }

    /// App by address; `None` = several apps have it.
    fn addresses(&self) -> Arc<HashMap<IpAddr, Option<Arc<str>>>> {
        let mut known = self.known.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if known.0.is_some_and(|at| at.elapsed() < STALE) {
            return known.1.clone();
        }
        let mut all: HashMap<IpAddr, Option<Arc<str>>> = HashMap::new();
        let mut add = |ip: IpAddr, app: &Arc<str>| {
            let one = all.entry(ip.to_canonical()).or_insert_with(|| Some(app.clone()));
            if one.as_ref().is_some_and(|other| other != app) {
                *one = None;
            }
        };
        if let Some((_, directory)) = self.known.rest.get() {
            let directory = directory.borrow().clone();
            directory.apps.values().flat_map(|a| a.instances.values()).for_each(|i| add(i.address, &i.app));
        }
        // Who only calls publishes nothing, and reports all the same.
        for node in self.nodes() {
            if let Ok(ip) = node.node.address.parse() {
                add(ip, &node.node.app.as_str().into());
            }
        }
        *known = (Some(Instant::now()), Arc::new(all));
        known.1.clone()
    }

    /// Looks at what is over, and tells what happened.
    pub(super) fn story(&self) {
        {
            let mut told = self.known.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.is_some_and(|at| at.elapsed() < TELL) {
                return;
            }
            *told = Some(Instant::now());
        }
        let mut state = self.state();
        let ended = state.edges.tick(now());
        state.story.callers(ended);
        if let Some((events, _)) = self.known.rest.get()
            && state.story.waits()
        {
            state.story.tell(events);
        }
    }
}

impl Callers for Reports {
    fn plaintext(&self, scope: &Scope, within: Duration) -> Vec<PlaintextCaller> {
        let within = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let nodes = self.nodes();
        let apps: BTreeSet<&str> =
            nodes.iter().filter(|n| scope.covers(&Seen(&n.node))).map(|n| &*n.node.app).collect();
        let mut found = Vec::new();
        for app in apps {
            let links = self.links(app);
            let (_, all) = links.requests();
            let caller = |c: &CallerLink| PlaintextCaller {
                app: app.into(),
                caller: c.caller.clone(),
                addresses: c.addresses.keys().cloned().collect(),
                share: if all == 0 { 0.0 } else { c.requests as f64 / all as f64 },
                last: c.last,
            };
            found.extend(links.plaintext(within, now()).map(caller));
        }
        found
    }
}

/// Notes which of the instances whose sidecars report here begin to publish TLS, and which cease.
async fn follow_instances(reports: Weak<Reports>, mut directory: watch::Receiver<Arc<Directory>>) {
    let mut before = directory.borrow_and_update().clone();
    while directory.changed().await.is_ok() {
        let now = directory.borrow_and_update().clone();
        let Some(reports) = reports.upgrade() else { return };
        for (name, app) in &now.apps {
            let old = before.apps.get(name);
            if old.is_some_and(|old| Arc::ptr_eq(old, app)) {
                continue;
            }
            for instance in app.instances.values() {
                let was = old.and_then(|old| old.instances.get(&instance.id));
                if says(instance) != was.map_or((false, false), |was| says(was)) {
                    reports.switched(instance);
                }
            }
        }
        before = now;
    }
}

fn says(instance: &Instance) -> (bool, bool) {
    (instance.tls, instance.tls_required)
}

impl Reports {
    fn switched(&self, instance: &Instance) {
        let mut state = self.state();
        // The replica that has the sidecar tells.
        if state.node(&instance.id).is_none_or(|n| *n.replica != *self.replica) {
            return;
        }
        let (what, does) = match says(instance) {
            (false, _) => ("tlsWithdrawn", "callers are asked for plaintext"),
            (true, false) => ("tlsPublished", "callers are asked for TLS"),
            (true, true) => ("tlsPublished", "callers are asked for TLS, and nothing else"),
        };
        state.story.instance(&instance.app, what, does.to_owned(), &instance.id);
    }
}
