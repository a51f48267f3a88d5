//! `raddle bench compare`: Raddle and other proxies in one run on one machine.
use super::{failure, progress_wanted, stop_on_signal};
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::output::{OutputArgs, print, print_json, progress};
use crate::parse;
use clap::{Args, ValueEnum};
use raddle_bench::Protocol;
use raddle_bench::compare::{CompareOptions, TableKind, compare};
use std::path::PathBuf;
use std::time::Duration;

/// Compare with other proxies: HAProxy, nginx and Envoy, those that are installed
///
/// Every proxy is measured in every round, one after the other, with one worker each; figures are medians
/// of the rounds. Results go to files as JSON and SVG, with a description of the machine.
#[derive(Debug, Args)]
#[command(after_help = "\
Figures mean something only from a release build on a machine that does nothing else.

Examples:
  raddle bench compare                                    # all tables of Bolt, about ten minutes
  raddle bench compare --protocol http,http2,grpc,dubbo   # those of the others
  raddle bench compare --protocol grpc --table foreign    # with h2load as the generator
  raddle bench compare --table throughput --rounds 3 --seconds 1s
  raddle bench compare --table memory --out /tmp/results -o json")]
pub(crate) struct CompareArgs {
    /// What is measured
    #[arg(long, value_enum, default_value_t = TableArg::All)]
    table: TableArg,
    /// What is spoken: bolt, dubbo, http, http2, grpc; several with commas between
    #[arg(long, value_delimiter = ',', default_value = "bolt", value_name = "PROTOCOL")]
    protocol: Vec<Protocol>,
    /// Rounds; medians want at least five
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Time measured in each run of a round: seconds, or a duration such as 500ms
    #[arg(long, value_parser = seconds, default_value = "2")]
    seconds: Duration,
    /// Directory for the results
    #[arg(long, value_name = "DIR", default_value = "bench/results")]
    out: PathBuf,
    /// Do not pin each proxy to one CPU
    #[arg(long)]
    no_pin: bool,
    /// Show progress even if standard error is no terminal
    #[arg(long)]
    progress: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TableArg {
    /// CPU for a request, and requests a second
    Throughput,
    /// What two sidecars add to latency
    Latency,
    /// Resident memory: idle, by connection, by cluster
    Memory,
    /// CPU by number of endpoints, rules, connections (bolt)
    Sweep,
    /// CPU for a request under wrk (http) or h2load (http2, grpc)
    Foreign,
    /// TLS over plaintext between two sidecars: CPU, latency, idle connections (bolt, http2)
    Encryption,
    /// 10,000 TLS clients at once, and what other callers feel of it (bolt)
    Storm,
    /// All that the protocol has
    All,
}

impl TableArg {
    fn kinds(self) -> Vec<TableKind> {
        match self {
            TableArg::Throughput => vec![TableKind::Throughput],
            TableArg::Latency => vec![TableKind::Latency],
            TableArg::Memory => vec![TableKind::Memory],
            TableArg::Sweep => vec![TableKind::Sweep],
            TableArg::Foreign => vec![TableKind::Foreign],
            TableArg::Encryption => vec![TableKind::Encryption],
            TableArg::Storm => vec![TableKind::Storm],
            TableArg::All => TableKind::ALL.to_vec(),
        }
    }
}

/// The flag's name is the unit, so a bare number is no guess.
fn seconds(text: &str) -> Result<Duration, String> {
    let time = match text.parse::<f64>() {
        Ok(n) => Duration::try_from_secs_f64(n).map_err(|_| "the time is out of range".to_owned())?,
        Err(_) => parse::duration(text)?,
    };
    if time.is_zero() { Err("expected more than nothing".into()) } else { Ok(time) }
}

pub(crate) fn run(args: CompareArgs) -> Done {
    let show = progress_wanted(args.progress);
    let raddle = std::env::current_exe()
        .map_err(|e| Failure::new(format!("cannot find this program's own file: {e}")))?;
    let mut opts = CompareOptions::new(raddle);
    opts.tables = args.table.kinds();
    opts.protocols = args.protocol;
    opts.rounds = args.rounds;
    opts.seconds = args.seconds;
    opts.out = args.out;
    opts.pin = !args.no_pin;
    opts.stop = stop_on_signal()?;
    let report = compare(opts, |line| {
        if show {
            progress(line);
        }
    })
    .map_err(|e| failure(&e))?;
    if args.output.json() {
        print_json(&report)?;
    } else {
        print(&report.to_string())?;
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_be_bare_or_a_duration_but_not_nothing() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("500ms"), Ok(Duration::from_millis(500)));
        assert!(seconds("0").is_err() && seconds("-1").is_err() && seconds("NaN").is_err());
    }
}
