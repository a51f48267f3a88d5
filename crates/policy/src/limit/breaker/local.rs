//! A worker's part of the breakers.
use super::program::{MOST, Rule, Shared};
use super::target::{Answer, Target, Why};
use super::{Call, Event, Outcome};
use crate::limit::program::Cell;
use crate::limit::slab::Slab;
use crate::limit::{Again, Held, Rules};
use crate::rng::Rng;
use crate::route::Attributes;
use ahash::RandomState;
use raddle_core::Time;
use raddle_model::Forced;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Most changes kept for [`Breakers::events`].
const EVENTS: usize = 1000;

/// A worker's part of the breakers.
#[derive(Debug)]
pub struct Breakers {
    worker: usize,
    workers: usize,
    rules: Arc<Rules>,
    states: Vec<Known>,
    /// Where what is known of a rule is, by its id.
    place: HashMap<u32, u32, RandomState>,
    next_id: u32,
    calls: Slab<UnderWay>,
    taking: Vec<u32>,
    events: Vec<Event>,
}

/// What a worker knows of a rule.
#[derive(Debug)]
struct Known {
    /// Never another one's.
    id: u32,
    shared: Arc<Shared>,
    cell: Arc<Cell>,
    by_key: HashMap<u64, u32, RandomState>,
    targets: Vec<Arc<Target>>,
}

/// A call under way.
#[derive(Debug, Default)]
struct UnderWay {
    /// Ids of the rules for endpoints that take it.
    endpoints: Vec<u32>,
    /// Breakers of its service and method that let it pass.
    whole: Vec<Grip>,
    /// Breakers of the endpoint it is tried at.
    tried: Vec<Grip>,
}

/// A breaker that let something pass.
#[derive(Clone, Copy, Debug)]
struct Grip {
    rule: u32,
    key: u64,
    /// In this round, and whether as a probe.
    round: u8,
    probe: bool,
}

impl Breakers {
    /// That of the worker with this index of so many. It knows no rules yet.
    pub fn new(worker: usize, workers: usize) -> Breakers {
        Breakers {
            worker,
            workers: workers.clamp(1, 4096),
            rules: Arc::default(),
            states: Vec::new(),
            place: HashMap::default(),
            next_id: 0,
            calls: Slab::default(),
            taking: Vec::new(),
            events: Vec::new(),
        }
    }

    /// Follows the rules of a new snapshot; cheap if they are the ones it has.
    pub fn sync(&mut self, rules: &Arc<Rules>) {
        if Arc::ptr_eq(&self.rules, rules) {
            return;
        }
        self.rules = rules.clone();
        let mut old: HashMap<*const Shared, Known, RandomState> =
            self.states.drain(..).map(|s| (Arc::as_ptr(&s.shared), s)).collect();
        for rule in &rules.breaker_program.rules {
            let known = old.remove(&Arc::as_ptr(&rule.shared)).unwrap_or_else(|| {
                self.next_id = self.next_id.wrapping_add(1);
                Known {
                    id: self.next_id,
                    shared: rule.shared.clone(),
                    cell: rule.shared.counts.cell(),
                    by_key: HashMap::default(),
                    targets: Vec::new(),
                }
            });
            self.states.push(known);
        }
        self.place = self.states.iter().zip(0..).map(|(s, i)| (s.id, i)).collect();
    }

    /// Whether there are no rules.
    pub fn is_empty(&self) -> bool {
        self.states.is_empty()
    }

    /// A call begins: may it, as far as breakers of its service and method are concerned? Beside it stands what would
    /// hold it if every rule in `mode: observe` were enforced.
    ///
    /// # Errors
    /// Such a breaker is open.
    pub fn begin(
        &mut self,
        req: &impl Attributes,
        now: Time,
        rng: &mut Rng,
    ) -> Result<(Call, Option<Held>), Held> {
        let _ = rng;
        self.taking.clear();
        self.rules.breaker_program.index.taking(req, &mut self.taking);
        if self.taking.is_empty() {
            return Ok((Call::NONE, None));
        }
        let (key, call) = self.calls.place();
        call.endpoints.clear();
        call.whole.clear();
        call.tried.clear();
        let call = Call(key);
        let mut observed = None;
        for n in 0..self.taking.len() {
            let i = self.taking[n] as usize;
            let rule = &self.rules.breaker_program.rules[i];
            let Some(hash) = rule.key(req) else {
                let id = self.states[i].id;
                if let Some(c) = self.calls.find(key) {
                    c.endpoints.push(id);
                }
                continue;
            };
            match self.ask(i, hash, |rule| rule.target_name(req), now) {
                Ok(grip) => {
                    if let (Some(grip), Some(c)) = (grip, self.calls.find(key)) {
                        c.whole.push(grip);
                    }
                }
                Err((held, true)) => {
                    observed.get_or_insert(held);
                }
                Err((held, false)) => {
                    self.abandon(call);
                    return Err(held);
                }
            }
        }
        Ok((call, observed))
    }

    /// Asks one breaker. The error says whether it is only observed.
    fn ask(
        &mut self,
        i: usize,
        key: u64,
        name: impl FnOnce(&Rule) -> String,
        now: Time,
    ) -> Result<Option<Grip>, (Held, bool)> {
        let rule = &self.rules.breaker_program.rules[i];
        let known = &mut self.states[i];
        match rule.forced() {
            Some(Forced::Closed) => return Ok(None),
            Some(Forced::Open) => {
                known.cell.held(rule.observe);
                return Err((rule.held(Why::Forced, Again::Never), rule.observe));
            }
            None => {}
        }
        let Some(t) = known.target(rule, key, || name(rule), self.workers, now) else {
            known.cell.passed();
            return Ok(None);
        };
        let target = &known.targets[t];
        let (answer, change) = target.ask(&rule.settings, now);
        let (round, probe) = match answer {
            Answer::Open(until) => {
                known.cell.held(rule.observe);
                return Err((rule.held(target.why(), Again::In(until.since(now))), rule.observe));
            }
            Answer::Allowed(round) => (round, false),
            Answer::Probe(round) => (round, true),
        };
        known.cell.passed();
        if let Some(change) = change {
            note(&mut self.events, rule.event(target, change, now));
        }
        Ok(Some(Grip { rule: known.id, key, round, probe }))
    }

    /// Whether an enforced breaker of this endpoint lets the call not through now. Changes nothing; for each candidate.
    /// Where no endpoint's breaker is open it looks at nothing but that.
    pub fn open(&mut self, call: &Call, endpoint: SocketAddr, now: Time) -> bool {
        let Some(call) = self.calls.find(call.0) else { return false };
        call.endpoints.iter().any(|id| {
            let Some(&i) = self.place.get(id) else { return false };
            let rule = &self.rules.breaker_program.rules[i as usize];
            match rule.forced() {
                Some(forced) => forced == Forced::Open && !rule.observe,
                None if rule.observe || rule.shared.unwell.load(Ordering::Relaxed) == 0 => false,
                None => {
                    let key = rule.shared.hasher.hash_one(endpoint);
                    let known = &mut self.states[i as usize];
                    let target = known.target(rule, key, || endpoint.to_string(), self.workers, now);
                    target.is_some_and(|t| known.targets[t].is_open(&rule.settings, now))
                }
            }
        })
    }

    /// A try goes to this endpoint. Beside it stands what would hold it if rules in `mode: observe` were enforced.
    ///
    /// # Errors
    /// Its breaker is open: choose another, or give up with this if there is none.
    pub fn enter(
        &mut self,
        call: &Call,
        endpoint: SocketAddr,
        now: Time,
        rng: &mut Rng,
    ) -> Result<Option<Held>, Held> {
        if call.is_none() {
            return Ok(None);
        }
        self.leave(call, Outcome::Unknown, now, rng);
        let mut observed = None;
        for n in 0.. {
            let Some(&id) = self.calls.find(call.0).and_then(|c| c.endpoints.get(n)) else { break };
            let Some(&i) = self.place.get(&id) else { continue };
            let key = self.states[i as usize].shared.hasher.hash_one(endpoint);
            match self.ask(i as usize, key, |_| endpoint.to_string(), now) {
                Ok(grip) => {
                    if let (Some(grip), Some(call)) = (grip, self.calls.find(call.0)) {
                        call.tried.push(grip);
                    }
                }
                Err((held, true)) => {
                    observed.get_or_insert(held);
                }
                Err((held, false)) => {
                    self.leave(call, Outcome::Unknown, now, rng);
                    return Err(held);
                }
            }
        }
        Ok(observed)
    }

    /// The try that entered last has ended.
    pub fn leave(&mut self, call: &Call, outcome: Outcome, now: Time, rng: &mut Rng) {
        while let Some(grip) = self.calls.find(call.0).and_then(|c| c.tried.pop()) {
            self.tell(grip, outcome, now, rng);
        }
    }

    /// The call has ended; a try still under way with it. A call that is not known is harmless.
    pub fn end(&mut self, call: Call, outcome: Outcome, now: Time, rng: &mut Rng) {
        if call.is_none() {
            return;
        }
        self.leave(&call, outcome, now, rng);
        while let Some(grip) = self.calls.find(call.0).and_then(|c| c.whole.pop()) {
            self.tell(grip, outcome, now, rng);
        }
        self.calls.free(call.0);
    }

    /// It is held, so that what it probed is not.
    fn abandon(&mut self, call: Call) {
        // What is unknown has no time, and needs no chance.
        self.end(call, Outcome::Unknown, Time::ZERO, &mut Rng::new(0));
    }

    fn tell(&mut self, grip: Grip, outcome: Outcome, now: Time, rng: &mut Rng) {
        let Some(&i) = self.place.get(&grip.rule) else { return };
        let rule = &self.rules.breaker_program.rules[i as usize];
        let known = &self.states[i as usize];
        let Some(target) = known.by_key.get(&grip.key).map(|&t| &known.targets[t as usize]) else { return };
        let change = target.tell(&rule.settings, self.worker, (grip.round, grip.probe), outcome, now, rng);
        if let Some(change) = change {
            note(&mut self.events, rule.event(target, change, now));
        }
    }

    /// What changed since the last time, each change told by one worker.
    pub fn events(&mut self) -> impl Iterator<Item = Event> + '_ {
        self.events.drain(..)
    }
}

impl Drop for Breakers {
    /// Probes of a worker that ends make room for others.
    fn drop(&mut self) {
        for call in self.calls.used() {
            for grip in call.whole.drain(..).chain(call.tried.drain(..)) {
                if !grip.probe {
                    continue;
                }
                let Some(&i) = self.place.get(&grip.rule) else { continue };
                let known = &self.states[i as usize];
                if let Some(&t) = known.by_key.get(&grip.key) {
                    known.targets[t as usize].unprobe(grip.round);
                }
            }
        }
    }
}

impl Known {
    /// The breaker of this key.
    fn target(
        &mut self,
        rule: &Rule,
        key: u64,
        name: impl FnOnce() -> String,
        workers: usize,
        now: Time,
    ) -> Option<usize> {
        let found = self.by_key.get(&key).copied();
        if let Some(i) = found
            && !self.targets[i as usize].gone.load(Ordering::Relaxed)
        {
            return Some(i as usize);
        }
        let target = rule.shared.target(key, name, workers, &rule.settings, now)?;
        if let Some(i) = found {
            self.targets[i as usize] = target;
            return Some(i as usize);
        }
        if self.targets.len() >= MOST + MOST / 4 {
            // A quarter at least is gone, as there are never more than so many.
            self.targets.retain(|t| !t.gone.load(Ordering::Relaxed));
            self.by_key = self.targets.iter().zip(0..).map(|(t, i)| (t.key, i)).collect();
        }
        self.by_key.insert(key, self.targets.len() as u32);
        self.targets.push(target);
        Some(self.targets.len() - 1)
    }
}

fn note(events: &mut Vec<Event>, event: Event) {
    if events.len() < EVENTS {
        events.push(event);
    }
}
