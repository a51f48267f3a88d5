//! `raddle ca`: the mesh's certificate authority.
use super::issue::{self, IssueArgs};
use super::{FormArgs, ServerArgs, ago, cell, items, text};
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::http::client::Request;
use crate::output::{Paint, print};
use crate::parse;
use crate::table::Table;
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::time::Duration;

/// The certificate authority: status, roots, certificates, rotation, denials
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle ca status
  raddle ca roots > mesh-ca.pem               # for --ca-file
  raddle ca rotate --hold 1h
  raddle ca deny spiffe://mesh.local/app/order --reason stolen
  raddle ca signed")]
pub(crate) struct CaArgs {
    #[command(subcommand)]
    command: CaCommand,
}

#[derive(Debug, Subcommand)]
enum CaCommand {
    /// Show who signs, whose roots are trusted, how far a rotation is
    Status(PlainArgs),
    /// Print the roots in force, PEM
    Roots(RootsArgs),
    Issue(IssueArgs),
    /// Replace the authority by a new one, with overlap
    Rotate(RotateArgs),
    /// Deny an identity or a certificate
    Deny(DenyArgs),
    /// Take a denial back
    Undeny(UndenyArgs),
    /// Show who is denied
    Denied(PlainArgs),
    /// Show what was signed
    Signed(PlainArgs),
}

#[derive(Debug, Args)]
struct PlainArgs {
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    form: FormArgs,
}

#[derive(Debug, Args)]
struct RootsArgs {
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Args)]
struct RotateArgs {
    /// How long both are trusted before the new one signs [default: the life of a certificate]
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    hold: Option<Duration>,
    /// Go on with the rotation that runs, before its time
    #[arg(long, conflicts_with_all = ["hold", "revert"])]
    step: bool,
    /// Take the rotation that runs back
    #[arg(long, conflicts_with = "hold")]
    revert: bool,
    #[command(flatten)]
    plain: PlainArgs,
}

#[derive(Debug, Args)]
struct DenyArgs {
    /// SPIFFE id, or serial number of a certificate
    target: String,
    /// Why
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    plain: PlainArgs,
}

#[derive(Debug, Args)]
struct UndenyArgs {
    /// SPIFFE id, or serial number of a certificate
    target: String,
    #[command(flatten)]
    plain: PlainArgs,
}

pub(crate) fn run(args: &CaArgs) -> Done {
    match &args.command {
        CaCommand::Status(plain) => {
            let state = plain.server.connect()?.get("/v1/ca")?;
            plain.form.show(&state, |_| status(&state))?;
        }
        CaCommand::Roots(args) => {
            let server = args.server.connect()?;
            let answer = server.raw(&Request::new("GET", "/v1/ca/roots"))?;
            if answer.status != 200 {
                return Err(server.refused(&answer));
            }
            print(&answer.body)?;
        }
        CaCommand::Issue(args) => return issue::run(args),
        CaCommand::Rotate(args) => rotate(args)?,
        CaCommand::Deny(args) => {
            let body = json!({"target": args.target, "reason": args.reason});
            let done = args.plain.server.connect()?.post("/v1/ca/denied", &body)?;
            args.plain.form.show(&done, |_| format!("{} is denied\n", text(&done["target"])))?;
        }
        CaCommand::Undeny(args) => {
            let done = args.plain.server.connect()?.post("/v1/ca/undeny", &json!({"target": args.target}))?;
            args.plain.form.show(&done, |_| format!("{} is denied no more\n", text(&done["target"])))?;
        }
        CaCommand::Denied(plain) => {
            let columns = ["target", "age", "by", "reason"];
            list(plain, "/v1/ca/denied", &columns, |d| {
                vec![cell(&d["target"]), ago(&d["at"]), cell(&d["by"]), cell(&d["reason"])]
            })?;
        }
        CaCommand::Signed(plain) => {
            let columns = ["serial", "identity", "instance", "age", "proof", "from"];
            list(plain, "/v1/ca/signed", &columns, |s| {
                let age = ago(&s["at"]);
                vec![
                    cell(&s["serial"]),
                    cell(&s["identity"]),
                    cell(&s["instance"]),
                    age,
                    cell(&s["proof"]),
                    cell(&s["from"]),
                ]
            })?;
        }
    }
    Ok(Exit::Ok)
}

fn rotate(args: &RotateArgs) -> Result<(), Failure> {
    let body = match (args.step, args.revert, args.hold) {
        (true, ..) => json!({"step": true}),
        (_, true, _) => json!({"revert": true}),
        (.., Some(hold)) => json!({"holdSeconds": hold.as_secs()}),
        _ => json!({}),
    };
    let state = args.plain.server.connect()?.post("/v1/ca/rotate", &body)?;
    args.plain.form.show(&state, |_| status(&state))
}

fn list(
    plain: &PlainArgs,
    path: &str,
    columns: &[&str],
    row: impl Fn(&Value) -> Vec<String>,
) -> Result<(), Failure> {
    let all = plain.server.connect()?.all(path)?;
    plain.form.show(&all, |_| {
        let mut table = Table::new(columns);
        items(&all).for_each(|item| table.row(row(item)));
        if table.is_empty() { "none\n".into() } else { table.render(|head| Paint::stdout().bold(head)) }
    })
}

fn status(state: &Value) -> String {
    let paint = Paint::stdout();
    let mut out =
        format!("trust domain {}, {} denied\n", text(&state["trustDomain"]), cell(&state["denied"]));
    let mut table = Table::new(&["authority", "made by", "signs"]);
    for a in items(&state["authorities"]) {
        let by = if a["given"] == true { "you" } else { "the control plane" };
        let signs = if a["id"] == state["signing"] { paint.good("yes") } else { "no".into() };
        table.row([cell(&a["id"]), by.to_owned(), signs]);
    }
    out.push_str(&table.render(|head| paint.bold(head)));
    let r = &state["rotation"];
    if !r.is_null() {
        let stage = match text(&r["stage"]).as_str() {
            "announced" => "both are trusted, the old one signs",
            _ => "both are trusted, the new one signs",
        };
        let line = format!(
            "rotation from {} to {}, begun {} ago: {stage}",
            cell(&r["from"]),
            cell(&r["to"]),
            ago(&r["begun"])
        );
        out.push_str(&format!("{}\n", paint.warn(line)));
    }
    out
}
