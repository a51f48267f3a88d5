//! `raddle capture`: brings an unmodified application's connections to the sidecar, and takes them back.
mod args;
mod render;

use crate::Done;
use crate::exit::{Exit, Failure};
use crate::output::{OutputArgs, Paint, print, print_json};
use args::InstallArgs;
use clap::{Args, Subcommand};
use raddle_net::capture::{Error, Machine, State, remove, summary};

/// Capture an application's connections: install, show or remove the kernel's rules
///
/// With the rules installed, an application that knows nothing of the mesh talks through its sidecar: the
/// kernel hands what it opens to the sidecar's outbound listener, and what is opened to it to the inbound
/// listener. The listeners must say so (`capture: redirect` or `tproxy`). Rules are those of the network
/// namespace the command runs in, and end with it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle capture install --proxy-uid 1337 --dry-run   # what would be done
  sudo raddle capture install --proxy-uid 1337
  sudo raddle capture show
  sudo raddle capture remove

The sidecar itself must run as that user, or its own connections would be captured too.
The whole story: docs/guides/capture.md.")]
pub(crate) struct CaptureArgs {
    #[command(subcommand)]
    command: CaptureCommand,
}

#[derive(Debug, Subcommand)]
enum CaptureCommand {
    Install(Box<InstallArgs>),
    Show(ShowArgs),
    Remove(RemoveArgs),
}

/// Show what is installed, by whatever tool, and how many connections it has captured
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sudo raddle capture show
  sudo raddle capture show --rules                             # each rule, as the tool prints it
  sudo raddle capture show -o json | jq '.captures[].outbound'")]
pub(crate) struct ShowArgs {
    /// Each rule too
    #[arg(long)]
    rules: bool,
    #[command(flatten)]
    output: OutputArgs,
}

/// Remove every rule that `install` made, by whatever tool, and nothing else
///
/// Tables, `ip rule` and routes are left as they were before the first install. Connections that are
/// captured at that moment are cut; new ones go directly.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sudo raddle capture remove
  sudo raddle capture remove --dry-run")]
pub(crate) struct RemoveArgs {
    /// Print the commands, change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: CaptureArgs) -> Done {
    let machine = Machine::new();
    match args.command {
        CaptureCommand::Install(args) => install(&args, &machine),
        CaptureCommand::Show(args) => show(&args, &machine),
        CaptureCommand::Remove(args) => take_away(&args, &machine),
    }
}

fn failed(e: Error) -> Failure {
    Failure::new(e.to_string())
}

fn install(args: &InstallArgs, machine: &Machine) -> Done {
    let options = args.options(machine.has_ipv6()).map_err(Failure::usage)?;
    let backend = args.backend().map_or_else(|| machine.choose(), Ok).map_err(failed)?;
    if args.dry_run {
        // Without the right to look, the commands are those for a machine with nothing installed.
        let state = match machine.look(Some(backend)) {
            Ok(state) => state,
            Err(_) => State { has_nft: true, ..State::default() },
        };
        let steps = machine.plan_install(&options, backend, &state);
        print(&steps.iter().map(ToString::to_string).collect::<String>())?;
        return Ok(Exit::Ok);
    }
    let notes = machine.install(&options, backend).map_err(failed)?;
    print(&render::installed(&options, backend, &notes, Paint::stdout()))?;
    Ok(Exit::Ok)
}

fn show(args: &ShowArgs, machine: &Machine) -> Done {
    let state = machine.look(None).map_err(failed)?;
    let found = summary(&state);
    if args.output.json() {
        print_json(&render::machine(&found, &state.routing))?;
    } else {
        print(&render::human(&found, &state.routing, args.rules, Paint::stdout()))?;
    }
    Ok(Exit::Ok)
}

fn take_away(args: &RemoveArgs, machine: &Machine) -> Done {
    if args.dry_run {
        let state = machine.look(None).map_err(failed)?;
        print(&remove(&state).iter().map(ToString::to_string).collect::<String>())?;
        return Ok(Exit::Ok);
    }
    let there = machine.look(None).map_err(failed)?;
    let notes = machine.remove().map_err(failed)?;
    print(&render::removed(!summary(&there).is_empty() || !there.routing.is_empty(), &notes))?;
    Ok(Exit::Ok)
}
