//! Faults that a rule makes on purpose in RPC requests: delays and aborts, flag `FI`.
use crate::answer::Refusal;
use crate::call::Call;
use crate::frame::Head;
use crate::request::{Origin, Requeued, Sent};
use crate::worker::Worker;
use raddle_core::{Reason, Time};
use raddle_net::Key;
use raddle_policy::{Actions, Rng, RuleRef};
use std::collections::BTreeMap;
use std::time::Duration;

/// Requests a worker holds at once because a rule delays them; beyond, they go on undelayed.
const HELD_MOST: usize = 10_000;

/// What is known of the faults a request meets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Faults {
    /// Not drawn yet.
    #[default]
    Undrawn,
    /// None, or they are over.
    Over,
    /// It is aborted when its delay is over.
    Abort,
}

/// Bytes of the frames of those.
const HELD_BYTES_MOST: usize = 64 << 20;

/// Requests that are delayed on purpose, or because a limit lets them pass later; by when they go on.
#[derive(Default)]
pub(crate) struct Delayed {
    held: BTreeMap<(Time, u64), Requeued>,
    count: u64,
    bytes: usize,
}

impl Delayed {
    /// When the first of them goes on.
    pub(crate) fn next(&self) -> Option<Time> {
        self.held.keys().next().map(|(at, _)| *at)
    }

    fn insert(&mut self, until: Time, r: Requeued) {
        self.count += 1;
        self.bytes += r.frame.len();
        self.held.insert((until, self.count), r);
    }

    /// Takes out the first whose time has come.
    fn pop(&mut self, now: Time) -> Option<Requeued> {
        let first = self.held.first_entry().filter(|e| e.key().0 <= now)?;
        let r = first.remove();
        self.bytes -= r.frame.len();
        Some(r)
    }
}

/// Draws the faults of a request that is dispatched for the first time.
///
/// # Errors
/// It is aborted at once.
pub(crate) fn draw(
    origin: &mut Origin,
    rule: Option<&RuleRef>,
    actions: Option<&Actions>,
    rng: &mut Rng,
) -> Result<Option<Duration>, Refusal> {
    let aborted = || Refusal { rule: rule.map(ToString::to_string), ..Refusal::new(Reason::Injected, "") };
    match std::mem::replace(&mut origin.faults, Faults::Over) {
        Faults::Over => Ok(None),
        Faults::Abort => Err(aborted()),
        Faults::Undrawn => {
            let Some(fault) = actions.and_then(|a| a.fault.as_ref()) else { return Ok(None) };
            let drawn = fault.draw(rng);
            match (drawn.delay, drawn.abort) {
                (None, Some(_)) => Err(aborted()),
                (delay, abort) => {
                    if abort.is_some() {
                        origin.faults = Faults::Abort;
                    }
                    Ok(delay)
                }
            }
        }
    }
}

impl Worker {
    /// Holds a request for a while. Gives it back if too many are held already.
    pub(crate) fn hold(&mut self, origin: &Origin, frame: &[u8], delay: Duration) -> bool {
        self.hold_until(self.now + delay, origin, frame)
    }

    fn hold_until(&mut self, until: Time, origin: &Origin, frame: &[u8]) -> bool {
        let d = &mut self.delayed;
        if d.held.len() >= HELD_MOST || d.bytes + frame.len() > HELD_BYTES_MOST {
            return false;
        }
        d.insert(until, Requeued { origin: origin.clone(), frame: frame.to_vec() });
        true
    }

    /// Keeps a request that a limit lets pass later. Its bound is the rule's `maxWait`, and its caller's patience.
    pub(crate) fn keep_back(&mut self, origin: Origin, call: &Call<'_>, row: u32, until: Time) -> Sent {
        if self.hold_until(until, &origin, call.frame) {
            return Sent::Done;
        }
        let why = Refusal::new(Reason::RateLimited, "too many requests wait for their turn already");
        self.refuse(&origin, call, row, why)
    }

    /// A caller is gone: what it asked for and what waits for a limit goes nowhere.
    pub(crate) fn forget_delayed(&mut self, caller: Key) {
        if self.delayed.held.is_empty() {
            return;
        }
        let of = |r: &Requeued| r.origin.caller == caller && r.origin.ticket.is_some();
        let gone: Vec<(Time, u64)> =
            self.delayed.held.iter().filter(|(_, r)| of(r)).map(|(at, _)| *at).collect();
        for at in gone {
            let Some(r) = self.delayed.held.remove(&at) else { continue };
            self.delayed.bytes -= r.frame.len();
            self.drop_delayed(&r, Reason::CallerGone);
        }
    }

    /// The sidecar ends: whoever waits is told.
    pub(crate) fn end_delayed(&mut self) {
        for (_, r) in std::mem::take(&mut self.delayed.held) {
            self.drop_delayed(&r, Reason::Draining);
        }
        self.delayed.bytes = 0;
    }

    fn drop_delayed(&mut self, r: &Requeued, why: Reason) {
        let limits = self.frame_limits();
        let Ok(Some(head)) = Head::parse(r.origin.lane, &r.frame, limits) else { return };
        let mut name = Vec::new();
        let call = Call::open(&head, &r.frame, &mut name, None);
        let row = self.row(r.origin.direction, call.named.unwrap_or(b"unknown"));
        self.refuse(&r.origin, &call, row, Refusal::new(why, "it waited for its turn"));
    }

    /// Lets those go on whose delay is over.
    pub(crate) fn release_delayed(&mut self) {
        while let Some(r) = self.delayed.pop(self.now) {
            self.requeue.push_back(r);
        }
    }
}
