//! What the board counted since the last tick, by interface.
use super::board::{Board, CLASSES, Counts};
use raddle_model::Priority;

/// One interface's last second.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Flow {
    /// Requests offered a second, load-test traffic apart.
    pub offered: f64,
    /// The same, smoothed over some three seconds.
    pub smooth: f64,
    /// By class, load-test traffic included, smoothed.
    pub classes: [f64; CLASSES],
    /// Requests let through a second, load-test traffic included.
    pub admitted: f64,
    /// Requests completed.
    pub completed: f64,
    /// Requests that were worked on: of those let through in this second and the last, the part that fell into this.
    /// When the app pauses, these stay what they are, while completions do not.
    pub worked: f64,
    let_through: f64,
    /// Their mean latency in seconds.
    pub latency: Option<f64>,
    /// The latency of late.
    pub lately: f64,
    /// CPU seconds of a request, if the app says so.
    pub said: Option<f64>,
    /// Requests in flight.
    pub inflight: f64,
    /// Offered in all, load-test traffic apart, at this tick and the one before; wraps.
    pub seen: (u32, u32),
}

/// Reads the board.
#[derive(Debug, Default)]
pub(super) struct Meter {
    before: Vec<Counts>,
    pub flows: Vec<Flow>,
    /// Over all interfaces, since the last tick.
    pub offered: u32,
    pub marked: u32,
    pub refused: [u32; 4],
}

/// Weight of the last second in what is smoothed.
const FRESH: f64 = 0.4;

impl Meter {
    /// Reads what was counted in these seconds.
    pub(super) fn read(&mut self, board: &Board, seconds: f64) {
        let known = board.interfaces();
        self.before.resize(known, Counts::default());
        self.flows.resize(known, Flow::default());
        (self.offered, self.marked, self.refused) = (0, 0, [0; 4]);
        for (id, (before, flow)) in self.before.iter_mut().zip(&mut self.flows).enumerate() {
            let now = board.counts(id as u32);
            let grown = difference(&now, before);
            *before = now;
            self.offered += grown.offered.iter().sum::<u32>();
            self.marked += grown.offered[Priority::LoadTest as usize];
            self.refused.iter_mut().zip(grown.refused).for_each(|(sum, n)| *sum += n);
            flow.take(&grown, seconds, board.observes());
        }
    }
}

fn difference(now: &Counts, before: &Counts) -> Counts {
    let each = |a: [u32; 4], b: [u32; 4]| std::array::from_fn(|i| a[i].wrapping_sub(b[i]));
    Counts {
        offered: each(now.offered, before.offered),
        refused: each(now.refused, before.refused),
        completed: now.completed.wrapping_sub(before.completed),
        failed: now.failed.wrapping_sub(before.failed),
        priced: now.priced.wrapping_sub(before.priced),
        inflight: now.inflight,
        latency: now.latency.wrapping_sub(before.latency),
        cost: now.cost.wrapping_sub(before.cost),
    }
}

impl Flow {
    fn take(&mut self, grown: &Counts, seconds: f64, observe: bool) {
        let marked = grown.offered[Priority::LoadTest as usize];
        let offered: u32 = grown.offered.iter().sum();
        let refused: u32 = if observe { 0 } else { grown.refused.iter().sum() };
        self.offered = f64::from(offered - marked) / seconds;
        self.smooth += (self.offered - self.smooth) * FRESH;
        for (smooth, n) in self.classes.iter_mut().zip(grown.offered) {
            *smooth += (f64::from(n) / seconds - *smooth) * FRESH;
        }
        self.admitted = f64::from(offered.saturating_sub(refused)) / seconds;
        self.completed = f64::from(grown.completed);
        self.latency = (grown.completed > 0).then(|| grown.latency as f64 * 1e-6 / self.completed);
        if let Some(latency) = self.latency {
            let fresh =
                if self.lately > 0.0 { (self.completed / (self.completed + 4.0)).min(0.6) } else { 1.0 };
            self.lately += (latency - self.lately) * fresh;
        }
        if grown.priced > 0 {
            let cost = grown.cost as f64 * 1e-6 / f64::from(grown.priced);
            let n = f64::from(grown.priced);
            let old = self.said.unwrap_or(cost);
            self.said = Some(old + (cost - old) * (n / (n + 20.0)));
        }
        let through = self.admitted * seconds;
        let late = 0.5 * (self.lately / seconds).min(1.0);
        let last = std::mem::replace(&mut self.let_through, through);
        self.worked = if last > 0.0 { through * (1.0 - late) + last * late } else { through };
        self.inflight = f64::from(grown.inflight);
        self.seen = (self.seen.0.wrapping_add(offered - marked), self.seen.0);
    }
}
