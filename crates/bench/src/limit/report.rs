//! The results for people (text) and for programs (JSON).
use super::judge::Verdict;
use super::setup::Variant;
use super::{LimitOptions, Meters, Plan};
use crate::burn;
use crate::compare::peers::Program;
use crate::compare::{Figure, Machine, PeerInfo};
use crate::mix::MixResult;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Cores used by others from which on a run is called disturbed.
const DISTURBED: f64 = 0.2;

/// What it is told of every run, as the table has it: title, digits, factor, and where it is.
type Column = (&'static str, &'static str, usize, f64, fn(&Verdict) -> f64);
const COLUMNS: [Column; 10] = [
    ("innocents_before", "before %", 1, 100.0, |v| v.innocents_before),
    ("innocents_during", "during %", 1, 100.0, |v| v.innocents_during),
    ("innocents_p99_during_ms", "p99 ms", 0, 1.0, |v| v.innocents_p99_during_ms),
    ("culprit_goodput", "culprit %", 1, 100.0, |v| v.culprit_goodput),
    ("culprit_of_feasible", "of feasible %", 0, 100.0, |v| v.culprit_of_feasible),
    ("converge_s", "converge s", 0, 1.0, |v| v.converge_s.unwrap_or(f64::INFINITY)),
    ("saturated_s", "saturated s", 0, 1.0, |v| v.saturated_s),
    ("used", "then used %", 0, 100.0, |v| v.used),
    ("refused_after", "refused after %", 1, 100.0, |v| v.refused_after),
    ("refused_before", "refused before %", 1, 100.0, |v| v.refused_before),
];

/// One run, second by second.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Series {
    /// Requests of the innocents.
    pub innocents_offered: Vec<u32>,
    /// Of those, answered well.
    pub innocents_good: Vec<u32>,
    /// Requests of the culprit.
    pub culprit_offered: Vec<u32>,
    /// Of those, answered well.
    pub culprit_good: Vec<u32>,
    /// Refused, of all.
    pub refused: Vec<u32>,
    /// Cores the app used.
    pub cpu: Vec<f64>,
}

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Run {
    /// Behind what.
    pub variant: Variant,
    /// In which round.
    pub round: usize,
    /// What it says.
    pub verdict: Verdict,
    /// Cores that others used, on average.
    pub other_cores: f64,
    /// Replies other than 2xx, by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Milliseconds a request was sent late, at most.
    pub sent_late_ms: f64,
    /// Second by second.
    pub series: Series,
}

impl Run {
    pub(super) fn new(
        variant: Variant,
        round: usize,
        verdict: Verdict,
        result: &MixResult,
        meters: Meters,
        culprit: usize,
    ) -> Run {
        let mut series = Series { cpu: meters.app, ..Series::default() };
        for second in &result.seconds {
            let (innocents, guilty) = (second.sum(|p| p != culprit), second.sum(|p| p == culprit));
            series.innocents_offered.push(innocents.offered);
            series.innocents_good.push(innocents.good);
            series.culprit_offered.push(guilty.offered);
            series.culprit_good.push(guilty.good);
            series.refused.push(innocents.refused + guilty.refused);
        }
        Run {
            variant,
            round,
            verdict,
            other_cores: meters.others.iter().sum::<f64>() / meters.others.len().max(1) as f64,
            statuses: result.statuses.clone(),
            sent_late_ms: result.sent_late_us as f64 / 1e3,
            series,
        }
    }

    pub(super) fn line(&self) -> String {
        let v = &self.verdict;
        let converge = v.converge_s.map_or("not".to_owned(), |s| format!("after {s:.0} s"));
        format!(
            "round {}  {:27} innocents {:5.1} % before, {:5.1} % during (served again {converge}); culprit {:5.1} %; refused after {:.1} %; others {:.2} cores",
            self.round + 1,
            self.variant.title(),
            v.innocents_before * 100.0,
            v.innocents_during * 100.0,
            v.culprit_goodput * 100.0,
            v.refused_after * 100.0,
            self.other_cores,
        )
    }
}

/// A variant over all rounds.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Which.
    pub variant: Variant,
    /// Its name in the table.
    pub title: &'static str,
    /// What the program says of its version.
    pub version: Option<String>,
    /// Why it could not be measured, if so.
    pub missing: Vec<String>,
    /// Medians of the rounds, by the names of [`Verdict`].
    pub figures: BTreeMap<&'static str, Figure>,
}

/// What was found. `Display` is the table for people.
#[derive(Clone, Debug, Serialize)]
pub struct LimitReport {
    /// What it was measured on.
    pub machine: Machine,
    /// Whether this binary, and so the app and the sidecar, was built without optimisation.
    pub debug_build: bool,
    /// Cores of the app.
    pub cores: f64,
    /// By what it was bounded.
    pub bounded_by: &'static str,
    /// Share of them used before the surge.
    pub load: f64,
    /// Requests a second before the surge.
    pub rate: f64,
    /// Who surged.
    pub culprit: String,
    /// Share of the load that is the culprit's before the surge.
    pub culprit_share: f64,
    /// How many times as often.
    pub factor: f64,
    /// Seconds before, of and after the surge.
    pub seconds: [f64; 3],
    /// Variant by variant.
    pub rows: Vec<Row>,
    /// All of them.
    pub runs: Vec<Run>,
    /// Files written.
    #[serde(skip)]
    pub files: Vec<PathBuf>,
}

impl LimitReport {
    pub(super) fn new(
        opts: &LimitOptions,
        cores: f64,
        plan: &Plan,
        machine: Machine,
        found: &[(Variant, Option<PeerInfo>, Option<Program>)],
    ) -> LimitReport {
        let row = |(variant, info, _): &(Variant, Option<PeerInfo>, Option<Program>)| Row {
            variant: *variant,
            title: variant.title(),
            version: info.as_ref().and_then(|i| i.version.clone()),
            missing: info.iter().filter_map(|i| i.missing.clone()).collect(),
            figures: BTreeMap::new(),
        };
        let demand = |p: usize| plan.rates[p] * plan.costs[p];
        LimitReport {
            machine,
            debug_build: cfg!(debug_assertions),
            cores,
            bounded_by: if opts.group { "a cgroup" } else { "its one thread" },
            load: opts.load,
            rate: plan.rate,
            culprit: burn::menu(1.0).get(plan.culprit).map_or_else(String::new, |i| i.path.clone()),
            culprit_share: demand(plan.culprit) / (0..plan.costs.len()).map(demand).sum::<f64>(),
            factor: opts.factor,
            seconds: [opts.calm, opts.surge, opts.after].map(|d| d.as_secs_f64()),
            rows: found.iter().map(row).collect(),
            runs: Vec::new(),
            files: Vec::new(),
        }
    }

    fn row(&mut self, variant: Variant) -> Option<&mut Row> {
        self.rows.iter_mut().find(|r| r.variant == variant)
    }

    pub(super) fn add(&mut self, run: Run) {
        if let Some(row) = self.row(run.variant) {
            for (key, _, _, _, of) in COLUMNS {
                // Who never converged took for ever, which JSON calls null.
                row.figures.entry(key).or_default().push(of(&run.verdict));
            }
        }
        self.runs.push(run);
    }

    pub(super) fn failed(&mut self, variant: Variant, why: &io::Error) {
        if let Some(row) = self.row(variant) {
            row.missing.push(why.to_string());
        }
    }

    pub(super) fn write(&mut self, out: &Path) -> io::Result<()> {
        fs::create_dir_all(out)?;
        let (json, text) = (out.join("limit-real.json"), out.join("limit-real.txt"));
        self.files.clear();
        fs::write(&json, serde_json::to_string(self)? + "\n")?;
        fs::write(&text, self.to_string())?;
        self.files = vec![json, text];
        Ok(())
    }
}

impl fmt::Display for LimitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = &self.machine;
        let [calm, surge, after] = self.seconds;
        let rounds = self.runs.iter().map(|r| r.round + 1).max().unwrap_or(0);
        writeln!(f, "{}, {} cores of {}, {}", m.date, m.cpus, m.cpu_model, m.kernel)?;
        writeln!(
            f,
            "An app of {} interfaces with {} cores by {}, {:.0} requests/s = {:.0} % of them; {} ({:.0} % of the load) ×{} from {calm:.0} s to {:.0} s of {:.0}.",
            burn::INTERFACES,
            self.cores,
            self.bounded_by,
            self.rate,
            self.load * 100.0,
            self.culprit,
            self.culprit_share * 100.0,
            self.factor,
            calm + surge,
            calm + surge + after,
        )?;
        writeln!(
            f,
            "Open loop at random moments, callers wait 1 s; {rounds} interleaved rounds, medians, least and most if far apart."
        )?;
        let mut lines = vec![vec!["innocents' goodput:".to_owned()]];
        lines[0].extend(COLUMNS.map(|(_, title, ..)| title.to_owned()));
        for row in self.rows.iter().filter(|r| !r.figures.is_empty()) {
            let mut line = vec![row.title.to_owned()];
            line.extend(
                COLUMNS.map(|(key, _, digits, factor, _)| cell(row.figures.get(key), digits, factor)),
            );
            lines.push(line);
        }
        let width = |c: usize| lines.iter().map(|l| l[c].chars().count()).max().unwrap_or(0);
        for line in &lines {
            for (c, text) in line.iter().enumerate() {
                let room = width(c);
                if c == 0 { write!(f, "  {text:<room$}")? } else { write!(f, "  {text:>room$}")? }
            }
            writeln!(f)?;
        }
        for row in &self.rows {
            for why in &row.missing {
                writeln!(f, "  {}: NOT MEASURED: {why}", row.title)?;
            }
            if let Some(version) = &row.version {
                writeln!(f, "  {}: {version}", row.title)?;
            }
        }
        if self.debug_build {
            writeln!(f, "  DEBUG BUILD: Raddle and the app are not optimised; what they cost says nothing")?;
        }
        let others = self.runs.iter().map(|r| r.other_cores).sum::<f64>() / self.runs.len().max(1) as f64;
        if others > DISTURBED {
            writeln!(
                f,
                "  DISTURBED: other processes or the host took {others:.2} cores; measure again at rest"
            )?;
        }
        for path in &self.files {
            writeln!(f, "wrote {}", path.display())?;
        }
        Ok(())
    }
}

/// A median, with least and most if they are far apart; a time that never came is a dash.
fn cell(figure: Option<&Figure>, digits: usize, factor: f64) -> String {
    let Some(figure) = figure else { return "–".to_owned() };
    let text = |value: f64| match value.is_finite() {
        true => format!("{:.digits$}", value * factor),
        false => "never".to_owned(),
    };
    let (median, min, max) = (text(figure.median), text(figure.min), text(figure.max));
    let far = (figure.max - figure.min) / figure.median.abs().max(1e-9) > 0.1 || figure.max.is_infinite();
    if min != max && (far || figure.median.is_nan()) { format!("{median} ({min}–{max})") } else { median }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_tells_its_spread_where_it_is_wide() {
        let mut figure = Figure::default();
        for value in [0.5, 0.51, 0.505] {
            figure.push(value);
        }
        assert_eq!(cell(Some(&figure), 1, 100.0), "50.5");
        figure.push(f64::INFINITY);
        assert!(cell(Some(&figure), 1, 100.0).contains("never"));
        assert_eq!(cell(None, 1, 1.0), "–");
    }
}
