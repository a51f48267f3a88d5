//! Many runs, on all cores.
use crate::output::progress;
use clap::Args;
use raddle_sim::{Measures, Run, Scenario, Scheme, scenario};
use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Which chance.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct SeedArgs {
    /// Runs of each, one a seed
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    pub(super) seeds: u64,
    /// The first seed; those after it follow
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub(super) from: u64,
    /// Another app for each seed: other cores, interfaces, costs, times and surges, drawn from this number on
    #[arg(long, value_name = "NUMBER")]
    pub(super) variant: Option<u64>,
    /// Runs at the same time; as many as there are cores, if not said
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1024))]
    pub(super) threads: Option<u64>,
}

/// One run to make.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) scenario: &'static str,
    pub(super) scheme: Scheme,
    pub(super) seed: u64,
    pub(super) variant: Option<u64>,
}

impl Job {
    /// The scenario of this job.
    pub(super) fn scenario(&self) -> Option<Scenario> {
        match self.variant {
            None => scenario::find(self.scenario, self.seed),
            // Each seed has an app of its own: many kinds are tried with few runs.
            Some(number) => scenario::variant(self.scenario, self.seed, number.wrapping_add(self.seed)),
        }
    }

    /// Makes the run.
    pub(super) fn play(&self) -> Option<(Scenario, Run)> {
        let scenario = self.scenario()?;
        let mut limiter = self.scheme.build(scenario.interfaces.len(), self.seed);
        let run = raddle_sim::run(&scenario, self.seed, limiter.as_mut());
        Some((scenario, run))
    }
}

/// The jobs of a scenario and a scheme, one a seed.
pub(super) fn jobs(scenario: &'static str, scheme: Scheme, seeds: &SeedArgs, most: u64) -> Vec<Job> {
    let numbers = (0..seeds.seeds.min(most)).map(|n| seeds.from.wrapping_add(n));
    numbers.map(|seed| Job { scenario, scheme, seed, variant: seeds.variant }).collect()
}

/// Plays all, several at a time; their figures in the order of the jobs. Says on a terminal how far it is.
pub(super) fn all(jobs: &[Job], threads: Option<u64>) -> Vec<Measures> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.map_or(cores, |n| n as usize).min(jobs.len().max(1));
    let next = AtomicUsize::new(0);
    let done = Mutex::new(vec![None; jobs.len()]);
    let finished = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(n) else { break };
                    let measures = job.play().map(|(scenario, run)| Measures::of(&scenario, &run));
                    if let Ok(mut done) = done.lock() {
                        done[n] = measures;
                    }
                    finished.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        watch(&finished, jobs.len());
    });
    done.into_inner().unwrap_or_default().into_iter().map(Option::unwrap_or_default).collect()
}

/// Says how far it is until all is done.
fn watch(finished: &AtomicUsize, whole: usize) {
    if !io::stderr().is_terminal() {
        return;
    }
    let began = Instant::now();
    loop {
        let n = finished.load(Ordering::Relaxed);
        let seconds = began.elapsed().as_secs();
        let left = if n == 0 {
            String::new()
        } else {
            format!(", about {} s left", seconds * (whole - n) as u64 / n as u64)
        };
        // Progress nobody can read is nothing lost.
        let _ = write!(io::stderr(), "\r\x1b[K{n} of {whole} runs, {seconds} s{left}");
        if n >= whole {
            break;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    let _ = write!(io::stderr(), "\r\x1b[K");
    progress(&format!("{whole} runs in {:.1} s", began.elapsed().as_secs_f64()));
}
