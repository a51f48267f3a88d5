//! `raddle bench`: echo server, load generator, comparison with other proxies.
mod compare;
mod control;
mod limit;
mod load;
mod mix;
mod serve;

use crate::Done;
use crate::exit::Failure;
use clap::{Args, Subcommand};
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Measure: an echo server, a load generator, the comparison with other proxies, and a loaded control plane
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle bench serve --listen 127.0.0.1:12200 &
  raddle bench load --target 127.0.0.1:12200 --connections 8 --depth 16     # throughput
  raddle bench load --target 127.0.0.1:12200 --rate 2000                    # latency
  raddle bench compare --table throughput --rounds 5")]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    command: BenchCommand,
}

#[derive(Debug, Subcommand)]
enum BenchCommand {
    Serve(serve::ServeArgs),
    Load(load::LoadArgs),
    Compare(compare::CompareArgs),
    Control(control::ControlArgs),
    Limit(limit::LimitArgs),
}

pub(crate) fn run(args: BenchArgs) -> Done {
    match args.command {
        BenchCommand::Serve(args) => serve::run(&args),
        BenchCommand::Load(args) => load::run(args),
        BenchCommand::Compare(args) => compare::run(args),
        BenchCommand::Control(args) => control::run(args),
        BenchCommand::Limit(args) => limit::run(args),
    }
}

/// A flag that SIGINT and SIGTERM set; a second one ends the process at once.
fn stop_on_signal() -> Result<Arc<AtomicBool>, Failure> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The order matters: the first signal finds the flag unset, and then sets it.
        signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .map_err(|e| Failure::new(format!("cannot watch for signals: {e}")))?;
    }
    Ok(stop)
}

/// Whether somebody reads progress on standard error.
fn progress_wanted(asked: bool) -> bool {
    asked || io::stderr().is_terminal()
}

/// The failure of a bench function, with the exit code that says whose fault it is.
fn failure(error: &io::Error) -> Failure {
    match error.kind() {
        io::ErrorKind::InvalidInput => Failure::usage(error.to_string()),
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::TimedOut
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => Failure::unreachable(error.to_string()),
        _ => Failure::new(error.to_string()),
    }
}
