//! `raddle history`, `raddle rollback`.
use super::{FormArgs, ServerArgs, ago, cell, items, rule_path, text};
use crate::Done;
use crate::exit::Exit;
use crate::output::{Paint, print};
use crate::table::Table;
use clap::Args;
use serde_json::{Value, json};

/// Show a rule's revisions: who changed it, when, why
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle history Route/checkout
  raddle history Route/checkout --revision 3      # what it said")]
pub(crate) struct HistoryArgs {
    /// KIND/NAME
    rule: String,
    /// Show this revision whole, as YAML
    #[arg(long, value_name = "NUMBER")]
    revision: Option<u32>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    form: FormArgs,
}

/// Go back to an earlier revision of a rule
///
/// The earlier content becomes a new revision and reaches everyone at once, unless --staged says to roll it out in the
/// stages it names. A rollout that runs is undone.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle rollback Route/checkout              # to the revision before
  raddle rollback Route/checkout --to 3")]
pub(crate) struct RollbackArgs {
    /// KIND/NAME
    rule: String,
    /// Number or hash of the revision; absent = the one before
    #[arg(long, value_name = "REVISION")]
    to: Option<String>,
    /// In the stages that the revision names, instead of at once
    #[arg(long)]
    staged: bool,
    /// Change nothing; say what would be
    #[arg(long)]
    dry_run: bool,
    /// Why; kept in the history
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    form: FormArgs,
}

pub(crate) fn history(args: &HistoryArgs) -> Done {
    let server = args.server.connect()?;
    let path = rule_path(&args.rule)?;
    if let Some(number) = args.revision {
        let revision = server.get(&format!("{path}/revisions/{number}"))?;
        if args.form.human() && !revision["document"].is_null() {
            print(&super::yaml::render(&revision["document"]))?;
        } else {
            args.form.show(&revision, |_| "removed here\n".into())?;
        }
        return Ok(Exit::Ok);
    }
    let all = server.all(&format!("{path}/history"))?;
    args.form.show(&all, |_| table(&all))?;
    Ok(Exit::Ok)
}

fn table(all: &Value) -> String {
    let paint = Paint::stdout();
    let mut table = Table::new(&[">number", "revision", "state", "age", "author", "comment"]);
    for r in items(all) {
        let revision = if r["removed"] == true { "removed".into() } else { cell(&r["hash"]) };
        let state = match text(&r["state"]).as_str() {
            "stable" => paint.good("in force"),
            "candidate" => paint.warn("rolling out"),
            _ => String::new(),
        };
        let (author, comment) = (cell(&r["author"]), cell(&r["comment"]));
        table.row([cell(&r["number"]), revision, state, ago(&r["at"]), author, comment]);
    }
    table.render(|head| paint.bold(head))
}

pub(crate) fn rollback(args: &RollbackArgs) -> Done {
    let server = args.server.connect()?;
    let path = format!("{}/rollback?dryRun={}", rule_path(&args.rule)?, args.dry_run);
    let mut body = json!({"staged": args.staged});
    if let Some(to) = &args.to {
        body["to"] = json!(to);
    }
    if let Some(comment) = &args.comment {
        body["comment"] = json!(comment);
    }
    let answer = server.post(&path, &body)?;
    let paint = Paint::stdout();
    let lines = || items(&answer["applied"]).map(|a| super::apply::line(a, args.dry_run, paint)).collect();
    args.form.show(&answer, |_| lines())?;
    Ok(Exit::Ok)
}
