//! Faults that a rule makes on purpose in RPC requests: delays and aborts, flag `FI`.
use crate::answer::Refusal;
use crate::request::{Origin, Requeued};
use crate::worker::Worker;
use raddle_core::{Reason, Time};
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

/// Requests that are delayed on purpose, by when they go on.
#[derive(Default)]
pub(crate) struct Delayed {
    held: BTreeMap<(Time, u64), Requeued>,
    count: u64,
}

impl Delayed {
    /// When the first of them goes on.
    pub(crate) fn next(&self) -> Option<Time> {
        self.held.keys().next().map(|(at, _)| *at)
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
        if self.delayed.held.len() >= HELD_MOST {
            return false;
        }
        self.delayed.count += 1;
        let key = (self.now + delay, self.delayed.count);
        self.delayed.held.insert(key, Requeued { origin: origin.clone(), frame: frame.to_vec() });
        true
    }

    /// Lets those go on whose delay is over.
    pub(crate) fn release_delayed(&mut self) {
        while let Some(first) = self.delayed.held.first_entry()
            && first.key().0 <= self.now
        {
            self.requeue.push_back(first.remove());
        }
    }
}
