//! `raddle sim run` and `raddle sim list`.
use super::play::{self, Job, SeedArgs};
use super::{limiter, scenarios};
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::output::{OutputArgs, Paint, print, print_json};
use crate::table::Table;
use clap::Args;
use raddle_sim::bars::{self, Standing, Verdict};
use raddle_sim::measure::Second;
use raddle_sim::{Measures, Scheme, scenario};
use serde_json::{Value, json};

/// Run scenarios with one limiter and judge its bars
#[derive(Debug, Args)]
#[command(after_help = "\
A bar is asked of all seeds together: shares by their mean, seconds and milliseconds by the 90th percentile of the
seeds, what must not be at all by the sum. The worst seed is shown beside it.

Examples:
  raddle sim run S1                          20 seeds, a line for each bar
  raddle sim run bars                        every scenario that has bars of the specification
  raddle sim run S1,S10 --seeds 100 --from 1000    seeds that nobody tuned with
  raddle sim run S1 --variant 7              apps that nobody tuned with
  raddle sim run S1 --limiter kratos         what a peer makes of it (its bars are shown, and not judged)
  raddle sim run S6 --per-second --from 3    each second of one run, and what the limiter says to it

Exit code 1: a bar is broken.")]
pub(super) struct RunArgs {
    /// Scenarios by name, with commas: see `raddle sim list`; `all`, or `bars` for those of the specification
    #[arg(value_name = "SCENARIOS", value_delimiter = ',', required = true)]
    scenarios: Vec<String>,
    /// The limiter
    #[arg(long, value_name = "NAME", default_value = "raddle", value_parser = limiter)]
    limiter: Scheme,
    /// Show each second around the event of one run (the first seed's), instead of bars
    #[arg(long)]
    per_second: bool,
    #[command(flatten)]
    seeds: SeedArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn run(args: &RunArgs) -> Done {
    let names = scenarios(&args.scenarios)?;
    if args.per_second {
        for name in names {
            seconds(name, args)?;
        }
        return Ok(Exit::Ok);
    }
    let jobs: Vec<Job> =
        names.iter().flat_map(|name| play::jobs(name, args.limiter, &args.seeds, u64::MAX)).collect();
    let measures = play::all(&jobs, args.seeds.threads);
    let mut report = Vec::new();
    let mut broken = false;
    for (name, runs) in names.iter().zip(measures.chunks(args.seeds.seeds as usize)) {
        let verdicts: Vec<Verdict> = bars::of(name).iter().filter_map(|bar| bar.judge(runs)).collect();
        broken |= verdicts.iter().any(|v| v.standing == Standing::Broken);
        if args.output.json() {
            report.push(
                json!({"scenario": name, "limiter": args.limiter.name(), "bars": verdicts, "runs": runs}),
            );
        } else {
            print(&lines(name, args.limiter, &verdicts, runs))?;
        }
    }
    if args.output.json() {
        print_json(&report)?;
    }
    Ok(if broken && args.limiter == Scheme::Raddle { Exit::Failed } else { Exit::Ok })
}

fn lines(name: &str, scheme: Scheme, verdicts: &[Verdict], runs: &[Measures]) -> String {
    let paint = Paint::stdout();
    let about = scenario::ALL.iter().find(|s| s.0 == name).map_or("", |s| s.1);
    let mut table = Table::new(&["figure", ">bar", ">all seeds", ">worst", ""]);
    for v in verdicts {
        let verdict = match v.standing {
            Standing::Kept => paint.good("kept"),
            Standing::Missed => paint.warn("missed, as is known"),
            Standing::Broken => paint.bad("BROKEN"),
        };
        let figure = |x| number(x);
        table.row([v.bar.figure.name().into(), v.bar.text(), figure(v.value), figure(v.worst), verdict]);
    }
    let overshoot = runs.iter().map(|m| m.overshoot).sum::<f64>() / runs.len().max(1) as f64;
    format!(
        "{} {about}, limiter {}, {} seeds\n{}  load over 0.8 after converging, worst 5 s of each run, mean: {}\n\n",
        paint.bold(name),
        scheme.name(),
        runs.len(),
        table.render(|head| paint.dim(head)),
        number(overshoot)
    )
}

/// A figure with as many digits as say something.
pub(super) fn number(value: f64) -> String {
    let digits = if value.abs() >= 10.0 || value == 0.0 { 0 } else { 4 };
    format!("{value:.digits$}")
}

/// Seconds shown before the event.
const BEFORE: f64 = 5.0;

fn seconds(name: &'static str, args: &RunArgs) -> Result<(), Failure> {
    let job =
        Job { scenario: name, scheme: args.limiter, seed: args.seeds.from, variant: args.seeds.variant };
    let Some((scenario, run)) = job.play() else {
        return Err(Failure::new(format!("there is no scenario {name}")));
    };
    let first = scenario.warm - BEFORE;
    if args.output.json() {
        let notes: Vec<Value> =
            run.notes.iter().map(|(at, text)| json!({"at": at - scenario.warm, "text": text})).collect();
        return print_json(&json!({
            "scenario": name, "limiter": args.limiter.name(), "seed": job.seed, "warm": scenario.warm,
            "event": scenario.event, "seconds": run.seconds, "notes": notes,
        }));
    }
    let paint = Paint::stdout();
    print(&format!(
        "{} {}, limiter {}, seed {}; 0 s is when it begins, {} s when it ends\n",
        paint.bold(name),
        scenario.about,
        args.limiter.name(),
        job.seed,
        scenario.event
    ))?;
    let mut table = Table::new(&[
        ">second",
        ">load",
        ">queue s",
        ">innocents",
        ">in time",
        ">rejected",
        ">culprits",
        ">in time",
        ">rejected",
        ">test",
        ">rejected",
    ]);
    for (t, s) in run.seconds.iter().enumerate().skip(first as usize) {
        if s.cores > 0.0 {
            table.row(row(t as f64 - scenario.warm, s));
        }
    }
    print(&table.render(|head| paint.dim(head)))?;
    for (at, text) in &run.notes {
        print(&format!("{:8.1} s  {text}\n", at - scenario.warm))?;
    }
    Ok(())
}

fn row(t: f64, s: &Second) -> Vec<String> {
    let mut cells = vec![format!("{t:.0}"), format!("{:.2}", s.busy / s.cores), format!("{:.3}", s.queue)];
    for class in 0..2 {
        cells.extend([s.offered[class], s.good[class], s.rejects[class]].map(|n| n.to_string()));
    }
    cells.extend([s.offered[2], s.rejects[2]].map(|n| n.to_string()));
    cells
}

/// Say what scenarios and limiters there are
#[derive(Debug, Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn list(args: &ListArgs) -> Done {
    if args.output.json() {
        let scenarios: Vec<Value> = scenario::ALL
            .iter()
            .map(|(name, about)| json!({"name": name, "about": about, "bars": bars::of(name)}))
            .collect();
        let limiters: Vec<Value> =
            Scheme::ALL.iter().map(|s| json!({"name": s.name(), "about": s.about()})).collect();
        print_json(&json!({"scenarios": scenarios, "limiters": limiters}))?;
        return Ok(Exit::Ok);
    }
    let paint = Paint::stdout();
    let mut table = Table::new(&["scenario", "what befalls the app", "bars"]);
    for (name, about) in scenario::ALL {
        let asked: Vec<String> =
            bars::of(name).iter().map(|b| format!("{} {}", b.figure.name(), b.text())).collect();
        let specified = if scenario::BARRED.contains(&name) { "" } else { " *" };
        table.row([format!("{name}{specified}"), about.into(), format!("{} bars", asked.len())]);
    }
    print(&table.render(|head| paint.bold(head)))?;
    print("  * beyond the specification's list\n\n")?;
    let mut table = Table::new(&["limiter", "what it is"]);
    for scheme in Scheme::ALL {
        table.row([scheme.name().into(), scheme.about().into()]);
    }
    print(&table.render(|head| paint.bold(head)))?;
    Ok(Exit::Ok)
}
