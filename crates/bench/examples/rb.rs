//! Drives the library without the `raddle` binary: `rb serve`, `rb load`, `rb compare`.
use clap::{Parser, Subcommand};
use raddle_bench::bolt::Version;
use raddle_bench::compare::TableKind;
use raddle_bench::{CompareOptions, LoadOptions, Protocol, ServeOptions, Server, compare, load};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Echo server.
    Serve {
        #[arg(long, default_value = "127.0.0.1:12200")]
        listen: SocketAddr,
        #[arg(long, default_value = "bolt")]
        protocol: Protocol,
        #[arg(long, default_value_t = 0.0)]
        delay_ms: f64,
        #[arg(long)]
        size: Option<usize>,
        #[arg(long, default_value_t = 1)]
        threads: usize,
    },
    /// Load generator.
    Load {
        target: SocketAddr,
        #[arg(long, default_value = "bolt")]
        protocol: Protocol,
        #[arg(long, default_value = "v1")]
        bolt: Version,
        #[arg(short, long, default_value_t = 8)]
        connections: usize,
        #[arg(short, long, default_value_t = 16)]
        depth: usize,
        #[arg(long)]
        rate: Option<f64>,
        #[arg(long, default_value_t = 5.0)]
        seconds: f64,
        #[arg(long, default_value_t = 1024)]
        size: usize,
        #[arg(long, default_value_t = 1)]
        threads: usize,
        /// NAME=PID
        #[arg(long)]
        pid: Vec<String>,
        #[arg(long)]
        json: bool,
    },
    /// Comparison with other proxies.
    Compare {
        #[arg(long, default_value = "target/release/raddle")]
        raddle: PathBuf,
        #[arg(long, value_delimiter = ',')]
        table: Vec<TableKind>,
        #[arg(long, value_delimiter = ',', default_value = "bolt")]
        protocol: Vec<Protocol>,
        #[arg(long, default_value_t = 5)]
        rounds: usize,
        #[arg(long, default_value_t = 2.0)]
        seconds: f64,
        #[arg(long)]
        no_pin: bool,
        #[arg(long, default_value = "bench/results")]
        out: PathBuf,
    },
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register(signal, stop.clone())?;
    }
    match Cli::parse().command {
        Command::Serve { listen, protocol, delay_ms, size, threads } => {
            let delay = Duration::from_secs_f64(delay_ms / 1e3);
            let server = Server::bind(ServeOptions { protocol, listen, delay, size, threads, burn: None })?;
            println!("{}", server.local_addr()?);
            server.run(&stop)?;
        }
        Command::Load {
            target,
            protocol,
            bolt,
            connections,
            depth,
            rate,
            seconds,
            size,
            threads,
            pid,
            json,
        } => {
            let pids = pid
                .iter()
                .filter_map(|p| p.split_once('='))
                .filter_map(|(name, pid)| Some((name.to_owned(), pid.parse().ok()?)))
                .collect();
            let duration = Duration::from_secs_f64(seconds);
            let opts = LoadOptions {
                protocol,
                bolt,
                target,
                connections,
                depth,
                rate,
                duration,
                size,
                threads,
                pids,
                stop,
                ..LoadOptions::default()
            };
            let result = load(opts, |p| eprintln!("{:5.1} s {:.0}/s", p.elapsed.as_secs_f64(), p.rps))?;
            if json {
                println!("{}", serde_json::to_string_pretty(&result)?);
            } else {
                print!("{result}");
            }
        }
        Command::Compare { raddle, table, protocol, rounds, seconds, no_pin, out } => {
            let mut opts = CompareOptions::new(raddle);
            opts.echo = vec![std::env::current_exe()?.into(), "serve".into()];
            if !table.is_empty() {
                opts.tables = table;
            }
            opts.protocols = protocol;
            opts.rounds = rounds;
            opts.seconds = Duration::from_secs_f64(seconds);
            opts.pin = !no_pin;
            opts.out = out;
            opts.stop = stop;
            print!("{}", compare(opts, |line| eprintln!("{line}"))?);
        }
    }
    Ok(())
}
