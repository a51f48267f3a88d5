//! What became of the requests: by path and second.
use serde::Serialize;
use std::collections::BTreeMap;

/// What became of the requests of one path that were to be sent in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// To be sent.
    pub offered: u32,
    /// Answered with 2xx within the deadline.
    pub good: u32,
    /// Answered with 429 or 503: somebody did not want them.
    pub refused: u32,
    /// Answered with something else, or their connection was lost.
    pub failed: u32,
    /// Not answered within the deadline.
    pub late: u32,
}

impl Cell {
    /// Both together.
    pub fn plus(self, other: Cell) -> Cell {
        Cell {
            offered: self.offered + other.offered,
            good: self.good + other.good,
            refused: self.refused + other.refused,
            failed: self.failed + other.failed,
            late: self.late + other.late,
        }
    }

    /// Share of what was offered that was answered well; nothing offered is nothing lost.
    pub fn goodput(self) -> f64 {
        if self.offered == 0 { 1.0 } else { f64::from(self.good) / f64::from(self.offered) }
    }
}

/// One second of a run.
#[derive(Clone, Debug, Default)]
pub struct MixSecond {
    /// Which one, from 0.
    pub second: usize,
    /// Path by path.
    pub cells: Vec<Cell>,
    /// Good replies: path, and microseconds since the intended send time.
    pub latency: Vec<(u16, u32)>,
}

impl MixSecond {
    /// All paths together that `which` says.
    pub fn sum(&self, which: impl Fn(usize) -> bool) -> Cell {
        self.cells
            .iter()
            .enumerate()
            .filter(|(p, _)| which(*p))
            .fold(Cell::default(), |sum, (_, c)| sum.plus(*c))
    }
}

/// What a run found.
#[derive(Clone, Debug, Default)]
pub struct MixResult {
    /// Second by second.
    pub seconds: Vec<MixSecond>,
    /// Replies other than 2xx, by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Most connections at the same time.
    pub connections: usize,
    /// Longest time between a request's intended moment and its being sent, microseconds: above some milliseconds the
    /// generator, or the machine, was too slow.
    pub sent_late_us: u64,
}

/// Of some paths in some seconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Totals {
    /// Counts.
    #[serde(flatten)]
    pub cell: Cell,
    /// Half of the good replies were faster, milliseconds.
    pub p50_ms: f64,
    /// 99 % were.
    pub p99_ms: f64,
}

impl MixResult {
    /// The paths that `which` says, in the seconds from `from` to before `until`.
    pub fn totals(&self, from: usize, until: usize, which: impl Fn(usize) -> bool) -> Totals {
        let seconds = || self.seconds.iter().filter(|s| (from..until).contains(&s.second));
        let cell = seconds().fold(Cell::default(), |sum, s| sum.plus(s.sum(&which)));
        let of = seconds().flat_map(|s| &s.latency).filter(|(path, _)| which(usize::from(*path)));
        let mut latency: Vec<u32> = of.map(|(_, us)| *us).collect();
        latency.sort_unstable();
        let at = |q: f64| {
            let index = ((latency.len() as f64 * q) as usize).min(latency.len().saturating_sub(1));
            latency.get(index).map_or(0.0, |us| f64::from(*us) / 1e3)
        };
        Totals { cell, p50_ms: at(0.5), p99_ms: at(0.99) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_of_the_paths_and_seconds_asked_for() {
        let second = |second| MixSecond {
            second,
            cells: vec![
                Cell { offered: 10, good: 10, ..Cell::default() },
                Cell { offered: 10, good: 5, late: 5, ..Cell::default() },
            ],
            latency: vec![(0, 1000), (1, 900_000)],
        };
        let result = MixResult { seconds: (0..4).map(second).collect(), ..MixResult::default() };
        let first = result.totals(1, 3, |p| p == 0);
        assert_eq!((first.cell.offered, first.cell.goodput(), first.p99_ms), (20, 1.0, 1.0));
        let all = result.totals(0, 9, |_| true);
        assert_eq!((all.cell.offered, all.cell.goodput(), all.p99_ms), (80, 0.75, 900.0));
    }
}
