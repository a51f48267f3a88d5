//! The client as a state machine: responses, wishes and time go in, messages and updates come out. It has no clock,
//! no socket and no chance.
mod lane;
mod message;
mod response;
mod turn;

#[cfg(test)]
pub(in crate::client) mod tests;

pub(crate) use message::{Message, Variant};

use super::assembly::Assembly;
use super::handle::{RefusedResource, Status};
use super::routing::Routing;
use super::sink::{Refused, Update};
use crate::types::Kind;
use bytes::Bytes;
use envoy_types::pb::envoy::config::core::v3::Node;
use lane::Lane;
use raddle_core::Time;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;
use turn::Turn;

/// State of the world: a name that nothing came for in this time does not exist. As gRPC's clients have it.
pub(crate) const MISSING_AFTER: Duration = Duration::from_secs(15);
/// Most services asked for by name.
pub(crate) const MOST_NAMES: usize = 100_000;
/// Most answers that wait to be sent, of one type; nothing more is read then.
const MOST_OWED: usize = 64;

/// Takes an update; gives back what it refuses.
pub(crate) type Apply<'a> = &'a mut dyn FnMut(Update) -> Vec<Refused>;

/// What a machine is told when it is made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    pub(crate) node: Node,
    pub(crate) rules: bool,
    pub(crate) roots: Option<Arc<str>>,
    pub(crate) listen: bool,
    pub(crate) unsubscribe_after: Duration,
    pub(crate) warm: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// A name of that kind counts as missing.
    Missing(Kind, Arc<str>),
    /// A cluster has waited long enough for its endpoints.
    Warm(Arc<str>),
    /// A route configuration has waited long enough for its clusters.
    WarmRoutes(Arc<str>),
    /// Nobody has wanted a service for long enough.
    Idle(Arc<str>),
}

/// A resource as the cache holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) kind: Kind,
    pub(crate) name: Arc<str>,
    pub(crate) version: Arc<str>,
    pub(crate) value: Bytes,
}

#[derive(Debug)]
pub(crate) struct Machine {
    settings: Settings,
    lanes: Vec<Lane>,
    variant: Option<Variant>,
    node_said: bool,
    assembly: Assembly,
    routing: Routing,
    timers: BTreeSet<(Time, Timer)>,
    /// Services nobody wants, and when they go.
    idle: HashMap<Arc<str>, Time>,
    missing: BTreeSet<Arc<str>>,
    /// Versions that changed since the last report.
    changes: Vec<(Kind, Arc<str>, Option<Arc<str>>)>,
    oddities: u64,
    delivered: bool,
    stale: bool,
}

impl Machine {
    pub(crate) fn new(settings: Settings) -> Machine {
        let wildcard = |kind| match kind {
            Kind::Rule => settings.rules,
            Kind::Cluster | Kind::Listener => settings.listen,
            Kind::Endpoints | Kind::Routes | Kind::Secret => false,
        };
        let mut lanes: Vec<Lane> =
            Kind::ALL.into_iter().map(|kind| Lane::new(kind, wildcard(kind))).collect();
        for lane in lanes.iter_mut().filter(|lane| lane.kind == Kind::Secret) {
            if let Some(roots) = &settings.roots {
                lane.add(roots);
            }
        }
        Machine {
            assembly: Assembly::new(settings.warm),
            routing: Routing::new(settings.warm),
            settings,
            lanes,
            variant: None,
            node_said: false,
            timers: BTreeSet::new(),
            idle: HashMap::new(),
            missing: BTreeSet::new(),
            changes: Vec::new(),
            oddities: 0,
            delivered: false,
            stale: false,
        }
    }

    /// A stream is open.
    pub(crate) fn connected(&mut self, variant: Variant) {
        self.variant = Some(variant);
        self.node_said = false;
        self.delivered = false;
        for lane in &mut self.lanes {
            lane.reset();
        }
    }

    /// The stream is gone. Everything stays as it is.
    pub(crate) fn disconnected(&mut self) {
        self.variant = None;
        for lane in &mut self.lanes {
            lane.pause();
        }
    }

    /// Whether the present stream, or the last, brought a response.
    pub(crate) fn delivered(&self) -> bool {
        self.delivered
    }

    /// Somebody uses a service, or nobody does any more.
    pub(crate) fn wish(&mut self, name: &Arc<str>, wanted: bool, now: Time) {
        if self.settings.listen {
            return;
        }
        if wanted {
            // A name of one star would mean all services there are.
            let fits = !name.is_empty() && &**name != "*" && name.len() <= 512;
            self.idle.remove(name);
            let known = self.lane(Kind::Cluster).names.contains_key(name);
            if fits && (known || self.lane(Kind::Cluster).names.len() < MOST_NAMES) {
                self.stale |= self.lane(Kind::Cluster).add(name);
            } else {
                self.oddities += 1;
            }
        } else if self.lane(Kind::Cluster).names.contains_key(name) && !self.idle.contains_key(name) {
            let at = now + self.settings.unsubscribe_after;
            self.idle.insert(Arc::clone(name), at);
            self.timers.insert((at, Timer::Idle(Arc::clone(name))));
        }
    }

    /// When [`Machine::tick`] has something to do.
    pub(crate) fn deadline(&self) -> Option<Time> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Does what time brings.
    pub(crate) fn tick(&mut self, now: Time, sink: Apply<'_>) {
        let mut turn = Turn::default();
        while let Some((at, _)) = self.timers.first()
            && *at <= now
            && let Some((at, timer)) = self.timers.pop_first()
        {
            match timer {
                Timer::Idle(name) => {
                    if self.idle.get(&name) == Some(&at) {
                        self.idle.remove(&name);
                        self.missing.remove(&name);
                        self.forget(Kind::Cluster, &name);
                        self.lane(Kind::Cluster).remove(&name);
                        self.assembly.remove_cluster(&name);
                    }
                }
                Timer::Warm(name) => self.assembly.expire(&name, now),
                Timer::WarmRoutes(name) => self.routing.expire(&name, now),
                Timer::Missing(kind, name) => {
                    let lane = self.lane(kind);
                    if let Some(asked) = lane.names.get_mut(&name)
                        && asked.deadline == Some(at)
                    {
                        asked.deadline = None;
                        if !lane.refused.contains_key(&name) {
                            self.missing(kind, &name, &mut turn);
                        }
                    }
                }
            }
        }
        self.flush(turn, sink);
    }

    /// The next message to send, if there is one.
    pub(crate) fn next_message(&mut self, now: Time) -> Option<Message> {
        let variant = self.variant?;
        let after = now + MISSING_AFTER;
        let ask = self.lanes.iter_mut().find_map(|lane| match variant {
            Variant::Delta => lane.next_delta(),
            Variant::Sotw => lane.next_sotw(after),
        })?;
        for name in &ask.awaited {
            self.timers.insert((after, Timer::Missing(ask.kind, Arc::clone(name))));
        }
        let node = (!std::mem::replace(&mut self.node_said, true)).then(|| self.settings.node.clone());
        Some(ask.into_message(variant, node))
    }

    /// Whether there is a message to send.
    pub(crate) fn speaks(&self) -> bool {
        self.variant.is_some() && self.lanes.iter().any(Lane::speaks)
    }

    /// Whether another response may be read: not while too many wait for their answer.
    pub(crate) fn listens(&self) -> bool {
        self.lanes.iter().all(|lane| lane.owed() < MOST_OWED)
    }

    /// Begins with what a cache held. Nothing of it is told to a server as refused; it is just not used.
    pub(crate) fn restore(&mut self, names: &[Arc<str>], stored: Vec<Stored>, now: Time, sink: Apply<'_>) {
        for name in names {
            // Wanted until it shows that nobody does.
            self.wish(name, true, now);
            self.wish(name, false, now);
        }
        let mut turn = Turn { cached: true, ..Turn::default() };
        for kind in Kind::ALL {
            for entry in stored.iter().filter(|entry| entry.kind == kind && kind != Kind::Secret) {
                if self.lane(kind).subscribed(&entry.name) {
                    let taken = self.take(kind, &entry.name, &entry.version, &entry.value, now, &mut turn);
                    if let Err(reason) = taken {
                        tracing::warn!(
                            kind = kind.name(),
                            name = &*entry.name,
                            reason,
                            "cached resource not used"
                        );
                    }
                }
            }
            // What this kind needs of later ones.
            self.follow();
        }
        turn.kind = None;
        self.flush(turn, sink);
        for lane in &mut self.lanes {
            lane.refused.clear();
        }
    }

    /// What a cache shall hold: names asked for, and resources in force. Secrets are never among them.
    pub(crate) fn stored(&self) -> (Vec<Arc<str>>, Vec<Stored>) {
        let lanes = self.lanes.iter().filter(|lane| lane.kind != Kind::Secret);
        let stored = lanes.flat_map(|lane| {
            lane.held.iter().map(|(name, held)| Stored {
                kind: lane.kind,
                name: Arc::clone(name),
                version: Arc::clone(&held.version),
                value: held.value.clone(),
            })
        });
        (self.lanes[Kind::Cluster as usize].names.keys().cloned().collect(), stored.collect())
    }

    /// Whether what [`Machine::stored`] gives has changed since this was asked last.
    pub(crate) fn stale(&mut self) -> bool {
        std::mem::take(&mut self.stale)
    }

    /// Brings a status up to date.
    pub(crate) fn report(&mut self, status: &mut Status) {
        for (kind, name, version) in self.changes.drain(..) {
            let versions = status.versions.entry(kind).or_default();
            match version {
                Some(version) => versions.insert(name, version),
                None => versions.remove(&name),
            };
        }
        status.versions.retain(|_, versions| !versions.is_empty());
        status.missing = self.missing.iter().cloned().collect();
        let of = |lane: &Lane| {
            let kind = lane.kind;
            let one = move |(name, refusal): (&Arc<str>, &lane::Refusal)| RefusedResource {
                kind,
                name: Arc::clone(name),
                version: Arc::clone(&refusal.version),
                reason: refusal.reason.clone(),
            };
            lane.refused.iter().map(one).collect::<Vec<_>>()
        };
        status.refused = self.lanes.iter().flat_map(of).collect();
        status.oddities = self.oddities;
    }

    fn lane(&mut self, kind: Kind) -> &mut Lane {
        // `Kind::ALL` has the kinds in the order of their declaration, and `new` made a lane of each.
        &mut self.lanes[kind as usize]
    }
}
