//! The values a hotspot limit keeps: a table of fixed size that all workers write without a lock.
//!
//! A value can lie in two sets of eight places, found by its hash. It needs a place only as long as it has used
//! something up: a full bucket is what a new one is, so that forgetting it costs nothing. Where all sixteen are in use,
//! the one that comes most rarely gives way, by chance the less likely the more often it comes, as in HeavyKeeper
//! (Gong et al., ATC 2018): a flood of values that come once does not drive out those that come often. A value that
//! finds no place passes uncounted.
//!
//! What is wrong, and how much: a value that loses its place gets back what it had used; two workers that enter the
//! same new value at the same instant may count up to one request each by itself. A value never pays for another one:
//! hashes are of 64 bits, with a key of the process's own.
use crate::rng::Rng;
use ahash::RandomState;
use raddle_core::Time;
use std::sync::atomic::{AtomicU64, Ordering};

const WAYS: usize = 8;
/// Marks of places that hold no value.
const EMPTY: u64 = 0;
const BUSY: u64 = 1;
/// Bytes of a value that are kept to show it.
pub(crate) const SHOWN: usize = 31;
/// How often a value came is halved after this, as a power of two of nanoseconds: 8.6 s.
const HALVED: u32 = 33;
/// From here on, only each of so many requests of a value is counted, for as many.
const SAMPLED: u32 = 64;
const SAMPLE: u32 = 8;

/// A fixed number of places for values.
#[derive(Debug)]
pub(crate) struct Table {
    sets: Box<[Set]>,
    slots: Box<[Slot]>,
    hasher: RandomState,
    /// What was asked for, to see whether a new rule wants the same.
    pub(crate) most: u32,
}

/// The hashes of a set, in one cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

/// A value's place.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Slot {
    /// A bucket's word, or requests in flight.
    pub(crate) word: AtomicU64,
    /// Of which time, and how often it came, halved again and again.
    heat: AtomicU64,
    held: AtomicU64,
    text: [AtomicU64; (SHOWN + 1) / 8],
}

/// A value that is kept.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Kept {
    pub(crate) text: String,
    /// How often it came lately, roughly.
    pub(crate) per_second: f64,
    pub(crate) held: u64,
    pub(crate) slot: u32,
}

impl Table {
    /// For this many values, rounded up to whole sets.
    pub(crate) fn new(most: u32) -> Table {
        let sets = (most as usize).div_ceil(WAYS).max(1);
        Table {
            sets: (0..sets).map(|_| Set::default()).collect(),
            slots: (0..sets * WAYS).map(|_| Slot::default()).collect(),
            hasher: RandomState::new(),
            most,
        }
    }

    pub(crate) fn hash(&self, value: &[u8]) -> u64 {
        self.hasher.hash_one(value).max(BUSY + 1)
    }

    pub(crate) fn slot(&self, i: u32) -> &Slot {
        &self.slots[i as usize]
    }

    /// Whether a place is that value's.
    pub(crate) fn holds(&self, i: u32, hash: u64) -> bool {
        self.mark(i).load(Ordering::SeqCst) == hash
    }

    fn mark(&self, i: u32) -> &AtomicU64 {
        &self.sets[i as usize / WAYS].0[i as usize % WAYS]
    }

    fn sets_of(&self, hash: u64) -> [usize; 2] {
        let scaled = |hash: u64| ((u128::from(hash) * self.sets.len() as u128) >> 64) as usize;
        [scaled(hash), scaled(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32))]
    }

    fn places(&self, hash: u64) -> impl Iterator<Item = u32> {
        let [a, b] = self.sets_of(hash);
        let both = [Some(a), (b != a).then_some(b)];
        both.into_iter().flatten().flat_map(|set| (0..WAYS).map(move |way| (set * WAYS + way) as u32))
    }

    /// The place of a value that is kept.
    pub(crate) fn find(&self, hash: u64) -> Option<u32> {
        self.places(hash).find(|&i| self.mark(i).load(Ordering::Acquire) == hash)
    }

    /// Makes a place for a new value. `free` says whether what a place's word says can be forgotten; one of which it
    /// cannot gives way only if `force`. `chance` is any random number.
    pub(crate) fn enter(
        &self,
        hash: u64,
        value: &[u8],
        now: Time,
        free: impl Fn(&AtomicU64) -> bool,
        force: bool,
        chance: u64,
    ) -> Option<u32> {
        let mut victim: Option<(bool, u32, u32, u64)> = None;
        for i in self.places(hash) {
            let mark = self.mark(i).load(Ordering::Relaxed);
            if mark == BUSY {
                continue;
            }
            if mark == EMPTY {
                victim = Some((false, 0, i, mark));
                break;
            }
            let slot = self.slot(i);
            let candidate = (!free(&slot.word), slot.heat(now), i, mark);
            if victim.is_none_or(|v| candidate < v) {
                victim = Some(candidate);
            }
        }
        let (live, heat, i, mark) = victim?;
        if live && (!force || !self.slot(i).cool(heat, now, chance)) {
            return None;
        }
        let taken = self.mark(i).compare_exchange(mark, BUSY, Ordering::SeqCst, Ordering::Relaxed);
        taken.ok()?;
        let slot = self.slot(i);
        if !force && slot.word.load(Ordering::SeqCst) != 0 {
            // Somebody has begun to use it meanwhile, and must be able to end that.
            self.mark(i).store(mark, Ordering::SeqCst);
            return None;
        }
        if force {
            slot.word.store(0, Ordering::Relaxed);
        }
        slot.begin(value);
        self.mark(i).store(hash, Ordering::Release);
        Some(i)
    }

    /// The values that come most often, the first the most.
    pub(crate) fn top(&self, now: Time, most: usize) -> Vec<Kept> {
        let mut all: Vec<(u32, u32)> = (0..self.slots.len() as u32)
            .filter(|&i| self.mark(i).load(Ordering::Relaxed) > BUSY)
            .map(|i| (self.slot(i).heat(now), i))
            .filter(|(heat, _)| *heat > 0)
            .collect();
        all.sort_unstable_by(|a, b| b.cmp(a));
        all.truncate(most);
        // At a steady rate: what came in this period so far, and a period's worth of halves.
        let half = (1u64 << HALVED) as f64;
        let seconds = half / 1e9 * (1.0 + (now.as_nanos() % (1 << HALVED)) as f64 / half);
        let kept = all.into_iter().map(|(heat, slot)| {
            let place = self.slot(slot);
            let held = place.held.load(Ordering::Relaxed);
            Kept { text: place.text(), per_second: f64::from(heat) / seconds, held, slot }
        });
        kept.collect()
    }

    /// How many places there are.
    #[cfg(test)]
    pub(crate) fn places_in_all(&self) -> usize {
        assert_eq!(self.sets.len() * WAYS, self.slots.len());
        self.slots.len()
    }

    /// How many values have a place.
    pub(crate) fn len(&self) -> usize {
        let marks = self.sets.iter().flat_map(|s| &s.0);
        marks.filter(|m| m.load(Ordering::Relaxed) > BUSY).count()
    }
}

impl Slot {
    fn begin(&self, value: &[u8]) {
        self.heat.store(0, Ordering::Relaxed);
        self.held.store(0, Ordering::Relaxed);
        let mut bytes = [0; SHOWN + 1];
        let n = value.len().min(SHOWN);
        bytes[..n].copy_from_slice(&value[..n]);
        bytes[SHOWN] = value.len().min(SHOWN + 1) as u8;
        for (word, part) in self.text.iter().zip(bytes.as_chunks::<8>().0) {
            word.store(u64::from_le_bytes(*part), Ordering::Relaxed);
        }
    }

    /// The value, or its beginning. While another one comes it may be a mixture of both.
    fn text(&self) -> String {
        let mut bytes = [0; SHOWN + 1];
        for (word, part) in self.text.iter().zip(bytes.as_chunks_mut::<8>().0) {
            *part = word.load(Ordering::Relaxed).to_le_bytes();
        }
        let n = usize::from(bytes[SHOWN]);
        let mut text = String::from_utf8_lossy(&bytes[..n.min(SHOWN)]).into_owned();
        if n > SHOWN {
            text.push('…');
        }
        text
    }

    /// How often it came lately.
    fn heat(&self, now: Time) -> u32 {
        let word = self.heat.load(Ordering::Relaxed);
        let halvings = period(now).saturating_sub((word >> 32) as u32);
        (word as u32).checked_shr(halvings).unwrap_or(0)
    }

    /// Counts a request.
    pub(crate) fn touch(&self, now: Time, held: bool, rng: &mut Rng) {
        let heat = self.heat(now);
        let n = match heat >= SAMPLED {
            true if rng.below(SAMPLE) == 0 => SAMPLE,
            true => return,
            false => 1,
        };
        // What two workers write at once may count as one: this is a measure of who comes often, not a count.
        let word = u64::from(period(now)) << 32 | u64::from(heat.saturating_add(n));
        self.heat.store(word, Ordering::Relaxed);
        if held {
            self.held.fetch_add(u64::from(n), Ordering::Relaxed);
        }
    }

    /// Another value wants the place: says whether it gets it.
    fn cool(&self, heat: u32, now: Time, chance: u64) -> bool {
        let keep = 1.08f64.powi(heat.min(10_000) as i32);
        if (chance >> 11) as f64 / (1u64 << 53) as f64 * keep >= 1.0 {
            return false;
        }
        let left = heat.saturating_sub(1);
        self.heat.store(u64::from(period(now)) << 32 | u64::from(left), Ordering::Relaxed);
        left == 0
    }
}

fn period(now: Time) -> u32 {
    (now.as_nanos() >> HALVED) as u32
}
