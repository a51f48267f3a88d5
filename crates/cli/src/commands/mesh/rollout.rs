//! `raddle rollout`: how far a change has come, and whether it goes on.
use super::{FormArgs, Server, ServerArgs, ago, cell, items, rule_path, text};
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::http::client::Request;
use crate::output::{Paint, print};
use crate::table::Table;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::io::{self, IsTerminal};
use std::time::Duration;

/// Time between two looks of --watch.
const BETWEEN: Duration = Duration::from_secs(1);

/// Rollouts: show, pause, resume, promote, undo
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle rollout list
  raddle rollout status Route/checkout --watch
  raddle rollout pause Route/checkout
  raddle rollout promote Route/checkout        # the next stage now; --all = everyone
  raddle rollout undo Route/checkout")]
pub(crate) struct RolloutArgs {
    #[command(subcommand)]
    command: RolloutCommand,
}

#[derive(Debug, Subcommand)]
enum RolloutCommand {
    /// Show the rollouts that run
    List(ListArgs),
    /// Show how far a rollout is, and how those with the change fare
    ///
    /// Exit codes: 0 done or still on its way, 1 it was rolled back, or (with --watch) paused by its guard.
    Status(StatusArgs),
    /// Keep a rollout at its stage
    Pause(StepArgs),
    /// Let a paused rollout go on
    Resume(StepArgs),
    /// Go on to the next stage now
    Promote(PromoteArgs),
    /// Take the change back from everyone who has it
    Undo(StepArgs),
}

#[derive(Debug, Args)]
struct ListArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    form: FormArgs,
}

#[derive(Debug, Args)]
struct StatusArgs {
    /// KIND/NAME
    rule: String,
    /// Show it until it ends
    #[arg(short, long)]
    watch: bool,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    form: FormArgs,
}

#[derive(Debug, Args)]
struct StepArgs {
    /// KIND/NAME
    rule: String,
    /// Why
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    form: FormArgs,
}

#[derive(Debug, Args)]
struct PromoteArgs {
    #[command(flatten)]
    step: StepArgs,
    /// To everyone, past all stages
    #[arg(long)]
    all: bool,
}

pub(crate) fn run(args: &RolloutArgs) -> Done {
    match &args.command {
        RolloutCommand::List(args) => list(args),
        RolloutCommand::Status(args) => status(args),
        RolloutCommand::Pause(args) => step(args, "pause", false),
        RolloutCommand::Resume(args) => step(args, "resume", false),
        RolloutCommand::Promote(args) => step(&args.step, "promote", args.all),
        RolloutCommand::Undo(args) => step(args, "undo", false),
    }
}

fn list(args: &ListArgs) -> Done {
    let all = args.server.connect()?.all("/v1/rollouts")?;
    args.form.show(&all, |_| {
        let paint = Paint::stdout();
        let mut table =
            Table::new(&["rule", "state", ">stage", ">percent", ">running", "since", "waits for"]);
        for r in items(&all) {
            let stages = r["stages"].as_array().map_or(0, Vec::len);
            let spread = format!("{}/{}", cell(&r["spread"]["running"]), cell(&r["spread"]["wanted"]));
            let stage = format!("{}/{stages}", r["stage"].as_u64().unwrap_or(0) + 1);
            let state = cell(&r["state"]);
            table.row([
                cell(&r["rule"]),
                state,
                stage,
                cell(&r["percent"]),
                spread,
                ago(&r["started"]),
                cell(&r["waits"]),
            ]);
        }
        if table.is_empty() { "none\n".into() } else { table.render(|head| paint.bold(head)) }
    })?;
    Ok(Exit::Ok)
}

fn status(args: &StatusArgs) -> Done {
    let server = args.server.connect()?;
    let path = format!("{}/rollout", rule_path(&args.rule)?);
    let clear = args.watch && args.form.human() && io::stdout().is_terminal();
    let mut before = String::new();
    loop {
        let rollout = look(&server, &path)?;
        let shown = render(&rollout, Paint::stdout());
        let state = text(&rollout["state"]);
        let over = state != "running" && state != "paused";
        // By its guard, nobody will resume it unasked; a person who paused it knows.
        let stuck = state == "paused" && rollout["by"] == "guard";
        if !args.watch || !args.form.human() {
            args.form.show(&rollout, |_| shown)?;
        } else if clear {
            print(&format!("\x1b[H\x1b[2J{shown}"))?;
        } else if shown != before {
            print(&shown)?;
            before = shown;
        }
        if !args.watch || over || stuck {
            let bad = state == "rolledBack" || (args.watch && stuck);
            return Ok(if bad { Exit::Failed } else { Exit::Ok });
        }
        std::thread::sleep(BETWEEN);
    }
}

fn look(server: &Server, path: &str) -> Result<Value, Failure> {
    server.json(&Request::new("GET", path))
}

fn step(args: &StepArgs, what: &str, all: bool) -> Done {
    let server = args.server.connect()?;
    let mut body = json!({});
    if let Some(comment) = &args.comment {
        body["comment"] = json!(comment);
    }
    if all {
        body["all"] = json!(true);
    }
    let rollout = server.post(&format!("{}/rollout/{what}", rule_path(&args.rule)?), &body)?;
    args.form.show(&rollout, |_| render(&rollout, Paint::stdout()))?;
    Ok(Exit::Ok)
}

/// A rollout for people.
fn render(r: &Value, paint: Paint) -> String {
    let state = match text(&r["state"]).as_str() {
        "running" => paint.good("running"),
        "done" => paint.good("done"),
        "paused" => paint.warn("paused"),
        "rolledBack" => paint.bad("rolled back"),
        other => other.to_owned(),
    };
    let mut out = format!(
        "{}  {state}, to revision {} ({}) from {}, begun {} ago by {}\n",
        paint.bold(text(&r["rule"])),
        cell(&r["number"]),
        cell(&r["to"]),
        cell(&r["from"]),
        ago(&r["started"]),
        cell(&r["author"])
    );
    if !text(&r["why"]).is_empty() {
        out.push_str(&format!("  {} (by {})\n", paint.warn(text(&r["why"])), cell(&r["by"])));
    }
    let stage = r["stage"].as_u64().unwrap_or(0);
    for (i, s) in items(&r["stages"]).enumerate() {
        let mark = match (i as u64).cmp(&stage) {
            std::cmp::Ordering::Less => "✓",
            std::cmp::Ordering::Equal => "▸",
            std::cmp::Ordering::Greater => " ",
        };
        let hold = Duration::from_millis(s["holdMs"].as_u64().unwrap_or(0));
        out.push_str(&format!("  {mark} {} %, at least {hold:?}\n", cell(&s["percent"])));
    }
    let spread = &r["spread"];
    let refused = match spread["refused"].as_u64() {
        Some(n) if n > 0 => paint.bad(format!(", {n} refuse it")),
        _ => String::new(),
    };
    out.push_str(&format!(
        "  {} of {} sidecars run it{refused}\n",
        cell(&spread["running"]),
        cell(&spread["wanted"])
    ));
    let mut table = Table::new(&["", ">requests", ">errors", ">p99"]);
    for (name, fares) in [("with the change", &r["candidate"]), ("without", &r["rest"])] {
        let p99 = match fares["p99Us"].as_f64() {
            Some(us) if us > 0.0 => format!("{:.2} ms", us / 1000.0),
            _ => "-".into(),
        };
        let errors = format!("{:.2} %", fares["errorRate"].as_f64().unwrap_or(0.0) * 100.0);
        table.row([name.to_owned(), cell(&fares["requests"]), errors, p99]);
    }
    out.push_str(&table.render(|head| paint.dim(head)));
    if !text(&r["waits"]).is_empty() {
        out.push_str(&format!("  waits: {}\n", text(&r["waits"])));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollout_says_its_stage_its_spread_and_how_it_fares() {
        let r = json!({"rule": "Route/a", "state": "paused", "why": "too many errors", "by": "guard", "number": 2,
            "to": "11", "from": "00", "author": "anna", "stage": 1, "waits": "somebody resumes it",
            "stages": [{"percent": 1.0, "holdMs": 5000}, {"percent": 100.0, "holdMs": 0}],
            "spread": {"wanted": 9, "running": 7, "refused": 1},
            "candidate": {"requests": 10, "errorRate": 0.5, "p99Us": 1500.0}, "rest": {"requests": 90}});
        let text = render(&r, Paint::none());
        for part in [
            "paused",
            "too many errors (by guard)",
            "✓ 1.0 %, at least 5s",
            "▸ 100.0 %",
            "7 of 9 sidecars",
            "1 refuse it",
            "50.00 %",
            "1.50 ms",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }
}
