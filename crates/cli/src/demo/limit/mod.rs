//! `raddle demo limit`: one of an app's hundred interfaces surges, with the limiter and without.
//!
//! [`mesh`] has the processes, the app among them, bounded by a cgroup; [`ledger`] is what became of the requests.
//! [`story`] acts, [`watch`] looks, [`lines`] or [`screen`] show, [`summary`] is the end.
mod ask;
mod config;
mod ledger;
mod lines;
mod mesh;
mod screen;
mod story;
mod summary;
mod watch;

use crate::Done;
use crate::demo::board::{Board, Mood};
use crate::exit::{Exit, Failure};
use crate::output::{self, Paint};
use crate::parse;
use clap::Args;
use ledger::Ledger;
use mesh::Mesh;
use raddle_bench::limit::Plan;
use raddle_bench::mix::Knobs;
use raddle_bench::{MixOptions, mix};
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use story::Story;

/// How long it takes unless told otherwise.
const LENGTH: Duration = Duration::from_secs(90);
/// Parts of the time, as the story counts them.
const UNITS: u32 = 10;
/// Share of the app's cores in use before the surge.
const LOAD: f64 = 0.6;
/// As good as for ever.
const FOR_EVER: Duration = Duration::from_hours(24 * 7);

/// Let one of an app's hundred interfaces surge, with the adaptive limiter and without
///
/// Starts a control plane, the app "order" with a hundred interfaces that use CPU, a sidecar before it, and a sidecar of
/// the app "shop", which asks for all of them. A cgroup bounds the app's CPU; that needs root, and without it the app has
/// one thread, and so one core. Then one interface is asked for five times as often as before. The rule
/// AdaptiveLimit/order holds that one, and leaves the others alone. Then the same without.
///
/// On a terminal, s switches the surge and l the limiter. Everything is stopped and removed at the end.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 it was shown, 1 something could not be started.

Examples:
  raddle demo limit
  raddle demo limit --factor 10
  raddle demo limit --headless --duration 60s
  raddle demo limit --without                 what happens to an app that has no limiter")]
pub(crate) struct LimitArgs {
    /// About how long it takes; what is usual is learned for 16 s in any case [default: 90s; on a terminal, until you press q]
    #[arg(long, value_parser = parse::duration)]
    duration: Option<Duration>,
    /// Print lines, even on a terminal
    #[arg(long, visible_alias = "plain")]
    headless: bool,
    /// Leave the limiter off all the time
    #[arg(long)]
    without: bool,
    /// Cores the app has
    #[arg(long, value_parser = parse::rate, default_value = "0.5")]
    cores: f64,
    /// How many times as often as before the interface is asked for
    #[arg(long, value_parser = parse::rate, default_value = "5")]
    factor: f64,
}

pub(crate) fn run(args: &LimitArgs) -> Done {
    let stop = super::stop_on_signal()?;
    let on_screen = !args.headless && io::stdout().is_terminal() && io::stdin().is_terminal();
    output::progress("starting a control plane, the app order with its sidecar, and shop's sidecar ...");
    let mesh = Mesh::start(args.cores, !args.without, &stop)?;
    let plan = Plan::new(mesh.cores, LOAD);
    let board = Board::new(plan.rate);
    let told = show(args, &mesh, &plan, &board, &stop, on_screen);
    let cores = mesh.cores;
    mesh.stop();
    let (ledger, path) = told?;
    output::print(&summary::summary(&ledger.known().parts, &path, cores, Paint::stdout()))?;
    Ok(Exit::Ok)
}

/// Tells the story under load; who surged, and what became of the requests.
fn show(
    args: &LimitArgs,
    mesh: &Mesh,
    plan: &Plan,
    board: &Board,
    stop: &AtomicBool,
    on_screen: bool,
) -> Result<(Ledger, String), Failure> {
    let (over, sent) = (AtomicBool::new(false), Arc::new(AtomicBool::new(false)));
    let knobs = Arc::new(Knobs::new(plan.rates.len()));
    let load = MixOptions {
        target: mesh.outbound,
        host: config::SERVICE.into(),
        rate: plan.rate,
        knobs: Some(knobs.clone()),
        duration: FOR_EVER,
        stop: sent.clone(),
        ..MixOptions::default()
    };
    let path = load.paths.get(plan.culprit).cloned().unwrap_or_default();
    introduce(board, mesh, plan, &path);
    let ledger = Ledger::new(plan.culprit);
    let (taken, acting) = (AtomicBool::new(false), Mutex::new(()));
    let story = Story {
        mesh,
        board,
        ledger: &ledger,
        knobs: &knobs,
        path: &path,
        factor: args.factor,
        unit: args.duration.unwrap_or(LENGTH) / UNITS,
        without: args.without,
        stop,
        taken: &taken,
        acting: &acting,
    };
    let stage = screen::Stage { paths: &load.paths, cores: mesh.cores, culprit: plan.culprit };
    let (told, shown, loaded) = std::thread::scope(|scope| {
        let loader = scope.spawn(|| mix(&load, |second| ledger.tell(second)));
        let watcher = scope.spawn(|| watch::run(mesh, board, &ledger, &sent));
        let teller = scope.spawn(|| {
            let told = story.tell();
            over.store(true, Ordering::Release);
            told
        });
        let shown = match on_screen {
            true => screen::run(&story, board, &ledger, &stage, stop),
            false => lines::run(board, &ledger, mesh.cores, &over),
        };
        // A screen that was left, or cannot be drawn, ends the story.
        stop.store(true, Ordering::Relaxed);
        let ended = || Failure::new("the story has ended in the middle");
        let told = teller.join().unwrap_or_else(|_| Err(ended()));
        ledger.end();
        sent.store(true, Ordering::Relaxed);
        let loaded =
            loader.join().unwrap_or_else(|_| Err(io::Error::other("the load has ended in the middle")));
        // It has nothing to say that is needed now.
        let _ = watcher.join();
        (told, shown, loaded)
    });
    shown?;
    told?;
    loaded.map_err(|e| Failure::new(format!("the load: {e}")))?;
    Ok((ledger, path))
}

fn introduce(board: &Board, mesh: &Mesh, plan: &Plan, path: &str) {
    let rate = plan.rates.get(plan.culprit).copied().unwrap_or_default();
    match &mesh.unbounded {
        None => board.note(Mood::Good, format!("the app order has {} cores, by a cgroup", mesh.cores)),
        Some(why) => {
            board.note(
                Mood::Bad,
                format!("no cgroup bounds the app, so it has one thread, and one core: {why}"),
            );
        }
    }
    board.note(
        Mood::Good,
        format!(
            "shop asks for 100 interfaces, {:.0} times a second: {:.0} % of that; for {path} {rate:.0} times",
            plan.rate,
            LOAD * 100.0
        ),
    );
}
