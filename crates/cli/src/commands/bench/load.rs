//! `raddle bench load`: the load generator.
use super::{failure, progress_wanted, stop_on_signal};
use crate::Done;
use crate::exit::Exit;
use crate::output::{OutputArgs, print, print_json, progress};
use crate::parse;
use clap::Args;
use raddle_bench::bolt::Version;
use raddle_bench::{LoadOptions, Progress, Protocol, load};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Send requests and measure
///
/// Without --rate each connection keeps --depth requests in flight (closed loop): that measures
/// throughput. With --rate every request has a fixed time to be sent at, and latency counts from it even
/// if something delayed the sending (open loop): that measures latency.
///
/// With --mix the hundred paths of an app that burns CPU (raddle bench serve --burn) are asked for at once, at random
/// moments, popular ones more often, and -o json tells what became of each path in each second.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle bench load --target 127.0.0.1:12200 --connections 8 --depth 16 --duration 10s
  raddle bench load --target 127.0.0.1:12221 --service com.shop.OrderService:1.0 --rate 2000
  raddle bench load --target 127.0.0.1:15001 --protocol http --connections 32
  raddle bench load --target 127.0.0.1:15001 --protocol grpc --service shop.Orders --method Get --any-reply
  raddle bench load --target 127.0.0.1:8080 --mix --rate 200 --duration 60s --surge 0=5@20s..40s -o json
  raddle bench load --target 127.0.0.1:12221 --pid proxy=$(pidof raddle) -o json | jq .processes")]
pub(crate) struct LoadArgs {
    /// Address to send to
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:12200")]
    pub(super) target: SocketAddr,
    /// bolt, dubbo, http, http2, grpc or tcp
    #[arg(long, default_value_t = Protocol::Bolt)]
    protocol: Protocol,
    /// Form of Bolt: v1, v2 or v2-crc
    #[arg(long, value_name = "VERSION", default_value = "v1")]
    bolt: Version,
    /// Service asked for, or the host for http and http2
    ///
    /// The default is bench.Echo:1.0 for bolt and dubbo, bench.Echo for grpc, echo.bench for http and http2.
    #[arg(long)]
    pub(super) service: Option<String>,
    /// Method asked for, or the path for http and http2
    #[arg(long, default_value = "echo")]
    method: String,
    /// A further header (an attachment for dubbo); may be given more than once
    #[arg(long = "header", value_parser = parse::pair, value_name = "NAME=VALUE")]
    pub(super) headers: Vec<(String, String)>,
    /// Connections
    #[arg(short, long, default_value_t = 8)]
    pub(super) connections: usize,
    /// Most requests in flight on a connection; http has one
    #[arg(short, long, default_value_t = 16)]
    depth: usize,
    /// Requests a second over all connections, on a fixed schedule
    #[arg(short, long, value_parser = parse::rate)]
    pub(super) rate: Option<f64>,
    /// Time measured
    #[arg(long, value_parser = parse::duration, default_value = "10s")]
    pub(super) duration: Duration,
    /// Time before that
    #[arg(long, value_parser = parse::duration, value_name = "DURATION", default_value = "1s")]
    warmup: Duration,
    /// Content bytes of a request; without any, http and http2 send GET instead of POST
    #[arg(long, value_parser = parse::size, value_name = "BYTES", default_value = "1024")]
    size: usize,
    /// Content bytes a reply must have [default: as many as the request's]
    #[arg(long, value_parser = parse::size, value_name = "BYTES")]
    reply_size: Option<usize>,
    /// Accept any reply, not only the request's own content: for servers that do not echo
    #[arg(long)]
    any_reply: bool,
    /// Time a reply may take
    #[arg(long, value_parser = parse::duration, value_name = "DURATION", default_value = "5s")]
    timeout: Duration,
    /// Generator threads
    #[arg(long, default_value_t = 1)]
    threads: usize,
    /// A process whose CPU is measured; may be given more than once
    #[arg(long = "pid", value_parser = parse::process, value_name = "NAME=PID")]
    pids: Vec<(String, u32)>,
    /// File for a line of JSON a second, and for every request that failed
    #[arg(long, value_name = "FILE")]
    timeline: Option<PathBuf>,
    /// Ask for a hundred paths at once; http
    #[arg(long, requires = "rate", conflicts_with_all = ["protocol", "depth", "size", "method", "timeline", "pids", "threads"])]
    mix: bool,
    /// How much more popular the first paths of a mix are than the last: the n-th is asked for 1/n^ZIPF as often
    #[arg(long, requires = "mix", default_value_t = 1.2)]
    pub(super) zipf: f64,
    /// A path of a mix, by number or by name, that is asked for FACTOR times as often for a while
    #[arg(long = "surge", requires = "mix", value_name = "PATH=FACTOR@FROM..UNTIL")]
    pub(super) surges: Vec<String>,
    /// Time a caller of a mix waits, from the intended send time
    #[arg(long, requires = "mix", value_parser = parse::duration, value_name = "DURATION", default_value = "1s")]
    pub(super) deadline: Duration,
    /// Draws other moments for a mix
    #[arg(long, requires = "mix", default_value_t = 1)]
    pub(super) seed: u64,
    /// Show progress even if standard error is no terminal
    #[arg(long)]
    pub(super) progress: bool,
    #[command(flatten)]
    pub(super) output: OutputArgs,
}

pub(crate) fn run(args: LoadArgs) -> Done {
    if args.mix {
        return super::mix::run(&args);
    }
    let show = progress_wanted(args.progress);
    let opts = LoadOptions {
        protocol: args.protocol,
        bolt: args.bolt,
        target: args.target,
        service: args.service,
        method: args.method,
        headers: args.headers,
        connections: args.connections,
        depth: args.depth,
        rate: args.rate,
        warmup: args.warmup,
        duration: args.duration,
        size: args.size,
        reply_size: args.reply_size,
        check_echo: !args.any_reply,
        timeout: args.timeout,
        threads: args.threads,
        pids: args.pids,
        timeline: args.timeline,
        stop: stop_on_signal()?,
    };
    let result = load(opts, |p| {
        if show {
            progress(&line(p));
        }
    })
    .map_err(|e| failure(&e))?;
    if args.output.json() {
        print_json(&result)?;
    } else {
        print(&result.to_string())?;
    }
    // Nothing answered is no measurement.
    Ok(if result.requests == 0 { Exit::Failed } else { Exit::Ok })
}

fn line(p: &Progress) -> String {
    let phase = if p.warming_up { "warm-up" } else { "measuring" };
    let (elapsed, total) = (p.elapsed.as_secs_f64(), p.total.as_secs_f64());
    format!("{elapsed:5.1} of {total:.0} s  {phase:9}  {:8.0}/s  {} failed", p.rps, p.failed)
}
