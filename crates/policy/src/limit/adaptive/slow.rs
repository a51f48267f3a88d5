//! How much longer than usual requests take, and whose take longer than that.
use super::meter::Flow;
use super::rise::Usual;

/// What all requests take longer than usual: the same time for all, as those in one line do, or in proportion to their
/// work, as those that share cores do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slowness {
    add: f64,
    times: f64,
    /// Deviation of one request's latency from that.
    scatter: f64,
}

impl Slowness {
    const NONE: Slowness = Slowness { add: 0.0, times: 0.0, scatter: 0.0 };

    /// What it is this second, by the interfaces that completed requests.
    pub(super) fn of(flows: &[Flow], usual: &[Usual], cost: impl Fn(usize) -> f64) -> Slowness {
        let mut seen = Vec::new();
        for (i, (flow, usual)) in flows.iter().zip(usual).enumerate() {
            if let Some(latency) = flow.latency.filter(|_| usual.latency > 0.0 && flow.completed >= 3.0) {
                seen.push((latency - usual.latency, cost(i).max(1e-6), flow.completed.sqrt()));
            }
        }
        let of = |f: &dyn Fn(&(f64, f64, f64)) -> f64| median(&mut seen.iter().map(f).collect::<Vec<_>>());
        let (add, times) = (of(&|s| s.0.max(0.0)), of(&|s| s.0.max(0.0) / s.1));
        let (off_add, off_times) = (of(&|s| (s.0 - add).abs()), of(&|s| (s.0 - s.1 * times).abs()));
        let mut slow = if off_add <= off_times {
            Slowness { add, ..Slowness::NONE }
        } else {
            Slowness { times, ..Slowness::NONE }
        };
        slow.scatter = 1.5 * of(&|s| (s.0 - slow.add - slow.times * s.1).abs() * s.2);
        slow
    }

    /// What requests of an interface take longer than that and than chance explains, in units of what they usually
    /// take.
    pub(super) fn dearer(self, flow: &Flow, usual: &Usual, cost: f64) -> f64 {
        let known = usual.latency > 0.0 && flow.completed >= 2.0;
        let Some(latency) = flow.latency.filter(|_| known) else { return 0.0 };
        let more = latency - usual.latency - self.add - self.times * cost;
        if more < 5.0 * self.scatter / flow.completed.sqrt() {
            return 0.0;
        }
        more / (usual.latency + self.times * cost).max(1e-6)
    }
}

/// The middle one; 0 of none.
pub(super) fn median(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}
