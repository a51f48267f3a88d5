//! What is known of the demo's mesh at a moment, for whoever shows it.
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Seconds of history kept for the chart.
const HISTORY: usize = 240;
/// Events kept.
const EVENTS: usize = 200;

/// Shared by those who act, watch and show; none of them holds it for long.
#[derive(Debug)]
pub(super) struct Board {
    start: Instant,
    view: Mutex<View>,
}

/// The content of a [`Board`].
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// Time since the start.
    pub(super) elapsed: Duration,
    /// Requests a second that are meant to be sent.
    pub(super) rate: f64,
    /// The last second.
    pub(super) second: Second,
    /// Requests answered well, second by second.
    pub(super) history: Vec<u64>,
    /// Since the start: sent, answered well, failed by kind.
    pub(super) sent: u64,
    pub(super) ok: u64,
    pub(super) failed: BTreeMap<String, u64>,
    /// Failures that a kill explains.
    pub(super) expected: u64,
    /// Instances of order.
    pub(super) instances: Vec<Instance>,
    /// Sidecars of shop.
    pub(super) shops: Vec<Shop>,
    /// What happened, oldest first.
    pub(super) events: Vec<Event>,
    /// How many events there were before those in `events`.
    pub(super) events_dropped: usize,
}

/// What was measured in one second. Latency in milliseconds, from the intended send time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Second {
    /// Requests answered well, a second.
    pub(super) ok: f64,
    pub(super) failed: u64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) max: f64,
}

/// An instance of order as its callers' sidecars see it.
#[derive(Clone, Debug, Default)]
pub(super) struct Instance {
    pub(super) name: String,
    pub(super) address: String,
    pub(super) group: String,
    pub(super) weight: u32,
    /// Whether its processes run.
    pub(super) alive: bool,
    /// Health and connection state in the words of the sidecar.
    pub(super) state: String,
    /// Requests sent to it in the last second, and their share.
    pub(super) per_second: f64,
    pub(super) share: f64,
    /// Requests sent to it since the start.
    pub(super) requests: u64,
    /// Its sidecar's process.
    pub(super) pid: Option<u32>,
    /// Its sidecar's resident memory, bytes.
    pub(super) memory: Option<u64>,
}

/// A sidecar of shop.
#[derive(Clone, Debug, Default)]
pub(super) struct Shop {
    pub(super) name: String,
    pub(super) generation: u64,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) at: Duration,
    pub(super) mood: Mood,
    pub(super) text: String,
}

/// How an event is to be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// An action.
    Act,
    /// What came of it, well.
    Good,
    /// Something wrong.
    Bad,
}

impl Board {
    pub(super) fn new(rate: f64) -> Board {
        Board { start: Instant::now(), view: Mutex::new(View { rate, ..View::default() }) }
    }

    /// Changes what is known.
    pub(super) fn edit(&self) -> MutexGuard<'_, View> {
        self.view.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known now.
    pub(super) fn view(&self) -> View {
        View { elapsed: self.start.elapsed(), ..self.edit().clone() }
    }

    /// Notes an event.
    pub(super) fn note(&self, mood: Mood, text: impl Into<String>) {
        let event = Event { at: self.start.elapsed(), mood, text: text.into() };
        let mut view = self.edit();
        view.events.push(event);
        if view.events.len() > EVENTS {
            view.events.remove(0);
            view.events_dropped += 1;
        }
    }

    /// Events from the `seen`th on, and how many there are then.
    pub(super) fn events_since(&self, seen: usize) -> (Vec<Event>, usize) {
        let view = self.edit();
        let skip = seen.saturating_sub(view.events_dropped).min(view.events.len());
        (view.events[skip..].to_vec(), view.events_dropped + view.events.len())
    }
}

impl View {
    /// Adds a second to the history.
    pub(super) fn push_second(&mut self, second: Second) {
        self.second = second;
        self.history.push(second.ok.round() as u64);
        if self.history.len() > HISTORY {
            self.history.remove(0);
        }
    }

    /// All failures.
    pub(super) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_told_once_even_after_old_ones_are_forgotten() {
        let board = Board::new(1.0);
        board.note(Mood::Act, "first");
        let (events, seen) = board.events_since(0);
        assert_eq!((events.len(), seen), (1, 1));
        for n in 0..EVENTS {
            board.note(Mood::Good, n.to_string());
        }
        let (events, seen) = board.events_since(seen);
        assert_eq!((events.len(), seen), (EVENTS, EVENTS + 1));
        assert_eq!(board.events_since(seen).0, []);
    }
}
