//! What the demo tells at its end.
use super::board::Board;
use super::tour::Phase;
use super::traffic::Tally;
use crate::exit::Failure;
use crate::output::{self, Paint};
use crate::table::Table;
use std::collections::BTreeMap;

/// Prints it.
pub(super) fn print(
    board: &Board,
    tally: &Tally,
    shares: &[(String, u64)],
    phases: &[Phase],
) -> Result<(), Failure> {
    let seconds = board.view().elapsed.as_secs_f64();
    output::print(&text(tally, shares, phases, seconds, Paint::stdout()))
}

fn text(tally: &Tally, shares: &[(String, u64)], phases: &[Phase], seconds: f64, paint: Paint) -> String {
    let mut out = String::from("\n");
    if phases.is_empty() {
        let mut table = Table::new(&["instance", ">requests", ">share"]);
        let all: u64 = shares.iter().map(|(_, n)| n).sum();
        for (name, n) in shares {
            table.row([name.clone(), n.to_string(), percent(*n, all)]);
        }
        out.push_str(&table.render(|head| paint.bold(head)));
    } else {
        out.push_str(&phase_table(phases).render(|head| paint.bold(head)));
    }
    let latency = |q| tally.latency.value_at_quantile(q) as f64 / 1e3;
    out.push_str(&format!(
        "\n{} requests sent in {seconds:.0} s, {} answered, {} failed; p50 {:.2} ms, p99 {:.2} ms, max {:.1} ms\n",
        tally.sent,
        tally.ok,
        tally.failures(),
        latency(0.5),
        latency(0.99),
        latency(1.0)
    ));
    out.push_str(&verdict(tally, paint));
    out
}

/// What failed, and whether it was to be expected.
fn verdict(tally: &Tally, paint: Paint) -> String {
    let mut out = String::new();
    if tally.expected > 0 {
        out.push_str(&format!(
            "{} failed with UC as they were in flight on the connections of an instance that was killed. That is \
             expected:\nsuch a request may have run, so it is repeated only if its method is declared \
             idempotent (raddle explain flag UC).\n",
            tally.expected
        ));
    }
    if tally.hasty > 0 {
        out.push_str(&format!(
            "{} failed with UT by the harmful rule, until its guard took it back. That is what it was applied for:\na \
             rollout in stages keeps such a mistake to a few sidecars and a few seconds (raddle rollout status).\n",
            tally.hasty
        ));
    }
    let line = match tally.unexpected() {
        0 if tally.failures() == 0 => paint.good("No request failed."),
        0 => paint.good("No other request failed."),
        n => paint.bad(format!("{n} failed without such a cause: {}", kinds(&tally.failed))),
    };
    out.push_str(&format!("{line}\n"));
    out
}

fn phase_table(phases: &[Phase]) -> Table {
    let names: Vec<&str> = phases[0].shares.iter().map(|(name, _)| name.as_str()).collect();
    let mut columns = vec![String::new(), ">seconds".into(), ">sent".into(), ">ok".into(), "failed".into()];
    columns.extend(names.iter().map(|name| format!(">{name}")));
    let mut table = Table::new(&columns.iter().map(String::as_str).collect::<Vec<_>>());
    for phase in phases {
        let failed = if phase.failed.is_empty() { "0".to_owned() } else { kinds(&phase.failed) };
        let mut row = vec![
            phase.name.to_owned(),
            format!("{:.1}", phase.seconds),
            phase.sent.to_string(),
            phase.ok.to_string(),
            failed,
        ];
        let all: u64 = phase.shares.iter().map(|(_, n)| n).sum();
        row.extend(phase.shares.iter().map(|(_, n)| percent(*n, all)));
        table.row(row);
    }
    table
}

fn percent(n: u64, all: u64) -> String {
    if all == 0 { "-".to_owned() } else { format!("{:.1} %", n as f64 * 100.0 / all as f64) }
}

fn kinds(failed: &BTreeMap<String, u64>) -> String {
    failed.iter().map(|(kind, n)| format!("{n} {kind}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_shows_counts_failures_and_shares() {
        let phase = Phase {
            name: "kill -9 order-2",
            seconds: 3.0,
            sent: 6000,
            ok: 5997,
            failed: [("UC".to_owned(), 3)].into(),
            shares: vec![("order-1".into(), 3), ("order-2".into(), 1)],
        };
        let text = phase_table(&[phase]).render(|head| head);
        for part in ["order-1", "6000", "5997", "3 UC", "75.0 %", "25.0 %"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }
}
