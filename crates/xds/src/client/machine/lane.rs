//! One type of resource on a stream: what is asked for, what is held, what is owed to the server.
use super::message::{Answer, Ask};
use crate::types::Kind;
use bytes::Bytes;
use raddle_core::Time;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// A resource in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) version: Arc<str>,
    pub(super) value: Bytes,
}

/// A resource that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) version: Arc<str>,
    pub(super) reason: String,
}

/// What is known of a name that was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Asked {
    /// When it counts as missing, if nothing comes; state of the world only.
    pub(super) deadline: Option<Time>,
    /// Whether the server says that it does not exist.
    pub(super) missing: bool,
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) kind: Kind,
    wildcard: bool,
    pub(super) names: BTreeMap<Arc<str>, Asked>,
    pub(super) held: BTreeMap<Arc<str>, Held>,
    pub(super) refused: BTreeMap<Arc<str>, Refusal>,
    /// State of the world: the last version that was taken. It survives streams; nonces do not.
    pub(super) version: String,
    stream: Stream,
}

/// What was said on this stream.
#[derive(Debug, Default)]
struct Stream {
    opened: bool,
    /// Whether a name was ever said: an empty list then means nothing, where it meant everything before.
    named: bool,
    said: BTreeSet<Arc<str>>,
    /// Names to be unsubscribed first, even if they are wanted again by now: else the server would think that
    /// nothing changed, and not send what was dropped here.
    leaving: BTreeSet<Arc<str>>,
    changed: bool,
    nonce: String,
    answers: VecDeque<Answer>,
}

impl Lane {
    pub(super) fn new(kind: Kind, wildcard: bool) -> Lane {
        Lane {
            kind,
            wildcard,
            names: BTreeMap::new(),
            held: BTreeMap::new(),
            refused: BTreeMap::new(),
            version: String::new(),
            stream: Stream::default(),
        }
    }

    /// A new stream: nothing was said on it yet.
    pub(super) fn reset(&mut self) {
        self.stream = Stream { changed: true, ..Stream::default() };
        self.pause();
    }

    /// Nothing can come, so nothing counts as missing.
    pub(super) fn pause(&mut self) {
        for asked in self.names.values_mut() {
            asked.deadline = None;
        }
    }

    /// Whether something was asked for on this stream.
    pub(super) fn opened(&self) -> bool {
        self.stream.opened
    }

    pub(super) fn subscribed(&self, name: &str) -> bool {
        self.wildcard || self.names.contains_key(name)
    }

    /// Asks for a name; whether that is new.
    pub(super) fn add(&mut self, name: &Arc<str>) -> bool {
        let new = !self.names.contains_key(name);
        if new {
            self.names.insert(Arc::clone(name), Asked::default());
            self.stream.changed = true;
        }
        new
    }

    /// Asks no more, and forgets what was held of it.
    pub(super) fn remove(&mut self, name: &str) {
        if let Some((name, _)) = self.names.remove_entry(name) {
            self.stream.changed = true;
            if self.stream.said.contains(&name) {
                self.stream.leaving.insert(name);
            }
        }
        if !self.wildcard {
            self.held.remove(name);
            self.refused.remove(name);
        }
    }

    /// A response came: its nonce is the latest. On a lane that was never opened that is all that is done with it.
    pub(super) fn received(&mut self, nonce: &str) {
        nonce.clone_into(&mut self.stream.nonce);
    }

    /// Owes the server an answer.
    pub(super) fn answer(&mut self, answer: Answer) {
        self.stream.answers.push_back(answer);
    }

    /// Answers that were not sent yet.
    pub(super) fn owed(&self) -> usize {
        self.stream.answers.len()
    }

    /// Whether there is something to say.
    pub(super) fn speaks(&self) -> bool {
        if !self.stream.opened {
            return self.wildcard || !self.names.is_empty();
        }
        self.stream.changed || !self.stream.answers.is_empty()
    }

    /// The next thing to say, incrementally.
    pub(super) fn next_delta(&mut self) -> Option<Ask> {
        if !self.speaks() {
            return None;
        }
        let first = !self.stream.opened;
        let leaving = std::mem::take(&mut self.stream.leaving);
        let fresh: Vec<Arc<str>> = if self.stream.changed {
            let new = |name: &&Arc<str>| !self.stream.said.contains(*name) && !leaving.contains(*name);
            self.names.keys().filter(new).cloned().collect()
        } else {
            Vec::new()
        };
        for name in &leaving {
            self.stream.said.remove(name);
        }
        self.stream.said.extend(fresh.iter().cloned());
        // What left and is wanted again goes into a message of its own.
        self.stream.changed = leaving.iter().any(|name| self.names.contains_key(name));
        let answer = self.stream.answers.pop_front();
        if !first && answer.is_none() && fresh.is_empty() && leaving.is_empty() {
            return self.next_delta();
        }
        let mut subscribe: Vec<String> = fresh.iter().map(ToString::to_string).collect();
        if first && self.wildcard && !subscribe.is_empty() {
            subscribe.insert(0, "*".into());
        }
        let initial = if first {
            self.held.iter().map(|(name, held)| (name.to_string(), held.version.to_string())).collect()
        } else {
            Vec::new()
        };
        self.stream.opened = true;
        let unsubscribe = leaving.iter().map(ToString::to_string).collect();
        Some(Ask { kind: self.kind, names: subscribe, unsubscribe, initial, answer, ..Ask::default() })
    }

    /// The next thing to say, as the state of the world. `missing_after` = when names said now count as missing.
    pub(super) fn next_sotw(&mut self, missing_after: Time) -> Option<Ask> {
        if !self.speaks() {
            return None;
        }
        let first = !self.stream.opened;
        let mut awaited = Vec::new();
        if self.stream.changed || first {
            let leaving = std::mem::take(&mut self.stream.leaving);
            let said: BTreeSet<Arc<str>> =
                self.names.keys().filter(|name| !leaving.contains(*name)).cloned().collect();
            self.stream.changed = said.len() != self.names.len();
            if !first && said == self.stream.said && self.stream.answers.is_empty() {
                return self.next_sotw(missing_after);
            }
            for name in said.difference(&self.stream.said) {
                if let Some(asked) = self.names.get_mut(name)
                    && !self.held.contains_key(name)
                {
                    asked.deadline = Some(missing_after);
                    awaited.push(Arc::clone(name));
                }
            }
            self.stream.said = said;
        }
        self.stream.opened = true;
        self.stream.named |= !self.stream.said.is_empty();
        let mut names: Vec<String> = self.stream.said.iter().map(ToString::to_string).collect();
        if self.wildcard && self.stream.named {
            names.insert(0, "*".into());
        }
        let answer = self.stream.answers.pop_front();
        let nonce = answer.as_ref().map_or(&self.stream.nonce, |answer| &answer.nonce).clone();
        let version = self.version.clone();
        Some(Ask { kind: self.kind, names, version, nonce, answer, awaited, ..Ask::default() })
    }
}
