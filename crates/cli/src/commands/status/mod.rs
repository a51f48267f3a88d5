//! `raddle status`: what a sidecar on this machine is doing.
pub(crate) mod answer;
mod render;

use super::{ask, understand};
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::output::{OutputArgs, Paint, print, print_json};
use crate::parse;
use answer::{Cluster, Stats};
use clap::Args;
use serde_json::{Value, json};
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Show what a sidecar is doing: requests, failures, services, endpoints
///
/// Counts are since the sidecar started. With --watch it is shown again and again, with rates.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle status
  raddle status --admin 127.0.0.1:15001 --watch
  raddle status -o json | jq '.stats.totals.outbound.rejected'")]
pub(crate) struct StatusArgs {
    /// Admin address of the sidecar
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:15000")]
    admin: SocketAddr,
    /// Show it again and again until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// Time between two looks
    #[arg(long, value_parser = parse::duration, value_name = "DURATION", default_value = "1s")]
    interval: Duration,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &StatusArgs) -> Done {
    let clear = args.watch && !args.output.json() && io::stdout().is_terminal();
    let mut before: Option<(Instant, Stats)> = None;
    loop {
        let look = Look::take(args.admin)?;
        if args.output.json() {
            print_json(&look.raw)?;
        } else {
            let since = before.as_ref().map(|(at, stats)| (at.elapsed(), stats));
            let text = render::human(&look.stats, &look.clusters, since, Paint::stdout());
            // Home, the text, and nothing below it: a screen that is cleared first flickers.
            print(&if clear { format!("\x1b[H\x1b[2J{text}") } else { text })?;
        }
        if !args.watch {
            return Ok(Exit::Ok);
        }
        before = Some((Instant::now(), look.stats));
        std::thread::sleep(args.interval.max(Duration::from_millis(50)));
    }
}

/// What the sidecar says at one moment.
struct Look {
    stats: Stats,
    clusters: Vec<Cluster>,
    /// The same as it was said.
    raw: Value,
}

impl Look {
    fn take(admin: SocketAddr) -> Result<Look, Failure> {
        let stats: Value = understand(admin, &ask(admin, "/stats")?)?;
        let clusters: Value = understand(admin, &ask(admin, "/clusters")?)?;
        let raw = json!({"stats": stats, "clusters": clusters});
        Ok(Look {
            stats: understand(admin, &stats.to_string())?,
            clusters: understand(admin, &clusters.to_string())?,
            raw,
        })
    }
}
