//! The `raddle` command: it parses arguments, composes the other crates and runs them.
//!
//! Nothing is decided here. Each subcommand is one file of [`commands`] with its arguments, its help and
//! its output; [`demo`] is a whole mesh on one machine. Start with [`Command`] below for the list.
#![forbid(unsafe_code)]

mod commands;
mod demo;
mod exit;
mod http;
mod output;
mod parse;
mod sources;
mod table;

use clap::{Parser, Subcommand};
use commands::{bench, capture, check, control, explain, mesh, proxy, sim, status, store, tools};
use exit::{Exit, Failure};
use std::process::ExitCode;

/// A service mesh for RPC: sidecar and tools in one binary.
#[derive(Debug, Parser)]
#[command(
    name = "raddle",
    version,
    about = "A service mesh for RPC: sidecar and tools in one binary",
    after_help = AFTER,
    max_term_width = 110,
    propagate_version = false,
    disable_help_subcommand = true,
    arg_required_else_help = true
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const AFTER: &str = "\
Start here:
  raddle demo                                see a whole mesh run on this machine
  raddle check examples/shop.yaml            is this configuration right?
  raddle proxy --config examples/shop.yaml   run the sidecar
  raddle control                             run the control plane
  raddle status                              what is it doing?
  raddle apply -f route.yaml                 give the mesh a rule
  raddle explain flag UH                     why did a request fail?

Exit codes:
  0  it worked
  1  it failed
  2  the command line is wrong
  3  the configuration has mistakes
  4  something could not be reached (a sidecar, a server)

Output is coloured on terminals only, and never if NO_COLOR is set.";

#[derive(Debug, Subcommand)]
enum Command {
    Demo(demo::DemoArgs),
    Proxy(proxy::ProxyArgs),
    Control(control::ControlArgs),
    Check(check::CheckArgs),
    Status(status::StatusArgs),
    Get(mesh::get::GetArgs),
    Apply(mesh::apply::ApplyArgs),
    Diff(mesh::apply::DiffArgs),
    Edit(mesh::edit::EditArgs),
    Delete(mesh::apply::DeleteArgs),
    History(mesh::revisions::HistoryArgs),
    Rollback(mesh::revisions::RollbackArgs),
    Rollout(mesh::rollout::RolloutArgs),
    Events(mesh::log::EventsArgs),
    Audit(mesh::log::AuditArgs),
    Token(mesh::token::TokenArgs),
    Ca(mesh::ca::CaArgs),
    Explain(explain::ExplainArgs),
    Bench(bench::BenchArgs),
    Sim(sim::SimArgs),
    Capture(capture::CaptureArgs),
    Store(store::StoreCommand),
    Completions(tools::CompletionsArgs),
    Reference(tools::ReferenceArgs),
    Version(tools::VersionArgs),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Proxy(args) => proxy::run(args),
        Command::Control(args) => control::run(args),
        Command::Check(args) => check::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Get(args) => mesh::get::run(&args),
        Command::Apply(args) => mesh::apply::apply(&args),
        Command::Diff(args) => mesh::apply::diff(&args),
        Command::Edit(args) => mesh::edit::run(&args),
        Command::Delete(args) => mesh::apply::delete(&args),
        Command::History(args) => mesh::revisions::history(&args),
        Command::Rollback(args) => mesh::revisions::rollback(&args),
        Command::Rollout(args) => mesh::rollout::run(&args),
        Command::Events(args) => mesh::log::events(&args),
        Command::Audit(args) => mesh::log::audit(&args),
        Command::Token(args) => mesh::token::run(&args),
        Command::Ca(args) => mesh::ca::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Bench(args) => bench::run(args),
        Command::Sim(args) => sim::run(&args),
        Command::Capture(args) => capture::run(args),
        Command::Store(args) => store::run(&args),
        Command::Completions(args) => tools::completions(&args, <Cli as clap::CommandFactory>::command()),
        Command::Reference(args) => tools::reference(&args),
        Command::Version(args) => tools::version(&args),
    };
    done.unwrap_or_else(|failure: Failure| {
        output::complain(&failure);
        failure.exit
    })
    .code()
}

/// What a command gives back: its exit code, or why it could not do its work.
type Done = Result<Exit, Failure>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
