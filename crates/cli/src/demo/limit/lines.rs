//! The story without a screen: a line for each event and each second.
use super::ledger::{Known, Ledger, Second};
use crate::demo::board::{Board, Mood};
use crate::exit::Failure;
use crate::output::{Paint, print};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Cells of the bar.
const BAR: usize = 10;

/// Prints until the story is over, and what there was to print then.
pub(super) fn run(board: &Board, ledger: &Ledger, cores: f64, over: &AtomicBool) -> Result<(), Failure> {
    let (mut seen, mut second) = (0, None);
    loop {
        let last = over.load(Ordering::Acquire);
        let (events, now) = board.events_since(seen);
        seen = now;
        let paint = Paint::stdout();
        for event in events {
            let text = match event.mood {
                Mood::Act => paint.bold(&event.text),
                Mood::Good => paint.good(&event.text),
                Mood::Bad => paint.bad(&event.text),
            };
            print(&format!("{:6.1} s  {text}\n", event.at.as_secs_f64()))?;
        }
        let known = ledger.known();
        if let Some(newest) = known.seconds.last().filter(|s| Some(s.number) != second) {
            second = Some(newest.number);
            print(&format!("{}\n", line(&known, newest, cores)))?;
        }
        if last {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A second in a line.
fn line(known: &Known, s: &Second, cores: f64) -> String {
    let share = known.cores / cores.max(0.01);
    let full = ((share * BAR as f64).round() as usize).min(BAR);
    let bar = "█".repeat(full) + &"·".repeat(BAR - full);
    let limiter = if known.state.limiting { "on" } else { "off" };
    format!(
        "{:4} s  app {bar} {:3.0} %   culprit {:3} of {:3} answered   99 others {:3} of {:3} ({:5.1} %), p99 {:4.0} ms   limiter {limiter}",
        s.number + 1,
        share * 100.0,
        s.culprit.good,
        s.culprit.offered,
        s.innocents.good,
        s.innocents.offered,
        s.innocents.goodput() * 100.0,
        s.p99,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use raddle_bench::mix::Cell;

    #[test]
    fn a_line_tells_load_culprit_and_innocents() {
        let cell = |offered, good| Cell { offered, good, ..Cell::default() };
        let second = Second { number: 6, culprit: cell(200, 40), innocents: cell(100, 99), p99: 31.0 };
        let known = Known { cores: 0.4, ..Known::default() };
        let line = line(&known, &second, 0.5);
        for part in ["7 s", "████████·· ", " 80 %", " 40 of 200", " 99 of 100 ( 99.0 %)", "limiter off"]
        {
            assert!(line.contains(part), "{part}: {line}");
        }
    }
}
