//! What a breaker is, in one word that workers change by compare-and-swap: whoever's change it was tells of it.
use std::sync::atomic::{AtomicU64, Ordering};

/// Opened again and again, it counts no further.
const MOST_TRIPS: u64 = 63;
const MS_BITS: u64 = (1 << 56) - 1;

/// What a breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Closed {
        /// How often in succession it was opened before.
        trips: u8,
    },
    Open {
        trips: u8,
        /// Milliseconds of the clock.
        until: u64,
    },
    Half {
        trips: u8,
        /// Tells the probes of one time from those of another.
        round: u8,
        started: u16,
        passed: u16,
        failed: u16,
    },
}

impl Word {
    fn pack(self) -> u64 {
        let (kind, trips, rest) = match self {
            Word::Closed { trips } => (0, trips, 0),
            Word::Open { trips, until } => (1, trips, until.min(MS_BITS)),
            Word::Half { trips, round, started, passed, failed } => {
                let counts = u64::from(started) | u64::from(passed) << 16 | u64::from(failed) << 32;
                (2, trips, counts | u64::from(round) << 48)
            }
        };
        kind | u64::from(trips).min(MOST_TRIPS) << 2 | rest << 8
    }

    fn unpack(word: u64) -> Word {
        let (trips, rest) = ((word >> 2 & MOST_TRIPS) as u8, word >> 8);
        match word & 3 {
            0 => Word::Closed { trips },
            1 => Word::Open { trips, until: rest },
            _ => Word::Half {
                trips,
                round: (rest >> 48) as u8,
                started: rest as u16,
                passed: (rest >> 16) as u16,
                failed: (rest >> 32) as u16,
            },
        }
    }
}

/// A word that workers share.
#[derive(Debug, Default)]
pub(super) struct Shared(AtomicU64);

impl Shared {
    pub(super) fn load(&self) -> Word {
        Word::unpack(self.0.load(Ordering::Acquire))
    }

    /// Changes it if it still is `from`; says whether it did.
    pub(super) fn change(&self, from: Word, to: Word) -> bool {
        self.0.compare_exchange(from.pack(), to.pack(), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_word_is_what_was_packed(
            kind in 0..3, trips in 0u8..64, until in 0u64..1 << 56, round: u8, started: u16, passed: u16, failed: u16,
        ) {
            let word = match kind {
                0 => Word::Closed { trips },
                1 => Word::Open { trips, until },
                _ => Word::Half { trips, round, started, passed, failed },
            };
            prop_assert_eq!(Word::unpack(word.pack()), word);
        }
    }

    #[test]
    fn what_was_never_written_is_closed() {
        assert_eq!(Shared::default().load(), Word::Closed { trips: 0 });
        let trips = u8::MAX;
        assert_eq!(Word::unpack(Word::Closed { trips }.pack()), Word::Closed { trips: 63 });
    }
}
