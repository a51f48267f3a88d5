//! Requests in flight on one upstream connection: the id map and its deadlines.
//!
//! A request's own id is replaced by a slot number and a generation (20 and 12 bits), so that its reply is
//! found by one array load. The slot of a request that timed out is not used again while its reply may
//! still come: a late reply is recognised and dropped, never given to a stranger.
use crate::conn::Direction;
use crate::frame::Asker;
use crate::lane::Lane;
use crate::limits::ticket::Ticket;
use raddle_core::Time;
use raddle_net::Key;
use raddle_policy::permits::Permit;

const INDEX_BITS: u32 = 20;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;
const GENERATION_MASK: u32 = (1 << (32 - INDEX_BITS)) - 1;

/// Wire id of one-way requests: no slot ever has it, so a reply that should not be is dropped.
pub const ONE_WAY_ID: u32 = INDEX_MASK;
/// Wire id of the sidecar's own heartbeats.
pub const HEARTBEAT_ID: u32 = INDEX_MASK - 1;
/// Most requests in flight on one connection.
const MOST: usize = (INDEX_MASK - 1) as usize;

/// What is known of a request on its way.
pub struct InFlight {
    /// Who gets the reply.
    pub caller: Key,
    /// The id the caller gave it.
    pub caller_id: u64,
    /// When it was read.
    pub start: Time,
    /// The worker's state of its service.
    pub service: Key,
    /// Which of the service's endpoints, for the balancer's accounts.
    pub endpoint: u32,
    /// Row of the metrics it counts in.
    pub cells: u32,
    /// What it speaks.
    pub lane: Lane,
    /// Which way it goes.
    pub direction: Direction,
    /// The listener it came by.
    pub listener: u16,
    /// Interned method; 0 = not looked at.
    pub method: u32,
    /// Serialiser of its frame: an answer of the sidecar's own must be readable to its caller.
    pub codec: u8,
    /// Where its frame begins in the connection's stream.
    pub out_at: u64,
    /// Length of its frame; 0 if the frame was streamed and cannot be sent again.
    pub len: u32,
    /// Its class name is SOFARPC's: an answer can be an exception that SOFARPC throws as it is.
    pub sofa: bool,
    /// Its share of the bound on outstanding requests.
    pub permit: Option<Permit>,
    /// What it holds of limits.
    pub ticket: Option<Ticket>,
    /// What only some requests need: a copy for retries, the trace.
    pub extra: Option<Box<Extra>>,
}

impl InFlight {
    /// Whom its reply is for.
    pub(crate) fn asker(&self) -> Asker {
        Asker { lane: self.lane, id: self.caller_id, codec: self.codec, sofa: self.sofa }
    }
}

/// What only some requests carry.
#[derive(Default)]
pub struct Extra {
    /// A copy of the frame, if it may be retried.
    pub frame: Vec<u8>,
    /// Tries that are left.
    pub tries_left: u8,
    /// Tries made after the first.
    pub tried: u8,
    /// The end of the whole request, where a single try has a shorter one.
    pub final_deadline: Option<Time>,
    /// Failures after which it may be sent again: bits by `RetryOn as u8`.
    pub retry_on: u8,
    /// Share and floor of the retry budget.
    pub budget: (f64, u32),
    /// `traceparent`, if the request has one.
    pub trace: Vec<u8>,
    /// Name of the rule that routed it.
    pub rule: Option<String>,
}

enum State {
    Free,
    Live(InFlight),
    /// Timed out; its reply may still come.
    Late,
}

struct Slot {
    generation: u32,
    state: State,
}

/// The requests in flight on one connection.
#[derive(Default)]
pub struct Pending {
    slots: Vec<Slot>,
    /// Parallel to `slots`, so that a scan for expired ones touches nothing else.
    deadlines: Vec<Time>,
    free: Vec<u32>,
    live: u32,
    late: u32,
    /// No live request expires before this.
    min_deadline: Option<Time>,
}

/// What a reply's id stands for.
pub enum Claimed {
    /// A live request: it is finished now.
    Live(InFlight),
    /// One that timed out before.
    Late,
    /// Nothing that was ever sent, or a duplicate.
    Unknown,
}

impl Pending {
    /// Requests that wait for their reply.
    #[inline]
    pub fn live(&self) -> u32 {
        self.live
    }

    /// Timed-out requests whose reply may still come.
    pub fn late(&self) -> u32 {
        self.late
    }

    /// Whether one more fits.
    pub fn has_room(&self) -> bool {
        !self.free.is_empty() || self.slots.len() < MOST
    }

    /// No live request expires before this; `None` if none is live or none expires.
    pub fn min_deadline(&self) -> Option<Time> {
        self.min_deadline
    }

    /// Takes a request in and returns its id on the wire. Needs [`Pending::has_room`].
    #[inline]
    pub fn insert(&mut self, request: InFlight, deadline: Time) -> u32 {
        self.live += 1;
        if deadline < self.min_deadline.unwrap_or(Time::MAX) {
            self.min_deadline = Some(deadline);
        }
        if let Some(i) = self.free.pop() {
            let slot = &mut self.slots[i as usize];
            slot.generation = (slot.generation + 1) & GENERATION_MASK;
            slot.state = State::Live(request);
            self.deadlines[i as usize] = deadline;
            return slot.generation << INDEX_BITS | i;
        }
        let i = self.slots.len() as u32;
        debug_assert!((i as usize) < MOST);
        self.slots.push(Slot { generation: 0, state: State::Live(request) });
        self.deadlines.push(deadline);
        i
    }

    /// Takes out the request a reply is for.
    #[inline]
    pub fn claim(&mut self, wire_id: u32) -> Claimed {
        let i = (wire_id & INDEX_MASK) as usize;
        let Some(slot) = self.slots.get_mut(i) else { return Claimed::Unknown };
        if slot.generation != wire_id >> INDEX_BITS {
            return Claimed::Unknown;
        }
        match std::mem::replace(&mut slot.state, State::Free) {
            State::Free => Claimed::Unknown,
            State::Late => {
                self.late -= 1;
                self.free.push(i as u32);
                Claimed::Late
            }
            State::Live(r) => {
                self.live -= 1;
                self.deadlines[i] = Time::MAX;
                self.free.push(i as u32);
                if self.live == 0 {
                    self.min_deadline = None;
                }
                Claimed::Live(r)
            }
        }
    }

    /// [`Pending::claim`] of an id as wide as a protocol has; only the lower half is ever ours.
    #[inline]
    pub fn claim_wide(&mut self, wire_id: u64) -> Claimed {
        u32::try_from(wire_id).map_or(Claimed::Unknown, |id| self.claim(id))
    }

    /// Takes out every request whose time is over, and finds the next time to look.
    pub fn expire(&mut self, now: Time, mut each: impl FnMut(InFlight)) {
        let mut min = Time::MAX;
        for (i, deadline) in self.deadlines.iter_mut().enumerate() {
            if *deadline > now {
                min = min.min(*deadline);
                continue;
            }
            if let State::Live(r) = std::mem::replace(&mut self.slots[i].state, State::Late) {
                self.live -= 1;
                self.late += 1;
                *deadline = Time::MAX;
                each(r);
            }
        }
        self.min_deadline = (min < Time::MAX).then_some(min);
    }

    /// Takes out every live request that `of` names, as if its time were over.
    pub fn cut(&mut self, mut of: impl FnMut(&InFlight) -> bool, mut each: impl FnMut(InFlight)) {
        for (slot, deadline) in self.slots.iter_mut().zip(&mut self.deadlines) {
            if !matches!(&slot.state, State::Live(r) if of(r)) {
                continue;
            }
            if let State::Live(r) = std::mem::replace(&mut slot.state, State::Late) {
                self.live -= 1;
                self.late += 1;
                *deadline = Time::MAX;
                each(r);
            }
        }
    }

    /// Takes out every live request, in the order they were sent, when the connection is gone.
    pub fn drain(&mut self) -> Vec<InFlight> {
        let mut all: Vec<InFlight> = std::mem::take(&mut self.slots)
            .into_iter()
            .filter_map(|s| match s.state {
                State::Live(r) => Some(r),
                State::Free | State::Late => None,
            })
            .collect();
        all.sort_by_key(|r| r.out_at);
        *self = Pending::default();
        all
    }

    /// Live requests, for views.
    pub fn iter(&self) -> impl Iterator<Item = &InFlight> {
        self.slots.iter().filter_map(|s| match &s.state {
            State::Live(r) => Some(r),
            State::Free | State::Late => None,
        })
    }

    /// Gives back memory that a burst left, once nothing is in flight.
    pub fn shrink(&mut self) {
        if self.live == 0 && self.late == 0 && self.slots.len() > 64 {
            // The generations go with the slots; nothing on the wire refers to them any more.
            *self = Pending::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn request(caller_id: u64) -> InFlight {
        InFlight {
            caller: Key::NONE,
            caller_id,
            start: Time::ZERO,
            service: Key::NONE,
            endpoint: 0,
            cells: 0,
            lane: Lane::Dubbo,
            direction: Direction::Outbound,
            listener: 0,
            method: 0,
            codec: 1,
            out_at: caller_id,
            len: 0,
            sofa: false,
            permit: None,
            ticket: None,
            extra: None,
        }
    }

    fn id_of(c: Claimed) -> Option<u64> {
        if let Claimed::Live(r) = c { Some(r.caller_id) } else { None }
    }

    #[test]
    fn a_reply_finds_its_request_once() {
        let mut p = Pending::default();
        let a = p.insert(request(7), Time::MAX);
        let b = p.insert(request(8), Time::MAX);
        assert_eq!(id_of(p.claim(b)), Some(8));
        assert_eq!(id_of(p.claim(a)), Some(7));
        assert!(matches!(p.claim(a), Claimed::Unknown));
        assert_eq!(p.live(), 0);
    }

    #[test]
    fn a_late_reply_is_never_given_to_the_next_request() {
        let mut p = Pending::default();
        let t = Time::from_millis(10);
        let a = p.insert(request(1), t);
        let mut expired = Vec::new();
        p.expire(t, |r| expired.push(r.caller_id));
        assert_eq!(expired, [1]);
        // However many requests pass, none takes the slot of the one that is still on the wire.
        for n in 0..10_000 {
            let id = p.insert(request(n), Time::MAX);
            assert_ne!(id & INDEX_MASK, a & INDEX_MASK);
            assert_eq!(id_of(p.claim(id)), Some(n));
        }
        assert!(matches!(p.claim(a), Claimed::Late));
        assert_eq!(p.late(), 0);
    }

    #[test]
    fn reserved_ids_belong_to_nobody() {
        let mut p = Pending::default();
        p.insert(request(1), Time::MAX);
        assert!(matches!(p.claim(ONE_WAY_ID), Claimed::Unknown));
        assert!(matches!(p.claim(HEARTBEAT_ID), Claimed::Unknown));
    }

    #[test]
    fn expiry_finds_the_next_deadline() {
        let mut p = Pending::default();
        p.insert(request(1), Time::from_millis(10));
        p.insert(request(2), Time::from_millis(30));
        let c = p.insert(request(3), Time::from_millis(20));
        assert_eq!(p.min_deadline(), Some(Time::from_millis(10)));
        p.expire(Time::from_millis(10), |_| {});
        assert_eq!(p.min_deadline(), Some(Time::from_millis(20)));
        p.claim(c);
        p.expire(Time::from_millis(20), |_| {});
        assert_eq!(p.min_deadline(), Some(Time::from_millis(30)));
        p.expire(Time::from_millis(20) + Duration::from_secs(1), |_| {});
        assert_eq!(p.min_deadline(), None);
    }

    #[test]
    fn a_lost_connection_gives_its_requests_back_in_order() {
        let mut p = Pending::default();
        for n in [5, 1, 3] {
            p.insert(request(n), Time::MAX);
        }
        let order: Vec<u64> = p.drain().iter().map(|r| r.caller_id).collect();
        assert_eq!(order, [1, 3, 5]);
        assert_eq!(p.live(), 0);
    }
}
