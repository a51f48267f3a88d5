//! The incremental variant of one stream, without sockets or clocks.
//!
//! As in [`super::sotw`], what must be sent follows from what is wanted, what was given, and what there is.
use super::options::Limits;
use super::refusals::{Refusals, Sent};
use super::response::{Response, Variant, removal_bytes, resource_bytes};
use super::status::KindInfo;
use super::subscription::{ANY, Changed, Digest, Subscription, Suspects, Violation, check, index, suspect};
use super::{Event, View};
use crate::resource::Resource;
use crate::types::Kind;
use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// A stream.
#[derive(Debug)]
pub struct Delta {
    limits: Limits,
    identifier: Arc<str>,
    /// First part of every nonce, so that one of another stream is never taken for one of this.
    tag: String,
    sequence: u64,
    generation: Option<u64>,
    kinds: [State; Kind::ALL.len()],
}

/// One kind of resource on the stream.
#[derive(Debug, Default)]
struct State {
    sub: Subscription,
    suspects: Suspects,
    /// Version of what the client has; `None` = it was told that there is no such resource.
    given: BTreeMap<Arc<str>, Option<Arc<str>>>,
    digest: Digest,
    /// Names that must be answered whether they changed or not.
    owed: BTreeSet<Arc<str>>,
    /// A response is due even if there is nothing to say.
    due: bool,
    /// Responses that wait for their acknowledgement.
    flights: VecDeque<Flight>,
    /// Version of the last response.
    version: String,
    acked: String,
    refusals: Refusals,
}

#[derive(Debug)]
struct Flight {
    nonce: String,
    version: String,
    sent: Vec<Sent>,
}

/// What is to be said of a kind.
#[derive(Debug, Default)]
struct Due {
    resources: Vec<Arc<Resource>>,
    /// There is no such resource, and the client has asked.
    missing: Vec<Arc<str>>,
    /// The client has it, and it is no more.
    removed: Vec<Arc<str>>,
}

impl Delta {
    /// A stream whose nonces begin with `tag`.
    pub fn new(limits: Limits, identifier: Arc<str>, tag: String) -> Delta {
        let kinds = std::array::from_fn(|_| State::default());
        Delta { limits, identifier, tag, sequence: 0, generation: None, kinds }
    }

    /// Takes a request. Names of a type the server does not know are answered as missing.
    pub fn request(
        &mut self,
        request: &DeltaDiscoveryRequest,
        view: &dyn View,
        now_ms: u64,
        out: &mut Vec<Response>,
    ) -> Result<Event, Violation> {
        let Some(kind) = Kind::of(&request.type_url) else {
            check(&self.limits, 0, request.resource_names_subscribe.iter())?;
            self.answer_unknown(request, out);
            return Ok(Event::Unknown);
        };
        self.check(kind, request)?;
        self.look(view);
        let state = &mut self.kinds[index(kind)];
        let event = state.acknowledge(kind, request, now_ms);
        let first = !state.sub.seen;
        let changed =
            state.sub.amend(kind, &request.resource_names_subscribe, &request.resource_names_unsubscribe);
        if first {
            state.remember(request);
        }
        state.resubscribe(request, &changed, first);
        if kind == Kind::Cluster && changed.any() {
            self.kinds[index(Kind::Rule)].suspects = Suspects::everything();
        }
        self.pump(view, out);
        Ok(event)
    }

    /// Looks at a new generation.
    pub fn change(&mut self, view: &dyn View, out: &mut Vec<Response>) {
        self.look(view);
        self.pump(view, out);
    }

    /// How it stands with the kinds that were asked for.
    pub fn status(&self) -> Vec<KindInfo> {
        Kind::ALL.iter().filter(|k| self.at(**k).sub.seen).map(|k| self.at(*k).info(*k)).collect()
    }

    fn at(&self, kind: Kind) -> &State {
        &self.kinds[index(kind)]
    }

    fn check(&self, kind: Kind, request: &DeltaDiscoveryRequest) -> Result<(), Violation> {
        let state = self.at(kind);
        // A name that is subscribed to already costs nothing.
        let known =
            request.resource_names_subscribe.iter().filter(|n| state.sub.names.contains(n.as_str())).count();
        let kept: usize = self.kinds.iter().map(|s| s.sub.names.len()).sum();
        check(&self.limits, kept.saturating_sub(known), request.resource_names_subscribe.iter())?;
        check(&self.limits, state.owed.len(), request.resource_names_unsubscribe.iter())?;
        check(&self.limits, 0, request.initial_resource_versions.keys())
    }

    fn look(&mut self, view: &dyn View) {
        let kinds = &mut self.kinds;
        let now = suspect(self.generation, view, |kind, name| match name {
            // In a storm of changes nearly all are of what this client never asked for.
            Some(name) if !kinds[index(kind)].sub.wants(&name) => {}
            Some(name) => kinds[index(kind)].suspects.add(name),
            None => kinds[index(kind)].suspects = Suspects::everything(),
        });
        self.generation = Some(now);
    }

    /// Sends what is due: additions and changes in the order of dependence, then removals in reverse. A kind with as
    /// many unacknowledged responses as are allowed waits, and so do changes of those after it; what a client has
    /// asked for and never got does not.
    fn pump(&mut self, view: &dyn View, out: &mut Vec<Response>) {
        let mut blocked = false;
        let mut removals = Vec::new();
        for kind in Kind::ALL {
            let state = self.at(kind);
            if !state.suspects.any() && state.owed.is_empty() && !state.due {
                continue;
            }
            let mut due = self.compare(kind, view);
            let removed = std::mem::take(&mut due.removed);
            if blocked {
                due.resources.retain(|r| self.at(kind).owed.contains(&r.name));
            }
            let all = self.tell(kind, due, out);
            blocked |= !all;
            if !blocked && removed.is_empty() {
                self.kinds[index(kind)].suspects = Suspects::default();
            }
            if !removed.is_empty() {
                removals.push((kind, removed));
            }
        }
        if blocked {
            // What has suspects keeps them, and will be looked at again.
            return;
        }
        for (kind, removed) in removals.into_iter().rev() {
            if self.tell(kind, Due { removed, ..Due::default() }, out) {
                self.kinds[index(kind)].suspects = Suspects::default();
            }
        }
    }

    /// Compares what the client wants and was given with what there is.
    fn compare(&self, kind: Kind, view: &dyn View) -> Due {
        let state = self.at(kind);
        let clusters = &self.at(Kind::Cluster).sub;
        let look = state.suspects.any() || state.owed.iter().any(|n| !state.sub.names.contains(n));
        let wanted: Option<BTreeMap<Arc<str>, Arc<Resource>>> = (state.sub.wildcard && look).then(|| {
            let all = view.all(kind, &|name| clusters.wants(name));
            all.into_iter().map(|r| (Arc::clone(&r.name), r)).collect()
        });
        let mut names: BTreeSet<&Arc<str>> = state.owed.iter().collect();
        if let (Some(wanted), true) = (&wanted, state.suspects.any()) {
            names.extend(wanted.keys());
            names.extend(state.given.keys());
        }
        if state.suspects.all {
            names.extend(&state.sub.names);
        } else {
            names.extend(state.suspects.names.iter().filter(|n| state.sub.names.contains(*n)));
        }
        let mut due = Due::default();
        for name in names {
            let now = if state.sub.names.contains(name) {
                view.get(kind, name)
            } else {
                wanted.as_ref().and_then(|w| w.get(name).cloned())
            };
            let owed = state.owed.contains(name);
            match (now, state.given.get(name)) {
                (Some(r), Some(Some(version))) if *version == r.version && !owed => {}
                (Some(resource), _) => due.resources.push(resource),
                (None, _) if owed => due.missing.push(Arc::clone(name)),
                (None, Some(Some(_))) => due.removed.push(Arc::clone(name)),
                (None, _) => {}
            }
        }
        due
    }

    /// Sends, in as many responses as it takes and as may be under way. False if something is left.
    fn tell(&mut self, kind: Kind, due: Due, out: &mut Vec<Response>) -> bool {
        let mut resources = due.resources.into_iter().peekable();
        let mut gone = due.missing.into_iter().chain(due.removed).peekable();
        loop {
            let state = &self.kinds[index(kind)];
            if resources.peek().is_none() && gone.peek().is_none() && !state.due {
                return true;
            }
            if state.flights.len() >= self.limits.in_flight {
                return false;
            }
            let mut bytes = 0;
            let mut fits = |more: usize| {
                let first = bytes == 0;
                bytes += more;
                first || bytes <= self.limits.response_bytes
            };
            let mut list = Vec::new();
            while let Some(r) = resources.next_if(|r| fits(resource_bytes(Variant::Delta, r))) {
                list.push(r);
            }
            let mut removed = Vec::new();
            if resources.peek().is_none() {
                while let Some(name) = gone.next_if(|name| fits(removal_bytes(name))) {
                    removed.push(name);
                }
            }
            self.send(kind, list, removed, out);
        }
    }

    fn send(
        &mut self,
        kind: Kind,
        list: Vec<Arc<Resource>>,
        removed: Vec<Arc<str>>,
        out: &mut Vec<Response>,
    ) {
        self.sequence += 1;
        let nonce = format!("{}{}", self.tag, self.sequence);
        let state = &mut self.kinds[index(kind)];
        state.due = false;
        let mut sent = Vec::with_capacity(list.len());
        for resource in &list {
            state.owed.remove(&resource.name);
            state.give(Arc::clone(&resource.name), Some(Arc::clone(&resource.version)));
            sent.push((Arc::clone(&resource.name), Arc::clone(&resource.version)));
        }
        for name in &removed {
            state.owed.remove(name);
            state.refusals.forget(name);
            if state.sub.names.contains(name) {
                state.give(Arc::clone(name), None);
            } else {
                state.take(name);
            }
        }
        state.version = state.digest.text();
        let version = state.version.clone();
        if kind == Kind::Cluster && !sent.is_empty() {
            self.owe_endpoints(&sent);
            // Which rules concern a client depends on the apps of the services it has; rules come last.
            self.kinds[index(Kind::Rule)].suspects = Suspects::everything();
        }
        let state = &mut self.kinds[index(kind)];
        state.flights.push_back(Flight { nonce: nonce.clone(), version: version.clone(), sent });
        out.push(self.response(kind.type_url().into(), Some(kind), version, nonce, list, removed));
    }

    /// A client takes a changed cluster into use when its endpoints came after it; it may not ask for them again.
    fn owe_endpoints(&mut self, clusters: &[Sent]) {
        let endpoints = &mut self.kinds[index(Kind::Endpoints)];
        for (name, _) in clusters {
            if endpoints.sub.wants(name) {
                endpoints.owed.insert(Arc::clone(name));
            }
        }
    }

    fn answer_unknown(&mut self, request: &DeltaDiscoveryRequest, out: &mut Vec<Response>) {
        let removed: BTreeSet<Arc<str>> = request
            .resource_names_subscribe
            .iter()
            .filter(|n| *n != ANY)
            .map(|n| n.as_str().into())
            .collect();
        if removed.is_empty() {
            return;
        }
        self.sequence += 1;
        let nonce = format!("{}{}", self.tag, self.sequence);
        let url = request.type_url.clone().into();
        out.push(self.response(url, None, String::new(), nonce, Vec::new(), removed.into_iter().collect()));
    }

    fn response(
        &self,
        type_url: Cow<'static, str>,
        kind: Option<Kind>,
        version: String,
        nonce: String,
        resources: Vec<Arc<Resource>>,
        removed: Vec<Arc<str>>,
    ) -> Response {
        let identifier = Arc::clone(&self.identifier);
        Response { variant: Variant::Delta, kind, type_url, version, nonce, resources, removed, identifier }
    }
}

impl State {
    /// Takes what a request says of a response. A nonce nobody knows says nothing; the rest of its request counts.
    fn acknowledge(&mut self, kind: Kind, request: &DeltaDiscoveryRequest, now_ms: u64) -> Event {
        if request.response_nonce.is_empty() {
            return Event::Subscribed { kind };
        }
        let Some(at) = self.flights.iter().position(|f| f.nonce == request.response_nonce) else {
            return Event::Stale { kind };
        };
        let Some(flight) = self.flights.remove(at) else { return Event::Stale { kind } };
        let version = flight.version;
        if let Some(detail) = &request.error_detail {
            let refused = self.refusals.refuse(detail, &flight.sent, now_ms);
            return Event::Nack { kind, version, refused, reason: detail.message.clone() };
        }
        self.refusals.accept(&flight.sent);
        self.acked.clone_from(&version);
        Event::Ack { kind, version }
    }

    /// Takes what a client has from an earlier stream.
    fn remember(&mut self, request: &DeltaDiscoveryRequest) {
        for (name, version) in &request.initial_resource_versions {
            // What is no version of this server's is as good as none, and not worth keeping.
            let version = if version.len() > 64 { "" } else { version };
            if self.sub.wants(name) {
                self.give(name.as_str().into(), Some(version.into()));
            }
        }
        self.due = self.sub.wildcard || !request.initial_resource_versions.is_empty();
    }

    /// Takes what changed of the subscription.
    fn resubscribe(&mut self, request: &DeltaDiscoveryRequest, changed: &Changed, first: bool) {
        for name in &changed.dropped {
            self.refusals.forget(name);
            if self.sub.wildcard {
                // Whether the wildcard covers it is known here only, so the client must be told.
                self.owed.insert(Arc::clone(name));
            } else {
                self.owed.remove(name);
                self.take(name);
            }
        }
        if changed.wildcard_ended {
            let unwanted: Vec<_> =
                self.given.keys().filter(|name| !self.sub.names.contains(*name)).cloned().collect();
            for name in &unwanted {
                self.take(name);
            }
            self.owed.retain(|name| self.sub.names.contains(name));
        }
        if changed.wildcard_began {
            self.suspects = Suspects::everything();
            self.due = true;
        } else if !first && request.resource_names_subscribe.iter().any(|n| n == ANY) {
            self.owe_all();
        }
        for name in request.resource_names_subscribe.iter().filter(|n| *n != ANY) {
            // The name as the subscription keeps it, so that it is kept once.
            let Some(name) = self.sub.names.get(name.as_str()) else { continue };
            if !(first && self.given.contains_key(name)) {
                self.owed.insert(Arc::clone(name));
            }
        }
        if first {
            self.suspects = Suspects::everything();
        }
        if !self.sub.active() {
            self.suspects = Suspects::default();
            self.due &= first;
            // It may not care to acknowledge what it no longer wants.
            self.flights.clear();
        }
    }

    /// Makes everything the client has differ from what there is, so that it is sent again.
    fn owe_all(&mut self) {
        let unknown: Arc<str> = "".into();
        let had: Vec<Arc<str>> =
            self.given.iter().filter(|(_, v)| v.is_some()).map(|(n, _)| Arc::clone(n)).collect();
        for name in had {
            self.give(name, Some(Arc::clone(&unknown)));
        }
        self.suspects = Suspects::everything();
        self.due = true;
    }

    fn give(&mut self, name: Arc<str>, version: Option<Arc<str>>) {
        self.take(&name);
        if let Some(version) = &version {
            self.digest.add(&name, version);
        }
        self.given.insert(name, version);
    }

    fn take(&mut self, name: &str) {
        if let Some(Some(version)) = self.given.remove(name) {
            self.digest.remove(name, &version);
        }
    }

    fn info(&self, kind: Kind) -> KindInfo {
        KindInfo {
            kind: kind.name(),
            wildcard: self.sub.wildcard,
            names: self.sub.names.len(),
            resources: self.given.values().flatten().count(),
            sent: self.version.clone(),
            acked: self.acked.clone(),
            nacked: self.refusals.list(),
        }
    }
}
