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
        let scatter = |slow: &Slowness| 1.5 * of(&|s| (s.0 - slow.add - slow.times * s.1).abs() * s.2);
        slow.scatter = scatter(&slow);
        // Both at once, as in a pool of threads: of those that are not far from what is known already.
        for _ in 0..2 {
            let mut sums = Sums::default();
            for (more, cost, root) in &seen {
                let off = (more - slow.add - slow.times * cost) * root;
                if off.abs() < 4.0 * slow.scatter {
                    sums.weigh(root.min(3.0).powi(2), 1.0, *cost, *more);
                }
            }
            let (add, times) = sums.solve();
            let both = Slowness { add, times, scatter: 0.0 };
            let both = Slowness { scatter: scatter(&both), ..both };
            if both.scatter >= slow.scatter {
                break;
            }
            slow = both;
        }
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

/// Requests in flight of those that have more of them than what delays all explains.
///
/// Latencies speak of requests that ended: in the first second of an overload, of the lucky ones. Those in flight are
/// all there. Of an interface to which `a` requests a second come that usually last `b` and work `c`, there are
/// `a·(b + A + T·c)`, where all wait `A` longer (in a line, through a pause) and their work takes `T` times longer (as
/// cores are shared). `A` and `T` are what explains all others best.
#[derive(Debug, Default)]
pub(super) struct Piles {
    /// By interface.
    pub of: Vec<Pile>,
}

/// What an interface has in flight beyond what can be explained.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Pile {
    /// The share of the cores that these have, if all that run share them evenly.
    pub share: f64,
    /// It is more than chance explains, beyond doubt.
    pub sure: bool,
    /// And so many that nothing else has a chance.
    pub jam: bool,
}

/// Interfaces looked at: those with most in flight.
const LOOKED_AT: usize = 12;
/// Deviations of chance that a pile must exceed; and those beyond which there is no doubt.
const LIKELY: f64 = 3.5;
const SURE: f64 = 6.0;
/// Part of the slowness that a pile makes if all of it runs, that others must feel.
const FELT: f64 = 0.6;
/// Part of what a request lasts that it may work, whatever the estimate says.
const DOUBT: f64 = 0.1;
/// And so many requests for each core: where one's requests cost more than there is, they fill all cores and more, and
/// a few are a few in any case.
const FULL: f64 = 2.0;
/// Share of the cores, and requests for each core, of a pile that nothing else gets past: a pause of the app leaves fewer.
const JAM: f64 = 0.3;
const JAMMED: f64 = 8.0;

/// An interface's part in the fit.
#[derive(Clone, Copy, Debug)]
struct Row {
    id: usize,
    came: f64,
    work: f64,
    base: f64,
    held: f64,
}

/// Sums of weighted squares and products.
#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    aa: f64,
    ac: f64,
    cc: f64,
    ay: f64,
    cy: f64,
}

impl Sums {
    fn add(&mut self, row: &Row, sign: f64) {
        self.weigh(sign / (row.base + 0.1), row.came, row.work, row.held - row.base);
    }

    fn weigh(&mut self, weight: f64, a: f64, c: f64, y: f64) {
        self.aa += weight * a * a;
        self.ac += weight * a * c;
        self.cc += weight * c * c;
        self.ay += weight * a * y;
        self.cy += weight * c * y;
    }

    /// `A` and `T`, none of which is negative.
    fn solve(&self) -> (f64, f64) {
        let one = |y: f64, x: f64| if x > 1e-12 { (y / x).max(0.0) } else { 0.0 };
        let det = self.aa * self.cc - self.ac * self.ac;
        if det > 1e-6 * self.aa * self.cc {
            let add = (self.ay * self.cc - self.cy * self.ac) / det;
            let times = (self.cy * self.aa - self.ay * self.ac) / det;
            if add >= 0.0 && times >= 0.0 {
                return (add, times);
            }
            if times < 0.0 {
                return (one(self.ay, self.aa), 0.0);
            }
        }
        (0.0, one(self.cy, self.cc))
    }
}

impl Piles {
    pub(super) fn of(flows: &[Flow], usual: &[Usual], cost: impl Fn(usize) -> f64, cores: f64) -> Piles {
        let mut rows: Vec<Row> = Vec::new();
        for (id, (flow, usual)) in flows.iter().zip(usual).enumerate() {
            if usual.latency > 0.0 && flow.admitted > 0.0 {
                let came = flow.admitted;
                let (work, base) = (came * cost(id).min(usual.latency), came * usual.latency);
                rows.push(Row { id, came, work, base, held: flow.inflight });
            }
        }
        let mut piles = Piles { of: vec![Pile::default(); flows.len()] };
        let mut sums = Sums::default();
        for row in &rows {
            sums.add(row, 1.0);
        }
        let all: f64 = rows.iter().map(|r| r.work).sum();
        let most = LOOKED_AT.min(rows.len());
        if most == 0 {
            return piles;
        }
        rows.select_nth_unstable_by(most - 1, |a, b| b.held.total_cmp(&a.held));
        let mut looked: Vec<Row> = rows[..most].to_vec();
        // The one that stands out most is left out of what the others are held against.
        while let Some((at, excess, sure, times)) = furthest(&looked, sums, cores) {
            let row = looked.swap_remove(at);
            sums.add(&row, -1.0);
            let run = (all - row.work).max(0.0) * (1.0 + times) + excess;
            let sure = sure > SURE;
            let share = excess / run.max(cores);
            piles.of[row.id] = Pile { share, sure, jam: sure && share > JAM && excess > JAMMED * cores };
        }
        piles
    }
}

/// Which has most in flight beyond what the others explain: its place, how many, by how many deviations; and `T`.
fn furthest(rows: &[Row], sums: Sums, cores: f64) -> Option<(usize, f64, f64, f64)> {
    let mut found: Option<(usize, f64, f64, f64)> = None;
    let mut most = LIKELY;
    for (at, row) in rows.iter().enumerate() {
        let mut others = sums;
        others.add(row, -1.0);
        let (add, times) = others.solve();
        let explained = row.base + add * row.came + times * (1.5 * row.work + DOUBT * row.base).min(row.base);
        let sure = (row.held - explained) / explained.max(1.0).sqrt();
        let excess = row.held - explained;
        // Those that run slow all others down; those that wait for somebody else do not.
        let felt = times > FELT * excess / cores - 1.0;
        if sure > most && excess > FULL * cores && felt {
            most = sure;
            found = Some((at, excess, sure, times));
        }
    }
    found
}

/// The middle one; 0 of none.
pub(super) fn median(values: &mut [f64]) -> f64 {
    if values.is_empty() {
        return 0.0;
    }
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}
