//! `raddle bench serve`: the echo server.
use super::{failure, stop_on_signal};
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::output::{OutputArgs, print, print_json};
use crate::parse;
use clap::Args;
use raddle_bench::{Protocol, ServeOptions, Server};
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;

/// Answer requests with their own content
///
/// Speaks one protocol: Bolt (1, 2 and 2 with checksum at once) and Dubbo with their heartbeats, HTTP/1.1 with
/// connections kept alive, HTTP/2 without TLS, gRPC unary calls, or plain TCP. With --size, requests without a
/// body (GET) get one too.
///
/// The first line on standard output is the address it listens on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle bench serve --listen 127.0.0.1:12200
  raddle bench serve --listen 127.0.0.1:0 -o json      # any free port
  raddle bench serve --protocol grpc --listen 127.0.0.1:50051
  raddle bench serve --delay 5ms --size 16KiB          # a slow server with large replies")]
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
    let bound = Server::bind(ServeOptions { protocol, listen, delay, size, threads });
    let server = bound.map_err(|e| match e.kind() {
        std::io::ErrorKind::InvalidInput => failure(&e),
        _ => Failure::new(format!("cannot listen on {listen}: {e}; choose another with --listen")),
    })?;
    let listen = server.local_addr().map_err(|e| failure(&e))?;
    if args.output.json() {
        print_json(&json!({"listening": listen, "protocol": protocol, "pid": std::process::id()}))?;
    } else {
        print(&format!("echoing {protocol} on {listen}; Ctrl-C ends\n"))?;
    }
    server.run(&stop).map_err(|e| failure(&e))?;
    Ok(Exit::Ok)
}
