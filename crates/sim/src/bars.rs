//! What is asked of ours: the bars of limiting, and what is asked beyond them.
use crate::measure::Measures;
use serde::Serialize;

/// A figure of [`Measures`] of which something is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Figure {
    /// Innocent goodput.
    Goodput,
    /// Innocent goodput, by CPU time.
    WorkGoodput,
    /// The culprits' share of what was feasible for them.
    Culprit,
    /// Seconds to converge.
    Converge,
    /// Innocent p99 over idle, in milliseconds.
    P99,
    /// Rejections of anything in the event.
    Rejects,
    /// Rejections before the event.
    Before,
    /// Share rejected 5 s after the end.
    After,
    /// Deaths of the app.
    Crashes,
}

impl Figure {
    /// A few words.
    pub fn name(self) -> &'static str {
        match self {
            Figure::Goodput => "innocent goodput",
            Figure::WorkGoodput => "innocent goodput by CPU",
            Figure::Culprit => "culprit's share of the feasible",
            Figure::Converge => "seconds to converge",
            Figure::P99 => "innocent p99 over idle, ms",
            Figure::Rejects => "rejects",
            Figure::Before => "rejects before",
            Figure::After => "rejects 5 s after the end",
            Figure::Crashes => "crashes",
        }
    }

    /// It, of a run; absent if the run has none.
    pub fn of(self, m: &Measures) -> Option<f64> {
        Some(match self {
            Figure::Goodput => m.goodput,
            Figure::WorkGoodput => m.work_goodput,
            Figure::Culprit => return m.culprit,
            Figure::Converge => m.converge,
            Figure::P99 => m.p99,
            Figure::Rejects => m.rejects as f64,
            Figure::Before => m.before as f64,
            Figure::After => m.rejects_after,
            Figure::Crashes => f64::from(m.crashes),
        })
    }

    /// Whether more is better.
    fn rises(self) -> bool {
        matches!(self, Figure::Goodput | Figure::WorkGoodput | Figure::Culprit)
    }

    /// The figure of several runs: shares by their mean, seconds and milliseconds by the 90th percentile, what must
    /// not be at all by the sum.
    pub fn together(self, values: &[f64]) -> f64 {
        let n = values.len().max(1);
        match self {
            Figure::Rejects | Figure::Before | Figure::Crashes => values.iter().sum(),
            Figure::Converge | Figure::P99 => {
                let mut sorted = values.to_vec();
                sorted.sort_by(f64::total_cmp);
                sorted.get((n * 9).div_ceil(10) - 1).copied().unwrap_or(0.0)
            }
            _ => values.iter().sum::<f64>() / n as f64,
        }
    }

    /// The worst of several runs.
    pub fn worst(self, values: &[f64]) -> f64 {
        let (start, pick): (f64, fn(f64, f64) -> f64) =
            if self.rises() { (f64::INFINITY, f64::min) } else { (f64::NEG_INFINITY, f64::max) };
        values.iter().copied().fold(start, pick)
    }
}

/// A bound that a figure must keep.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Bar {
    /// Which figure.
    pub figure: Figure,
    /// What it must reach, or must not exceed.
    pub bound: f64,
    /// Whether the bound itself is too much (`<`).
    pub strict: bool,
    /// What is reached where the bound is not, yet: worse than this is a step back. Absent = the bound is reached.
    pub missed: Option<f64>,
}

/// How a figure stands to its bar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    /// It keeps the bound.
    Kept,
    /// It does not, as is known ([`Bar::missed`]).
    Missed,
    /// It does not, and did.
    Broken,
}

impl Bar {
    /// How a value stands to it.
    pub fn standing(&self, value: f64) -> Standing {
        if self.keeps(value, self.bound) {
            Standing::Kept
        } else if self.missed.is_some_and(|m| self.keeps(value, m)) {
            Standing::Missed
        } else {
            Standing::Broken
        }
    }

    fn keeps(&self, value: f64, bound: f64) -> bool {
        if self.figure.rises() {
            value >= bound
        } else if self.strict {
            value < bound
        } else {
            value <= bound
        }
    }

    /// `≥ 0.995`, `< 0.02`.
    pub fn text(&self) -> String {
        let sign = match (self.figure.rises(), self.strict) {
            (true, _) => "≥",
            (false, true) => "<",
            (false, false) => "≤",
        };
        format!("{sign} {}", self.bound)
    }

    /// The figure together over several runs, the worst, and whether the bar is kept; absent if no run has the figure.
    pub fn judge(&self, runs: &[Measures]) -> Option<Verdict> {
        let values: Vec<f64> = runs.iter().filter_map(|m| self.figure.of(m)).collect();
        if values.is_empty() {
            return None;
        }
        let value = self.figure.together(&values);
        Some(Verdict { bar: *self, value, worst: self.figure.worst(&values), standing: self.standing(value) })
    }
}

/// What became of a bar.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Verdict {
    /// Which.
    pub bar: Bar,
    /// The figure of all runs together.
    pub value: f64,
    /// The worst run's.
    pub worst: f64,
    /// How it stands.
    pub standing: Standing,
}

/// Bars that are not reached yet: the scenario, the figure, and what must not get worse. With twenty seeds.
const MISSED: [(&str, Figure, f64); 4] = [
    // Threads' queue delays all alike: who costs more shows in the few that run.
    ("pool-S10", Figure::Converge, 4.0),
    ("pool-S10", Figure::P99, 830.0),
    ("cores-50", Figure::Converge, 5.0),
    // Five requests of twenty days, by the guard, in one moment.
    ("noise", Figure::Rejects, 5.0),
];

/// The bars of a scenario.
pub fn of(scenario: &str) -> Vec<Bar> {
    let missed = |figure| MISSED.iter().find(|m| (m.0, m.1) == (scenario, figure)).map(|m| m.2);
    let bar = |figure, bound| Bar { figure, bound, strict: figure == Figure::After, missed: missed(figure) };
    let none = [bar(Figure::Before, 0.0), bar(Figure::Rejects, 0.0)];
    let usual = |goodput, p99| {
        vec![
            bar(Figure::Before, 0.0),
            bar(Figure::Goodput, goodput),
            bar(Figure::Culprit, 0.85),
            bar(Figure::Converge, 3.0),
            bar(Figure::P99, p99),
            bar(Figure::After, 0.02),
        ]
    };
    match scenario {
        "S3" | "S9" | "noise" => none.to_vec(),
        "S4" => usual(0.99, 400.0),
        "S5" | "pool-S5" => {
            let mut bars = usual(0.0, 250.0);
            bars[1] = bar(Figure::WorkGoodput, 0.79);
            bars
        }
        "memory" => vec![
            bar(Figure::Before, 0.0),
            bar(Figure::Crashes, 0.0),
            bar(Figure::Goodput, 0.99),
            bar(Figure::After, 0.02),
        ],
        _ => usual(0.995, 250.0),
    }
}

#[cfg(test)]
mod tests {
    use crate::scenario::find;
    use crate::{Measures, Scheme, run};

    /// Two seconds in which requests of 300 ms come together are nobody's fault. Everything was held half a minute for
    /// it once, while four tenths of the cores were free: a few such requests looked like a queue.
    #[test]
    fn nothing_is_held_while_cores_are_free() {
        for seed in [50_011, 50_012] {
            let scenario = find("S2", seed).expect("a scenario of the list");
            let mut limiter = Scheme::Raddle.build(scenario.interfaces.len(), seed);
            let run = run(&scenario, seed, limiter.as_mut());
            let before = Measures::of(&scenario, &run).before;
            assert!(before <= 10, "{seed}: {before} were refused in ordinary life");
        }
    }
}
