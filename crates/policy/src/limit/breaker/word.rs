//! What a breaker is, in one word that workers change by compare-and-swap: whoever's change it was tells of it.
use std::sync::atomic::{AtomicU64, Ordering};

/// Opened again and again, it counts no further.
const MOST_TRIPS: u64 = 63;
const MS_BITS: u64 = (1 << 48) - 1;

/// What a breaker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Closed {
        /// How often in succession it was opened before.
        trips: u8,
        /// Which time this is: what began in another one says nothing of it. One more each time it is half open.
        round: u8,
    },
    Open {
        trips: u8,
        round: u8,
        /// Milliseconds of the clock.
        until: u64,
    },
    Half {
        trips: u8,
        round: u8,
        started: u16,
        passed: u16,
        failed: u16,
    },
}

impl Word {
    fn pack(self) -> u64 {
        let (kind, trips, round, rest) = match self {
            Word::Closed { trips, round } => (0, trips, round, 0),
            Word::Open { trips, round, until } => (1, trips, round, until.min(MS_BITS)),
            Word::Half { trips, round, started, passed, failed } => {
                let counts = u64::from(started) | u64::from(passed) << 16 | u64::from(failed) << 32;
                (2, trips, round, counts)
            }
        };
        kind | u64::from(trips).min(MOST_TRIPS) << 2 | rest << 8 | u64::from(round) << 56
    }

    fn unpack(word: u64) -> Word {
        let (trips, rest, round) = ((word >> 2 & MOST_TRIPS) as u8, word >> 8 & MS_BITS, (word >> 56) as u8);
        match word & 3 {
            0 => Word::Closed { trips, round },
            1 => Word::Open { trips, round, until: rest },
            _ => Word::Half {
                trips,
                round,
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
            kind in 0..3, trips in 0u8..64, until in 0u64..1 << 48, round: u8, started: u16, passed: u16, failed: u16,
        ) {
            let word = match kind {
                0 => Word::Closed { trips, round },
                1 => Word::Open { trips, round, until },
                _ => Word::Half { trips, round, started, passed, failed },
            };
            prop_assert_eq!(Word::unpack(word.pack()), word);
        }
    }

    #[test]
    fn what_was_never_written_is_closed() {
        assert_eq!(Shared::default().load(), Word::Closed { trips: 0, round: 0 });
        let trips = u8::MAX;
        assert_eq!(
            Word::unpack(Word::Closed { trips, round: 9 }.pack()),
            Word::Closed { trips: 63, round: 9 }
        );
    }
}
