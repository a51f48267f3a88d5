//! The end of the story: what became of the requests in each part.
use super::ledger::Part;
use crate::output::Paint;
use crate::table::Table;
use raddle_bench::mix::Cell;

const COMMANDS: &str = "
The same on your mesh:
  raddle apply -f limit.yaml       # kind: AdaptiveLimit, scope: {apps: [order]}; add mode: observe to watch first
  raddle explain limit order       # what is held, by what evidence, what it was before, why it ended
";

/// The table, and the two figures it is about.
pub(super) fn summary(parts: &[Part], path: &str, cores: f64, paint: Paint) -> String {
    let columns = [
        "",
        ">seconds",
        ">app's CPU",
        ">asked/s",
        ">answered/s",
        ">others asked/s",
        ">others answered in time",
    ];
    let mut table = Table::new(&columns);
    for part in parts.iter().filter(|p| p.seconds() > 0) {
        let seconds = part.seconds() as f64;
        table.row([
            name(part, path),
            part.seconds().to_string(),
            format!("{:.0} %", part.cores() / cores.max(0.01) * 100.0),
            format!("{:.0}", f64::from(part.culprit.offered) / seconds),
            format!("{:.0}", f64::from(part.culprit.good) / seconds),
            format!("{:.0}", f64::from(part.innocents.offered) / seconds),
            format!("{:.1} %", part.innocents.goodput() * 100.0),
        ]);
    }
    let mut out = format!("\n{}\n", table.render(|head| paint.bold(head)));
    for (on, words) in [(true, "with the limiter   "), (false, "without the limiter")] {
        if let Some(cell) = surge(parts, on) {
            let lost = cell.offered - cell.good;
            let text = format!(
                "Surge {words}: the 99 others got {:.1} % of {} answers in time; {lost} did not come.",
                cell.goodput() * 100.0,
                cell.offered
            );
            out += &(if cell.goodput() > 0.95 { paint.good(text) } else { paint.bad(text) } + "\n");
        }
    }
    out + COMMANDS
}

fn name(part: &Part, path: &str) -> String {
    let limiter = if part.state.limiting { "limiter on" } else { "limiter off" };
    let what = if part.state.surging { format!("{path} surges") } else { "calm".to_owned() };
    format!("{what}, {limiter}")
}

/// The innocents' requests during surges with the limiter on or off; `None` if there were none.
fn surge(parts: &[Part], on: bool) -> Option<Cell> {
    let of = parts.iter().filter(|p| p.state.surging && p.state.limiting == on);
    let sum = of.fold(Cell::default(), |sum, p| sum.plus(p.innocents));
    (sum.offered > 0).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::limit::ledger::{Ledger, State};

    #[test]
    fn both_surges_are_told_and_commands_to_do_the_same() {
        let ledger = Ledger::new(0);
        for limiting in [true, false] {
            ledger.switch(State { surging: true, limiting });
        }
        let mut known = ledger.known();
        for (n, part) in known.parts.iter_mut().enumerate() {
            (part.from, part.until) = (n * 10, Some(n * 10 + 10));
            part.innocents = Cell { offered: 1000, good: if n == 0 { 998 } else { 400 }, ..Cell::default() };
        }
        let text = summary(&known.parts, "/cart/get", 0.5, Paint::none());
        for part in [
            "/cart/get surges, limiter on",
            "with the limiter   : the 99 others got 99.8 % of 1000",
            "without the limiter: the 99 others got 40.0 % of 1000 answers in time; 600 did not come",
            "raddle explain limit order",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }
}
