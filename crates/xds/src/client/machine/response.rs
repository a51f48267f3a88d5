//! What a response does.
use super::lane::{Lane, Refusal};
use super::message::{Answer, Incoming, Raw, Told};
use super::turn::Turn;
use super::{Apply, Machine, lane::Held};
use crate::proto::Refused;
use crate::translate::inward;
use crate::types::Kind;
use raddle_core::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Most refused resources told in one answer, and most bytes of it.
const MOST_TOLD: usize = 64;
const LONGEST_TOLD: usize = 16 << 10;
/// Most refused resources remembered of one type.
const MOST_REFUSED: usize = 4096;

impl Machine {
    /// Takes a response: what is good in it is applied, what is not is refused by name.
    pub(crate) fn response(&mut self, incoming: impl Into<Incoming>, now: Time, sink: Apply<'_>) {
        let mut incoming = incoming.into();
        let Some(kind) = Kind::of(&incoming.type_url) else {
            self.oddities += 1;
            return;
        };
        self.lane(kind).received(&incoming.nonce);
        if !self.lane(kind).opened() {
            // Never asked for: an answer would be a subscription, with an empty list even one to everything.
            self.oddities += 1;
            return;
        }
        self.delivered = true;
        let mut turn = Turn { kind: Some(kind), ..Turn::default() };
        let sorted = self.sort(kind, std::mem::take(&mut incoming.resources), &mut turn);
        let present: BTreeSet<Arc<str>> =
            sorted.named.keys().cloned().chain(sorted.refused.iter().cloned()).collect();
        for (name, raw) in sorted.named {
            self.resource(kind, &name, raw, now, &mut turn);
        }
        self.removals(kind, &incoming, &present, sorted.unreadable, &mut turn);
        let turn = self.flush(turn, sink);
        let lane = self.lane(kind);
        let refused = told(lane, &turn.faults);
        if refused.is_none() && incoming.whole {
            lane.version = incoming.version;
        }
        lane.answer(Answer { nonce: incoming.nonce, refused });
    }

    /// Gives every resource its name, and sets aside what has none or is there twice.
    fn sort(&mut self, kind: Kind, resources: Vec<Raw>, turn: &mut Turn) -> Sorted {
        let mut sorted = Sorted::default();
        for (i, raw) in resources.into_iter().enumerate() {
            let inner = if raw.empty { None } else { inward::name_of(kind, &raw.value) };
            let Some(name) = raw.name.as_deref().or(inner.as_deref()).map(Arc::<str>::from) else {
                sorted.unreadable = true;
                turn.faults.push((None, format!("resources[{i}] has no name that can be read")));
                continue;
            };
            let fault = if !raw.empty && raw.type_url != kind.type_url() {
                Some(format!("is a {:?}", raw.type_url))
            } else if inner.as_deref().is_some_and(|inner| inner != &*name) {
                Some(format!("holds {:?}", inner.unwrap_or_default()))
            } else {
                match sorted.named.get(&name) {
                    Some(first) if first.value != raw.value => {
                        Some("is there twice, with different content".into())
                    }
                    Some(_) => {
                        self.oddities += 1;
                        continue;
                    }
                    None if sorted.refused.contains(&name) => continue,
                    None => None,
                }
            };
            match fault {
                Some(reason) => {
                    sorted.named.remove(&name);
                    self.refuse(kind, &name, &raw.version, reason, turn);
                    sorted.refused.insert(name);
                }
                None => drop(sorted.named.insert(name, raw)),
            }
        }
        sorted
    }

    fn resource(&mut self, kind: Kind, name: &Arc<str>, raw: Raw, now: Time, turn: &mut Turn) {
        if !self.lane(kind).subscribed(name) {
            // Unsubscribed while it was on its way, or a server that sends everything to everybody.
            self.oddities += 1;
            return;
        }
        let held = self.lane(kind).held.get(name);
        let unchanged = held.is_some_and(|held| raw.empty || held.value == raw.value);
        if unchanged {
            let value = held.map(|held| held.value.clone()).unwrap_or_default();
            let moved = held.is_some_and(|held| held.version != raw.version);
            self.lane(kind).refused.remove(name);
            if moved {
                self.hold(kind, name, Held { version: raw.version, value });
            }
            return;
        }
        if raw.empty {
            return;
        }
        if let Err(reason) = self.take(kind, name, &raw.version, &raw.value, now, turn) {
            self.refuse(kind, name, &raw.version, reason, turn);
        }
    }

    fn refuse(&mut self, kind: Kind, name: &Arc<str>, version: &Arc<str>, reason: String, turn: &mut Turn) {
        let lane = self.lane(kind);
        if let Some(asked) = lane.names.get_mut(name) {
            // It exists, though it is of no use.
            asked.deadline = None;
        }
        if lane.refused.len() < MOST_REFUSED || lane.refused.contains_key(name) {
            let refusal = Refusal { version: Arc::clone(version), reason: reason.clone() };
            lane.refused.insert(Arc::clone(name), refusal);
        }
        turn.faults.push((Some(Arc::clone(name)), reason));
    }

    fn removals(
        &mut self,
        kind: Kind,
        incoming: &Incoming,
        present: &BTreeSet<Arc<str>>,
        unreadable: bool,
        turn: &mut Turn,
    ) {
        for name in &incoming.removed {
            let name: Arc<str> = name.as_str().into();
            if self.lane(kind).subscribed(&name) && !present.contains(&name) {
                self.remove(kind, &name, turn);
            }
        }
        // One that cannot be read may be any of those that seem to be absent.
        if incoming.whole && kind.whole() && !unreadable {
            let lane = self.lane(kind);
            let known = lane.held.keys().chain(lane.refused.keys());
            let absent: BTreeSet<Arc<str>> = known.filter(|name| !present.contains(*name)).cloned().collect();
            for name in absent {
                self.remove(kind, &name, turn);
            }
        }
        for (name, code, message) in &incoming.errors {
            const NOT_FOUND: i32 = 5;
            let name: Arc<str> = name.as_str().into();
            if !self.lane(kind).subscribed(&name) || present.contains(&name) {
                continue;
            }
            if *code == NOT_FOUND {
                self.remove(kind, &name, turn);
            } else {
                let lane = self.lane(kind);
                if lane.refused.len() < MOST_REFUSED {
                    let reason = format!("the server cannot give it: {message}");
                    lane.refused.insert(name, Refusal { version: "".into(), reason });
                }
            }
        }
    }
}

#[derive(Debug, Default)]
struct Sorted {
    named: BTreeMap<Arc<str>, Raw>,
    refused: BTreeSet<Arc<str>>,
    /// Whether there was one of which not even the name is known.
    unreadable: bool,
}

/// A refusal: every resource with its reason, as far as there is room.
fn told(lane: &Lane, faults: &[(Option<Arc<str>>, String)]) -> Option<Told> {
    if faults.is_empty() {
        return None;
    }
    let mut out = Told::default();
    for (n, (name, reason)) in faults.iter().enumerate() {
        if n == MOST_TOLD || out.message.len() > LONGEST_TOLD {
            out.message.push_str(&format!("; and {} more", faults.len() - n));
            break;
        }
        let gap = if n == 0 { "" } else { "; " };
        let what = lane.kind.name();
        match name {
            Some(name) => out.message.push_str(&format!("{gap}{what} {name}: {reason}")),
            None => out.message.push_str(&format!("{gap}{what}: {reason}")),
        }
        out.named.extend(name.as_ref().map(|name| Refused {
            type_url: lane.kind.type_url().into(),
            name: name.to_string(),
            version: lane.refused.get(name).map(|r| r.version.to_string()).unwrap_or_default(),
            reason: reason.clone(),
        }));
    }
    Some(out)
}
