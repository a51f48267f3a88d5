//! What a run says about limiting: pure figures from counts.
use crate::mix::{MixResult, Surge};
use serde::Serialize;
use std::ops::Range;

/// Seconds around an edge of the surge that belong to neither side.
const EDGE: usize = 1;
/// Innocents are served when this share of their requests is answered in time ...
const SERVED: f64 = 0.99;
/// ... of those of so many seconds together.
const STEADY: usize = 3;
/// Share of the app's cores from which on they are saturated.
const SATURATED: f64 = 0.95;
/// Share of the cores that the innocents and the culprit may use together, as the simulator counts it.
const WELL_USED: f64 = 0.8;
/// Seconds after the surge from which on nothing should be refused.
const AFTER: usize = 5;

/// What is known of a run beside its counts.
#[derive(Clone, Debug)]
pub(super) struct Scene<'a> {
    /// Who surges, and when.
    pub(super) surge: Surge,
    /// Requests a second of each path without the surge.
    pub(super) rates: &'a [f64],
    /// CPU seconds that a request of each path costs.
    pub(super) costs: &'a [f64],
    /// Cores the app has.
    pub(super) cores: f64,
    /// Cores in use, second by second.
    pub(super) cpu: &'a [f64],
    /// Seconds at the start that are not looked at: connections and baselines are made.
    pub(super) warmup: usize,
}

/// One run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Verdict {
    /// Share of the innocents' requests answered well within the deadline, before the surge.
    pub innocents_before: f64,
    /// The same during it.
    pub innocents_during: f64,
    /// 99 % of their good replies were faster before it, milliseconds.
    pub innocents_p99_before_ms: f64,
    /// The same during it.
    pub innocents_p99_during_ms: f64,
    /// Share of the culprit's requests answered well during the surge.
    pub culprit_goodput: f64,
    /// The same as a share of what was feasible for it: what the innocents leave of 0.8 of the cores.
    pub culprit_of_feasible: f64,
    /// Seconds from the surge's begin until the innocents are served again; absent = never while it lasted.
    pub converge_s: Option<f64>,
    /// Seconds of the surge in which the app's cores were saturated.
    pub saturated_s: f64,
    /// Share of the app's cores in use in the rest of the surge, once the innocents were served again (or all of it).
    pub used: f64,
    /// Share of requests refused before the surge.
    pub refused_before: f64,
    /// Share of requests refused from five seconds after its end on.
    pub refused_after: f64,
    /// Share of all requests answered well from five seconds after its end on.
    pub goodput_after: f64,
}

/// Looks at a run.
pub(super) fn judge(result: &MixResult, scene: &Scene<'_>) -> Verdict {
    let culprit = scene.surge.path;
    let innocent = |path: usize| path != culprit;
    let (from, until) = (scene.surge.from.ceil() as usize, scene.surge.until.floor() as usize);
    let end = result.seconds.len();
    let before = result.totals(scene.warmup, from.saturating_sub(EDGE), innocent);
    let during = result.totals(from, until, innocent);
    let guilty = result.totals(from, until, |p| p == culprit).cell;
    let all_before = result.totals(scene.warmup, from.saturating_sub(EDGE), |_| true).cell;
    let after = result.totals(until + AFTER, end, |_| true).cell;
    let converge = converged(result, from, until, innocent);
    let rest = converge.map_or(from, |s| from + s)..until;
    let share = |n: u32, of: u32| if of == 0 { 0.0 } else { f64::from(n) / f64::from(of) };
    let known = scene.cpu.len();
    let cpu = |seconds: Range<usize>| &scene.cpu[seconds.start.min(known)..seconds.end.min(known)];
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    Verdict {
        innocents_before: before.cell.goodput(),
        innocents_during: during.cell.goodput(),
        innocents_p99_before_ms: before.p99_ms,
        innocents_p99_during_ms: during.p99_ms,
        culprit_goodput: guilty.goodput(),
        culprit_of_feasible: f64::from(guilty.good)
            / feasible(scene, guilty.offered, (until - from) as f64).max(1.0),
        converge_s: converge.map(|s| s as f64),
        saturated_s: cpu(from..until).iter().filter(|c| **c >= SATURATED * scene.cores).count() as f64,
        used: mean(cpu(rest)) / scene.cores,
        refused_before: share(all_before.refused, all_before.offered),
        refused_after: share(after.refused, after.offered),
        goodput_after: after.goodput(),
    }
}

/// Seconds after `from` at which a steady time begins.
fn converged(result: &MixResult, from: usize, until: usize, which: impl Fn(usize) -> bool) -> Option<usize> {
    let steady = |s: &usize| result.totals(*s, s + STEADY, &which).cell.goodput() >= SERVED;
    (from..(until + 1).saturating_sub(STEADY)).find(steady).map(|s| s - from)
}

/// Requests of the culprit that could be answered with what the innocents leave of the cores that are to be used.
fn feasible(scene: &Scene<'_>, offered: u32, seconds: f64) -> f64 {
    let culprit = scene.surge.path;
    let demand = scene.rates.iter().zip(scene.costs).enumerate();
    let others: f64 = demand.filter(|(p, _)| *p != culprit).map(|(_, (rate, cost))| rate * cost).sum();
    let left = (WELL_USED * scene.cores - others).max(0.0) * seconds
        / scene.costs.get(culprit).copied().unwrap_or(1.0);
    left.min(f64::from(offered))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mix::{Cell, MixSecond};

    const COSTS: [f64; 2] = [0.01, 0.01];
    const RATES: [f64; 2] = [40.0, 60.0];

    /// A minute in which path 0 surges from 20 to 40; `second` says what becomes of culprit and innocent.
    fn run(second: impl Fn(usize) -> [Cell; 2]) -> Verdict {
        let seconds =
            (0..60).map(|n| MixSecond { second: n, cells: second(n).to_vec(), latency: Vec::new() });
        let result = MixResult { seconds: seconds.collect(), ..MixResult::default() };
        let surge = Surge { path: 0, factor: 5.0, from: 20.0, until: 40.0 };
        let cpu: Vec<f64> = (0..60).map(|n| if (20..24).contains(&n) { 1.0 } else { 0.8 }).collect();
        let scene = Scene { surge, rates: &RATES, costs: &COSTS, cores: 1.0, cpu: &cpu, warmup: 5 };
        judge(&result, &scene)
    }

    fn cell(offered: u32, good: u32, refused: u32) -> Cell {
        Cell { offered, good, refused, failed: 0, late: offered - good - refused }
    }

    #[test]
    fn a_held_culprit_and_served_innocents_are_seen() {
        let verdict = run(|n| match n {
            20..22 => [cell(200, 50, 0), cell(60, 30, 0)],
            22..40 => [cell(200, 36, 164), cell(60, 60, 0)],
            _ => [cell(40, 40, 0), cell(60, 60, 0)],
        });
        assert_eq!((verdict.innocents_before, verdict.converge_s), (1.0, Some(2.0)));
        assert!((verdict.innocents_during - 0.95).abs() < 1e-9, "{verdict:?}");
        // What is to be used of 1 core less 0.6 for the innocents, at 10 ms each: so many a second could be served.
        let feasible = 20.0 * (WELL_USED - 0.6) / 0.01;
        assert!(
            (verdict.culprit_of_feasible - (2.0 * 50.0 + 18.0 * 36.0) / feasible).abs() < 1e-9,
            "{verdict:?}"
        );
        assert_eq!((verdict.saturated_s, verdict.refused_after, verdict.goodput_after), (4.0, 0.0, 1.0));
    }

    #[test]
    fn who_never_converges_and_refuses_on_is_seen_too() {
        let verdict = run(|n| match n {
            20..60 => [cell(200, 50, 100), cell(60, 30, 30)],
            _ => [cell(40, 40, 0), cell(60, 60, 0)],
        });
        assert_eq!(verdict.converge_s, None);
        assert!((verdict.innocents_during - 0.5).abs() < 1e-9 && verdict.refused_after > 0.4, "{verdict:?}");
    }

    #[test]
    fn a_run_that_was_cut_short_is_no_reason_to_panic() {
        let scene = Scene {
            surge: Surge { path: 0, factor: 5.0, from: 20.0, until: 40.0 },
            rates: &RATES,
            costs: &COSTS,
            cores: 1.0,
            cpu: &[],
            warmup: 5,
        };
        assert!(judge(&MixResult::default(), &scene).refused_after.abs() < 1e-9);
    }
}
