//! `raddle sim trace`: a picture of a run.
use super::play::Job;
use super::{limiter, scenarios};
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::output::{print, progress};
use clap::Args;
use raddle_sim::{Scheme, plot};
use std::path::PathBuf;

/// Draw what happens in each second of a run, as SVG
#[derive(Debug, Args)]
#[command(after_help = "\
Panels: load, queue, what culprits ask for and get, innocents answered in time, rejections.

Examples:
  raddle sim trace S1 --svg s1.svg                          ours, and no limiter in grey
  raddle sim trace S1 --svg s1.svg --beside envoy-ac        beside another limiter
  raddle sim trace S5 --limiter dagor > s5.svg              another limiter by itself in colour")]
pub(super) struct TraceArgs {
    /// The scenario: see `raddle sim list`
    #[arg(value_name = "SCENARIO")]
    scenario: String,
    /// The file; standard output if not said
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// The limiter
    #[arg(long, value_name = "NAME", default_value = "raddle", value_parser = limiter)]
    limiter: Scheme,
    /// The limiter behind it in grey
    #[arg(long, value_name = "NAME", default_value = "none", value_parser = limiter)]
    beside: Scheme,
    /// What chance is made of
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    seed: u64,
    /// Another app: other cores, interfaces, costs, times and surges, drawn from this number
    #[arg(long, value_name = "NUMBER")]
    variant: Option<u64>,
}

pub(super) fn run(args: &TraceArgs) -> Done {
    let names = scenarios(std::slice::from_ref(&args.scenario))?;
    let &[name] = names.as_slice() else { return Err(Failure::new("one scenario makes one picture")) };
    let play = |scheme| {
        let job = Job { scenario: name, scheme, seed: args.seed, variant: args.variant };
        job.play().ok_or_else(|| Failure::new(format!("there is no scenario {name}")))
    };
    let (scenario, own) = play(args.limiter)?;
    let beside = if args.beside == args.limiter { None } else { Some(play(args.beside)?.1) };
    let grey = match &beside {
        Some(_) => format!(", in grey {}", args.beside.about()),
        None => String::new(),
    };
    let subtitle = format!("{}{grey}; seed {}, the event is shaded", args.limiter.about(), args.seed);
    let svg = plot::svg(&scenario, &subtitle, &own, beside.as_ref().map(|run| (args.beside.name(), run)));
    match &args.svg {
        None => print(&svg)?,
        Some(path) => {
            std::fs::write(path, svg).map_err(|e| Failure::new(format!("{}: {e}", path.display())))?;
            progress(&format!("{} written", path.display()));
        }
    }
    Ok(Exit::Ok)
}
