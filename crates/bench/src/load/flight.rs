//! One connection's requests in flight, and what became of them.
use super::failures::Failures;
use super::schedule::Schedule;
use super::timeline::Lines;
use hdrhistogram::Histogram;
use std::collections::HashSet;

/// Most requests in flight on one connection: the slot must leave room in a 32-bit id for a generation.
pub(super) const MAX_DEPTH: usize = 1 << 16;

/// Where a thread's results go.
pub(super) struct Recorder {
    pub(super) schedule: Schedule,
    pub(super) latency: Histogram<u64>,
    pub(super) failures: Failures,
    /// All good replies, also outside the measured window.
    pub(super) completed: u64,
    /// All failed requests, also outside the measured window.
    pub(super) failed: u64,
    /// Where every request is told of, if anywhere.
    pub(super) lines: Option<Lines>,
}

impl Recorder {
    pub(super) fn new(schedule: Schedule, latency: Histogram<u64>) -> Recorder {
        Recorder { schedule, latency, failures: Failures::default(), completed: 0, failed: 0, lines: None }
    }

    /// In open loop a request belongs to the window it was due in, in closed loop to the one it ended in.
    fn measures(&self, start: u64, now: u64) -> bool {
        self.schedule.measures(if self.schedule.is_open() { start } else { now })
    }

    fn good(&mut self, start: u64, now: u64) {
        self.completed += 1;
        if let Some(lines) = &mut self.lines {
            lines.good(start, now);
        }
        if self.measures(start, now) {
            self.latency.saturating_record(now.saturating_sub(start));
        }
    }

    /// `whose`: the thread's connection, and the request's id on it.
    fn bad(
        &mut self,
        start: u64,
        now: u64,
        whose: (usize, u32),
        kind: impl FnOnce(&mut Failures) -> &mut u64,
    ) {
        self.failed += 1;
        let mut how = Failures::default();
        *kind(&mut how) += 1;
        if let Some(lines) = &mut self.lines {
            lines.bad(start, now, whose, &how);
        }
        if self.measures(start, now) {
            self.failures.add(&how);
        }
    }

    /// Counts a reply to no request in flight.
    pub(super) fn wrong_id(&mut self, now: u64) {
        self.failed += 1;
        self.event(now, |f| &mut f.wrong_id);
    }

    /// Counts something that is not the end of a request.
    pub(super) fn event(&mut self, now: u64, kind: impl FnOnce(&mut Failures) -> &mut u64) {
        if self.schedule.measures(now) {
            *kind(&mut self.failures) += 1;
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Answered well.
    Good,
    /// Answered with a status other than success.
    Status(u16),
    /// Answered with an exception of the callee.
    Exception,
    /// Answered with a content that is not the request's own.
    Mismatch,
    /// Given up by the peer; the connection goes on.
    Reset,
}

/// A place for one request in flight. Times are nanoseconds since the start of the run.
#[derive(Clone, Copy, Default)]
struct Slot {
    busy: bool,
    id: u32,
    token: u64,
    /// What latency counts from.
    start: u64,
    sent: u64,
}

/// A request that may be sent now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    /// Differs from those of all others in flight on the connection.
    pub(super) id: u32,
    /// What its content begins with.
    pub(super) token: u64,
}

/// Requests in flight, and the place in the schedule.
pub(super) struct InFlight {
    /// Which of the thread's connections it is.
    index: usize,
    slots: Vec<Slot>,
    free: Vec<u32>,
    timed_out: HashSet<u32>,
    id_bits: u32,
    /// Requests whose intended time has come.
    pub(super) due: u64,
    /// Requests sent.
    taken: u64,
    next_token: u64,
}

impl InFlight {
    pub(super) fn new(index: usize, depth: usize, seed: u64) -> InFlight {
        let depth = depth.min(MAX_DEPTH) as u32;
        InFlight {
            index,
            slots: vec![Slot::default(); depth as usize],
            free: (0..depth).rev().collect(),
            timed_out: HashSet::new(),
            id_bits: u32::BITS - (depth - 1).leading_zeros(),
            due: 0,
            taken: 0,
            next_token: seed,
        }
    }

    pub(super) fn busy(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Due, but not sent.
    pub(super) fn waiting(&self) -> u64 {
        self.due - self.taken.min(self.due)
    }

    fn slot_mask(&self) -> u32 {
        ((1_u64 << self.id_bits) - 1) as u32
    }

    /// Takes a free slot for the next request, if there is one and it may go.
    pub(super) fn take(&mut self, schedule: &Schedule, now: u64) -> Option<Ticket> {
        if schedule.is_open() && self.taken >= self.due {
            return None;
        }
        let index = self.free.pop()?;
        let start = if schedule.is_open() { schedule.intended(self.index, self.taken) } else { now };
        self.taken += 1;
        let slot = &mut self.slots[index as usize];
        let generation = (u64::from(slot.id) >> self.id_bits) + 1;
        let id = (generation << self.id_bits) as u32 | index;
        let token = mix(&mut self.next_token);
        *slot = Slot { busy: true, id, token, start, sent: now };
        Some(Ticket { id, token })
    }

    /// What the content of the request with this id begins with; `None` if it is not in flight.
    pub(super) fn token(&self, id: u32) -> Option<u64> {
        let slot = self.slots.get((id & self.slot_mask()) as usize)?;
        (slot.busy && slot.id == id).then_some(slot.token)
    }

    /// A reply came: ends its request, which must be in flight or have been given up.
    pub(super) fn end(&mut self, id: u32, outcome: Outcome, now: u64, rec: &mut Recorder) {
        let index = id & self.slot_mask();
        let slot = match self.slots.get_mut(index as usize) {
            Some(slot) if slot.busy && slot.id == id => slot,
            _ if self.timed_out.remove(&id) => return rec.event(now, |f| &mut f.late),
            _ => return rec.wrong_id(now),
        };
        slot.busy = false;
        self.free.push(index);
        let whose = (self.index, id);
        match outcome {
            Outcome::Good => rec.good(slot.start, now),
            Outcome::Status(n) => rec.bad(slot.start, now, whose, |f| f.status.entry(n).or_default()),
            Outcome::Exception => rec.bad(slot.start, now, whose, |f| &mut f.exception),
            Outcome::Mismatch => rec.bad(slot.start, now, whose, |f| &mut f.mismatch),
            Outcome::Reset => rec.bad(slot.start, now, whose, |f| &mut f.reset),
        }
    }

    /// Gives up requests sent before `before`; returns their ids.
    pub(super) fn time_out(&mut self, before: u64, now: u64, rec: &mut Recorder) -> Vec<u32> {
        // Only a peer that never answers gets here; then a late reply is no longer told from a wrong one.
        if self.timed_out.len() > MAX_DEPTH {
            self.timed_out.clear();
        }
        let mut ids = Vec::new();
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.busy && slot.sent < before {
                slot.busy = false;
                self.free.push(index as u32);
                self.timed_out.insert(slot.id);
                rec.bad(slot.start, now, (self.index, slot.id), |f| &mut f.timeout);
                ids.push(slot.id);
            }
        }
        ids
    }

    /// The connection is gone, and with it everything in flight.
    pub(super) fn lose(&mut self, now: u64, rec: &mut Recorder) {
        for (index, slot) in self.slots.iter_mut().enumerate().filter(|(_, s)| s.busy) {
            slot.busy = false;
            self.free.push(index as u32);
            rec.bad(slot.start, now, (self.index, slot.id), |f| &mut f.connection_lost);
        }
        self.timed_out.clear();
    }

    /// Counts what was due and never sent.
    pub(super) fn finish(&mut self, now: u64, rec: &mut Recorder) {
        if rec.schedule.is_open() {
            for n in self.taken..self.due {
                rec.bad(rec.schedule.intended(self.index, n), now, (self.index, 0), |f| &mut f.unsent);
            }
        }
    }
}

/// The next number of a sequence that does not repeat (splitmix64).
fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
