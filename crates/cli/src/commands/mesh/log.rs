//! `raddle events`, `raddle audit`.
use super::{FormArgs, ServerArgs, ago, cell, items, text};
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::http::escape;
use crate::output::{Paint, print};
use crate::parse;
use crate::table::Table;
use clap::Args;
use serde_json::Value;
use std::time::Duration;

/// Show what happened in the mesh, the newest last
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle events --since 1h
  raddle events --follow
  raddle events --subject Route/checkout")]
pub(crate) struct EventsArgs {
    /// Go on showing them as they happen
    #[arg(short, long)]
    follow: bool,
    /// Only those of so long ago or later
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    since: Option<Duration>,
    /// Only those about this, such as Route/checkout
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
    /// At most so many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    form: FormArgs,
}

/// Show who changed what, the newest last
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle audit --since 24h
  raddle audit --who ci -o json")]
pub(crate) struct AuditArgs {
    /// Only those of so long ago or later
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    since: Option<Duration>,
    /// Only by the token of this name
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// At most so many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: u16,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    form: FormArgs,
}

fn query(path: &str, limit: u16, since: Option<Duration>, more: &[(&str, &Option<String>)]) -> String {
    let mut out = format!("{path}?limit={limit}");
    if let Some(since) = since {
        out.push_str(&format!("&since={}", since.as_secs()));
    }
    for (name, value) in more {
        if let Some(value) = value {
            out.push_str(&format!("&{name}={}", escape(value)));
        }
    }
    out
}

pub(crate) fn events(args: &EventsArgs) -> Done {
    let server = args.server.connect()?;
    let page = server.get(&query("/v1/events", args.limit, args.since, &[("subject", &args.subject)]))?;
    let mut past: Vec<Value> = items(&page["items"]).cloned().collect();
    past.reverse();
    let paint = Paint::stdout();
    if !args.follow {
        let all = Value::Array(past);
        args.form.show(&all, |_| items(&all).map(|e| line(e, paint)).collect())?;
        return Ok(Exit::Ok);
    }
    let show = |event: &Value| -> Result<(), Failure> {
        if args.form.human() { print(&line(event, paint)) } else { print(&format!("{event}\n")) }
    };
    past.iter().try_for_each(show)?;
    let mut failed = None;
    server.follow("/v1/watch?kinds=events", |name, data| {
        let event = &data["event"];
        let wanted = args.subject.as_ref().is_none_or(|s| event["subject"] == s.as_str());
        if name == "events" && wanted && !event.is_null() {
            failed = show(event).err();
        }
        failed.is_none()
    })?;
    failed.map_or(Ok(Exit::Ok), Err)
}

fn line(e: &Value, paint: Paint) -> String {
    let severity = match text(&e["severity"]).as_str() {
        "error" => paint.bad("error  "),
        "warning" => paint.warn("warning"),
        _ => "info   ".to_owned(),
    };
    format!(
        "{:>4}  {severity}  {}  {}: {}\n",
        ago(&e["at"]),
        cell(&e["subject"]),
        cell(&e["what"]),
        text(&e["message"])
    )
}

pub(crate) fn audit(args: &AuditArgs) -> Done {
    let server = args.server.connect()?;
    let page = server.get(&query("/v1/audit", args.limit, args.since, &[("who", &args.who)]))?;
    let mut all = page["items"].clone();
    if let Some(list) = all.as_array_mut() {
        list.reverse();
    }
    args.form.show(&all, |_| {
        let paint = Paint::stdout();
        let mut table = Table::new(&["age", "who", "from", "action", "result", "subject", "message"]);
        for a in items(&all) {
            let result = match text(&a["result"]).as_str() {
                "done" => paint.good("done"),
                other => paint.bad(format!("{other} {}", a["status"])),
            };
            let (action, message) =
                (cell(&a["action"]), text(&a["message"]).lines().next().unwrap_or("").to_owned());
            table.row([
                ago(&a["at"]),
                cell(&a["who"]),
                cell(&a["from"]),
                action,
                result,
                cell(&a["subject"]),
                message,
            ]);
        }
        table.render(|head| paint.bold(head))
    })?;
    Ok(Exit::Ok)
}
