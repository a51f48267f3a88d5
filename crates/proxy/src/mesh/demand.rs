//! Services a worker asks the control plane for, and the requests that wait for them.
//!
//! Reached only where a look-up failed: a request for a service that is known passes nothing of this.
use super::link::Ask;
use crate::answer::Refusal;
use crate::call::Call;
use crate::conn::{Accepted, Direction, Paused, Role};
use crate::http::exchange::Up;
use crate::request::{Origin, Requeued, Sent};
use crate::worker::Worker;
use ahash::AHashMap;
use raddle_core::{Reason, Time};
use raddle_net::Key;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// Names a worker keeps in mind. Peers can make names up.
const NAMES_MOST: usize = 10_000;
/// Longest name that is asked for; no service has a longer one.
pub(crate) const NAME_LONGEST: usize = 512;
/// Requests that wait at once in a worker, and bytes of them; beyond, they are refused.
const PARKED_MOST: usize = 10_000;
const PARKED_BYTES_MOST: usize = 16 << 20;
/// How long a worker remembers that there is no such service. The control plane tells if it comes to be.
const MISSING_FOR: Duration = Duration::from_secs(5);
/// A name that nobody answered is asked for again with the next request after this long.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What a worker has asked for.
#[derive(Default)]
pub(crate) struct Demand {
    names: AHashMap<Box<[u8]>, Asked>,
    parked: usize,
    bytes: usize,
    /// When the first of them has waited long enough.
    next: Option<Time>,
    /// Callers that are not read from, and since when: their requests come by again as if they were new.
    held: AHashMap<Key, Time>,
}

struct Asked {
    at: Time,
    missing: Option<Time>,
    waiting: VecDeque<Parked>,
}

struct Parked {
    until: Time,
    what: What,
}

enum What {
    Call(Box<Requeued>),
    /// A caller that is not read from: its frame is too large to be held.
    Caller(Key),
    Exchange(Key),
    /// A connection of bytes that name no service, for the listener's own; whether its protocol is undecided.
    Relay(Key, bool),
}

impl What {
    fn bytes(&self) -> usize {
        match self {
            What::Call(r) => r.frame.len(),
            What::Caller(_) | What::Exchange(_) | What::Relay(..) => 0,
        }
    }

    fn caller(&self) -> Option<Key> {
        match self {
            What::Call(r) => Some(r.origin.caller),
            What::Caller(key) | What::Relay(key, _) => Some(*key),
            What::Exchange(_) => None,
        }
    }
}

impl Demand {
    /// When the first of the waiting requests has waited long enough.
    pub(crate) fn next(&self) -> Option<Time> {
        self.next
    }

    /// Requests that wait.
    fn parked(&self) -> usize {
        self.parked
    }

    fn park(&mut self, name: &[u8], until: Time, what: What) {
        let Some(asked) = self.names.get_mut(name) else { return };
        self.parked += 1;
        self.bytes += what.bytes();
        self.next = Some(self.next.map_or(until, |n| n.min(until)));
        asked.waiting.push_back(Parked { until, what });
    }

    /// Takes those out that `which` chooses, in the order in which they came for each name.
    fn take(&mut self, which: impl Fn(&[u8], Option<Time>, &Parked) -> bool) -> Vec<What> {
        let mut out = Vec::new();
        self.next = None;
        for (name, asked) in &mut self.names {
            for _ in 0..asked.waiting.len() {
                let Some(p) = asked.waiting.pop_front() else { break };
                if which(name, asked.missing, &p) {
                    self.parked -= 1;
                    self.bytes -= p.what.bytes();
                    out.push(p.what);
                } else {
                    self.next = Some(self.next.map_or(p.until, |n| n.min(p.until)));
                    asked.waiting.push_back(p);
                }
            }
        }
        out
    }
}

/// What becomes of a request whose service is not known here.
enum Verdict {
    /// It waits for the answer about this name.
    Wait(Box<[u8]>),
    /// It is refused.
    Refuse(String),
    /// The control plane has no say in it.
    NotAsked,
}

impl Worker {
    /// Whether a control plane is asked about names that requests by a listener name.
    fn asks(&self, direction: Direction) -> Option<Duration> {
        let wait = self.config.sidecar.control_plane.as_ref()?.wait;
        (direction == Direction::Outbound && self.shared.mesh.get().is_some()).then_some(wait)
    }

    /// Asks for the names, the most precise first, until one is neither known to be missing nor unfit.
    fn demand<'n>(&mut self, names: impl Iterator<Item = &'n [u8]>, waited: bool) -> Verdict {
        let Some(link) = self.shared.mesh.get().cloned() else { return Verdict::NotAsked };
        let now = self.now;
        let mut first = None;
        let mut any = None;
        for name in names {
            if name.is_empty() || name.len() > NAME_LONGEST || std::str::from_utf8(name).is_err() {
                continue;
            }
            any.get_or_insert(name);
            if self.demand.names.len() >= NAMES_MOST && !self.demand.names.contains_key(name) {
                self.forget_names(true);
                if self.demand.names.len() >= NAMES_MOST {
                    let text = "too many services that are not known here are being asked for";
                    return Verdict::Refuse(text.into());
                }
            }
            let asked = self.demand.names.entry(name.into()).or_insert_with(|| {
                link.ask(Ask::Want(String::from_utf8_lossy(name).into()));
                Asked { at: now, missing: None, waiting: VecDeque::new() }
            });
            if asked.missing.is_some_and(|until| until > now) {
                continue;
            }
            if asked.missing.take().is_some() || now.since(asked.at) >= ASK_AGAIN {
                asked.at = now;
                link.ask(Ask::Want(String::from_utf8_lossy(name).into()));
            }
            first.get_or_insert_with(|| Box::from(name));
        }
        let shown = String::from_utf8_lossy(any.unwrap_or_default()).into_owned();
        match (first, any) {
            (_, None) => Verdict::NotAsked,
            (None, _) => Verdict::Refuse(format!("service {shown}: not known to the control plane")),
            (Some(_), _) if waited => Verdict::Refuse(match link.away() {
                Some(since) => format!("service {shown}: control plane not reachable since {since}"),
                None => format!("service {shown}: no answer from the control plane in time"),
            }),
            (Some(name), _) => Verdict::Wait(name),
        }
    }

    /// A connection of bytes that name no service, where the listener's own is not known yet. True if it waits.
    pub(crate) fn relay_on_demand(&mut self, key: Key, a: &Accepted, undecided: bool) -> bool {
        let Some(b) = self.config.binding(a.listener) else { return false };
        let (direction, default) = (b.listener.direction, b.default_service.clone());
        let (Some(wait), Some(name)) = (self.asks(direction), default) else { return false };
        if self.conns.get(key).is_some_and(|c| c.paused.has(Paused::NO_CONNECTION)) {
            return true;
        }
        let start = self.demand.held.remove(&key).unwrap_or(self.now);
        let over = start + wait;
        let verdict = self.demand(std::iter::once(name.as_bytes()), over <= self.now);
        let Verdict::Wait(name) = verdict else { return false };
        if !self.room_to_park(0) {
            return false;
        }
        self.demand.held.insert(key, start);
        self.demand.park(&name, over, What::Relay(key, undecided));
        self.show_parked();
        self.pause(key, Paused::NO_CONNECTION);
        true
    }

    fn room_to_park(&mut self, bytes: usize) -> bool {
        let room = self.demand.parked < PARKED_MOST && self.demand.bytes + bytes <= PARKED_BYTES_MOST;
        if room {
            self.shard.on_demand_waited.inc();
        } else {
            self.shard.on_demand_refused.inc();
        }
        room
    }

    /// A call for a service that is not known here: it waits while the control plane is asked. `None` = that is
    /// not done, or is over; the text says why, if it was done.
    pub(crate) fn call_on_demand(
        &mut self,
        origin: &Origin,
        call: &Call<'_>,
        name: &[u8],
    ) -> Result<Sent, Option<Refusal>> {
        let Some(wait) = self.asks(origin.direction) else { return Err(None) };
        let start = match call.whole() {
            true => origin.start,
            false => self.demand.held.remove(&origin.caller).unwrap_or(origin.start),
        };
        let own = u64::try_from(call.timeout_ms()).ok().filter(|ms| *ms > 0).map(Duration::from_millis);
        let over = start + own.unwrap_or(wait).min(wait);
        let names = std::iter::once(name).chain(call.shorter_names());
        match self.demand(names, over <= self.now) {
            Verdict::NotAsked => Err(None),
            Verdict::Refuse(_) if own.is_some_and(|own| start + own <= self.now) => {
                Err(Some(Refusal::new(Reason::Timeout, "it waited for its service to be known")))
            }
            Verdict::Refuse(text) => Err(Some(Refusal::new(Reason::NoCluster, text))),
            Verdict::Wait(_) if !self.room_to_park(if call.whole() { call.frame.len() } else { 0 }) => {
                let text = "too many requests wait for services to be known";
                Err(Some(Refusal::new(Reason::NoCluster, text)))
            }
            Verdict::Wait(name) if call.whole() => {
                let requeued = Requeued { origin: origin.clone(), frame: call.frame.to_vec() };
                self.demand.park(&name, over, What::Call(Box::new(requeued)));
                self.show_parked();
                Ok(Sent::Done)
            }
            Verdict::Wait(name) => {
                self.demand.park(&name, over, What::Caller(origin.caller));
                self.show_parked();
                self.demand.held.insert(origin.caller, start);
                self.pause(origin.caller, Paused::NO_CONNECTION);
                Ok(Sent::Blocked)
            }
        }
    }

    /// The same for an HTTP exchange. `Ok` = it waits; else the text says why it was refused, if it was asked for.
    pub(crate) fn exchange_on_demand(
        &mut self,
        key: Key,
        names: &[Box<[u8]>],
        own: Option<Duration>,
    ) -> Result<(), Option<(Reason, String)>> {
        let Some(x) = self.http.exchanges.get(key) else { return Ok(()) };
        let (start, down, direction) = (x.start, x.down, x.direction);
        let Some(wait) = self.asks(direction) else { return Err(None) };
        let over = start + own.unwrap_or(wait).min(wait);
        match self.demand(names.iter().map(|n| &**n), over <= self.now) {
            Verdict::NotAsked => Err(None),
            Verdict::Refuse(_) if own.is_some_and(|own| start + own <= self.now) => {
                Err(Some((Reason::Timeout, "it waited for its service to be known".into())))
            }
            Verdict::Refuse(text) => Err(Some((Reason::NoCluster, text))),
            Verdict::Wait(name) => {
                if !self.room_to_park(0) {
                    let text = "too many requests wait for services to be known";
                    return Err(Some((Reason::NoCluster, text.into())));
                }
                self.demand.park(&name, over, What::Exchange(key));
                self.show_parked();
                if let Some(x) = self.http.exchanges.get_mut(key) {
                    x.up = Up::Delayed(over);
                }
                self.arm(down, over);
                Ok(())
            }
        }
    }

    /// Lets those go on whose service is known now, or that have waited long enough.
    pub(crate) fn release_parked(&mut self) {
        if self.demand.next.is_none_or(|t| t > self.now) {
            return;
        }
        let now = self.now;
        let over = self.demand.take(|_, _, p| p.until <= now);
        self.resume_parked(over);
    }

    /// After a reload: services that were asked for may be there.
    pub(crate) fn review_demand(&mut self) {
        if self.demand.names.is_empty() {
            return;
        }
        let config = self.config.clone();
        let known = |name: &[u8]| {
            config.snapshot.service(name).is_some() || config.snapshot.service_for_host(name).is_some()
        };
        let found = self.demand.take(|name, _, _| known(name));
        for caller in found.iter().filter_map(What::caller) {
            self.demand.held.remove(&caller);
        }
        self.demand.names.retain(|name, _| !known(name));
        self.resume_parked(found);
    }

    /// The control plane says that there are no such services.
    pub(crate) fn missing(&mut self, names: &[Arc<str>]) {
        let until = self.now + MISSING_FOR;
        for name in names {
            if let Some(asked) = self.demand.names.get_mut(name.as_bytes()) {
                asked.missing = Some(until);
            }
        }
        let now = self.now;
        let over = self.demand.take(|_, missing, _| missing.is_some_and(|until| until > now));
        self.resume_parked(over);
    }

    fn show_parked(&self) {
        self.shard.on_demand_waiting.set(self.demand.parked() as i64);
    }

    fn resume_parked(&mut self, all: Vec<What>) {
        self.show_parked();
        for what in all {
            match what {
                What::Call(r) => self.requeue.push_back(*r),
                What::Caller(key) => self.unpause(key, Paused::NO_CONNECTION),
                What::Relay(key, undecided) => {
                    self.unpause(key, Paused::NO_CONNECTION);
                    self.become_relay(key, undecided);
                }
                What::Exchange(key) => {
                    if let Some(x) = self.http.exchanges.get_mut(key)
                        && matches!(x.up, Up::Delayed(_))
                    {
                        x.up = Up::Delayed(self.now);
                        self.http.again.push(key);
                    }
                }
            }
        }
    }

    /// A caller is gone: what it asked for is not held any longer.
    pub(crate) fn forget_parked(&mut self, caller: Key) {
        if !self.demand.held.is_empty() {
            self.demand.held.remove(&caller);
        }
        if self.demand.parked > 0 {
            drop(self.demand.take(|_, _, p| p.what.caller() == Some(caller)));
            self.show_parked();
        }
    }

    /// Forgets names nobody waits for: those whose answer is old, or all of them if room is needed.
    pub(crate) fn forget_names(&mut self, all: bool) {
        let now = self.now;
        self.demand.names.retain(|_, asked| {
            let fresh = asked.missing.unwrap_or(asked.at + ASK_AGAIN * 10) > now;
            !asked.waiting.is_empty() || (fresh && !all)
        });
        if self.demand.names.is_empty() {
            self.demand.names.shrink_to_fit();
        }
    }

    /// Whether a caller's connection is being captured, and the control plane is away: what it asks for then is
    /// not made to wait where it can pass through.
    pub(crate) fn passes_unasked(&self, caller: Key) -> bool {
        let accepted = match self.conns.get(caller).map(|c| &c.role) {
            Some(Role::Caller(c)) => Some(&c.accepted),
            Some(Role::Http(h)) => h.accepted(),
            _ => None,
        };
        let away = self.shared.mesh.get().is_some_and(|m| m.away().is_some());
        away && accepted.is_some_and(|a| a.to.is_some())
    }
}
