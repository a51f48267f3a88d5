//! A worker's part: a few loads and comparisons for each request, nothing shared written but its own cells.
use super::board::{Board, CLASSES};
use super::orders::{Orders, Term, Tier};
use super::{InterfaceId, Why};
use crate::rng::Rng;
use raddle_core::Time;
use raddle_model::Priority;
use std::sync::Arc;
use std::time::Duration;

/// How long a worker goes by what it last read of the others' queues.
const LOOK_EVERY: Duration = Duration::from_millis(1);
/// What a bucket holds: so many seconds of its rate, and so many requests at least. A bucket of one request would lose
/// what comes in while it is full and the next request is yet to come: a quarter of a rate of few requests a second.
/// That these do not come all at once is the queue's business.
const BURST: f64 = 0.3;
const FEW: f64 = 2.0;
/// Share of `critical` that passes in any case.
const CRITICAL: f32 = 0.1;

/// A worker's part.
#[derive(Debug)]
pub struct Gate {
    board: Arc<Board>,
    worker: usize,
    generation: u64,
    orders: Arc<Orders>,
    /// CPU seconds that this worker's requests in flight want.
    busy: f64,
    /// What those of the others want, and when that was read.
    others: f64,
    looked: Time,
    /// By interface; empty until something is held.
    places: Vec<Place>,
}

/// What a worker keeps for an interface that is held.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    tokens: f64,
    filled: Time,
    owed: [f32; CLASSES],
}

impl Gate {
    /// The gate of the worker with this index. One gate for each worker: it alone writes the worker's cells.
    pub fn new(board: Arc<Board>, worker: usize) -> Gate {
        let worker = worker.min(board.workers() - 1);
        let mut gate = Gate {
            generation: 0,
            orders: Arc::default(),
            busy: 0.0,
            others: 0.0,
            looked: Time::ZERO,
            places: Vec::new(),
            board,
            worker,
        };
        gate.heed();
        gate
    }

    /// Whether a request may pass. It counts as offered in any case; one that passes must be completed.
    ///
    /// Allocates nothing, but for the first request of an interface's page, and for the first that finds new orders
    /// (once a second at most) if there are more interfaces than before.
    ///
    /// # Errors
    /// Why it may not. With `mode: observe` ([`Board::observes`]) as well: whoever asks lets it pass then and still
    /// completes it.
    pub fn admit(
        &mut self,
        id: InterfaceId,
        priority: Priority,
        now: Time,
        rng: &mut Rng,
    ) -> Result<(), Why> {
        if self.board.generation() != self.generation {
            self.heed();
        }
        let verdict = self.judge(id, priority, now, rng);
        let cell = self.board.cell(self.worker, id);
        cell.offer(priority);
        if let Err(why) = verdict {
            cell.refuse(why);
        }
        if verdict.is_ok() || self.board.observes() {
            cell.enter();
            self.busy += self.orders.cost(id);
            self.board.publish_busy(self.worker, self.busy);
        }
        verdict
    }

    /// A request that passed has ended: after how long, with what CPU time if the app said so.
    pub fn complete(&mut self, id: InterfaceId, latency: Duration, cost: Option<Duration>, failed: bool) {
        let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX).min(1 << 40);
        let cell = self.board.cell(self.worker, id);
        cell.end(micros(latency), cost.map(micros), failed);
        if cell.leave() {
            self.busy = (self.busy - self.orders.cost(id)).max(0.0);
            self.board.publish_busy(self.worker, self.busy);
        }
    }

    /// A request that passed got nowhere: it was refused further on, or there was nobody to send it to.
    pub fn withdraw(&mut self, id: InterfaceId) {
        if self.board.cell(self.worker, id).leave() {
            self.busy = (self.busy - self.orders.cost(id)).max(0.0);
            self.board.publish_busy(self.worker, self.busy);
        }
    }

    /// How long the app will work at what all workers have in flight, in seconds, by the controller's estimates.
    pub fn queue(&mut self, now: Time) -> f64 {
        if now.since(self.looked) >= LOOK_EVERY {
            self.looked = now;
            self.others = self.board.busy_but(self.worker);
        }
        (self.busy + self.others) / self.orders.cores
    }

    /// Takes the orders in force. What is in flight is counted anew, as costs may have changed.
    fn heed(&mut self) {
        self.generation = self.board.generation();
        self.orders = self.board.orders();
        self.busy = self.board.wanted(self.worker, &self.orders);
        self.board.publish_busy(self.worker, self.busy);
        if !self.orders.holds.is_empty() && self.places.len() < self.orders.terms.len() {
            self.places.resize(self.orders.terms.len(), Place::default());
        }
    }

    fn judge(&mut self, id: InterfaceId, priority: Priority, now: Time, rng: &mut Rng) -> Result<(), Why> {
        let queue = self.queue(now);
        let orders = &*self.orders;
        if priority == Priority::LoadTest
            && (orders.mark_pass <= 0.0
                || queue > orders.mark_queue
                || (orders.mark_pass < 1.0 && rng.unit() >= orders.mark_pass))
        {
            return Err(Why::Marked);
        }
        if queue > orders.guard_queue && guarded(&self.board, orders, id, queue, now) {
            return Err(Why::Guard);
        }
        if orders.tier == Tier::Idle {
            return Ok(());
        }
        let Some((at, hold)) = orders.hold(id) else { return Ok(()) };
        let Some(place) = self.places.get_mut(id as usize) else { return Ok(()) };
        // Large requests make a queue of themselves where nobody waits: as long as one takes, with one on each core. One
        // core is left to others.
        let alone = (orders.cores - 1.0).max(2.0);
        let full = orders.gate_queue + alone * orders.cost(id) / orders.cores;
        if orders.tier == Tier::Culprits {
            if queue > full && priority != Priority::Critical {
                return Err(Why::Culprit);
            }
            let rate = orders.rate_of(at, self.worker, self.board.workers());
            return if place.draw(rate, priority, now) { Ok(()) } else { Err(Why::Culprit) };
        }
        let patience = match priority {
            Priority::LoadTest => 0.25,
            Priority::Batch => 0.5,
            Priority::Normal => 1.0,
            Priority::Critical => 2.0,
        };
        let share = if queue > full * patience { 0.0 } else { hold.pass[priority as usize] };
        if place.turn(share, priority) { Ok(()) } else { Err(Why::Overload) }
    }
}

impl Place {
    /// Takes a token. The lower the class, the more it leaves to others; the highest may draw on what is to come.
    fn draw(&mut self, rate: f64, priority: Priority, now: Time) -> bool {
        let most = (rate * BURST).max(FEW);
        let gained = now.since(self.filled).as_secs_f64() * rate;
        self.filled = self.filled.max(now);
        self.tokens = (self.tokens + gained).min(most);
        let left = match priority {
            Priority::LoadTest | Priority::Batch => (most - 1.0) * 0.5,
            Priority::Normal => 0.0,
            Priority::Critical => -most * 0.5,
        };
        if self.tokens - 1.0 >= left {
            self.tokens -= 1.0;
            return true;
        }
        priority == Priority::Critical && self.turn(0.0, priority)
    }

    /// Whether it is this one's turn, if this share passes: within one of the share of all.
    fn turn(&mut self, share: f32, priority: Priority) -> bool {
        let share = if priority == Priority::Critical { share.max(CRITICAL) } else { share };
        let owed = &mut self.owed[priority as usize];
        *owed = (*owed + share).min(1.0 + share);
        if *owed < 1.0 {
            return false;
        }
        *owed -= 1.0;
        true
    }
}

/// Whether an interface has far more in flight than usual, and more than the shortage itself explains.
fn guarded(board: &Board, orders: &Orders, id: InterfaceId, queue: f64, now: Time) -> bool {
    let Some(term) = orders.term(id) else { return false };
    let (offered, inflight) = board.crowd(id);
    let (inflight, usual) = (f64::from(inflight), f64::from(term.inflight));
    let sure = inflight - 3.5 * inflight.sqrt();
    if sure < 4.0 * usual {
        return false;
    }
    // When the app stands still, everybody's requests pile up as they come. When one's requests cost more, its own do.
    let part = sure * f64::from(term.cost) / (queue * orders.cores);
    surges(term, offered, orders, now) || part > (3.0 * f64::from(term.share)).max(0.3)
}

/// Whether more than usual is offered than chance explains, since the last orders or those before.
fn surges(term: &Term, offered: u32, orders: &Orders, now: Time) -> bool {
    let since = |seen: u32, at: Time| {
        let time = now.since(at).as_secs_f64().min(5.0);
        let (came, usual) = (f64::from(offered.wrapping_sub(seen)), f64::from(term.rate) * time);
        came > 2.0 * usual && came - usual > 6.0 * usual.sqrt() + 5.0
    };
    since(term.seen, orders.at) || since(term.seen_before, orders.before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn turns_come_within_one_of_the_share_of_all(share in 0.0f32..=1.0, n in 1u32..2000) {
            let mut place = Place::default();
            let passed = (0..n).filter(|_| place.turn(share, Priority::Normal)).count() as f32;
            prop_assert!((passed - share * n as f32).abs() <= 1.01, "{} of {} at {}", passed, n, share);
        }

        #[test]
        fn a_tenth_of_the_critical_passes_whatever_the_share(share in 0.0f32..=1.0, n in 10u32..2000) {
            let mut place = Place::default();
            let passed = (0..n).filter(|_| place.turn(share, Priority::Critical)).count() as f32;
            prop_assert!(passed >= CRITICAL * n as f32 - 1.01);
        }

        #[test]
        fn a_bucket_passes_no_more_than_its_rate_and_what_it_holds(rate in 0.1f64..500.0, seconds in 1u64..20) {
            let mut place = Place::default();
            let at = |ms: u64| Time::from_nanos(1_000_000_000 + ms * 1_000_000);
            let passed = (0..seconds * 1000).filter(|ms| place.draw(rate, Priority::Normal, at(*ms))).count();
            prop_assert!(passed as f64 <= rate * seconds as f64 + (rate * BURST).max(FEW) + 1.0);
        }
    }
}
