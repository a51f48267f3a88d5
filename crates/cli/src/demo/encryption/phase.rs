//! What became of the requests in each part of the story, and the table of it.
use crate::demo::traffic::Tally;
use crate::output::Paint;
use crate::table::Table;
use hdrhistogram::Histogram;
use std::sync::Mutex;
use std::time::Instant;

/// A part of the story, when it is over. Latency in milliseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Phase {
    pub(super) name: &'static str,
    pub(super) seconds: f64,
    pub(super) sent: u64,
    pub(super) failed: u64,
    pub(super) p50: f64,
    pub(super) p99: f64,
    /// Share of the links that were encrypted at its end.
    pub(super) share: Option<f64>,
}

/// The counts when a part began.
pub(super) struct Start {
    at: Instant,
    tally: Tally,
}

impl Start {
    pub(super) fn now(tally: &Mutex<Tally>) -> Start {
        Start { at: Instant::now(), tally: Tally::lock(tally).clone() }
    }

    pub(super) fn finish(self, name: &'static str, tally: &Mutex<Tally>, share: Option<f64>) -> Phase {
        let after = Tally::lock(tally).clone();
        let latency = since(&after.latency, &self.tally.latency);
        let at = |q| latency.value_at_quantile(q) as f64 / 1e3;
        Phase {
            name,
            seconds: self.at.elapsed().as_secs_f64(),
            sent: after.sent - self.tally.sent,
            failed: after.failures() - self.tally.failures(),
            p50: at(0.5),
            p99: at(0.99),
            share,
        }
    }
}

fn since(after: &Histogram<u64>, before: &Histogram<u64>) -> Histogram<u64> {
    let mut latency = after.clone();
    // What was recorded before is in both.
    if latency.subtract(before).is_err() {
        latency.reset();
    }
    latency
}

const COMMANDS: &str = "
The same on your mesh:
  raddle apply -f permissive.yaml         # kind: LinkEncryption, scope: {apps: [pay]}, mode: permissive, rollout: ...
  raddle rollout status LinkEncryption/pay
  raddle status encryption pay            # share of links and requests that are encrypted, edge by edge
  raddle explain encryption pay           # who still comes in plaintext
  raddle apply -f strict.yaml             # mode: strict
  raddle rollback LinkEncryption/pay      # at any moment, in either direction
";

/// The end of the story.
pub(super) fn summary(tally: &Tally, phases: &[Phase], seconds: f64, paint: Paint) -> String {
    let columns = ["", ">seconds", ">sent", ">failed", ">p50 ms", ">p99 ms", ">encrypted"];
    let mut table = Table::new(&columns);
    for p in phases {
        table.row([
            p.name.to_owned(),
            format!("{:.1}", p.seconds),
            p.sent.to_string(),
            p.failed.to_string(),
            format!("{:.2}", p.p50),
            format!("{:.2}", p.p99),
            p.share.map_or("-".into(), |s| format!("{:.0} %", s * 100.0)),
        ]);
    }
    let mut out = format!("\n{}", table.render(|head| paint.bold(head)));
    let before = phases.first().map_or(0.0, |p| p.p99);
    let during = phases.iter().skip(1).map(|p| p.p99).fold(0.0, f64::max);
    out.push_str(&format!(
        "\n{} requests sent in {seconds:.0} s, {} answered, {} failed; p99 {before:.2} ms before, at most {during:.2} ms after\n",
        tally.sent,
        tally.ok,
        tally.failures(),
    ));
    let kinds: Vec<String> = tally.failed.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
    out.push_str(&match tally.failures() {
        0 => format!("{}\n", paint.good("No request failed.")),
        _ => format!("{}\n", paint.bad(format!("Failed: {}", kinds.join(", ")))),
    });
    out.push_str(COMMANDS);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_of_a_part_is_that_part_s_own() {
        let mut before: Histogram<u64> = Histogram::new_with_bounds(1, 1_000_000, 3).unwrap();
        before.record_n(900_000, 50).unwrap();
        let mut after = before.clone();
        after.record_n(1000, 100).unwrap();
        let part = since(&after, &before);
        assert_eq!((part.len(), part.value_at_quantile(0.99) / 1000), (100, 1));
    }
}
