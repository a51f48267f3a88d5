//! The state-of-the-world variant of one stream, without sockets or clocks.
//!
//! What must be sent follows from what is known: what the client wants, what it was given, what there is. So a lost
//! or late message changes when something is sent, never whether.
use super::options::Limits;
use super::refusals::{Refusals, Sent};
use super::response::{Response, Variant, resource_bytes};
use super::status::{KindInfo, Nacked};
use super::subscription::{ANY, Changed, Digest, Subscription, Suspects, Violation, check, index, suspect};
use super::{Event, View};
use crate::resource::Resource;
use crate::types::Kind;
use envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

type Resources = BTreeMap<Arc<str>, Arc<Resource>>;

/// A stream.
#[derive(Debug)]
pub struct Sotw {
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
    /// What the client was given, and (kinds that are sent whole) what it holds if it took the last response.
    given: Resources,
    digest: Digest,
    /// Names that must be sent whether they changed or not.
    owed: BTreeSet<Arc<str>>,
    /// Kinds that are sent whole: a response is due whether anything changed or not.
    due: bool,
    /// The response that waits for its acknowledgement.
    waiting: Option<Waiting>,
    /// Nonce of the last response; empty = none.
    nonce: String,
    /// Its version.
    version: String,
    acked: String,
    refusals: Refusals,
}

#[derive(Debug)]
struct Waiting {
    version: String,
    /// What of it was new to the client; where absence means nothing, that is all.
    fresh: Vec<Sent>,
}

/// What a request is to the last response of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The first of its kind on the stream, whatever its nonce: a client may have kept one of an older stream.
    First,
    /// It knows the last response.
    Current,
    /// It knows of no response though there was one: the client has lost its state of this kind.
    Lost,
    /// It crossed a response on its way.
    Stale,
}

impl Sotw {
    /// A stream whose nonces begin with `tag`.
    pub fn new(limits: Limits, identifier: Arc<str>, tag: String) -> Sotw {
        let kinds = std::array::from_fn(|_| State::default());
        Sotw { limits, identifier, tag, sequence: 0, generation: None, kinds }
    }

    /// Takes a request. A type the server does not know is passed over: this variant has no words for "none".
    pub fn request(
        &mut self,
        request: &DiscoveryRequest,
        view: &dyn View,
        now_ms: u64,
        out: &mut Vec<Response>,
    ) -> Result<Event, Violation> {
        let Some(kind) = Kind::of(&request.type_url) else { return Ok(Event::Unknown) };
        let others: usize =
            Kind::ALL.iter().filter(|k| **k != kind).map(|k| self.at(*k).sub.names.len()).sum();
        check(&self.limits, others, request.resource_names.iter())?;
        self.look(view);
        let state = &mut self.kinds[index(kind)];
        let standing = state.standing(&request.response_nonce);
        let event = state.acknowledge(kind, standing, request, now_ms);
        let changed = state.sub.replace(kind, &request.resource_names);
        state.resubscribe(kind, standing, &changed);
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

    fn look(&mut self, view: &dyn View) {
        let kinds = &mut self.kinds;
        let now = suspect(self.generation, view, |kind, name| match name {
            Some(name) => kinds[index(kind)].suspects.add(name),
            None => kinds[index(kind)].suspects = Suspects::everything(),
        });
        self.generation = Some(now);
    }

    /// Sends what is due: additions and changes in the order of dependence, then removals in reverse. A kind whose
    /// last response is not acknowledged yet waits, and so do changes of those after it; what a client has asked for
    /// and never got does not.
    fn pump(&mut self, view: &dyn View, out: &mut Vec<Response>) {
        let mut blocked = false;
        let mut breaking = Vec::new();
        for kind in Kind::ALL {
            let state = self.at(kind);
            if !state.suspects.any() && state.owed.is_empty() && !state.due {
                continue;
            }
            if kind.whole() {
                let target = self.target(kind, view);
                if self.make_whole(kind, &target, blocked, out) {
                    blocked = true;
                } else if self.at(kind).given.len() != target.len() {
                    breaking.push((kind, target));
                }
            } else {
                blocked |= self.make_part(kind, view, blocked, out);
            }
        }
        if blocked {
            // Their suspects are left as they are, so they will be looked at again.
            for (kind, _) in breaking {
                self.kinds[index(kind)].suspects = Suspects::everything();
            }
            return;
        }
        for (kind, target) in breaking.into_iter().rev() {
            let state = &mut self.kinds[index(kind)];
            if state.waiting.is_some() {
                state.suspects = Suspects::everything();
            } else {
                self.send_whole(kind, target, out);
            }
        }
    }

    /// Everything of a kind the client is to have.
    fn target(&self, kind: Kind, view: &dyn View) -> Resources {
        let sub = &self.at(kind).sub;
        let clusters = &self.at(Kind::Cluster).sub;
        let mut target: Resources = BTreeMap::new();
        if sub.wildcard {
            let all = view.all(kind, &|name| clusters.wants(name));
            target.extend(all.into_iter().map(|r| (Arc::clone(&r.name), r)));
        }
        for name in &sub.names {
            if let Some(resource) = view.get(kind, name) {
                target.insert(Arc::clone(name), resource);
            }
        }
        target
    }

    /// Sends a kind as a whole, together with what is to be removed, if anything was added or changed. True if it
    /// would have to and cannot yet.
    fn make_whole(&mut self, kind: Kind, target: &Resources, blocked: bool, out: &mut Vec<Response>) -> bool {
        let state = &mut self.kinds[index(kind)];
        let fresh =
            target.iter().any(|(name, r)| state.given.get(name).is_none_or(|g| g.version != r.version));
        if !fresh && !state.due {
            state.suspects = Suspects::default();
            return false;
        }
        if state.waiting.is_some() || (blocked && !state.due) {
            return true;
        }
        let mut union = state.given.clone();
        union.extend(target.iter().map(|(name, r)| (Arc::clone(name), Arc::clone(r))));
        self.send_whole(kind, union, out);
        false
    }

    fn send_whole(&mut self, kind: Kind, resources: Resources, out: &mut Vec<Response>) {
        let state = &mut self.kinds[index(kind)];
        let mut fresh = Vec::new();
        for (name, resource) in &resources {
            if state.given.get(name).is_none_or(|g| g.version != resource.version) {
                fresh.push((Arc::clone(name), Arc::clone(&resource.version)));
            }
        }
        state.digest = Digest::of(&resources);
        for name in state.given.keys().filter(|name| !resources.contains_key(*name)) {
            state.refusals.forget(name);
        }
        state.given = resources;
        state.due = false;
        state.owed.clear();
        state.suspects = Suspects::default();
        let list = state.given.values().cloned().collect();
        if kind == Kind::Cluster {
            self.owe_endpoints(&fresh);
        }
        self.send(kind, list, fresh, out);
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

    /// Sends what changed of a kind where absence means nothing. True if something has to wait.
    fn make_part(&mut self, kind: Kind, view: &dyn View, blocked: bool, out: &mut Vec<Response>) -> bool {
        let wanted = if self.at(kind).sub.wildcard { Some(self.target(kind, view)) } else { None };
        let state = &mut self.kinds[index(kind)];
        let (changed, gone) = state.compare(kind, wanted.as_ref(), view);
        for name in gone {
            state.drop_given(&name);
            state.owed.remove(&name);
        }
        let due: Vec<Arc<Resource>> =
            changed.into_iter().filter(|r| !blocked || state.owed.contains(&r.name)).collect();
        if due.is_empty() {
            if !blocked {
                state.suspects = Suspects::default();
            }
            return false;
        }
        if state.waiting.is_some() {
            return true;
        }
        let total = due.len();
        let mut bytes = 0;
        let list: Vec<Arc<Resource>> = due
            .into_iter()
            .take_while(|r| {
                let first = bytes == 0;
                bytes += resource_bytes(Variant::Sotw, r);
                first || bytes <= self.limits.response_bytes
            })
            .collect();
        let state = &mut self.kinds[index(kind)];
        let mut fresh = Vec::new();
        for resource in &list {
            state.owed.remove(&resource.name);
            state.drop_given(&resource.name);
            state.digest.add(&resource.name, &resource.version);
            state.given.insert(Arc::clone(&resource.name), Arc::clone(resource));
            fresh.push((Arc::clone(&resource.name), Arc::clone(&resource.version)));
        }
        let rest = list.len() < total;
        if !rest && !blocked {
            state.suspects = Suspects::default();
        }
        self.send(kind, list, fresh, out);
        rest
    }

    fn send(&mut self, kind: Kind, list: Vec<Arc<Resource>>, fresh: Vec<Sent>, out: &mut Vec<Response>) {
        self.sequence += 1;
        let nonce = format!("{}{}", self.tag, self.sequence);
        let state = &mut self.kinds[index(kind)];
        let version = state.digest.text();
        state.nonce.clone_from(&nonce);
        state.version.clone_from(&version);
        state.waiting = Some(Waiting { version: version.clone(), fresh });
        out.push(Response {
            variant: Variant::Sotw,
            kind: Some(kind),
            type_url: kind.type_url().into(),
            version,
            nonce,
            resources: list,
            removed: Vec::new(),
            identifier: Arc::clone(&self.identifier),
        });
    }
}

impl State {
    fn standing(&self, nonce: &str) -> Standing {
        if !self.sub.seen {
            Standing::First
        } else if nonce == self.nonce {
            Standing::Current
        } else if nonce.is_empty() {
            Standing::Lost
        } else {
            Standing::Stale
        }
    }

    /// Takes what a request says of the last response.
    fn acknowledge(
        &mut self,
        kind: Kind,
        standing: Standing,
        request: &DiscoveryRequest,
        now_ms: u64,
    ) -> Event {
        match standing {
            Standing::First => return Event::Subscribed { kind },
            Standing::Lost => {
                self.waiting = None;
                return Event::Subscribed { kind };
            }
            Standing::Stale => {
                // A client that unsubscribed while the response was on its way may never say anything about it.
                let names: HashSet<&str> = request.resource_names.iter().map(String::as_str).collect();
                let unwanted = |w: &Waiting| !w.fresh.iter().any(|(name, _)| names.contains(&**name));
                if !kind.whole() && !names.contains(ANY) && self.waiting.as_ref().is_some_and(unwanted) {
                    self.waiting = None;
                }
                return Event::Stale { kind };
            }
            Standing::Current => {}
        }
        let Some(waiting) = self.waiting.take() else { return Event::Subscribed { kind } };
        if let Some(detail) = &request.error_detail {
            let refused: Vec<Nacked> = self.refusals.refuse(detail, &waiting.fresh, now_ms);
            return Event::Nack { kind, version: waiting.version, refused, reason: detail.message.clone() };
        }
        if request.version_info != waiting.version {
            // The set of names has changed, and nothing is said of the response.
            return Event::Subscribed { kind };
        }
        if kind.whole() {
            self.refusals.clear();
        } else {
            self.refusals.accept(&waiting.fresh);
        }
        self.acked.clone_from(&waiting.version);
        Event::Ack { kind, version: waiting.version }
    }

    /// Takes what changed of the subscription.
    fn resubscribe(&mut self, kind: Kind, standing: Standing, changed: &Changed) {
        for name in &changed.dropped {
            self.owed.remove(name);
            self.refusals.forget(name);
            if !self.sub.wildcard {
                self.drop_given(name);
            }
        }
        if changed.wildcard_ended {
            let kept = std::mem::take(&mut self.given);
            self.given = kept.into_iter().filter(|(name, _)| self.sub.names.contains(name)).collect();
            self.digest = Digest::of(&self.given);
        }
        if changed.wildcard_began || (self.sub.wildcard && changed.any()) {
            self.suspects = Suspects::everything();
        }
        let again = matches!(standing, Standing::First | Standing::Lost);
        if kind.whole() {
            // The answer holds everything, so it is due as a whole; a client that wants nothing waits for none.
            self.due |= self.sub.active() && (again || changed.wildcard_began || !changed.added.is_empty());
            self.due &= self.sub.active();
        } else if again {
            self.owed.extend(self.sub.names.iter().cloned());
        } else {
            self.owed.extend(changed.added.iter().cloned());
        }
        if !self.sub.active() {
            self.waiting = None;
            self.suspects = Suspects::default();
        }
    }

    /// What of the wanted is owed or differs from what was given, and what is there no more.
    fn compare(
        &self,
        kind: Kind,
        wanted: Option<&Resources>,
        view: &dyn View,
    ) -> (Vec<Arc<Resource>>, Vec<Arc<str>>) {
        let mut names: BTreeSet<Arc<str>> = self.owed.clone();
        if let Some(wanted) = wanted {
            names.extend(wanted.keys().cloned());
            names.extend(self.given.keys().cloned());
        } else if self.suspects.all {
            names.extend(self.sub.names.iter().cloned());
        } else {
            names.extend(self.suspects.names.iter().filter(|n| self.sub.names.contains(*n)).cloned());
        }
        let mut changed = Vec::new();
        let mut gone = Vec::new();
        for name in names {
            let now = match wanted {
                Some(wanted) => wanted.get(&name).cloned(),
                None => view.get(kind, &name),
            };
            let Some(resource) = now else {
                gone.push(name);
                continue;
            };
            let same = self.given.get(&name).is_some_and(|g| g.version == resource.version);
            if !same || self.owed.contains(&name) {
                changed.push(resource);
            }
        }
        (changed, gone)
    }

    fn drop_given(&mut self, name: &str) {
        if let Some(resource) = self.given.remove(name) {
            self.digest.remove(name, &resource.version);
        }
    }

    fn info(&self, kind: Kind) -> KindInfo {
        KindInfo {
            kind: kind.name(),
            wildcard: self.sub.wildcard,
            names: self.sub.names.len(),
            resources: self.given.len(),
            sent: self.version.clone(),
            acked: self.acked.clone(),
            nacked: self.refusals.list(),
        }
    }
}
