//! `raddle explain rule|sidecar|service`: why somebody runs what, and who reaches whom.
use super::{FormArgs, ServerArgs, cell, items, rule_path, text};
use crate::Done;
use crate::exit::Exit;
use crate::http::escape;
use crate::output::Paint;
use crate::table::Table;
use clap::Args;
use serde_json::Value;

/// Explain which sidecars get which revision of a rule, and why
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle explain rule Route/checkout
  raddle explain rule Route/checkout --sidecar order-1")]
pub(crate) struct RuleArgs {
    /// KIND/NAME
    rule: String,
    /// Only for this sidecar
    #[arg(long, value_name = "ID")]
    sidecar: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    form: FormArgs,
}

/// Explain which rules reach a sidecar, and why
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle explain sidecar order-1")]
pub(crate) struct SidecarArgs {
    /// Instance id
    id: String,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    form: FormArgs,
}

/// Explain who serves a service, and which rules concern it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle explain service com.shop.OrderService:1.0")]
pub(crate) struct ServiceArgs {
    /// Its name
    name: String,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    form: FormArgs,
}

pub(crate) fn rule(args: &RuleArgs) -> Done {
    let path = rule_path(&args.rule)?.replacen("/v1/rules/", "/v1/explain/rules/", 1);
    let sidecar = args.sidecar.as_ref().map_or_else(String::new, |s| format!("?sidecar={}", escape(s)));
    let all = args.server.connect()?.all(&format!("{path}{sidecar}"))?;
    args.form.show(&all, |_| reasons(&all, "sidecar"))?;
    Ok(Exit::Ok)
}

pub(crate) fn sidecar(args: &SidecarArgs) -> Done {
    let all = args.server.connect()?.all(&format!("/v1/explain/sidecars/{}", escape(&args.id)))?;
    args.form.show(&all, |_| reasons(&all, "rule"))?;
    Ok(Exit::Ok)
}

pub(crate) fn service(args: &ServiceArgs) -> Done {
    let found = args.server.connect()?.get(&format!("/v1/explain/services/{}", escape(&args.name)))?;
    args.form.show(&found, |_| {
        let mut out = format!(
            "{}  app {}, {} endpoints\n",
            text(&found["service"]),
            cell(&found["app"]),
            cell(&found["endpoints"])
        );
        for warning in items(&found["warnings"]) {
            out.push_str(&format!("  {}\n", Paint::stdout().warn(text(warning))));
        }
        out.push_str(&format!("  rules that concern it: {}\n", cell(&found["rules"])));
        out.push_str(&format!("  sidecars that asked and found nobody: {}\n", cell(&found["missedBy"])));
        out
    })?;
    Ok(Exit::Ok)
}

fn reasons(all: &Value, what: &str) -> String {
    let paint = Paint::stdout();
    let mut table = Table::new(&[what, "wanted", "runs", "why"]);
    for r in items(all) {
        let runs =
            if r["wanted"] == r["running"] { cell(&r["running"]) } else { paint.warn(cell(&r["running"])) };
        let mut why = text(&r["why"]);
        if !text(&r["refusal"]).is_empty() {
            why.push_str(&paint.bad(format!("; it refuses it: {}", text(&r["refusal"]))));
        }
        table.row([cell(&r[what]), cell(&r["wanted"]), runs, why]);
    }
    if table.is_empty() { "none\n".into() } else { table.render(|head| paint.bold(head)) }
}
