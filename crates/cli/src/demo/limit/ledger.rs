//! What became of the requests: second by second, and part by part of the story.
use raddle_bench::mix::{Cell, MixSecond};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Seconds kept for the charts.
const HISTORY: usize = 240;

/// What is asked for, and whether the rule is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State {
    pub(super) surging: bool,
    pub(super) limiting: bool,
}

/// One second of it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Second {
    pub(super) number: usize,
    pub(super) culprit: Cell,
    pub(super) innocents: Cell,
    /// 99 % of the innocents' good replies were faster, milliseconds.
    pub(super) p99: f64,
}

/// A part of the story: while nothing was switched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) state: State,
    /// Whole seconds of the load.
    pub(super) from: usize,
    pub(super) until: Option<usize>,
    pub(super) culprit: Cell,
    pub(super) innocents: Cell,
    /// Cores in use, added up, and how often they were read.
    cores: (f64, u32),
}

impl Part {
    /// Cores in use, on average.
    pub(super) fn cores(&self) -> f64 {
        self.cores.0 / f64::from(self.cores.1.max(1))
    }

    /// Seconds it has.
    pub(super) fn seconds(&self) -> usize {
        self.until.map_or(0, |u| u.saturating_sub(self.from))
    }
}

/// What is known.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) state: State,
    /// The last seconds, oldest first.
    pub(super) seconds: Vec<Second>,
    /// The last second path by path.
    pub(super) cells: Vec<Cell>,
    pub(super) parts: Vec<Part>,
    /// Cores in use in the last second.
    pub(super) cores: f64,
    pub(super) cores_history: Vec<f64>,
    /// What is going on, in words.
    pub(super) title: String,
    /// The script has ended.
    pub(super) over: bool,
}

/// Keeps it, for whoever shows it.
#[derive(Debug)]
pub(super) struct Ledger {
    begin: Instant,
    pub(super) culprit: usize,
    known: Mutex<Known>,
}

impl Ledger {
    /// From now on the load counts its seconds.
    pub(super) fn new(culprit: usize) -> Ledger {
        Ledger { begin: Instant::now(), culprit, known: Mutex::default() }
    }

    pub(super) fn edit(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn known(&self) -> Known {
        self.edit().clone()
    }

    /// The next part begins.
    pub(super) fn switch(&self, state: State) {
        let now = second_after(self.begin.elapsed());
        let mut known = self.edit();
        known.state = state;
        // The second in which it was switched belongs to nobody.
        if let Some(last) = known.parts.last_mut() {
            last.until = Some(now.saturating_sub(1).max(last.from));
        }
        let (culprit, innocents) = (Cell::default(), Cell::default());
        known.parts.push(Part { state, from: now, until: None, culprit, innocents, cores: (0.0, 0) });
    }

    /// The last part ends.
    pub(super) fn end(&self) {
        let now = second_after(self.begin.elapsed()).saturating_sub(1);
        if let Some(last) = self.edit().parts.last_mut() {
            last.until = Some(now.max(last.from));
        }
    }

    /// A second is complete.
    pub(super) fn tell(&self, second: &MixSecond) {
        let culprit = second.sum(|p| p == self.culprit);
        let innocents = second.sum(|p| p != self.culprit);
        let of = second.latency.iter().filter(|(path, _)| usize::from(*path) != self.culprit);
        let mut latency: Vec<u32> = of.map(|(_, us)| *us).collect();
        latency.sort_unstable();
        let p99 = latency.get(latency.len() * 99 / 100).map_or(0.0, |us| f64::from(*us) / 1e3);
        let mut known = self.edit();
        known.cells.clone_from(&second.cells);
        known.seconds.push(Second { number: second.second, culprit, innocents, p99 });
        if known.seconds.len() > HISTORY {
            known.seconds.remove(0);
        }
        let inside = |p: &&mut Part| p.from <= second.second && p.until.is_none_or(|u| second.second < u);
        if let Some(part) = known.parts.iter_mut().find(inside) {
            part.culprit = part.culprit.plus(culprit);
            part.innocents = part.innocents.plus(innocents);
        }
    }

    /// Cores the app used in a second.
    pub(super) fn tell_cores(&self, cores: f64) {
        let mut known = self.edit();
        known.cores = cores;
        known.cores_history.push(cores);
        if known.cores_history.len() > HISTORY {
            known.cores_history.remove(0);
        }
        if let Some(part) = known.parts.last_mut() {
            part.cores.0 += cores;
            part.cores.1 += 1;
        }
    }
}

/// The number of the next whole second.
fn second_after(time: Duration) -> usize {
    time.as_secs_f64().ceil() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_counted_for_the_part_they_began_in() {
        let ledger = Ledger::new(0);
        ledger.edit().parts = [(0, Some(2)), (3, None)]
            .map(|(from, until)| Part {
                state: State::default(),
                from,
                until,
                culprit: Cell::default(),
                innocents: Cell::default(),
                cores: (0.0, 0),
            })
            .to_vec();
        for second in 0..5 {
            let cell = Cell { offered: 10, good: 9, late: 1, ..Cell::default() };
            ledger.tell(&MixSecond { second, cells: vec![cell; 3], latency: vec![(1, 2000)] });
        }
        let known = ledger.known();
        let offered: Vec<u32> = known.parts.iter().map(|p| p.innocents.offered).collect();
        assert_eq!(offered, [40, 40]);
        assert_eq!((known.seconds.len(), known.seconds[0].p99, known.seconds[0].culprit.good), (5, 2.0, 9));
    }
}
