//! `raddle sim compare`: the whole table, ours beside its peers.
use super::play::{self, Job, SeedArgs};
use super::run::number;
use super::{limiter, scenarios};
use crate::Done;
use crate::exit::Exit;
use crate::output::{OutputArgs, Paint, print, print_json};
use crate::table::Table;
use clap::Args;
use raddle_sim::bars::{self, Figure, Standing, Verdict};
use raddle_sim::{Measures, Scheme, scenario};
use serde_json::{Value, json};

/// Compare limiters over scenarios; judge the bars of ours
#[derive(Debug, Args)]
#[command(after_help = "\
Every limiter gets the same arrivals with the same demands. The tables have a row for each scenario: the innocents'
goodput, the culprits' share of what was feasible for them (above 1: more, at the cost of the innocent), the innocents'
99th percentile over idle, rejections where nothing is short. Then each bar of ours, kept or broken.

Examples:
  raddle sim compare                                    everything, 20 seeds: some minutes
  raddle sim compare --peer-seeds 3                     peers with fewer: sooner
  raddle sim compare --scenarios S1,S5 --limiters raddle,none,dagor
  raddle sim compare --from 1000 --variant 50           seeds and apps that nobody tuned with
  raddle sim compare -o json > table.json

Exit code 1: a bar of ours is broken.")]
pub(super) struct CompareArgs {
    /// Scenarios by name, with commas: see `raddle sim list`; `all`, or `bars` for those of the specification
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "all")]
    scenarios: Vec<String>,
    /// Limiters by name, with commas; all, if not said
    #[arg(long, value_name = "NAMES", value_delimiter = ',', value_parser = limiter)]
    limiters: Vec<Scheme>,
    /// Runs of each peer, if fewer than of ours
    #[arg(long, value_name = "N")]
    peer_seeds: Option<u64>,
    #[command(flatten)]
    seeds: SeedArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// The runs of a scenario, by limiter.
struct Row {
    scenario: &'static str,
    runs: Vec<(Scheme, Vec<Measures>)>,
    verdicts: Vec<Verdict>,
}

pub(super) fn run(args: &CompareArgs) -> Done {
    let names = scenarios(&args.scenarios)?;
    let schemes = if args.limiters.is_empty() { Scheme::ALL.to_vec() } else { args.limiters.clone() };
    let rows = rows(&names, &schemes, args);
    let count = |standing| rows.iter().flat_map(|r| &r.verdicts).filter(|v| v.standing == standing).count();
    let (passed, missed, failed) = (count(Standing::Kept), count(Standing::Missed), count(Standing::Broken));
    if args.output.json() {
        print_json(&report(&rows, [passed, missed, failed]))?;
    } else {
        print(&tables(&rows, &schemes))?;
        print(&judged(&rows))?;
        if missed > 0 {
            print(&format!(
                "MISSED: {missed} bars that are known not to be reached yet; no worse than they were\n"
            ))?;
        }
        print(&format!("{passed} passed, {failed} failed\n"))?;
    }
    Ok(if failed > 0 { Exit::Failed } else { Exit::Ok })
}

fn rows(names: &[&'static str], schemes: &[Scheme], args: &CompareArgs) -> Vec<Row> {
    let most = |scheme| if scheme == Scheme::Raddle { u64::MAX } else { args.peer_seeds.unwrap_or(u64::MAX) };
    let mut jobs: Vec<Job> = Vec::new();
    for name in names {
        for scheme in schemes {
            jobs.extend(play::jobs(name, *scheme, &args.seeds, most(*scheme)));
        }
    }
    let mut measures = play::all(&jobs, args.seeds.threads).into_iter();
    let row = |name: &&'static str| {
        let of = |scheme: &Scheme| {
            let count = args.seeds.seeds.min(most(*scheme)) as usize;
            (*scheme, measures.by_ref().take(count).collect::<Vec<_>>())
        };
        let runs: Vec<(Scheme, Vec<Measures>)> = schemes.iter().map(of).collect();
        let ours = runs.iter().find(|(scheme, _)| *scheme == Scheme::Raddle);
        let judge = |(_, runs): &(Scheme, Vec<Measures>)| {
            bars::of(name).iter().filter_map(|bar| bar.judge(runs)).collect()
        };
        Row { scenario: name, verdicts: ours.map(judge).unwrap_or_default(), runs }
    };
    names.iter().map(row).collect()
}

/// A figure of a limiter's runs; absent if they have none.
fn figure(figure: Figure, runs: &[Measures]) -> Option<f64> {
    let values: Vec<f64> = runs.iter().filter_map(|m| figure.of(m)).collect();
    (!values.is_empty()).then(|| figure.together(&values))
}

/// Whether nothing is short in a scenario: there any rejection is false.
fn harmless(scenario: &str) -> bool {
    bars::of(scenario).iter().any(|b| b.figure == Figure::Rejects)
}

fn goodput(scenario: &str) -> Figure {
    let by_work = bars::of(scenario).iter().any(|b| b.figure == Figure::WorkGoodput);
    if by_work { Figure::WorkGoodput } else { Figure::Goodput }
}

fn tables(rows: &[Row], schemes: &[Scheme]) -> String {
    let paint = Paint::stdout();
    let mut out = String::new();
    let mut heads = vec!["scenario".to_owned()];
    heads.extend(schemes.iter().map(|s| format!(">{}", s.name())));
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let mut push = |title: &str, cell: &dyn Fn(&Row, &[Measures]) -> Option<String>| {
        let mut table = Table::new(&heads);
        for row in rows {
            let cells: Vec<Option<String>> = row.runs.iter().map(|(_, runs)| cell(row, runs)).collect();
            if cells.iter().any(Option::is_some) {
                let cells = cells.into_iter().map(Option::unwrap_or_default);
                table.row(std::iter::once(row.scenario.to_owned()).chain(cells));
            }
        }
        if !table.is_empty() {
            out.push_str(&format!("{}\n{}\n", paint.bold(title), table.render(|head| paint.dim(head))));
        }
    };
    let percent = |x: f64| format!("{:.1}", x * 100.0);
    push("Innocent goodput, % (where cores are taken away: by CPU time)", &|row, runs| {
        if harmless(row.scenario) { None } else { figure(goodput(row.scenario), runs).map(percent) }
    });
    push("Rejections where nothing is short, a million calls", &|row, runs| {
        harmless(row.scenario).then(|| {
            let share = runs.iter().map(|m| m.reject_share).sum::<f64>() / runs.len().max(1) as f64;
            format!("{:.0}", share * 1e6)
        })
    });
    push("Culprits' share of what was feasible for them, %", &|_, runs| {
        figure(Figure::Culprit, runs).map(percent)
    });
    push("Innocent p99 over idle, ms", &|row, runs| {
        if harmless(row.scenario) { None } else { figure(Figure::P99, runs).map(|x| format!("{x:.0}")) }
    });
    push("Seconds until the queue is short again", &|row, runs| {
        if harmless(row.scenario) { None } else { figure(Figure::Converge, runs).map(|x| format!("{x:.0}")) }
    });
    out
}

/// Each bar of ours.
fn judged(rows: &[Row]) -> String {
    let paint = Paint::stdout();
    let mut table = Table::new(&["", "scenario", "figure", ">bar", ">ours", ">worst seed"]);
    for row in rows {
        for v in &row.verdicts {
            let verdict = match v.standing {
                Standing::Kept => paint.good("PASS"),
                Standing::Missed => paint.warn("MISSED"),
                Standing::Broken => paint.bad("FAIL"),
            };
            table.row([
                verdict,
                row.scenario.into(),
                v.bar.figure.name().into(),
                v.bar.text(),
                number(v.value),
                number(v.worst),
            ]);
        }
    }
    if table.is_empty() {
        return String::new();
    }
    format!("{}\n{}\n", paint.bold("The bars of ours"), table.render(|head| paint.dim(head)))
}

fn report(rows: &[Row], [passed, missed, failed]: [usize; 3]) -> Value {
    let row = |row: &Row| {
        let about = scenario::ALL.iter().find(|s| s.0 == row.scenario).map_or("", |s| s.1);
        let of = |(scheme, runs): &(Scheme, Vec<Measures>)| {
            json!({
                "limiter": scheme.name(),
                "seeds": runs.len(),
                "goodput": figure(goodput(row.scenario), runs),
                "culprit": figure(Figure::Culprit, runs),
                "converge": figure(Figure::Converge, runs),
                "p99Ms": figure(Figure::P99, runs),
                "rejectsBefore": figure(Figure::Before, runs),
                "rejectsAfter": figure(Figure::After, runs),
                "crashes": figure(Figure::Crashes, runs),
                "runs": runs,
            })
        };
        let limiters: Vec<Value> = row.runs.iter().map(of).collect();
        json!({"scenario": row.scenario, "about": about, "bars": row.verdicts, "limiters": limiters})
    };
    let rows: Vec<Value> = rows.iter().map(row).collect();
    json!({"passed": passed, "missed": missed, "failed": failed, "scenarios": rows})
}
