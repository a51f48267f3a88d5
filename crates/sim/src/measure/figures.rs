//! The figures of a run.
use super::{CLASSES, Run, Second};
use crate::scenario::{Role, Scenario};
use serde::Serialize;

/// Load above which the cores are called short: what the culprits' share is measured by.
pub const THETA: f64 = 0.8;
/// The queue is short again: so many seconds of work more than at rest, at most.
const SHORT: f64 = 0.2;
/// And the cores are not all busy.
const BUSY: f64 = 0.95;
/// For so many seconds in a row.
const STEADY: usize = 3;
/// Seconds after the end in which rejections still count for nothing.
const GRACE: usize = 5;

/// The figures of a run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Measures {
    /// Share of the innocents' calls in the event that were answered in time; of an app that is well and has no limiter
    /// it is 1. A call that was rejected and came through with a retry in time counts.
    pub goodput: f64,
    /// The same, each call by its CPU time.
    pub work_goodput: f64,
    /// CPU time of the culprits' calls answered in time, by what was feasible: the lesser of what they asked for and
    /// what the innocent leave of 0.8 of the cores. Absent without culprits, or where CPU is not what is short.
    pub culprit: Option<f64>,
    /// Seconds from the event's begin (a ramp's: from when all together ask for more than there is) until for three
    /// seconds on end less than 0.2 s of work more than at rest wait, and (where there is a culprit or a load test to be
    /// held) the mean load of the three is at most 0.95.
    pub converge: f64,
    /// After that: the highest mean load of five seconds, less 0.8.
    pub overshoot: f64,
    /// 99th percentile of the innocents' latency in the event, less that of the same calls before, in milliseconds
    /// ([`Run::over_idle`]).
    pub p99: f64,
    /// Rejections before the event, of anything.
    pub before: u64,
    /// Share of the innocents' attempts in the event that were rejected.
    pub false_share: f64,
    /// Rejections in the event, of anything.
    pub rejects: u64,
    /// The same, as a share of all attempts.
    pub reject_share: f64,
    /// Share of attempts that were rejected from 5 s after the event on.
    pub rejects_after: f64,
    /// How often the app died.
    pub crashes: u32,
}

fn sum<const N: usize>(seconds: &[Second], of: impl Fn(&Second) -> [u32; N]) -> [f64; N] {
    let mut sums = [0.0; N];
    for second in seconds {
        for (sum, n) in sums.iter_mut().zip(of(second)) {
            *sum += f64::from(n);
        }
    }
    sums
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

impl Measures {
    /// Takes them.
    pub fn of(scenario: &Scenario, run: &Run) -> Measures {
        let (warm, end) = (scenario.warm as usize, (scenario.warm + scenario.event) as usize);
        let event = &run.seconds[warm..end];
        let after = &run.seconds[end + GRACE..scenario.end() as usize];
        let work = |of: fn(&Second) -> f64| event.iter().map(of).sum::<f64>();
        let all = |counts: [f64; CLASSES]| counts.iter().sum::<f64>();
        let converge = converge(scenario, run);
        Measures {
            goodput: share(sum(event, |x| x.good)[0], sum(event, |x| x.offered)[0]),
            work_goodput: share(work(|x| x.good_work[0]), work(|x| x.offered_work[0])),
            culprit: culprit(scenario, event),
            converge,
            overshoot: overshoot(event, converge as usize),
            p99: run.over_idle(0.99) * 1000.0,
            before: all(sum(&run.seconds[..warm], |x| x.rejects)) as u64,
            false_share: share(sum(event, |x| x.rejects)[0], sum(event, |x| x.attempts)[0]),
            rejects: all(sum(event, |x| x.rejects)) as u64,
            reject_share: share(all(sum(event, |x| x.rejects)), all(sum(event, |x| x.attempts))),
            rejects_after: share(all(sum(after, |x| x.rejects)), all(sum(after, |x| x.attempts))),
            crashes: run.crashes,
        }
    }
}

/// Share of the feasible that the culprits got.
fn culprit(scenario: &Scenario, event: &[Second]) -> Option<f64> {
    let (mut feasible, mut asked) = (0.0, 0.0);
    for (n, second) in event.iter().enumerate() {
        let t = scenario.warm + n as f64 + 0.5;
        let culprits = scenario.demand(Role::Culprit, t) * scenario.cores;
        let own = scenario.background[1] * scenario.cores;
        let innocent = scenario.demand(Role::Innocent, t) * scenario.cores + own;
        let room = THETA * second.cores - innocent;
        feasible += culprits.min(room.max(0.0));
        asked += culprits;
    }
    let got: f64 = event.iter().map(|s| s.good_work[1]).sum();
    (asked > 0.0 && scenario.memory.is_none()).then(|| share(got, feasible))
}

/// Seconds until the queue is short and stays so for a while; the whole event if it never does.
fn converge(scenario: &Scenario, run: &Run) -> f64 {
    let (warm, end) = (scenario.warm as usize, (scenario.warm + scenario.event) as usize);
    let mut rest: Vec<f64> = run.seconds[warm / 2..warm].iter().map(|s| s.queue).collect();
    rest.sort_by(f64::total_cmp);
    let bound = SHORT + rest.get(rest.len() * 99 / 100).copied().unwrap_or(0.0);
    let asked = |t: usize| {
        let t = t as f64 + 0.5;
        scenario.demand(Role::Culprit, t) + scenario.demand(Role::Innocent, t) > scenario.capacity
    };
    let ramp = scenario.surges.iter().any(|s| s.shape != crate::scenario::Shape::Step);
    let from = if ramp { (warm..end).find(|&t| asked(t)).unwrap_or(end) } else { warm };
    let event = &run.seconds[from..end];
    let held = scenario.capacity >= 1.0;
    let load = |w: &[Second]| w.iter().map(|s| s.busy / s.cores).sum::<f64>() / STEADY as f64;
    let calm = |w: &[Second]| w.iter().all(|s| s.queue <= bound) && !(held && load(w) > BUSY);
    let steady = event.windows(STEADY).position(calm);
    steady.unwrap_or(event.len()) as f64
}

fn overshoot(event: &[Second], converged: usize) -> f64 {
    let loads: Vec<f64> = event.iter().skip(converged).map(|s| s.busy / s.cores).collect();
    let means = loads.windows(5).map(|w| w.iter().sum::<f64>() / 5.0);
    means.fold(0.0_f64, f64::max) - THETA
}
