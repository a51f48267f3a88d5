//! So many requests in a time, over all workers: the generic cell rate algorithm (ITU-T I.371) on one shared word.
//!
//! The word is when the bucket will be full again, so nothing has to tick: time passing fills it. A worker takes a
//! *chunk* of tokens at a time and keeps what it does not need at once. What all of them may keep is taken off the
//! burst, so that over any time `t` no more than `rate · t + burst` requests pass, whoever they came to; and what they
//! keep, at most a sixteenth of the burst, is all that can be missing.
//!
//! Pacing is the same word read otherwise: the next free slot. A request reserves it and waits until then, so that
//! requests leave evenly over all workers.
//!
//! Warming up follows Guava's `SmoothWarmingUp`: permits are stored while nothing is asked for, and what is taken out of
//! a full store costs up to three times the time.
use super::Again;
use raddle_core::Time;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Parts of a nanosecond that times here are counted in: a rate of millions a second must not be rounded.
const FINE: u64 = 64;
/// The longest duration here, such that a moment and a few of them do not overflow: some 200 days.
const LONGEST: u64 = u64::MAX / 16;
/// The last moment: a process that runs for more than four years has limits that stand still.
const LAST: u64 = u64::MAX / 2;
/// Stored permits are counted in these parts of one.
const PARTS: f64 = 1024.0;
/// Most tokens a worker takes at a time.
const CHUNK_MOST: u32 = 64;
/// Part of a burst that workers may keep.
const KEPT_PART: u32 = 16;
/// While it may have to warm up, a rate has at most the burst of this part of a second.
const WARM_BURST: f64 = 0.1;

fn fine(time: Time) -> u64 {
    time.as_nanos().min(LAST / FINE) * FINE
}

fn fine_duration(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX).min(LONGEST / FINE) * FINE
}

/// A rate, as decisions need it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pace {
    /// Time of a token; `None` = none is given.
    interval: Option<u64>,
    /// Tokens at once.
    burst: u32,
    warm: Option<Warm>,
}

/// The curve of a rate that has to warm up, in permits.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Warm {
    /// Stored beyond this, they are dear.
    threshold: f64,
    most: f64,
}

impl Pace {
    pub(crate) fn new(per_second: f64, burst: u32, warm_up: Option<Duration>) -> Pace {
        let interval = (per_second > 0.0).then(|| {
            // Rounded up: never faster than said.
            let interval = (1e9 * FINE as f64 / per_second).ceil();
            if interval < LONGEST as f64 { (interval as u64).max(1) } else { LONGEST }
        });
        let warm = warm_up.zip(interval).map(|(time, interval)| {
            let most = fine_duration(time) as f64 / interval as f64;
            Warm { threshold: most / 2.0, most }
        });
        let burst = match warm {
            Some(_) => burst.min((per_second * WARM_BURST) as u32),
            None => burst,
        };
        Pace { interval, burst: burst.max(1), warm }
    }

    /// Whether it gives nothing at all.
    pub(crate) fn never(&self) -> bool {
        self.interval.is_none()
    }

    /// How many tokens each of so many workers takes at a time; 1 = it keeps none.
    pub(crate) fn chunk(&self, workers: u32) -> u32 {
        let Some(interval) = self.interval else { return 1 };
        // Nobody keeps more than the rate gives in a millisecond.
        let millisecond = (1_000_000 * FINE / interval).min(u64::from(CHUNK_MOST)) as u32;
        (self.burst / KEPT_PART / workers.max(1)).min(millisecond).max(1)
    }

    /// Time of a whole bucket of which `kept` tokens are elsewhere.
    fn room(&self, interval: u64, kept: u32) -> u64 {
        u64::from(self.burst.saturating_sub(kept).max(1)).saturating_mul(interval).min(LONGEST)
    }

    /// What a token costs now, from 0 = warm to 1 = cold.
    fn cost(interval: u64, cold: f64) -> u64 {
        if cold > 0.0 { interval + (2.0 * interval as f64 * cold) as u64 } else { interval }
    }
}

/// Takes up to `want` tokens; says how many, and what the word was.
fn draw(word: &AtomicU64, now: u64, cost: u64, room: u64, want: u32) -> Option<(u32, u64)> {
    let mut n = 0;
    let before = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |full_at| {
        let base = full_at.max(now);
        n = ((now + room).saturating_sub(base) / cost).min(u64::from(want));
        (n > 0).then(|| base + n * cost)
    });
    before.ok().map(|before| (n as u32, before))
}

/// How long it takes until there is a token.
fn missing(word: &AtomicU64, now: u64, cost: u64, room: u64) -> Again {
    let full_at = word.load(Ordering::Relaxed).max(now).saturating_add(cost);
    Again::In(Duration::from_nanos(full_at.saturating_sub(now + room).div_ceil(FINE)))
}

/// A bucket with nothing beside its word, for one of many values.
pub(crate) struct Bare<'w>(pub(crate) &'w AtomicU64);

impl Bare<'_> {
    /// Whether it is full: then it need not be kept.
    pub(crate) fn is_full(&self, now: Time) -> bool {
        self.0.load(Ordering::Relaxed) <= fine(now)
    }

    /// Takes a token. What is used beyond the whole bucket, since the rate was another one, is forgotten.
    pub(crate) fn take(&self, pace: &Pace, now: Time) -> bool {
        let Some(interval) = pace.interval else { return false };
        let (now, room) = (fine(now), pace.room(interval, 0));
        // Workers' clocks differ by less than a second.
        let most = now + room + 1_000_000_000 * FINE;
        let used = self.0.load(Ordering::Relaxed);
        if used > most {
            let _ = self.0.compare_exchange(used, now + room, Ordering::Relaxed, Ordering::Relaxed);
            return false;
        }
        draw(self.0, now, interval, room, 1).is_some()
    }

    /// When there is a token, if nobody else takes it.
    pub(crate) fn again(&self, pace: &Pace, now: Time) -> Again {
        let Some(interval) = pace.interval else { return Again::Never };
        missing(self.0, fine(now), interval, pace.room(interval, 0))
    }

    /// Gives back the token taken last.
    pub(crate) fn give(&self, pace: &Pace) {
        let Some(interval) = pace.interval else { return };
        let back = |full_at: u64| Some(full_at.saturating_sub(interval));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, back);
    }

    /// The share of the burst that is there.
    pub(crate) fn level(&self, pace: &Pace, now: Time) -> f64 {
        let Some(interval) = pace.interval else { return 0.0 };
        let used = self.0.load(Ordering::Relaxed).saturating_sub(fine(now));
        (1.0 - used as f64 / pace.room(interval, 0) as f64).clamp(0.0, 1.0)
    }
}

/// What all workers share of a rate.
#[derive(Debug)]
pub(crate) struct Meter {
    /// When the bucket is full again, or the next free slot.
    word: AtomicU64,
    /// Stored permits.
    stored: AtomicU64,
    /// Of which pace the word is: workers hear of a new one at different times.
    version: AtomicU64,
    interval: AtomicU64,
}

impl Default for Meter {
    /// Full, and cold.
    fn default() -> Meter {
        Meter {
            word: AtomicU64::new(0),
            stored: AtomicU64::new(u64::MAX),
            version: AtomicU64::new(0),
            interval: AtomicU64::new(0),
        }
    }
}

/// A slot that was reserved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Slot {
    pub(crate) wait: Duration,
    taken: Change,
}

/// What taking something changed, so that it can be undone.
#[derive(Clone, Copy, Debug, Default)]
struct Change {
    word: (u64, u64),
    stored: (u64, u64),
}

impl Meter {
    /// Takes up to `want` tokens; `kept` tokens of the burst are not given, as workers keep that many.
    #[cfg(test)]
    pub(crate) fn take(&self, pace: &Pace, now: Time, want: u32, kept: u32) -> u32 {
        self.draw(pace, now, want, kept).map_or(0, |(n, _)| n)
    }

    fn draw(&self, pace: &Pace, now: Time, want: u32, kept: u32) -> Option<(u32, Change)> {
        let interval = pace.interval?;
        let now = fine(now);
        let cost = Pace::cost(interval, self.cold(pace)).min(LONGEST);
        let room = pace.room(interval, kept).max(cost);
        let (n, before) = draw(&self.word, now, cost, room, want)?;
        let stored = self.account(pace, interval, now.saturating_sub(before), n);
        Some((n, Change { word: (before, before.max(now) + u64::from(n) * cost), stored }))
    }

    /// When a token is there, of which workers keep `kept`, if nobody else takes it.
    pub(crate) fn again(&self, pace: &Pace, now: Time, kept: u32) -> Again {
        let Some(interval) = pace.interval else { return Again::Never };
        let cost = Pace::cost(interval, self.cold(pace)).min(LONGEST);
        missing(&self.word, fine(now), cost, pace.room(interval, kept).max(cost))
    }

    /// When the next slot is near enough to wait for it, at most `most`.
    pub(crate) fn slot_again(&self, pace: &Pace, now: Time, most: Duration) -> Again {
        if pace.never() {
            return Again::Never;
        }
        Again::In(self.queue(now).saturating_sub(most))
    }

    /// All is as it was before something was taken, if nobody has taken anything since; says whether it is.
    fn undo(&self, taken: Change) -> bool {
        let back = |word: &AtomicU64, (before, after)| {
            word.compare_exchange(after, before, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        };
        let alone = back(&self.word, taken.word);
        if alone && taken.stored.0 != taken.stored.1 {
            back(&self.stored, taken.stored);
        }
        alone
    }

    /// Gives back tokens that were taken just now.
    pub(crate) fn give(&self, pace: &Pace, n: u32) {
        let Some(interval) = pace.interval else { return };
        let cost = Pace::cost(interval, self.cold(pace)).min(LONGEST);
        let back = |full_at: u64| Some(full_at.saturating_sub(u64::from(n).saturating_mul(cost)));
        let _ = self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, back);
    }

    /// Reserves the next slot if it comes within `most`.
    pub(crate) fn reserve(&self, pace: &Pace, now: Time, most: Duration) -> Option<Slot> {
        let interval = pace.interval?;
        let now = fine(now);
        let most = fine_duration(most);
        let cost = Pace::cost(interval, self.cold(pace)).min(LONGEST);
        let before = self
            .word
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| {
                let at = next.max(now);
                (at - now <= most).then(|| at + cost)
            })
            .ok()?;
        let stored = self.account(pace, interval, now.saturating_sub(before), 1);
        let at = before.max(now);
        // Rounded up: a request that comes a moment too early would leave too close to the one before.
        let wait = Duration::from_nanos((at - now).div_ceil(FINE));
        Some(Slot { wait, taken: Change { word: (before, at + cost), stored } })
    }

    /// Gives a slot back, if nobody has reserved the one after it; else it stays empty.
    pub(crate) fn unreserve(&self, slot: Slot) {
        self.undo(slot.taken);
    }

    /// The share of the burst that is there now.
    pub(crate) fn level(&self, pace: &Pace, now: Time) -> f64 {
        let Some(interval) = pace.interval else { return 0.0 };
        let used = self.word.load(Ordering::Relaxed).saturating_sub(fine(now));
        (1.0 - used as f64 / pace.room(interval, 0) as f64).clamp(0.0, 1.0)
    }

    /// How long a request that comes now would wait for its slot.
    pub(crate) fn queue(&self, now: Time) -> Duration {
        Duration::from_nanos(self.word.load(Ordering::Relaxed).saturating_sub(fine(now)) / FINE)
    }

    /// The rate that holds now, as a share of the whole one: less than 1 while it warms up.
    pub(crate) fn warmth(&self, pace: &Pace, now: Time) -> f64 {
        let Some((warm, interval)) = pace.warm.zip(pace.interval) else { return 1.0 };
        let idle = fine(now).saturating_sub(self.word.load(Ordering::Relaxed));
        let stored = self.stored(&warm) + idle as f64 / interval as f64;
        1.0 / (1.0 + 2.0 * warm.cold(stored))
    }

    fn stored(&self, warm: &Warm) -> f64 {
        (self.stored.load(Ordering::Relaxed) as f64 / PARTS).min(warm.most)
    }

    fn cold(&self, pace: &Pace) -> f64 {
        pace.warm.map_or(0.0, |warm| warm.cold(self.stored(&warm)))
    }

    /// Stores permits for the time in which nothing was asked for, and takes those out that were asked for now.
    /// Workers that do so at once may lose one another's part: the curve bends a little, the rate is never passed.
    /// Says what was stored before and after.
    fn account(&self, pace: &Pace, interval: u64, idle: u64, taken: u32) -> (u64, u64) {
        let Some(warm) = &pace.warm else { return (0, 0) };
        let before = self.stored.load(Ordering::Relaxed);
        let stored = (before as f64 / PARTS).min(warm.most) + idle as f64 / interval as f64;
        let left = (stored.min(warm.most) - f64::from(taken)).max(0.0);
        let after = (left * PARTS) as u64;
        self.stored.store(after, Ordering::Relaxed);
        (before, after)
    }

    /// The first worker that hears of a new pace makes what was used count as much of it: as many requests as before
    /// have been, or wait, but at most all of them.
    pub(crate) fn adopt(&self, pace: &Pace, version: u64, now: Time, longest: Duration) {
        let seen = self.version.load(Ordering::Relaxed);
        let new = pace.interval.unwrap_or(u64::MAX);
        if seen >= version
            || self.version.compare_exchange(seen, version, Ordering::Relaxed, Ordering::Relaxed).is_err()
        {
            return;
        }
        let old = self.interval.swap(new, Ordering::Relaxed);
        if old == 0 || old == u64::MAX || new == u64::MAX {
            return;
        }
        let now = fine(now);
        let room = pace.room(new, 0).max(fine_duration(longest));
        let _ = self.word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let used = word.checked_sub(now).filter(|used| *used > 0)?;
            let used = (used as f64 * (new as f64 / old as f64)) as u64;
            Some(now + used.min(room))
        });
    }
}

impl Warm {
    fn cold(&self, stored: f64) -> f64 {
        ((stored - self.threshold) / (self.most - self.threshold).max(f64::MIN_POSITIVE)).clamp(0.0, 1.0)
    }
}

/// A worker's part of a rate.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    tokens: u32,
    chunk: u32,
    /// Tokens all workers may keep.
    all: u32,
    /// What the token taken last changed, where none are kept.
    last: Change,
}

impl Kept {
    pub(crate) fn follow(&mut self, pace: &Pace, workers: u32) {
        self.chunk = pace.chunk(workers);
        self.all = if self.chunk > 1 { self.chunk * workers } else { 0 };
        self.tokens = if self.chunk > 1 { self.tokens.min(self.chunk) } else { 0 };
    }

    #[inline]
    pub(crate) fn take(&mut self, meter: &Meter, pace: &Pace, now: Time) -> bool {
        if self.tokens == 0 {
            let Some((n, change)) = meter.draw(pace, now, self.chunk, self.all) else { return false };
            (self.tokens, self.last) = (n, change);
        }
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }

    /// When there is a token again.
    pub(crate) fn again(&self, meter: &Meter, pace: &Pace, now: Time) -> Again {
        meter.again(pace, now, self.all)
    }

    /// Gives all tokens back: nobody comes for them.
    pub(crate) fn flush(&mut self, meter: &Meter, pace: &Pace) {
        if self.tokens > 0 {
            meter.give(pace, std::mem::take(&mut self.tokens));
        }
    }

    /// Gives back the token taken last.
    pub(crate) fn give(&mut self, meter: &Meter, pace: &Pace) {
        if self.chunk > 1 {
            self.tokens += 1;
        } else if !meter.undo(self.last) {
            meter.give(pace, 1);
        }
    }
}

#[cfg(test)]
mod tests;
