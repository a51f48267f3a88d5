//! `raddle bench control`: a control plane under many simulated sidecars.
//!
//! Each simulated sidecar ([`sidecar`]) has a connection of its own, an ADS stream (delta) that acknowledges what it is
//! sent, and some publication streams. [`phases`] is what is done to them and measured, [`plane`] the control plane's
//! process, [`report`] what is said of it all.
mod mesh;
mod phases;
mod plane;
mod report;
mod sidecar;

use crate::Done;
use crate::exit::{Exit, Failure};
use crate::output::{self, OutputArgs};
use crate::parse;
use clap::Args;
use mesh::Shape;
use std::net::SocketAddr;
use std::time::Duration;

/// Load a control plane with simulated sidecars
///
/// Starts a control plane of its own in a temporary directory, or takes a running one. Measured are: how long until all
/// are served at first, how long a change of an endpoint takes to all who subscribed to it, how long a rule takes to all,
/// what becomes of all streams dropped at once, and of a large share of instances that vanishes at once; with the control
/// plane's CPU and memory.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle bench control                                            1,000 sidecars, 1,000 services, 10,000 instances
  raddle bench control --streams 100 --services 100 --instances 1000 --changes 20
  raddle bench control --subscribe 0                              each sidecar subscribes to everything
  raddle bench control --target 127.0.0.1:15010 --rest 127.0.0.1:7070 --pid 4711")]
pub(crate) struct ControlArgs {
    /// Simulated sidecars, each with its own connection
    #[arg(long, value_name = "N", default_value_t = 1000)]
    streams: usize,
    /// Services in the mesh
    #[arg(long, value_name = "N", default_value_t = 1000)]
    services: usize,
    /// Instances in the mesh; the sidecars publish them in equal shares
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    instances: usize,
    /// Apps; services and instances are spread over them evenly
    #[arg(long, value_name = "N", default_value_t = 100)]
    apps: usize,
    /// Services each sidecar subscribes to, one of which all have; 0 = all there are
    #[arg(long, value_name = "N", default_value_t = 20)]
    subscribe: usize,
    /// Changes that are measured, one after the other
    #[arg(long, value_name = "N", default_value_t = 50)]
    changes: usize,
    /// Share of sidecars that vanish at once, in percent
    #[arg(long, value_name = "PERCENT", default_value_t = 50, value_parser = clap::value_parser!(u32).range(0..=100))]
    vanish: u32,
    /// Grace of the control plane that is started
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse::duration)]
    grace: Duration,
    /// How long the idle control plane is watched, once with nobody connected and once with all
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = parse::duration)]
    idle: Duration,
    /// Most time for each phase
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = parse::duration)]
    patience: Duration,
    /// A running control plane's plaintext gRPC, instead of one of its own
    #[arg(long, value_name = "IP:PORT", requires = "rest")]
    target: Option<SocketAddr>,
    /// Its REST address, which takes a rule without a token (`raddle control --no-auth`)
    #[arg(long, value_name = "IP:PORT")]
    rest: Option<SocketAddr>,
    /// Its process, for CPU and memory
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: ControlArgs) -> Done {
    let shape = Shape {
        streams: args.streams.max(1),
        services: args.services.max(1),
        instances: args.instances.max(1),
        apps: args.apps.clamp(1, args.services.max(1)),
        subscribe: if args.subscribe == 0 { args.services } else { args.subscribe.min(args.services) },
    };
    let files = plane::many_files(shape.streams * 2 + 1000);
    let plane = match (args.target, args.rest) {
        (Some(grpc), Some(rest)) => plane::Plane::running(grpc, rest, args.pid),
        _ => plane::Plane::start(args.grace, shape.streams + shape.instances + 1000)?,
    };
    let plan = phases::Plan {
        changes: args.changes,
        vanish: args.vanish,
        grace: args.grace,
        patience: args.patience,
        idle: args.idle,
        files,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(format!("no threads: {e}")))?;
    let report = runtime.block_on(phases::run(&plane, shape, &plan))?;
    if args.output.json() {
        output::print_json(&report)?;
    } else {
        output::print(&report.to_string())?;
    }
    Ok(if report.whole() { Exit::Ok } else { Exit::Failed })
}
