//! One connection's requests in flight, and what became of them.
use super::failures::Failures;
use super::schedule::Schedule;
use crate::bolt::{self, Head, Kind, Template};
use crate::stream::Stream;
use hdrhistogram::Histogram;
use std::collections::{HashSet, VecDeque};

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
}

impl Recorder {
    /// In open loop a request belongs to the window it was due in, in closed loop to the one it ended in.
    fn measures(&self, start: u64, now: u64) -> bool {
        self.schedule.measures(if self.schedule.is_open() { start } else { now })
    }

    fn good(&mut self, start: u64, now: u64) {
        self.completed += 1;
        if self.measures(start, now) {
            self.latency.saturating_record(now.saturating_sub(start));
        }
    }

    fn bad(&mut self, start: u64, now: u64, kind: impl FnOnce(&mut Failures) -> &mut u64) {
        self.failed += 1;
        if self.measures(start, now) {
            *kind(&mut self.failures) += 1;
        }
    }

    /// Counts something that is not the end of a request.
    pub(super) fn event(&mut self, now: u64, kind: impl FnOnce(&mut Failures) -> &mut u64) {
        if self.schedule.measures(now) {
            *kind(&mut self.failures) += 1;
        }
    }
}

/// What a reply is checked against.
pub(super) struct Expect {
    /// Whether token and length must be the request's.
    pub(super) echo: bool,
    /// Content length of a reply.
    pub(super) reply_size: usize,
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

/// The peer's bytes make no sense: the connection must go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// Requests in flight, and the place in the schedule.
pub(super) struct InFlight {
    /// Which of the thread's connections it is.
    index: usize,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Busy slots in the order they were sent; for tcp, where replies have no id.
    order: VecDeque<u32>,
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
            order: VecDeque::new(),
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

    /// Appends every Bolt request that may be sent now.
    pub(super) fn fill_bolt(
        &mut self,
        out: &mut Vec<u8>,
        template: &Template,
        schedule: &Schedule,
        now: u64,
    ) {
        while let Some((id, token)) = self.take(schedule, now) {
            template.write(out, id, token);
            if out.len() >= crate::stream::HIGH_WATER {
                break;
            }
        }
    }

    /// Appends every tcp chunk that may be sent now.
    pub(super) fn fill_tcp(&mut self, out: &mut Vec<u8>, size: usize, schedule: &Schedule, now: u64) {
        while let Some((id, token)) = self.take(schedule, now) {
            self.order.push_back(id & self.slot_mask());
            let start = out.len();
            out.resize(start + size, b'x');
            bolt::put_token(&mut out[start..], token);
            if out.len() >= crate::stream::HIGH_WATER {
                break;
            }
        }
    }

    fn slot_mask(&self) -> u32 {
        ((1_u64 << self.id_bits) - 1) as u32
    }

    /// Takes a free slot for the next request, if there is one and it may go.
    fn take(&mut self, schedule: &Schedule, now: u64) -> Option<(u32, u64)> {
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
        Some((id, token))
    }

    /// Takes in the whole Bolt frames of `input`; returns how many bytes they were.
    pub(super) fn replies_bolt(
        &mut self,
        input: &[u8],
        expect: &Expect,
        now: u64,
        rec: &mut Recorder,
    ) -> Result<usize, Broken> {
        let mut used = 0;
        while let Some(head) = Head::parse(&input[used..]).map_err(|_| Broken)? {
            let Some(frame) = input.get(used..used + head.total()) else { break };
            used += frame.len();
            if !bolt::checksum_ok(&head, frame) {
                return Err(Broken);
            }
            // A proxy may send heartbeats and goaways of its own.
            if head.kind == Kind::Response && head.command == 2 {
                self.reply(&head, &frame[head.content()], expect, now, rec);
            }
        }
        Ok(used)
    }

    fn reply(&mut self, head: &Head, content: &[u8], expect: &Expect, now: u64, rec: &mut Recorder) {
        let index = head.id & self.slot_mask();
        let slot = match self.slots.get_mut(index as usize) {
            Some(slot) if slot.busy && slot.id == head.id => slot,
            _ if self.timed_out.remove(&head.id) => return rec.event(now, |f| &mut f.late),
            _ => {
                rec.failed += 1;
                return rec.event(now, |f| &mut f.wrong_id);
            }
        };
        slot.busy = false;
        self.free.push(index);
        if head.status != 0 {
            return rec.bad(slot.start, now, |f| f.status.entry(head.status).or_default());
        }
        if expect.echo && !is_echo(content, slot.token, expect.reply_size) {
            return rec.bad(slot.start, now, |f| &mut f.mismatch);
        }
        rec.good(slot.start, now);
    }

    /// Takes in the whole chunks of `input`; returns how many bytes they were.
    pub(super) fn replies_tcp(
        &mut self,
        input: &[u8],
        size: usize,
        now: u64,
        rec: &mut Recorder,
    ) -> Result<usize, Broken> {
        let chunks = input.chunks_exact(size);
        let used = input.len() - chunks.remainder().len();
        for chunk in chunks {
            let index = self.order.pop_front().ok_or(Broken)?;
            let slot = &mut self.slots[index as usize];
            slot.busy = false;
            self.free.push(index);
            if bolt::has_token(chunk, slot.token) {
                rec.good(slot.start, now);
            } else {
                rec.bad(slot.start, now, |f| &mut f.mismatch);
            }
        }
        Ok(used)
    }

    /// Gives up requests sent before `before`; returns whether there were any.
    pub(super) fn time_out(&mut self, before: u64, now: u64, rec: &mut Recorder) -> bool {
        // Only a peer that never answers gets here; then a late reply is no longer told from a wrong one.
        if self.timed_out.len() > MAX_DEPTH {
            self.timed_out.clear();
        }
        let mut any = false;
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if slot.busy && slot.sent < before {
                slot.busy = false;
                self.free.push(index as u32);
                self.timed_out.insert(slot.id);
                rec.bad(slot.start, now, |f| &mut f.timeout);
                any = true;
            }
        }
        any
    }

    /// The connection is gone, and with it everything in flight.
    pub(super) fn lose(&mut self, now: u64, rec: &mut Recorder) {
        for (index, slot) in self.slots.iter_mut().enumerate().filter(|(_, s)| s.busy) {
            slot.busy = false;
            self.free.push(index as u32);
            rec.bad(slot.start, now, |f| &mut f.connection_lost);
        }
        self.order.clear();
        self.timed_out.clear();
    }

    /// Counts what was due and never sent.
    pub(super) fn end(&mut self, now: u64, rec: &mut Recorder) {
        if rec.schedule.is_open() {
            for n in self.taken..self.due {
                rec.bad(rec.schedule.intended(self.index, n), now, |f| &mut f.unsent);
            }
        }
    }
}

fn is_echo(content: &[u8], token: u64, size: usize) -> bool {
    content.len() == size && bolt::has_token(content, token)
}

/// The next number of a sequence that does not repeat (splitmix64).
fn mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A socket of the generator: not there, being made, or made.
pub(super) enum Link {
    /// To be tried again at a time (nanoseconds since the start).
    Down { retry_at: u64 },
    /// Connecting.
    Connecting(Stream),
    /// Connected.
    Up(Stream),
}

/// A connection: its socket and its requests.
pub(super) struct Connection {
    pub(super) link: Link,
    /// Before the next try after a loss, nanoseconds.
    pub(super) backoff: u64,
    pub(super) flight: InFlight,
}
