//! Who calls an app, and whether over TLS: what its instances' sidecars report, summed. Pure: time is passed in.
//!
//! A caller appears once encrypted and once in plaintext, for it may come both ways. One that nobody knows stands under
//! its address.
use raddle_xds::proto;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Callers kept of an app; beyond, the one that was silent longest goes.
const CALLERS: usize = 1_000;
/// Addresses kept of a caller.
pub(super) const ADDRESSES: usize = 64;
/// Requests are counted in so many slots of so many milliseconds: the last minute.
const SLOTS: usize = 12;
const SLOT: u64 = 5_000;
/// A caller that was silent for so long is forgotten, in milliseconds.
const KEEP: u64 = 24 * 3_600_000;
/// A caller that was silent for so long has ended, in milliseconds.
const SILENT: u64 = 60_000;

/// What is known of the calls to an app; in the store at `links/REPLICA/APP`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AppLinks {
    /// Its callers, those with the most requests first.
    pub callers: Vec<CallerLink>,
}

/// A caller of an app, encrypted or in plaintext.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CallerLink {
    /// Its app; empty = nobody knows.
    pub caller: Arc<str>,
    /// The app is not said by the caller, but known by its address.
    pub by_address: bool,
    /// Over TLS with a good certificate.
    pub encrypted: bool,
    /// Requests of the last minute.
    pub requests: u64,
    /// Connections open at the last report of each instance.
    pub connections: u64,
    /// When it was seen first, milliseconds since the Unix epoch.
    pub first: u64,
    /// When it was seen last.
    pub last: u64,
    /// Where it comes from, and when it was seen there last; at most 64.
    pub addresses: BTreeMap<String, u64>,
    /// SPIFFE id of its certificate; empty in plaintext.
    pub id: String,
}

/// Something of a switch that people want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Happened {
    /// A caller's first request in plaintext, or over TLS, since the app asks for TLS.
    Began { app: Arc<str>, caller: String, encrypted: bool },
    /// A caller has sent nothing in plaintext for a minute.
    Ended { app: Arc<str>, caller: String },
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    caller: Arc<str>,
    /// Of a caller that is not known.
    address: String,
    encrypted: bool,
}

impl Key {
    fn named(&self) -> String {
        if self.caller.is_empty() { self.address.clone() } else { self.caller.to_string() }
    }
}

#[derive(Debug, Default)]
struct Caller {
    link: CallerLink,
    slots: [(u64, u64); SLOTS],
    /// Its begin was told, and its end was not.
    told: bool,
}

impl Caller {
    fn count(&mut self, requests: u64, at: u64) {
        let slot = at / SLOT;
        let place = &mut self.slots[(slot % SLOTS as u64) as usize];
        if place.0 != slot {
            *place = (slot, 0);
        }
        place.1 = place.1.saturating_add(requests);
    }

    fn requests(&self, at: u64) -> u64 {
        let oldest = (at / SLOT).saturating_sub(SLOTS as u64 - 1);
        self.slots.iter().filter(|(slot, _)| *slot >= oldest).map(|(_, n)| n).sum()
    }
}

/// Calls to one app.
#[derive(Debug, Default)]
struct App {
    callers: BTreeMap<Key, Caller>,
    /// Connections by instance, as it said last.
    open: HashMap<Arc<str>, Vec<(Key, u32)>>,
    /// It asks for TLS: begins and ends are told.
    asks: bool,
}

/// Calls to all apps whose instances report here.
#[derive(Debug, Default)]
pub(super) struct Edges {
    apps: BTreeMap<Arc<str>, App>,
    /// What other replicas know, by app and replica.
    pub(super) told: BTreeMap<Arc<str>, BTreeMap<Arc<str>, AppLinks>>,
}

impl Edges {
    /// What an instance reports. `resolve` says whose an address is.
    pub(super) fn take(
        &mut self,
        app: &Arc<str>,
        instance: &Arc<str>,
        report: &proto::ReportRequest,
        at: u64,
        resolve: impl Fn(&str) -> Option<Arc<str>>,
    ) -> Vec<Happened> {
        let asks = report.encryption.as_ref().map(|e| matches!(&*e.mode, "permissive" | "strict"));
        if report.edges.is_empty() && !self.apps.contains_key(app) {
            return Vec::new();
        }
        let known = self.apps.entry(app.clone()).or_default();
        known.asks = asks.unwrap_or(known.asks);
        if !known.asks {
            known.callers.values_mut().for_each(|c| c.told = false);
        }
        let mut happened = Vec::new();
        let mut open = Vec::new();
        for edge in &report.edges {
            let key = known.take(edge, at, &resolve);
            if edge.connections > 0 {
                open.push((key.clone(), edge.connections));
            }
            let asks = known.asks;
            if let Some(caller) = known.callers.get_mut(&key)
                && asks
                && edge.requests > 0
                && !std::mem::replace(&mut caller.told, true)
            {
                let (app, caller) = (app.clone(), key.named());
                happened.push(Happened::Began { app, caller, encrypted: key.encrypted });
            }
        }
        known.open.insert(instance.clone(), open);
        happened
    }

    /// An instance reports no more.
    pub(super) fn forget(&mut self, app: &str, instance: &str) {
        if let Some(known) = self.apps.get_mut(app) {
            known.open.remove(instance);
        }
    }

    /// Forgets who was silent for long, and says who came in plaintext and does no more.
    pub(super) fn tick(&mut self, at: u64) -> Vec<Happened> {
        let mut happened = Vec::new();
        for (app, known) in &mut self.apps {
            for (key, caller) in known.callers.iter_mut().filter(|(k, c)| !k.encrypted && c.told) {
                if at.saturating_sub(caller.link.last) >= SILENT {
                    caller.told = false;
                    happened.push(Happened::Ended { app: app.clone(), caller: key.named() });
                }
            }
            known.callers.retain(|_, c| at.saturating_sub(c.link.last) < KEEP);
        }
        self.apps.retain(|_, known| !known.callers.is_empty() || !known.open.is_empty());
        happened
    }

    /// The apps that are known here.
    pub(super) fn own(&self) -> impl Iterator<Item = &Arc<str>> {
        self.apps.keys()
    }

    /// What this replica's sidecars say of an app.
    pub(super) fn of_own(&self, app: &str, at: u64) -> Option<AppLinks> {
        let known = self.apps.get(app)?;
        let mut connections: HashMap<&Key, u64> = HashMap::new();
        for (key, n) in known.open.values().flatten() {
            *connections.entry(key).or_default() += u64::from(*n);
        }
        let link = |(key, caller): (&Key, &Caller)| CallerLink {
            requests: caller.requests(at),
            connections: connections.get(key).copied().unwrap_or(0),
            ..caller.link.clone()
        };
        let mut callers: Vec<CallerLink> = known.callers.iter().map(link).collect();
        callers.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.caller.cmp(&b.caller)));
        Some(AppLinks { callers })
    }

    /// What all replicas' sidecars say of an app.
    pub(super) fn of(&self, app: &str, at: u64) -> AppLinks {
        let told = self.told.get(app).into_iter().flat_map(BTreeMap::values).cloned();
        let all = self.of_own(app, at).into_iter().chain(told);
        AppLinks { callers: merged(all.flat_map(|links| links.callers)) }
    }

    /// All apps that anybody knows callers of.
    pub(super) fn apps(&self) -> Vec<Arc<str>> {
        let mut all: Vec<Arc<str>> = self.apps.keys().chain(self.told.keys()).cloned().collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl App {
    fn take(&mut self, edge: &proto::Edge, at: u64, resolve: &impl Fn(&str) -> Option<Arc<str>>) -> Key {
        let found = if edge.caller.is_empty() { resolve(&edge.address) } else { None };
        let by_address = found.is_some();
        let caller: Arc<str> = found.unwrap_or_else(|| edge.caller.as_str().into());
        let address = if caller.is_empty() { edge.address.clone() } else { String::new() };
        let key = Key { caller: caller.clone(), address, encrypted: edge.encrypted };
        let last = at.saturating_sub(u64::from(edge.idle_s) * 1000);
        if !self.callers.contains_key(&key) && self.callers.len() >= CALLERS {
            let oldest = self.callers.iter().min_by_key(|(_, c)| c.link.last).map(|(k, _)| k.clone());
            oldest.and_then(|k| self.callers.remove(&k));
        }
        let known = self.callers.entry(key.clone()).or_default();
        known.count(edge.requests, at);
        let link = &mut known.link;
        (link.caller, link.encrypted) = (caller, edge.encrypted);
        link.by_address = by_address;
        link.first = if link.first == 0 { last } else { link.first };
        link.last = link.last.max(last);
        if !edge.id.is_empty() {
            link.id.clone_from(&edge.id);
        }
        seen_at(&mut link.addresses, &edge.address, last);
        key
    }
}

/// Notes an address; of too many the one that was silent longest goes.
fn seen_at(addresses: &mut BTreeMap<String, u64>, address: &str, at: u64) {
    if address.is_empty() {
        return;
    }
    if let Some(last) = addresses.get_mut(address) {
        *last = (*last).max(at);
        return;
    }
    if addresses.len() >= ADDRESSES {
        let oldest = addresses.iter().min_by_key(|(_, at)| **at).map(|(a, _)| a.clone());
        oldest.and_then(|a| addresses.remove(&a));
    }
    addresses.insert(address.to_owned(), at);
}

/// One entry for each caller and way, summed over replicas.
fn merged(all: impl Iterator<Item = CallerLink>) -> Vec<CallerLink> {
    let mut by: BTreeMap<(Arc<str>, bool, String), CallerLink> = BTreeMap::new();
    for link in all {
        let address = if link.caller.is_empty() { link.addresses.keys().next() } else { None };
        let key = (link.caller.clone(), link.encrypted, address.cloned().unwrap_or_default());
        let Some(sum) = by.get_mut(&key) else {
            by.insert(key, link);
            continue;
        };
        sum.requests += link.requests;
        sum.connections += link.connections;
        (sum.first, sum.last) = (sum.first.min(link.first), sum.last.max(link.last));
        sum.by_address |= link.by_address;
        link.addresses.iter().for_each(|(address, at)| seen_at(&mut sum.addresses, address, *at));
    }
    let mut all: Vec<CallerLink> = by.into_values().collect();
    all.sort_by(|a, b| b.requests.cmp(&a.requests).then_with(|| a.caller.cmp(&b.caller)));
    all
}

impl AppLinks {
    /// The callers in plaintext that were seen in the last so many milliseconds, or have a connection still: those
    /// for whom a sidecar does not carry out `strict`.
    pub fn plaintext(&self, within: u64, now: u64) -> impl Iterator<Item = &CallerLink> {
        let lately = move |c: &CallerLink| c.connections > 0 || now.saturating_sub(c.last) < within;
        self.callers.iter().filter(move |c| !c.encrypted && lately(c))
    }

    /// Requests of the last minute: encrypted, and all.
    pub fn requests(&self) -> (u64, u64) {
        let sum = |all: &mut dyn Iterator<Item = &CallerLink>| all.map(|c| c.requests).sum();
        (sum(&mut self.callers.iter().filter(|c| c.encrypted)), sum(&mut self.callers.iter()))
    }

    /// Connections: encrypted, and all.
    pub fn connections(&self) -> (u64, u64) {
        let sum = |all: &mut dyn Iterator<Item = &CallerLink>| all.map(|c| c.connections).sum();
        (sum(&mut self.callers.iter().filter(|c| c.encrypted)), sum(&mut self.callers.iter()))
    }
}

#[cfg(test)]
#[path = "edges_tests.rs"]
mod tests;
