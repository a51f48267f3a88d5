//! `raddle bench limit`: one interface of an app surges, and what becomes of the others, with real processes.
//!
//! The app ([`burn`](crate::burn)) has a bounded share of the machine's CPU, the callers ([`mix`](crate::mix())) wait a
//! second. It is run behind nothing, a sidecar with an adaptive limit, and Envoy's two filters, in turn, round after
//! round, each time with a new app. Reported, not gated: a real machine is noisy, and what the simulator promises is
//! checked there.
//!
//! [`setup`] starts, [`judge`] looks at what was counted, [`report`] writes it down.
mod judge;
mod report;
mod setup;

pub use judge::Verdict;
pub use report::{LimitReport, Run, Series};
pub use setup::Variant;

use crate::compare::process::{self, Bench};
use crate::compare::{Machine, peers::Program};
use crate::cpu::{CpuMeter, MachineCpu};
use crate::mix::{self, MixOptions, MixResult, Surge, mix};
use judge::Scene;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Seconds at the start of a run that are not looked at.
const WARMUP: usize = 5;

/// What [`limit`] does.
#[derive(Clone, Debug)]
pub struct LimitOptions {
    /// The `raddle` binary: the app, and the sidecar.
    pub raddle: PathBuf,
    /// What stands before the app, in turn.
    pub variants: Vec<Variant>,
    /// Rounds; medians want at least five.
    pub repeats: usize,
    /// Cores the app has.
    pub cores: f64,
    /// Bounds the app by a cgroup; without one it has one thread, and with it one core.
    pub group: bool,
    /// Share of them that is used before the surge.
    pub load: f64,
    /// How many times as often the culprit is asked for.
    pub factor: f64,
    /// Time before the surge.
    pub calm: Duration,
    /// Time of the surge.
    pub surge: Duration,
    /// Time after it.
    pub after: Duration,
    /// Directory for `limit-real.json` and `limit-real.txt`.
    pub out: PathBuf,
    /// Set it to end early: children are ended, and [`limit`] returns `Interrupted`.
    pub stop: Arc<AtomicBool>,
}

impl LimitOptions {
    /// The usual run of this binary.
    pub fn new(raddle: PathBuf) -> LimitOptions {
        LimitOptions {
            raddle,
            variants: Variant::ALL.to_vec(),
            repeats: 5,
            cores: 0.8,
            group: true,
            load: 0.6,
            factor: 5.0,
            calm: Duration::from_secs(25),
            surge: Duration::from_secs(20),
            after: Duration::from_secs(15),
            out: PathBuf::from("bench/results"),
            stop: Arc::default(),
        }
    }
}

/// What callers ask for so that an app of so many cores is loaded that much, and who is to surge: whoever costs most.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Requests a second over all paths.
    pub rate: f64,
    /// Requests a second of each path.
    pub rates: Vec<f64>,
    /// CPU seconds that a request of each path costs.
    pub costs: Vec<f64>,
    /// Who surges.
    pub culprit: usize,
}

impl Plan {
    /// For an app with the usual interfaces.
    pub fn new(cores: f64, load: f64) -> Plan {
        let usual = MixOptions::default();
        let costs: Vec<f64> = crate::burn::menu(1.0).iter().map(|i| i.cpu.as_secs_f64()).collect();
        let shares = mix::rates(costs.len(), 1.0, usual.zipf);
        let mean: f64 = shares.iter().zip(&costs).map(|(s, c)| s * c).sum();
        let rate = cores * load / mean;
        let rates = mix::rates(costs.len(), rate, usual.zipf);
        let demand = |p: &usize| rates[*p] * costs[*p];
        let culprit = (0..costs.len()).max_by(|a, b| demand(a).total_cmp(&demand(b))).unwrap_or(0);
        Plan { rate, rates, costs, culprit }
    }
}

/// Runs it, and writes the results after every round; `say` gets a line after every run.
///
/// # Errors
/// When the app cannot be started or bounded, files cannot be written, or it was stopped. Children are ended in every
/// case. A proxy that is not installed or does not start is reported as missing.
pub fn limit(opts: &LimitOptions, mut say: impl FnMut(&str)) -> io::Result<LimitReport> {
    let open_files = process::raise_open_files();
    let scratch = tempfile::Builder::new().prefix("raddle-bench-").tempdir()?;
    let raddle = std::path::absolute(&opts.raddle)?;
    let bench = Bench { dir: scratch.path().to_owned(), stop: opts.stop.clone(), proxy_cpu: None };
    let found = setup::look(&opts.variants, &raddle);
    let cores = if opts.group { opts.cores } else { 1.0 };
    let plan = Plan::new(cores, opts.load);
    let mut report = LimitReport::new(opts, cores, &plan, Machine::describe(open_files), &found);
    for round in 0..opts.repeats.max(1) {
        for (variant, _, program) in &found {
            if program.is_none() && *variant != Variant::None {
                continue;
            }
            bench.check_stop()?;
            let stage = Stage { bench: &bench, opts, plan: &plan, cores, round };
            match stage.run(*variant, program.as_ref(), &raddle) {
                Ok(run) => {
                    say(&run.line());
                    report.add(run);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted || *variant == Variant::None => {
                    return Err(e);
                }
                Err(e) => {
                    say(&format!("{}: {e}", variant.title()));
                    report.failed(*variant, &e);
                }
            }
        }
        report.write(&opts.out)?;
    }
    Ok(report)
}

/// What the runs of a round share.
struct Stage<'a> {
    bench: &'a Bench,
    opts: &'a LimitOptions,
    plan: &'a Plan,
    cores: f64,
    round: usize,
}

impl Stage<'_> {
    fn run(&self, variant: Variant, program: Option<&Program>, raddle: &std::path::Path) -> io::Result<Run> {
        let app = setup::start_app(self.bench, raddle, self.cores, self.opts.group)?;
        let told = (!self.opts.group).then_some(self.cores);
        let peer = match program {
            Some(program) => Some(setup::start(self.bench, variant, program, app.address, told)?),
            None => None,
        };
        let target = peer.as_ref().map_or(app.address, |p| p.listen);
        let mut pids = vec![app.process.pid(), std::process::id()];
        pids.extend(peer.iter().map(|p| p.process.pid()));
        let (result, meters) = self.load(target, &pids)?;
        self.bench.check_stop()?;
        let scene = Scene {
            surge: self.surge(),
            rates: &self.plan.rates,
            costs: &self.plan.costs,
            cores: self.cores,
            cpu: &meters.app,
            warmup: WARMUP,
        };
        let verdict = judge::judge(&result, &scene);
        Ok(Run::new(variant, self.round, verdict, &result, meters, self.plan.culprit))
    }

    fn surge(&self) -> Surge {
        let from = self.opts.calm.as_secs_f64();
        let until = from + self.opts.surge.as_secs_f64();
        Surge { path: self.plan.culprit, factor: self.opts.factor, from, until }
    }

    fn load(&self, target: SocketAddr, pids: &[u32]) -> io::Result<(MixResult, Meters)> {
        let opts = MixOptions {
            target,
            rate: self.plan.rate,
            surges: vec![self.surge()],
            duration: self.opts.calm + self.opts.surge + self.opts.after,
            seed: self.round as u64 + 1,
            stop: self.bench.stop.clone(),
            ..MixOptions::default()
        };
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let watch = scope.spawn(|| Meters::watch(pids, &over));
            let result = mix(&opts, |_| {});
            over.store(true, Ordering::Relaxed);
            let meters = watch.join().map_err(|_| io::Error::other("the watching thread panicked"))?;
            Ok((result?, meters))
        })
    }
}

/// CPU second by second.
#[derive(Clone, Debug, Default)]
struct Meters {
    /// Cores the app used.
    app: Vec<f64>,
    /// Cores that neither the app, nor the generator, nor the proxy used, stolen ones with them: what disturbs.
    others: Vec<f64>,
}

impl Meters {
    /// Reads once a second until it is over; the first of `pids` is the app.
    fn watch(pids: &[u32], over: &AtomicBool) -> Meters {
        let mut meters: Vec<CpuMeter> = pids.iter().map(|pid| CpuMeter::start(*pid)).collect();
        let (mut machine, mut last) = (MachineCpu::now(), Instant::now());
        let mut used = vec![0.0; pids.len()];
        let mut out = Meters::default();
        while !over.load(Ordering::Relaxed) {
            let left = Duration::from_secs(1).saturating_sub(last.elapsed());
            if !left.is_zero() {
                std::thread::park_timeout(left);
                continue;
            }
            let seconds = last.elapsed().as_secs_f64();
            // Whole seconds after the start, however late this one was seen.
            last += Duration::from_secs(1);
            let now: Vec<f64> = meters.iter_mut().map(|m| m.sample().as_secs_f64()).collect();
            let cores: Vec<f64> =
                now.iter().zip(&used).map(|(now, before)| (now - before) / seconds).collect();
            let all = MachineCpu::now();
            let busy = all.since(machine);
            (used, machine) = (now, all);
            out.app.push(cores.first().copied().unwrap_or(0.0));
            let known: f64 = cores.iter().sum();
            out.others.push(((busy.busy_s + busy.stolen_s) / seconds - known).max(0.0));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_loads_the_app_as_told_and_its_culprit_overloads_it() {
        let plan = Plan::new(0.8, 0.6);
        let demand = |p: usize| plan.rates[p] * plan.costs[p];
        let all: f64 = (0..plan.costs.len()).map(demand).sum();
        assert!((all / 0.8 - 0.6).abs() < 1e-9);
        let surged = all + 4.0 * demand(plan.culprit);
        assert!(surged / 0.8 > 1.1, "{}", surged / 0.8);
        assert!(plan.rate > 100.0, "enough requests for figures: {}", plan.rate);
    }
}
