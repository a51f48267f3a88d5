//! The form all results have: rows of figures over rounds, and goals beside them.
use crate::Protocol;
use serde::Serialize;
use std::collections::BTreeMap;

/// Values of one figure, one a round.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figure {
    /// The middle of `rounds`.
    pub median: f64,
    /// Least of `rounds`.
    pub min: f64,
    /// Most of `rounds`.
    pub max: f64,
    /// In the order measured.
    pub rounds: Vec<f64>,
}

impl Figure {
    /// Adds a round.
    pub fn push(&mut self, value: f64) {
        self.rounds.push(value);
        self.median = median(&self.rounds);
        self.min = self.rounds.iter().copied().fold(f64::INFINITY, f64::min);
        self.max = self.rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    }
}

/// The middle value, or the average of the two in the middle; 0 of none.
pub(super) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    match n {
        0 => 0.0,
        _ if n % 2 == 1 => sorted[n / 2],
        _ => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// One measured thing.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The work: rows of one group are compared with each other.
    pub group: String,
    /// What was measured at it.
    pub subject: String,
    /// By metric key.
    pub figures: BTreeMap<&'static str, Figure>,
}

/// A metric of a table.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Metric {
    /// Key of [`Row::figures`].
    pub key: &'static str,
    /// Heading, with the unit.
    pub title: &'static str,
    /// Digits after the point.
    pub digits: usize,
    /// Whether it gets a chart.
    pub chart: bool,
}

/// A goal and whether it is met.
#[derive(Clone, Debug, Serialize)]
pub struct Goal {
    /// What is asked.
    pub what: String,
    /// The most that is allowed.
    pub bound: f64,
    /// What was measured; `None` if it could not be.
    pub measured: Option<f64>,
    /// Whether it is more than was promised.
    pub stretch: bool,
}

impl Goal {
    /// What it is called.
    pub(super) fn word(&self) -> &'static str {
        if self.stretch { "stretch" } else { "goal" }
    }

    /// Whether it is met; `None` if not measured.
    pub fn met(&self) -> Option<bool> {
        self.measured.map(|m| m <= self.bound)
    }
}

/// One table of results.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// Name of its files.
    pub name: String,
    /// What is spoken.
    pub protocol: Protocol,
    /// Heading.
    pub title: String,
    /// What its figures are.
    pub metrics: Vec<Metric>,
    /// In the order to be shown.
    pub rows: Vec<Row>,
    /// The goals it speaks to.
    pub goals: Vec<Goal>,
    /// What a reader must know to read it rightly.
    pub notes: Vec<String>,
}

impl Table {
    /// A table without rows.
    ///
    /// Those of Bolt, which came first, have files without a protocol in their names.
    pub(super) fn new(kind: &str, protocol: Protocol, title: &str, metrics: &[Metric]) -> Table {
        Table {
            name: if protocol == Protocol::Bolt { kind.to_owned() } else { format!("{kind}-{protocol}") },
            protocol,
            title: format!("{}: {title}", protocol.title()),
            metrics: metrics.to_vec(),
            rows: Vec::new(),
            goals: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// The row of `group` and `subject`, made if need be.
    pub(super) fn row(&mut self, group: &str, subject: &str) -> &mut Row {
        let at = self.rows.iter().position(|r| r.group == group && r.subject == subject);
        let at = at.unwrap_or_else(|| {
            let (group, subject) = (group.to_owned(), subject.to_owned());
            self.rows.push(Row { group, subject, figures: BTreeMap::new() });
            self.rows.len() - 1
        });
        &mut self.rows[at]
    }

    /// Adds a round's value.
    pub(super) fn push(&mut self, group: &str, subject: &str, key: &'static str, value: f64) {
        self.row(group, subject).figures.entry(key).or_default().push(value);
    }

    /// Puts rows of one group together, groups in the order they first came.
    pub(super) fn gather_groups(&mut self) {
        let mut order: Vec<String> = Vec::new();
        for row in &self.rows {
            if !order.contains(&row.group) {
                order.push(row.group.clone());
            }
        }
        self.rows.sort_by_key(|row| order.iter().position(|g| *g == row.group));
    }

    /// A figure, if it was measured.
    pub(super) fn figure(&self, group: &str, subject: &str, key: &str) -> Option<&Figure> {
        let row = self.rows.iter().find(|r| r.group == group && r.subject == subject)?;
        row.figures.get(key)
    }

    /// The median over rounds of `a / b`, each of the same round: what drifts in a run drifts in both.
    pub(super) fn ratio(&self, group: &str, a: &str, b: &str, key: &str) -> Option<f64> {
        let (a, b) = (self.figure(group, a, key)?, self.figure(group, b, key)?);
        let ratios: Vec<f64> =
            a.rounds.iter().zip(&b.rounds).filter(|(_, b)| **b > 0.0).map(|(a, b)| a / b).collect();
        (!ratios.is_empty()).then(|| median(&ratios))
    }

    /// The middle of all rounds of all rows of a metric; `None` if no row has it.
    pub(super) fn overall(&self, key: &str) -> Option<f64> {
        let all: Vec<f64> =
            self.rows.iter().filter_map(|r| r.figures.get(key)).flat_map(|f| f.rounds.clone()).collect();
        (!all.is_empty()).then(|| median(&all))
    }

    /// Adds a goal.
    pub(super) fn goal(&mut self, what: impl Into<String>, bound: f64, measured: Option<f64>) {
        self.goals.push(Goal { what: what.into(), bound, measured, stretch: false });
    }

    /// Adds a goal beyond what was promised.
    pub(super) fn stretch(&mut self, what: impl Into<String>, bound: f64, measured: Option<f64>) {
        self.goals.push(Goal { what: what.into(), bound, measured, stretch: true });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_taken_round_by_round() {
        let mut table = Table::new("t", Protocol::Bolt, "t", &[]);
        for (a, b) in [(1.0, 2.0), (10.0, 20.0), (9.0, 10.0)] {
            table.push("g", "a", "cpu", a);
            table.push("g", "b", "cpu", b);
        }
        assert_eq!(table.ratio("g", "a", "b", "cpu"), Some(0.5));
        assert_eq!(table.ratio("g", "a", "c", "cpu"), None);
        assert_eq!(table.figure("g", "a", "cpu").map(|f| (f.min, f.median, f.max)), Some((1.0, 9.0, 10.0)));
    }
}
