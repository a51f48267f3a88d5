//! `raddle demo encryption`: links encrypted and back, under load.
//!
//! [`mesh`] has the processes, with a relay ([`tap`]) before each callee's sidecar that looks at what passes;
//! [`wire`] is what it saw. [`story`] acts, [`lines`] or [`screen`] show, [`phase`] is the end.
mod config;
mod lines;
mod mesh;
mod phase;
mod screen;
mod story;
mod tap;
mod wire;

use crate::Done;
use crate::demo::board::Board;
use crate::demo::traffic::{Call, Traffic};
use crate::demo::watch::Watch;
use crate::exit::{Exit, Failure};
use crate::output::{self, Paint};
use crate::parse;
use clap::Args;
use mesh::Mesh;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use story::{Scene, Story};

/// How long it takes unless told otherwise; waiting for rollouts comes on top.
const LENGTH: Duration = Duration::from_secs(60);
/// Parts of the time, as the story counts them.
const UNITS: u32 = 10;

/// Encrypt links and go back, under load, with the bytes on the wire
///
/// Starts a control plane with its certificate authority, two sidecars of the app "shop" and four instances of the app
/// "pay", each with a sidecar, and sends requests from shop to pay. A relay before each instance of pay reads what passes,
/// as anyone on the network could. Then the rule LinkEncryption/pay goes from plaintext to permissive, in stages, to
/// strict, and back; a caller without a sidecar is served, waited for, and at last refused.
///
/// Needs no root. Everything is stopped and removed at the end.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 no request failed, 1 one did, or something was not as it should be.

Examples:
  raddle demo encryption
  raddle demo encryption --headless --duration 15s --rate 500")]
pub(crate) struct EncryptionArgs {
    /// About how long it takes [default: 1m, and the time that rollouts take]
    #[arg(long, value_parser = parse::duration)]
    duration: Option<Duration>,
    /// Print lines, even on a terminal
    #[arg(long, visible_alias = "plain")]
    headless: bool,
    /// Requests a second
    #[arg(long, value_parser = parse::rate, default_value = "1000")]
    rate: f64,
}

pub(crate) fn run(args: &EncryptionArgs) -> Done {
    let stop = super::stop_on_signal()?;
    let on_screen = !args.headless && io::stdout().is_terminal() && io::stdin().is_terminal();
    let board = Arc::new(Board::new(args.rate));
    output::progress("starting a control plane, 4 instances of pay and 6 sidecars ...");
    let mesh = Mesh::start(&board, &stop)?;
    let headers = config::secret();
    let call = Call { service: config::SERVICE, method: "pay", headers: &headers };
    let traffic = Traffic::start(&mesh.shop_addresses(), args.rate, call)
        .map_err(|e| Failure::new(format!("the load cannot start: {e}")))?;
    let watch = Watch::start(mesh.shop_admins(), board.clone(), traffic.tally());
    let (scene, over) = (Scene::default(), AtomicBool::new(false));
    let story = Story {
        mesh: &mesh,
        board: &board,
        scene: &scene,
        tally: traffic.tally(),
        unit: args.duration.unwrap_or(LENGTH) / UNITS,
        stop: &stop,
    };
    let (told, shown) = std::thread::scope(|scope| {
        let teller = scope.spawn(|| {
            let told = story.tell();
            over.store(true, Ordering::Release);
            told
        });
        let shown = match on_screen {
            true => screen::run(&board, &scene, &mesh.wire, &stop),
            false => lines::run(&board, &mesh.wire, &over),
        };
        // A screen that was left, or cannot be drawn, ends the story.
        stop.store(true, Ordering::Relaxed);
        let ended = || Failure::new("the story has ended in the middle");
        (teller.join().unwrap_or_else(|_| Err(ended())), shown)
    });
    // Callers first: a mesh that is stopped under load fails requests.
    let tally = traffic.finish();
    watch.finish();
    mesh.stop();
    shown?;
    let phases = told?;
    let seconds = board.view().elapsed.as_secs_f64();
    output::print(&phase::summary(&tally, &phases, seconds, Paint::stdout()))?;
    Ok(if tally.failures() == 0 { Exit::Ok } else { Exit::Failed })
}
