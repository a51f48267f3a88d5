//! `raddle bench load --mix`: many paths at once.
use super::load::LoadArgs;
use super::{failure, progress_wanted, stop_on_signal};
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::output::{print, print_json, progress};
use crate::parse;
use crate::table::Table;
use raddle_bench::mix::{MixSecond, Surge};
use raddle_bench::{MixOptions, MixResult, mix};
use serde_json::{Value, json};

/// Connections of a mix, most: those of the usual load are too few for callers that do not wait for one another.
const CONNECTIONS: usize = 2000;

pub(super) fn run(args: &LoadArgs) -> Done {
    let show = progress_wanted(args.progress);
    let usual = MixOptions::default();
    let surges = args.surges.iter().map(|text| surge(text, &usual.paths)).collect::<Result<_, _>>();
    let opts = MixOptions {
        target: args.target,
        host: args.service.clone().unwrap_or(usual.host.clone()),
        rate: args.rate.unwrap_or(usual.rate),
        zipf: args.zipf,
        surges: surges.map_err(|why| Failure::usage(format!("--surge: {why}")))?,
        headers: args.headers.clone(),
        duration: args.duration,
        deadline: args.deadline,
        connections: args.connections.max(CONNECTIONS),
        seed: args.seed,
        stop: stop_on_signal()?,
        ..usual
    };
    let told = |second: &MixSecond| {
        if show {
            progress(&line(second));
        }
    };
    let result = mix(&opts, told).map_err(|e| failure(&e))?;
    if args.output.json() {
        print_json(&document(&opts, &result))?;
    } else {
        print(&table(&opts, &result))?;
    }
    let answered = result.totals(0, usize::MAX, |_| true).cell.good;
    Ok(if answered == 0 { Exit::Failed } else { Exit::Ok })
}

/// `PATH=FACTOR@FROM..UNTIL`.
fn surge(text: &str, paths: &[String]) -> Result<Surge, String> {
    let wrong = || format!("{text}: expected PATH=FACTOR@FROM..UNTIL, such as 0=5@20s..40s");
    let (path, rest) = text.split_once('=').ok_or_else(wrong)?;
    let (factor, times) = rest.split_once('@').ok_or_else(wrong)?;
    let (from, until) = times.split_once("..").ok_or_else(wrong)?;
    let path = path.parse().ok().or_else(|| paths.iter().position(|p| p == path)).ok_or_else(wrong)?;
    let seconds = |text| parse::duration(text).map(|d| d.as_secs_f64());
    let factor = factor.trim_start_matches('x').parse().map_err(|_| wrong())?;
    Ok(Surge { path, factor, from: seconds(from)?, until: seconds(until)? })
}

fn line(second: &MixSecond) -> String {
    let all = second.sum(|_| true);
    format!(
        "{:4} s  {:5} offered  {:5} good  {:4} refused  {:4} failed  {:4} late",
        second.second + 1,
        all.offered,
        all.good,
        all.refused,
        all.failed,
        all.late
    )
}

/// Everything, path by path and second by second.
fn document(opts: &MixOptions, result: &MixResult) -> Value {
    let paths: Vec<Value> = opts
        .paths
        .iter()
        .enumerate()
        .map(|(index, path)| {
            let series = |of: fn(&raddle_bench::mix::Cell) -> u32| -> Vec<u32> {
                result.seconds.iter().map(|s| of(&s.cells[index])).collect()
            };
            json!({
                "path": path,
                "total": result.totals(0, usize::MAX, |p| p == index),
                "offered": series(|c| c.offered),
                "good": series(|c| c.good),
                "refused": series(|c| c.refused),
                "failed": series(|c| c.failed),
                "late": series(|c| c.late),
            })
        })
        .collect();
    json!({
        "target": opts.target.to_string(),
        "rate": opts.rate,
        "zipf": opts.zipf,
        "surges": opts.surges,
        "deadline_s": opts.deadline.as_secs_f64(),
        "seconds": result.seconds.len(),
        "total": result.totals(0, usize::MAX, |_| true),
        "statuses": result.statuses,
        "connections": result.connections,
        "sent_late_us": result.sent_late_us,
        "paths": paths,
    })
}

/// The ten most popular paths, those that surge, the others together, and all.
fn table(opts: &MixOptions, result: &MixResult) -> String {
    let columns = ["", ">offered", ">good", ">refused", ">failed", ">late", ">goodput", ">p50 ms", ">p99 ms"];
    let mut table = Table::new(&columns);
    let mut row = |name: String, which: &dyn Fn(usize) -> bool| {
        let t = result.totals(0, usize::MAX, which);
        let c = t.cell;
        let counts = [c.offered, c.good, c.refused, c.failed, c.late].map(|n| n.to_string());
        let [offered, good, refused, failed, late] = counts;
        let goodput = format!("{:.1} %", c.goodput() * 100.0);
        let (p50, p99) = (format!("{:.1}", t.p50_ms), format!("{:.1}", t.p99_ms));
        table.row([name, offered, good, refused, failed, late, goodput, p50, p99]);
    };
    let shown = |index: usize| index < 10 || opts.surges.iter().any(|s| s.path == index);
    for (index, path) in opts.paths.iter().enumerate().filter(|(index, _)| shown(*index)) {
        row(path.clone(), &|p| p == index);
    }
    row("the others".into(), &|p| !shown(p));
    row("all".into(), &|_| true);
    let statuses: Vec<String> = result.statuses.iter().map(|(s, n)| format!("{n} × {s}")).collect();
    let statuses = if statuses.is_empty() { "none".to_owned() } else { statuses.join(", ") };
    format!(
        "{}\nreplies other than 2xx: {statuses}; {} connections at most; sent at most {:.1} ms late\n",
        table.render(|head| head),
        result.connections,
        result.sent_late_us as f64 / 1e3
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_surge_is_read_by_number_and_by_name() {
        let paths = MixOptions::default().paths;
        let wanted = Surge { path: 10, factor: 5.0, from: 20.0, until: 40.5 };
        assert_eq!(surge("10=5@20s..40.5s", &paths), Ok(wanted));
        assert_eq!(surge("/order/get=x5@20s..40500ms", &paths), Ok(wanted));
        for wrong in ["", "10=5", "10=5@20s", "/no/such=5@1s..2s", "1=a@1s..2s", "1=5@1..2"] {
            assert!(surge(wrong, &paths).is_err(), "{wrong}");
        }
    }
}
