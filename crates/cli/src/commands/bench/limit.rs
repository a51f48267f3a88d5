//! `raddle bench limit`: limiting on a real app, beside Envoy's.
use super::{failure, progress_wanted, stop_on_signal};
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::output::{OutputArgs, print, print_json, progress};
use crate::parse;
use clap::Args;
use raddle_bench::limit::Variant;
use raddle_bench::{LimitOptions, limit};
use std::path::PathBuf;
use std::time::Duration;

/// Let one of an app's hundred interfaces surge, and see what becomes of the others
///
/// The app uses CPU (raddle bench serve --burn) and has a bounded share of the machine's, by a cgroup. It is run behind
/// nothing, a sidecar with an AdaptiveLimit, and Envoy's adaptive concurrency and admission control filters, in turn,
/// round after round. Figures are medians of the rounds, and go to limit-real.json and limit-real.txt.
///
/// Needs root, for the cgroup; see --no-cgroup.
#[derive(Debug, Args)]
#[command(after_help = "\
Figures mean something only from a release build on a machine that does nothing else. With the defaults it takes
about 22 minutes.

Examples:
  sudo raddle bench limit
  sudo raddle bench limit --variant none,raddle --repeats 1 --factor 10
  raddle bench limit --no-cgroup --out /tmp/results -o json")]
pub(crate) struct LimitArgs {
    /// What stands before the app: none, raddle, envoy-concurrency, envoy-admission; several with commas between
    #[arg(long = "variant", value_delimiter = ',', value_name = "NAME", default_values_t = Variant::ALL.map(Variant::name).map(String::from))]
    variants: Vec<String>,
    /// Rounds; medians want at least five
    #[arg(long, default_value_t = 5)]
    repeats: usize,
    /// Cores the app has
    #[arg(long, value_parser = parse::rate, default_value = "0.8")]
    cores: f64,
    /// Bound the app by having one thread only, not by a cgroup: then it has one core
    #[arg(long, conflicts_with = "cores")]
    no_cgroup: bool,
    /// Share of the app's cores in use before the surge
    #[arg(long, value_parser = parse::rate, default_value = "0.6")]
    load: f64,
    /// How many times as often as before the culprit is asked for
    #[arg(long, value_parser = parse::rate, default_value = "5")]
    factor: f64,
    /// Time before the surge
    #[arg(long, value_parser = parse::duration, value_name = "DURATION", default_value = "25s")]
    calm: Duration,
    /// Time of the surge
    #[arg(long, value_parser = parse::duration, value_name = "DURATION", default_value = "20s")]
    surge: Duration,
    /// Time after the surge
    #[arg(long, value_parser = parse::duration, value_name = "DURATION", default_value = "15s")]
    after: Duration,
    /// Directory for the results
    #[arg(long, value_name = "DIR", default_value = "bench/results")]
    out: PathBuf,
    /// Show progress even if standard error is no terminal
    #[arg(long)]
    progress: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: LimitArgs) -> Done {
    let show = progress_wanted(args.progress);
    let raddle = std::env::current_exe()
        .map_err(|e| Failure::new(format!("cannot find this program's own file: {e}")))?;
    let variants = args.variants.iter().map(|name| name.parse()).collect::<Result<_, String>>();
    let opts = LimitOptions {
        variants: variants.map_err(|why| Failure::usage(format!("--variant: {why}")))?,
        repeats: args.repeats,
        cores: args.cores,
        group: !args.no_cgroup,
        load: args.load,
        factor: args.factor,
        calm: args.calm,
        surge: args.surge,
        after: args.after,
        out: args.out,
        stop: stop_on_signal()?,
        ..LimitOptions::new(raddle)
    };
    let report = limit(&opts, |line| {
        if show {
            progress(line);
        }
    });
    let report = report.map_err(|e| match e.kind() {
        std::io::ErrorKind::PermissionDenied | std::io::ErrorKind::Unsupported => {
            Failure::new(format!("{e}; --no-cgroup does without"))
        }
        _ => failure(&e),
    })?;
    if args.output.json() {
        print_json(&report)?;
    } else {
        print(&report.to_string())?;
    }
    Ok(Exit::Ok)
}
