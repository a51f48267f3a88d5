//! `raddle status`: how the mesh is, or what a sidecar on this machine is doing.
pub(crate) mod answer;
mod render;

use super::mesh::{self, FormArgs, ServerArgs};
use super::{ask, understand};
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::output::{Paint, print};
use crate::parse;
use answer::{Cluster, Stats};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::{self, IsTerminal};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Show how the mesh is; with --admin, what one sidecar is doing
///
/// Asks the control plane: sidecars by app, which of them run what they should, what is refused, by name. With --admin,
/// or if no control plane is named and none runs here, asks a sidecar: requests, failures, services, endpoints; its
/// counts are since it started, with --watch there are rates.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  raddle status
  raddle status encryption pay
  raddle status --watch --server https://control.example.com:7070 --ca-file mesh-ca.pem
  raddle status --admin 127.0.0.1:15001 --watch
  raddle status --admin 127.0.0.1:15000 -o json | jq '.stats.totals.outbound.rejected'"
)]
pub(crate) struct StatusArgs {
    #[command(subcommand)]
    command: Option<StatusCommand>,
    /// Admin address of a sidecar to ask instead of the control plane
    #[arg(long, value_name = "IP:PORT", conflicts_with = "server")]
    admin: Option<SocketAddr>,
    /// Show it again and again until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// Time between two looks
    #[arg(long, value_parser = parse::duration, value_name = "DURATION", default_value = "1s")]
    interval: Duration,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    form: FormArgs,
}

#[derive(Debug, Subcommand)]
enum StatusCommand {
    Encryption(mesh::encryption::EncryptionArgs),
}

/// Where a sidecar's admin port is if nobody says otherwise.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 15000);

pub(crate) fn run(args: &StatusArgs) -> Done {
    if let Some(StatusCommand::Encryption(args)) = &args.command {
        return mesh::encryption::run(args);
    }
    if let Some(admin) = args.admin {
        return sidecar(args, admin);
    }
    let asked = mesh::status::run(&args.server, args.form, args.watch, args.interval);
    match asked {
        Err(failure) if failure.exit == Exit::Unreachable && !args.server.is_named() => {
            // No control plane is meant, then; as it was before there was one.
            sidecar(args, ADMIN).map_err(|other| match other.exit {
                Exit::Unreachable => Failure::unreachable(format!("{failure}\n{other}")),
                _ => other,
            })
        }
        asked => asked,
    }
}

fn sidecar(args: &StatusArgs, admin: SocketAddr) -> Done {
    let clear = args.watch && args.form.human() && io::stdout().is_terminal();
    let mut before: Option<(Instant, Stats)> = None;
    loop {
        let look = Look::take(admin)?;
        if !args.form.human() {
            args.form.show(&look.raw, |_| String::new())?;
        } else {
            let since = before.as_ref().map(|(at, stats)| (at.elapsed(), stats));
            let mut text = render::human(&look.stats, &look.clusters, since, Paint::stdout());
            text.push_str(&render::limits(&look.stats, &look.limits, admin, Paint::stdout()));
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
    /// What limits hold now; nothing of a sidecar that does not know.
    limits: Value,
    /// Statistics and clusters as they were said.
    raw: Value,
}

impl Look {
    fn take(admin: SocketAddr) -> Result<Look, Failure> {
        let stats: Value = understand(admin, &ask(admin, "/stats")?)?;
        let clusters: Value = understand(admin, &ask(admin, "/clusters")?)?;
        let limits = ask(admin, "/limits/explain").ok().and_then(|text| serde_json::from_str(&text).ok());
        let raw = json!({"stats": stats, "clusters": clusters});
        Ok(Look {
            stats: understand(admin, &stats.to_string())?,
            clusters: understand(admin, &clusters.to_string())?,
            limits: limits.unwrap_or_default(),
            raw,
        })
    }
}
