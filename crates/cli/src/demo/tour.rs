//! The demo without a screen: a script acts, a line a second tells.
use super::board::{Board, Mood, View};
use super::mesh::Mesh;
use super::traffic::{Tally, Traffic};
use crate::exit::Failure;
use crate::output::{Paint, print};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const PHASE: Duration = Duration::from_secs(3);

/// A part of the tour, and what became of the requests in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Phase {
    pub(super) name: &'static str,
    pub(super) seconds: f64,
    pub(super) sent: u64,
    pub(super) ok: u64,
    pub(super) failed: BTreeMap<String, u64>,
    /// Requests by instance of order, from when the action was done.
    pub(super) shares: Vec<(String, u64)>,
}

type Act = fn(&mut Mesh) -> Result<(), Failure>;

const SCRIPT: [(&str, Act); 9] = [
    ("equal weights", |_| Ok(())),
    ("weights 80/10/10", |mesh| mesh.shift_weights(Some(1))),
    ("kill -9 order-2", |mesh| {
        mesh.shift_weights(Some(0))?;
        mesh.kill();
        Ok(())
    }),
    ("order-2 restarted", Mesh::restart),
    ("20 revisions", |mesh| mesh.reload_storm(20)),
    ("harmful rule", Mesh::harm),
    ("no control plane", |mesh| {
        mesh.kill_control();
        Ok(())
    }),
    ("it is back", Mesh::restart_control),
    ("canary rule 10 %", |mesh| mesh.set_canary(true)),
];

/// Runs the script; a `duration` shortens its parts, or lengthens the last one.
pub(super) fn run(
    mesh: &mut Mesh,
    board: &Board,
    traffic: &Traffic,
    duration: Option<Duration>,
    stop: &AtomicBool,
) -> Result<Vec<Phase>, Failure> {
    let length = duration.map_or(PHASE, |d| (d / SCRIPT.len() as u32).min(PHASE));
    let rest = duration.map_or(Duration::ZERO, |d| d.saturating_sub(length * SCRIPT.len() as u32));
    let mut teller = Teller { seen: 0, seconds: 0 };
    let mut phases = Vec::new();
    print(&format!(
        "a control plane; 2 sidecars of shop call 4 instances of order, each with its sidecar; {:.0} requests a second\n",
        board.view().rate
    ))?;
    for (n, (name, act)) in SCRIPT.iter().enumerate() {
        let extra = if n + 1 == SCRIPT.len() { rest } else { Duration::ZERO };
        let before = Tally::lock(&traffic.tally()).clone();
        let start = Instant::now();
        act(mesh)?;
        let counted = mesh.requests();
        let end = start + length + extra;
        while Instant::now() < end && !stop.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(20).min(end.saturating_duration_since(Instant::now())));
            teller.tell(board)?;
        }
        mesh.look_after();
        let shares = mesh.requests().into_iter().zip(counted);
        let after = Tally::lock(&traffic.tally()).clone();
        phases.push(Phase {
            name,
            seconds: start.elapsed().as_secs_f64(),
            sent: after.sent - before.sent,
            ok: after.ok - before.ok,
            failed: since(&after.failed, &before.failed),
            shares: shares.map(|((name, now), (_, was))| (name, now.saturating_sub(was))).collect(),
        });
        if stop.load(Ordering::Relaxed) {
            board.note(Mood::Act, "stopped");
            break;
        }
    }
    teller.tell(board)?;
    Ok(phases)
}

fn since(after: &BTreeMap<String, u64>, before: &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
    let new = after.iter().map(|(kind, n)| (kind.clone(), n - before.get(kind).copied().unwrap_or(0)));
    new.filter(|(_, n)| *n > 0).collect()
}

/// Prints events and seconds, each once.
struct Teller {
    seen: usize,
    seconds: usize,
}

impl Teller {
    fn tell(&mut self, board: &Board) -> Result<(), Failure> {
        let paint = Paint::stdout();
        let (events, seen) = board.events_since(self.seen);
        self.seen = seen;
        for event in events {
            let text = match event.mood {
                Mood::Act => paint.bold(&event.text),
                Mood::Good => paint.good(&event.text),
                Mood::Bad => paint.bad(&event.text),
            };
            print(&format!("{:6.1} s  {text}\n", event.at.as_secs_f64()))?;
        }
        let view = board.view();
        if view.history.len() > self.seconds {
            self.seconds = view.history.len();
            print(&format!("{}\n", line(&view)))?;
        }
        Ok(())
    }
}

/// A second in a line.
fn line(view: &View) -> String {
    let s = &view.second;
    let mut out = format!(
        "{:6.1} s  {:6.0} ok/s  {:3} failed  p50 {:5.2} ms  p99 {:6.2} ms  max {:6.2} ms ",
        view.elapsed.as_secs_f64(),
        s.ok,
        s.failed,
        s.p50,
        s.p99,
        s.max
    );
    for instance in &view.instances {
        let share = instance.share * 100.0;
        let text = if instance.alive { format!("{share:.0} %") } else { format!("{share:.0} % (dead)") };
        out.push_str(&format!(" {} {text}", instance.name));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::board::{Instance, Second};

    #[test]
    fn a_line_tells_rate_failures_latency_and_shares() {
        let second = Second { ok: 1999.6, failed: 3, p50: 2.3, p99: 4.0, max: 9.1 };
        let mut view = View { second, ..View::default() };
        let name = "order-2".to_owned();
        view.instances.push(Instance { name, share: 0.334, alive: false, ..Instance::default() });
        let line = line(&view);
        for part in ["2000 ok/s", "3 failed", "p99   4.00 ms", "order-2 33 % (dead)"] {
            assert!(line.contains(part), "{line}");
        }
    }
}
