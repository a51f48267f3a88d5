//! The story without a screen: a line for each event and each second.
use super::wire::{Look, Wire};
use crate::demo::board::{Board, Mood, View};
use crate::exit::Failure;
use crate::output::{Paint, print};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Prints until the story is over, and what there was to print then.
pub(super) fn run(board: &Board, wire: &Wire, over: &AtomicBool) -> Result<(), Failure> {
    let (mut seen, mut seconds) = (0, 0);
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
        let view = board.view();
        if view.history.len() > seconds {
            seconds = view.history.len();
            print(&format!("{}\n", line(&view, &wire.look())))?;
        }
        if last {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A second in a line.
fn line(view: &View, look: &Look) -> String {
    let s = &view.second;
    let share = look.share().map_or("-".to_owned(), |s| format!("{:.0} %", s * 100.0));
    format!(
        "{:6.1} s  {:5.0} ok/s  {:3} failed  p50 {:5.2} ms  p99 {:6.2} ms   links: {} plaintext, {} TLS   encrypted {share}",
        view.elapsed.as_secs_f64(),
        s.ok,
        view.failures(),
        s.p50,
        s.p99,
        look.plain,
        look.tls,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::board::Second;

    #[test]
    fn a_line_tells_rate_failures_latency_and_the_share_that_is_encrypted() {
        let second = Second { ok: 999.6, failed: 0, p50: 1.3, p99: 4.0, max: 9.1 };
        let view = View { second, ..View::default() };
        let line = line(&view, &Look { plain: 2, tls: 6, ..Look::default() });
        for part in ["1000 ok/s", "0 failed", "p99   4.00 ms", "2 plaintext, 6 TLS", "encrypted 75 %"] {
            assert!(line.contains(part), "{line}");
        }
    }
}
