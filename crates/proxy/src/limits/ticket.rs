//! What a request holds of limits until it ends.
//!
//! A request may end in many ways, and what it holds must be given back in each. So it carries a [`Ticket`]: whoever
//! knows how it ended says so; where nobody does, the last ticket's drop tells. Copies of a request that waits or is
//! tried again are counted, not its beginning.
use raddle_core::Time;
use raddle_policy::limit::{self, adaptive::InterfaceId, breaker};
use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What a request holds of limits.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// Of adaptive limiting: which gate let it pass, and as what.
    pub interface: Option<(u32, InterfaceId)>,
    /// Of rates and concurrency.
    pub local: limit::Ticket,
    /// Of breakers.
    pub call: breaker::Call,
    /// When it was first sent to the callee.
    pub sent: Option<Time>,
    /// When it was last sent.
    pub tried: Option<Time>,
    /// What the app said it cost.
    pub cost: Option<Duration>,
    /// What would have refused it, as the access log says it.
    pub observed: Option<Box<str>>,
    /// Rules that the quota server has not answered for yet.
    pub asks: Vec<Arc<str>>,
    /// Until when it waits for that at the latest.
    pub asks_until: Time,
    /// It waits.
    pub waits: bool,
}

#[derive(Debug, Default)]
struct Slot {
    copies: u32,
    holds: Option<Holds>,
}

#[derive(Debug, Default)]
struct Pool {
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<u32>>,
    /// Slots whose last ticket was dropped before anybody said how the request ended.
    lost: RefCell<Vec<u32>>,
    any_lost: Cell<bool>,
}

/// A request's. Copies stand for the same request.
pub struct Ticket {
    pool: Rc<Pool>,
    at: u32,
}

/// A worker's tickets.
#[derive(Debug, Default)]
pub(super) struct Tickets(Rc<Pool>);

impl Tickets {
    /// A ticket for what a request holds. Allocates only if more are out than ever before.
    pub(super) fn issue(&self, holds: Holds) -> Ticket {
        let mut slots = self.0.slots.borrow_mut();
        let slot = Slot { copies: 1, holds: Some(holds) };
        let at = match self.0.free.borrow_mut().pop() {
            Some(at) => {
                slots[at as usize] = slot;
                at
            }
            None => {
                slots.push(slot);
                slots.len() as u32 - 1
            }
        };
        Ticket { pool: self.0.clone(), at }
    }

    /// What was held by a request that nobody knows the end of.
    pub(super) fn lost(&self) -> Option<Holds> {
        if !self.0.any_lost.get() {
            return None;
        }
        let at = self.0.lost.borrow_mut().pop();
        let Some(at) = at else {
            self.0.any_lost.set(false);
            return None;
        };
        let holds = self.0.slots.borrow_mut()[at as usize].holds.take();
        self.0.free.borrow_mut().push(at);
        holds
    }
}

impl Ticket {
    /// Looks at what the request holds; `None` if its end was told.
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut Holds) -> T) -> Option<T> {
        self.pool.slots.borrow_mut()[self.at as usize].holds.as_mut().map(f)
    }

    /// Whether the request waits because of a limit.
    pub(crate) fn waits(&self) -> bool {
        self.with(|h| h.waits) == Some(true)
    }

    /// Takes what the request holds into the hand; it is put back before anybody else looks.
    pub(super) fn take_out(&self) -> Option<Holds> {
        self.pool.slots.borrow_mut()[self.at as usize].holds.take()
    }

    /// The other half of [`Ticket::take_out`].
    pub(super) fn put_back(&self, holds: Holds) {
        self.pool.slots.borrow_mut()[self.at as usize].holds = Some(holds);
    }

    /// The request ends: what it held. Only the first who asks gets it.
    pub(super) fn end(&self) -> Option<Holds> {
        self.pool.slots.borrow_mut()[self.at as usize].holds.take()
    }
}

impl Clone for Ticket {
    fn clone(&self) -> Ticket {
        self.pool.slots.borrow_mut()[self.at as usize].copies += 1;
        Ticket { pool: self.pool.clone(), at: self.at }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut slots = self.pool.slots.borrow_mut();
        let slot = &mut slots[self.at as usize];
        slot.copies -= 1;
        if slot.copies > 0 {
            return;
        }
        if slot.holds.is_none() {
            self.pool.free.borrow_mut().push(self.at);
        } else {
            self.pool.lost.borrow_mut().push(self.at);
            self.pool.any_lost.set(true);
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({})", self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(id: InterfaceId) -> Holds {
        Holds { interface: Some((0, id)), ..Holds::default() }
    }

    fn id(h: Option<Holds>) -> Option<InterfaceId> {
        h.and_then(|h| h.interface).map(|(_, id)| id)
    }

    #[test]
    fn what_a_request_held_is_given_back_once_however_many_copies_it_has() {
        let all = Tickets::default();
        let a = all.issue(of(1));
        let b = a.clone();
        assert_eq!((id(a.end()), id(b.end())), (Some(1), None));
        drop(a);
        drop(b);
        assert_eq!(id(all.lost()), None);
        let c = all.issue(of(2));
        assert_eq!((c.at, all.0.slots.borrow().len()), (0, 1), "its place is used again");
    }

    #[test]
    fn a_request_that_nobody_ends_is_found_when_its_last_copy_is_gone() {
        let all = Tickets::default();
        let a = all.issue(of(1));
        let b = a.clone();
        drop(a);
        assert_eq!(id(all.lost()), None);
        assert_eq!(b.with(|h| h.interface), Some(Some((0, 1))));
        drop(b);
        let other = all.issue(of(2));
        assert_eq!(other.at, 1, "the place is taken until the end is accounted for");
        assert_eq!((id(all.lost()), id(all.lost())), (Some(1), None));
        assert_eq!(all.issue(of(3)).at, 0);
    }
}
