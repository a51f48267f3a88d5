//! The results for people (text) and for programs (JSON, SVG).
use super::table::{Row, Table};
use super::{CompareReport, DISTURBED, OTHERS, svg};
use serde::Serialize;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

/// What one JSON file holds: a table with everything needed to judge it.
#[derive(Serialize)]
struct Document<'a> {
    machine: &'a super::Machine,
    rounds: usize,
    seconds: f64,
    pinned: bool,
    peers: &'a [super::PeerInfo],
    table: &'a Table,
}

impl CompareReport {
    /// Writes the last table's JSON and charts.
    pub(super) fn write_last(&mut self, out: &Path) -> io::Result<()> {
        let Some(table) = self.tables.last() else { return Ok(()) };
        fs::create_dir_all(out)?;
        let document = Document {
            machine: &self.machine,
            rounds: self.rounds,
            seconds: self.seconds,
            pinned: self.pinned,
            peers: &self.peers,
            table,
        };
        let mut files =
            vec![(out.join(format!("{}.json", table.name)), serde_json::to_string_pretty(&document)? + "\n")];
        let subtitle =
            format!("median of {} rounds, {} cores, less is better", self.rounds, self.machine.cpus);
        for metric in table.metrics.iter().filter(|m| m.chart) {
            let subtitle =
                if metric.key == "rps" { subtitle.replace("less", "more") } else { subtitle.clone() };
            if let Some(chart) = svg::chart(table, metric, &subtitle) {
                files.push((out.join(format!("{}-{}.svg", table.name, metric.key.replace('_', "-"))), chart));
            }
        }
        for (path, text) in files {
            fs::write(&path, text)?;
            self.files.push(path);
        }
        Ok(())
    }
}

impl fmt::Display for CompareReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = &self.machine;
        let kind = if m.virtual_machine { "virtual machine" } else { "machine" };
        writeln!(
            f,
            "{}, {} cores of {} ({kind}), {} MiB, {}",
            m.date, m.cpus, m.cpu_model, m.memory_mib, m.kernel
        )?;
        let pinned = if self.pinned { "pinned to one core" } else { "not pinned" };
        writeln!(
            f,
            "{} rounds of {} s each, interleaved; proxies with one worker, {pinned}",
            self.rounds, self.seconds
        )?;
        if m.was_busy() {
            let load = m.load_average;
            writeln!(
                f,
                "WARNING: the machine was busy before the run (load average {load}): measure again at rest"
            )?;
        }
        for peer in &self.peers {
            let version = peer.version.as_deref().unwrap_or("");
            match &peer.missing {
                Some(why) => writeln!(f, "  {}: MISSING: {why}", peer.name)?,
                None => writeln!(f, "  {}: {version}", peer.name)?,
            }
            for why in &peer.failed {
                writeln!(f, "    NOT MEASURED at {}", why.replace('\n', "\n      "))?;
            }
        }
        for table in &self.tables {
            write!(f, "\n{table}")?;
        }
        for path in &self.files {
            writeln!(f, "wrote {}", path.display())?;
        }
        Ok(())
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        let mut lines = vec![vec![String::new(), String::new()]];
        lines[0].extend(self.metrics.iter().map(|m| m.title.to_owned()));
        let mut last = "";
        for row in &self.rows {
            let group = if row.group == last { "" } else { &row.group };
            last = &row.group;
            let mut line = vec![group.to_owned(), row.subject.clone()];
            line.extend(self.metrics.iter().map(|m| cell(row, m.key, m.digits)));
            lines.push(line);
        }
        write_aligned(f, &lines)?;
        for goal in &self.goals {
            let (mark, measured) = match (goal.met(), goal.measured) {
                (Some(true), Some(m)) => ("met   ", format!("{m:.3}")),
                (Some(false), Some(m)) if goal.stretch => ("beyond", format!("{m:.3}")),
                (Some(false), Some(m)) => ("MISSED", format!("{m:.3}")),
                _ => ("?     ", "not measured".to_owned()),
            };
            writeln!(f, "  {mark} {}: {measured} ({} ≤ {})", goal.what, goal.word(), goal.bound)?;
        }
        if let Some(others) = self.overall(OTHERS.key).filter(|others| *others > DISTURBED) {
            writeln!(
                f,
                "  DISTURBED: other processes or the host took {others:.2} cores; measure again at rest"
            )?;
        }
        for note in &self.notes {
            writeln!(f, "  Note: {note}")?;
        }
        Ok(())
    }
}

/// A median, with least and most if they are far apart.
fn cell(row: &Row, key: &str, digits: usize) -> String {
    let Some(figure) = row.figures.get(key) else { return "–".to_owned() };
    let median = svg::number(figure.median, digits);
    let spread = (figure.max - figure.min) / figure.median.abs().max(f64::MIN_POSITIVE);
    if figure.rounds.len() > 1 && spread > 0.1 {
        let (min, max) = (svg::number(figure.min, digits), svg::number(figure.max, digits));
        return format!("{median} ({min}–{max})");
    }
    median
}

fn write_aligned(f: &mut fmt::Formatter<'_>, lines: &[Vec<String>]) -> fmt::Result {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |c: usize| lines.iter().map(|l| l[c].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for line in lines {
        write!(f, " ")?;
        for (c, (text, width)) in line.iter().zip(&widths).enumerate() {
            if c < 2 { write!(f, " {text:<width$}")? } else { write!(f, "  {text:>width$}")? }
        }
        writeln!(f)?;
    }
    Ok(())
}
