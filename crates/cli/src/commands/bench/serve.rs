//! `raddle bench serve`: the echo server.
use super::{failure, stop_on_signal};
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::output::{OutputArgs, print, print_json};
use crate::parse;
use clap::Args;
use raddle_bench::cgroup::CpuGroup;
use raddle_bench::{BurnOptions, Protocol, ServeOptions, Server};
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;

/// Answer requests with their own content
///
/// Speaks one protocol: Bolt (1, 2 and 2 with checksum at once) and Dubbo with their heartbeats, HTTP/1.1 with
/// connections kept alive, HTTP/2 without TLS, gRPC unary calls, or plain TCP. With --size, requests without a
/// body (GET) get one too.
///
/// With --burn it is an app instead of an echo: a hundred interfaces (/cart/get, /cart/list, ..., /invoice/sync; also
/// /api/00 to /api/99), each of which uses CPU of its own, 0.5 to 20 ms a request, on a pool of threads. GET /load says
/// how busy it is.
///
/// The first line on standard output is the address it listens on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle bench serve --listen 127.0.0.1:12200
  raddle bench serve --listen 127.0.0.1:0 -o json      # any free port
  raddle bench serve --protocol grpc --listen 127.0.0.1:50051
  raddle bench serve --delay 5ms --size 16KiB          # a slow server with large replies
  raddle bench serve --burn --listen 127.0.0.1:8080    # an app that costs CPU")]
pub(crate) struct ServeArgs {
    /// bolt, dubbo, http, http2, grpc or tcp
    #[arg(long, default_value_t = Protocol::Bolt)]
    protocol: Protocol,
    /// Address to listen on; port 0 picks a free one
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:12200")]
    listen: SocketAddr,
    /// Time each reply is held back
    #[arg(long, value_parser = parse::duration, value_name = "DURATION", default_value = "0s")]
    delay: Duration,
    /// Content bytes of a reply [default: as many as the request's]
    #[arg(long, value_parser = parse::size, value_name = "BYTES")]
    size: Option<usize>,
    /// Threads
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// Use CPU for every request, as an app does; http
    #[arg(long, conflicts_with_all = ["delay", "size", "protocol"])]
    burn: bool,
    /// Threads that work
    #[arg(long, requires = "burn", value_name = "N", default_value_t = BurnOptions::default().pool)]
    burn_threads: usize,
    /// Requests that may wait for one of them; more are answered 503
    #[arg(long, requires = "burn", value_name = "N", default_value_t = BurnOptions::default().queue)]
    burn_queue: usize,
    /// Multiplies what every interface costs
    #[arg(long, requires = "burn", value_parser = parse::rate, value_name = "FACTOR", default_value = "1")]
    burn_scale: f64,
    /// Header of replies that says what CPU time the request took, in microseconds
    #[arg(long, requires = "burn", value_name = "NAME")]
    cost_header: Option<String>,
    /// Most CPU it may use, by a cgroup of its own; needs root
    #[arg(long, value_parser = parse::rate, value_name = "CORES")]
    cores: Option<f64>,
    #[command(flatten)]
    output: OutputArgs,
    /// End when standard input ends
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

pub(crate) fn run(args: &ServeArgs) -> Done {
    if args.exit_with_stdin {
        crate::commands::exit_with_stdin();
    }
    let stop = stop_on_signal()?;
    let &ServeArgs { protocol, listen, delay, size, threads, .. } = args;
    let protocol = if args.burn { Protocol::Http } else { protocol };
    let group = args.cores.map(own_group).transpose()?;
    let burn = args.burn.then(|| BurnOptions {
        pool: args.burn_threads,
        queue: args.burn_queue,
        scale: args.burn_scale,
        cost_header: args.cost_header.clone(),
        cores: args.cores.unwrap_or_else(cores),
    });
    let bound = Server::bind(ServeOptions { protocol, listen, delay, size, threads, burn });
    let server = bound.map_err(|e| match e.kind() {
        std::io::ErrorKind::InvalidInput => failure(&e),
        _ => Failure::new(format!("cannot listen on {listen}: {e}; choose another with --listen")),
    })?;
    let listen = server.local_addr().map_err(|e| failure(&e))?;
    if args.output.json() {
        print_json(&json!({"listening": listen, "protocol": protocol, "pid": std::process::id()}))?;
    } else if args.burn {
        print(&format!("burning CPU for http on {listen}; Ctrl-C ends\n"))?;
    } else {
        print(&format!("echoing {protocol} on {listen}; Ctrl-C ends\n"))?;
    }
    let served = server.run(&stop).map_err(|e| failure(&e));
    if let Some(group) = group {
        leave(group);
    }
    served?;
    Ok(Exit::Ok)
}

/// A cgroup with this process in it.
fn own_group(cores: f64) -> Result<CpuGroup, Failure> {
    let group = CpuGroup::create(cores).and_then(|group| {
        group.add(std::process::id())?;
        Ok(group)
    });
    group.map_err(|e| {
        Failure::new(format!("--cores: {e}; without it, --burn-threads bounds it by its threads"))
    })
}

/// Goes back to where everybody is, so that the group can be removed.
fn leave(group: CpuGroup) {
    group.leave(std::process::id());
    drop(group);
}

fn cores() -> f64 {
    std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64)
}
