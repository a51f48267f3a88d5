//! What a sidecar may let through of one rule, shared by its workers without a lock.
use super::{GAP, HELD, HELD_MOST, STRANGER};
use raddle_core::Time;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// A request's time in sixteenths of a nanosecond: ten million a second divide without error that counts.
const FINE: u64 = 16;
/// No request at all.
const NEVER: u64 = u64::MAX;
/// A worker takes what comes in this time at once,
const CHUNK: Duration = Duration::from_millis(2);
/// at most so many,
const CHUNK_MOST: u64 = 32;
/// and forgets what it did not use for this long.
const KEPT: Duration = Duration::from_millis(20);
/// What may come at once: so long of the rate, or `BURST_FEW` requests, but not more than `BURST_LONG` of it.
const BURST: Duration = Duration::from_millis(50);
const BURST_FEW: u64 = 16;
const BURST_LONG: Duration = Duration::from_millis(500);

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// It passes.
    Taken,
    /// It does not.
    Refused,
    /// It is not known yet: tokens must be asked for. Hold the request for this long, or until tokens have come, and
    /// then ask [`Tap::settle`].
    Later(Duration),
}

/// A rate as time for one request and the longest time that may be saved up.
#[derive(Debug)]
struct Pace {
    cost: AtomicU64,
    burst: AtomicU64,
}

impl Pace {
    fn new(rate: f64) -> Pace {
        let pace = Pace { cost: AtomicU64::new(NEVER), burst: AtomicU64::new(0) };
        pace.set(rate);
        pace
    }

    fn set(&self, rate: f64) {
        let cost = if rate > 0.0 { (1e9 * FINE as f64 / rate).min(1e18) as u64 } else { NEVER };
        let few = cost.saturating_mul(BURST_FEW).min(fine(BURST_LONG));
        self.burst.store(few.max(fine(BURST)).max(cost), Relaxed);
        self.cost.store(cost, Relaxed);
    }

    fn rate(&self) -> f64 {
        match self.cost.load(Relaxed) {
            NEVER => 0.0,
            cost => 1e9 * FINE as f64 / cost as f64,
        }
    }

    /// Takes up to a chunk of what has come since `spent` or `from`; how many.
    fn take(&self, spent: &AtomicU64, from: u64, now: u64, most: u64) -> u64 {
        let cost = self.cost.load(Relaxed);
        if cost == NEVER {
            return 0;
        }
        let oldest = now.saturating_sub(self.burst.load(Relaxed)).max(from);
        let chunk = (fine(CHUNK) / cost.max(1)).clamp(1, most);
        let mut got = 0;
        let took = spent.fetch_update(Relaxed, Relaxed, |spent| {
            let spent = spent.max(oldest);
            got = (now.saturating_sub(spent) / cost.max(1)).min(chunk);
            (got > 0).then(|| spent + got * cost)
        });
        if took.is_ok() { got } else { 0 }
    }
}

/// What one worker counted; it alone writes.
#[derive(Debug, Default)]
struct Cell {
    seen: AtomicU64,
    used: AtomicU64,
}

/// What all workers of a sidecar may let through of one rule. The one [`super::Client`] writes it.
#[derive(Debug)]
pub struct Pot {
    /// The lease, when it was first held, and when it ends; 0 = there was none.
    lease: Pace,
    from: AtomicU64,
    until: AtomicU64,
    /// The smaller of lease and safe share, and the safe share.
    gap: Pace,
    safe: Pace,
    /// Up to when the time of lease and gap, and that of the safe share, is spent.
    spent: AtomicU64,
    spent_safe: AtomicU64,
    /// Milliseconds until which tokens are good, 16 bits of how many.
    tokens: AtomicU64,
    /// No tokens are to be had until then.
    barred: AtomicU64,
    /// Requests that wait for tokens; those let through in place of tokens that did not come in time.
    asks: AtomicU32,
    borrowed: AtomicU32,
    /// Since when nobody has answered those who asked; `NEVER` = they were.
    unheard: AtomicU64,
    /// How long answers take, nanoseconds.
    took: AtomicU64,
    /// Each worker's counts, and those of workers that have ended.
    cells: Mutex<Vec<Arc<Cell>>>,
    gone: Cell,
}

/// A pot, for people.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PotView {
    /// Requests a second that the lease allows; 0 = by tokens, or none.
    pub lease: f64,
    /// Requests a second without a server.
    pub safe: f64,
    /// `lease`, `tokens`, `gap` or `safe`: by what it is decided now.
    pub by: &'static str,
    /// Requests that came.
    pub seen: u64,
    /// Requests let through.
    pub used: u64,
}

impl Pot {
    /// A pot of a rule of which nothing is known but its limit, requests a second.
    pub fn new(limit: f64) -> Pot {
        Pot {
            lease: Pace::new(0.0),
            from: AtomicU64::new(0),
            until: AtomicU64::new(0),
            gap: Pace::new(0.0),
            safe: Pace::new(limit * STRANGER),
            spent: AtomicU64::new(0),
            spent_safe: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
            barred: AtomicU64::new(0),
            asks: AtomicU32::new(0),
            borrowed: AtomicU32::new(0),
            unheard: AtomicU64::new(NEVER),
            took: AtomicU64::new(0),
            cells: Mutex::default(),
            gone: Cell::default(),
        }
    }

    /// Requests that came and that were let through.
    pub fn counts(&self) -> (u64, u64) {
        let cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
        let all = || cells.iter().map(|c| &**c).chain([&self.gone]);
        let sum = |of: fn(&Cell) -> &AtomicU64| all().map(|c| of(c).load(Relaxed)).sum();
        (sum(|c| &c.seen), sum(|c| &c.used))
    }

    /// How it is.
    pub fn view(&self, now: Time) -> PotView {
        let by = match self.phase(fine_at(now)) {
            Phase::Lease if self.lease.cost.load(Relaxed) == NEVER => "tokens",
            Phase::Lease => "lease",
            Phase::Gap => "gap",
            Phase::Safe => "safe",
        };
        let (seen, used) = self.counts();
        PotView { lease: self.lease.rate(), safe: self.safe.rate(), by, seen, used }
    }

    /// Requests a second let through at most now, but for tokens.
    pub(super) fn holding(&self, now: Time) -> f64 {
        match self.phase(fine_at(now)) {
            Phase::Lease => self.lease.rate(),
            Phase::Gap => self.gap.rate(),
            Phase::Safe => self.safe.rate(),
        }
    }

    /// Whether a lease holds, of nothing perhaps: whether tokens are asked for.
    pub(super) fn decided_by_lease(&self, now: Time) -> bool {
        self.phase(fine_at(now)) == Phase::Lease
    }

    /// Nobody answers any more. What was lent meanwhile was the safe share that it may use then.
    pub(super) fn forget_asks(&self) {
        self.asks.store(0, Relaxed);
        self.borrowed.store(0, Relaxed);
    }

    /// Whether a lease was given last, rather than tokens.
    pub(super) fn leased(&self) -> bool {
        self.lease.cost.load(Relaxed) != NEVER
    }

    /// The safe share is this from now on; the lease stays.
    pub(super) fn lower(&self, safe: f64) {
        self.gap.set(self.gap.rate().min(safe));
        self.safe.set(safe);
    }

    /// Another lease.
    pub(super) fn hold(&self, rate: f64, safe: f64, until: Time, now: Time) {
        let (until, at) = (fine_at(until), fine_at(now));
        // A new lease begins empty: what was not used without one is nobody's.
        if self.lease.cost.load(Relaxed) == NEVER || self.until.load(Relaxed) <= at {
            self.from.store(at, Relaxed);
        }
        self.lease.set(rate);
        self.gap.set(rate.min(safe));
        self.safe.set(safe);
        self.until.store(until, Relaxed);
    }

    /// Tokens that came, good until then.
    pub(super) fn fill(&self, tokens: u32, until: Time) {
        let owed = self.borrowed.load(Relaxed).min(tokens);
        self.borrowed.fetch_sub(owed, Relaxed);
        let fresh = u64::from(tokens - owed);
        let merge = |old: u64| {
            let ends = until.as_millis();
            // What is left of those before is good for as long as the newest, which is at most a batch.
            let left = if old >> 16 > ends.saturating_sub(super::TOKEN.as_millis() as u64) {
                old & 0xffff
            } else {
                0
            };
            Some(ends << 16 | (fresh + left).min(0xffff))
        };
        let _ = self.tokens.fetch_update(Relaxed, Relaxed, merge);
        self.answered();
    }

    /// There are no tokens until then.
    pub(super) fn bar(&self, until: Time) {
        self.barred.store(fine_at(until), Relaxed);
        self.answered();
    }

    /// The question of `sent` is answered. What was lent while others before it were not is not made up for: it was the
    /// share of who is alone.
    pub(super) fn heard(&self, sent: Time, now: Time) {
        let took = u64::try_from(now.since(sent).as_nanos()).unwrap_or(u64::MAX);
        let before = self.took.load(Relaxed);
        // A slow answer counts at once, a fast one in time.
        self.took.store(took.max(before - before / 8), Relaxed);
        if self.unheard.load(Relaxed).saturating_add(fine(super::TOKEN)) <= fine_at(sent) {
            self.borrowed.store(0, Relaxed);
        }
    }

    /// How long a request waits for tokens: where answers come from afar, until they come.
    fn patience(&self) -> Duration {
        Duration::from_nanos(self.took.load(Relaxed).saturating_mul(2)).clamp(HELD, HELD_MOST)
    }

    fn answered(&self) {
        self.asks.store(0, Relaxed);
        self.unheard.store(NEVER, Relaxed);
    }

    /// How many requests wait for tokens.
    pub fn asks(&self) -> u32 {
        self.asks.load(Relaxed)
    }

    /// Whether a waiting request would be decided now.
    pub fn decided(&self, now: Time) -> bool {
        let word = self.tokens.load(Relaxed);
        (word & 0xffff > 0 && word >> 16 > now.as_millis()) || self.barred.load(Relaxed) > fine_at(now)
    }

    fn phase(&self, now: u64) -> Phase {
        let until = self.until.load(Relaxed);
        if now < until {
            Phase::Lease
        } else if until > 0 && now < until.saturating_add(fine(GAP)) {
            Phase::Gap
        } else {
            Phase::Safe
        }
    }

    fn token(&self, now: Time) -> bool {
        let took = self.tokens.fetch_update(Relaxed, Relaxed, |word| {
            (word & 0xffff > 0 && word >> 16 > now.as_millis()).then(|| word - 1)
        });
        took.is_ok()
    }

    /// By the time: a chunk of lease, gap or safe share; or whether tokens are to be had.
    fn chunk(&self, now: Time) -> Result<u64, Phase> {
        let at = fine_at(now);
        let phase = self.phase(at);
        let got = match phase {
            Phase::Lease => self.lease.take(&self.spent, self.from.load(Relaxed), at, CHUNK_MOST),
            Phase::Gap => self.gap.take(&self.spent, self.from.load(Relaxed), at, 1),
            // Empty when it begins: many begin at once.
            Phase::Safe => self.safe.take(&self.spent_safe, self.until.load(Relaxed), at, 1),
        };
        if got > 0 { Ok(got) } else { Err(phase) }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Phase {
    Lease,
    Gap,
    Safe,
}

/// One worker's way to a pot.
#[derive(Debug)]
pub struct Tap {
    pot: Arc<Pot>,
    cell: Arc<Cell>,
    kept: u64,
    kept_until: Time,
}

impl Tap {
    /// A way to this pot.
    pub fn new(pot: Arc<Pot>) -> Tap {
        let cell = Arc::new(Cell::default());
        pot.cells.lock().unwrap_or_else(PoisonError::into_inner).push(cell.clone());
        Tap { pot, cell, kept: 0, kept_until: Time::ZERO }
    }

    /// The pot.
    pub fn pot(&self) -> &Arc<Pot> {
        &self.pot
    }

    /// Whether a request passes now.
    pub fn try_take(&mut self, now: Time) -> Take {
        add(&self.cell.seen);
        if self.kept > 0 && now < self.kept_until {
            self.kept -= 1;
            return self.taken();
        }
        match self.pot.chunk(now) {
            Ok(got) => {
                (self.kept, self.kept_until) = (got - 1, now + KEPT);
                self.taken()
            }
            Err(Phase::Lease) if self.pot.token(now) => self.taken(),
            Err(Phase::Lease) if self.pot.barred.load(Relaxed) <= fine_at(now) => {
                self.pot.asks.fetch_add(1, Relaxed);
                self.pot.unheard.fetch_min(fine_at(now), Relaxed);
                Take::Later(self.pot.patience())
            }
            Err(_) => Take::Refused,
        }
    }

    /// Whether a request passes that waited: by tokens that have come, else, if the server said nothing, by the safe
    /// share; tokens that come later make up for it.
    pub fn settle(&mut self, now: Time) -> bool {
        let at = fine_at(now);
        if self.pot.token(now) {
            self.taken();
            return true;
        }
        // Who has a lease has it already.
        if self.pot.barred.load(Relaxed) > at || self.pot.leased() {
            return false;
        }
        // Its safe share of the time since it last reported, or since nobody answers.
        let reported = self.pot.until.load(Relaxed).saturating_sub(fine(super::LEASE));
        let from = reported.min(self.pot.unheard.load(Relaxed));
        let lent = self.pot.safe.take(&self.pot.spent_safe, from, at, 1) > 0;
        if lent {
            self.pot.borrowed.fetch_add(1, Relaxed);
            self.taken();
        }
        lent
    }

    fn taken(&self) -> Take {
        add(&self.cell.used);
        Take::Taken
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        // What it counted stays: the sums must not go back.
        let mut cells = self.pot.cells.lock().unwrap_or_else(PoisonError::into_inner);
        cells.retain(|c| !Arc::ptr_eq(c, &self.cell));
        self.pot.gone.seen.fetch_add(self.cell.seen.load(Relaxed), Relaxed);
        self.pot.gone.used.fetch_add(self.cell.used.load(Relaxed), Relaxed);
    }
}

/// Adds one to a counter that nobody else writes.
fn add(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed) + 1, Relaxed);
}

fn fine(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX).saturating_mul(FINE)
}

fn fine_at(t: Time) -> u64 {
    t.as_nanos().saturating_mul(FINE)
}
