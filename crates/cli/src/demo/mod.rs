//! `raddle demo`: a whole mesh on this machine with live traffic.
//!
//! Everything is real but the size: every instance of the app `order` is a process of its own with a
//! sidecar process beside it, the app `shop` (played by the load in [`traffic`]) calls it through sidecars
//! of its own, and every action is what an operator would do: a rule is applied by command, a process is
//! killed.
//!
//! [`mesh`] holds the processes and acts on them, [`control`] among them, [`config`] writes their files and rules, [`watch`] looks at them
//! once a second and [`board`] is what is known. [`tour`] acts by a script and prints lines, [`live`] by
//! the user's keys on a screen that [`screen`] draws. [`summary`] is the end of both.
//!
//! [`encryption`] and [`limit`] are stories of their own, told with the same means.
mod board;
mod config;
mod control;
mod encryption;
mod limit;
mod live;
mod mesh;
mod probe;
mod process;
mod screen;
mod summary;
mod tour;
mod traffic;
mod watch;

use crate::Done;
use crate::exit::{Exit, Failure};
use crate::parse;
use board::Board;
use clap::{Args, Subcommand};
use mesh::Mesh;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use traffic::Traffic;

/// Run a whole mesh on this machine, with live traffic
///
/// Starts a control plane, two sidecars of the app "shop" and four instances of the app "order", each with a
/// sidecar, on free ports of the loopback interface, and sends requests from shop to order. On a terminal you
/// can kill instances or the control plane, apply rules, good and harmful ones, and watch what becomes of the
/// requests. Without one, or with --headless, a tour does the same by itself and prints what happened.
///
/// Everything is stopped and removed at the end.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Exit codes: 0 nothing failed that was not expected, 1 something did (tour only) or could not start.

Examples:
  raddle demo
  raddle demo --rate 5000 --duration 1m
  raddle demo --headless
  raddle demo encryption                      links encrypted and back under load, with the bytes on the wire
  raddle demo limit                           one of a hundred interfaces surges, with the limiter and without")]
pub(crate) struct DemoArgs {
    #[command(subcommand)]
    story: Option<Story>,
    /// Time until it ends by itself [default: the tour's length; on a terminal, until you press q]
    #[arg(long, value_parser = parse::duration)]
    duration: Option<Duration>,
    /// Run the tour and print lines, even on a terminal
    #[arg(long)]
    headless: bool,
    /// Requests a second
    #[arg(long, value_parser = parse::rate, default_value = "2000")]
    rate: f64,
}

#[derive(Debug, Subcommand)]
enum Story {
    Encryption(encryption::EncryptionArgs),
    Limit(limit::LimitArgs),
}

pub(crate) fn run(args: &DemoArgs) -> Done {
    match &args.story {
        Some(Story::Encryption(args)) => return encryption::run(args),
        Some(Story::Limit(args)) => return limit::run(args),
        None => {}
    }
    let stop = stop_on_signal()?;
    let screen = !args.headless && io::stdout().is_terminal() && io::stdin().is_terminal();
    let board = Arc::new(Board::new(args.rate));
    crate::output::progress("starting a control plane, 4 instances of order and 6 sidecars ...");
    let mut mesh = Mesh::start(board.clone(), &stop)?;
    let call = traffic::Call { service: config::SERVICE, method: "create", headers: &[] };
    let traffic = Traffic::start(&mesh.shop_addresses(), args.rate, call)
        .map_err(|e| Failure::new(format!("the load cannot start: {e}")))?;
    mesh.count_kills_in(traffic.tally());
    let watch = watch::Watch::start(mesh.shop_admins(), board.clone(), traffic.tally());
    let phases = if screen {
        live::run(&mut mesh, &board, args.duration, &stop)?;
        Vec::new()
    } else {
        tour::run(&mut mesh, &board, &traffic, args.duration, &stop)?
    };
    // Callers first: a mesh that is stopped under load fails requests.
    let tally = traffic.finish();
    watch.finish();
    let shares = mesh.requests();
    mesh.stop();
    summary::print(&board, &tally, &shares, &phases)?;
    let clean = phases.is_empty() || tally.unexpected() == 0;
    Ok(if clean { Exit::Ok } else { Exit::Failed })
}

/// A flag that ends the demo; the same signal twice does not end it sooner, as processes must be stopped.
fn stop_on_signal() -> Result<Arc<AtomicBool>, Failure> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, stop.clone())
            .map_err(|e| Failure::new(format!("cannot watch for signals: {e}")))?;
    }
    Ok(stop)
}
