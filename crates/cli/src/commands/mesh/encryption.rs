//! `raddle status encryption`: how links are encrypted, and who still comes in plaintext.
use super::{FormArgs, Server, ServerArgs, ago, cell, items, text};
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::http::escape;
use crate::output::{Paint, print};
use crate::parse;
use crate::table::Table;
use clap::Args;
use serde_json::Value;
use std::io::{self, IsTerminal};
use std::time::Duration;

/// Addresses shown of a caller.
const ADDRESSES: usize = 3;

/// Show how links are encrypted: by app, or of one app by caller and instance
///
/// Shares are of the connections there are now, and of the requests of the last minute. 100 % means all of them.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle status encryption
  raddle status encryption pay --watch
  raddle status encryption pay --timeline
  raddle status encryption pay -o json | jq '.edges[] | select(.plaintext) | .caller'")]
pub(crate) struct EncryptionArgs {
    /// Only this app: its callers and instances, one by one
    #[arg(value_name = "APP")]
    app: Option<String>,
    /// What happened while the app's links were switched
    #[arg(long, requires = "app")]
    timeline: bool,
    /// Show it again and again until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// Time between two looks
    #[arg(long, value_parser = parse::duration, value_name = "DURATION", default_value = "1s")]
    interval: Duration,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    form: FormArgs,
}

pub(crate) fn run(args: &EncryptionArgs) -> Done {
    let server = args.server.connect()?;
    let clear = args.watch && args.form.human() && io::stdout().is_terminal();
    let paint = Paint::stdout();
    loop {
        let (look, render) = look(&server, args)?;
        if clear {
            print(&format!("\x1b[H\x1b[2J{}", render(&look, paint)))?;
        } else {
            args.form.show(&look, |_| render(&look, paint))?;
        }
        if !args.watch {
            return Ok(Exit::Ok);
        }
        std::thread::sleep(args.interval.max(Duration::from_millis(200)));
    }
}

type Render = fn(&Value, Paint) -> String;

fn look(server: &Server, args: &EncryptionArgs) -> Result<(Value, Render), Failure> {
    Ok(match &args.app {
        None => (server.all("/v1/encryption")?, apps),
        Some(app) if args.timeline => {
            let mut events = server.all(&format!("/v1/encryption/{}/timeline", escape(app)))?;
            if let Some(events) = events.as_array_mut() {
                events.reverse();
            }
            (events, timeline)
        }
        Some(app) => (server.get(&format!("/v1/encryption/{}", escape(app)))?, one),
    })
}

/// All apps, one a line.
fn apps(all: &Value, paint: Paint) -> String {
    let columns =
        ["app", "asked", "effective", ">tls", ">connections", ">requests", "plaintext callers", "rules"];
    let mut table = Table::new(&columns);
    for a in items(all) {
        let plaintext = match a["plaintextCallers"].as_array().map_or(0, Vec::len) {
            0 => "-".to_owned(),
            _ => paint.warn(cell(&a["plaintextCallers"])),
        };
        let rules: Vec<String> = items(&a["rules"]).map(rule).collect();
        table.row([
            text(&a["app"]),
            modes(&a["asked"]),
            modes(&a["effective"]),
            format!("{}/{}", cell(&a["tls"]), cell(&a["instances"])),
            share(&a["connections"], paint),
            share(&a["requests"], paint),
            plaintext,
            if rules.is_empty() { "-".into() } else { rules.join(", ") },
        ]);
    }
    if table.is_empty() { "no app is known\n".into() } else { table.render(|head| paint.bold(head)) }
}

/// `strict`; `permissive 3, strict 1`.
pub(super) fn modes(counts: &Value) -> String {
    let some = ["disable", "permissive", "strict"].into_iter().filter_map(|mode| {
        let n = counts[mode].as_u64().filter(|n| *n > 0)?;
        Some((mode, n))
    });
    match some.collect::<Vec<_>>().as_slice() {
        [] => "-".into(),
        [(mode, _)] => (*mode).to_owned(),
        more => more.iter().map(|(mode, n)| format!("{mode} {n}")).collect::<Vec<_>>().join(", "),
    }
}

/// `100 %`; `-` where there is nothing to encrypt.
pub(super) fn share(share: &Value, paint: Paint) -> String {
    match share["percent"].as_f64() {
        None => "-".into(),
        Some(percent) if percent >= 100.0 => paint.good("100 %"),
        Some(percent) => format!("{percent:.1} %"),
    }
}

/// `pay: permissive to 25 %`.
fn rule(rule: &Value) -> String {
    let name = text(&rule["rule"]).replacen("LinkEncryption/", "", 1);
    match (rule["candidate"].as_str(), rule["percent"].as_f64()) {
        (Some(""), Some(percent)) => format!("{name}: removed from {percent} %"),
        (Some(_), Some(percent)) => format!("{name}: {} to {percent} %", cell(&rule["candidateMode"])),
        _ => name,
    }
}

/// One app: the sum, its callers, its instances.
fn one(look: &Value, paint: Paint) -> String {
    let s = &look["summary"];
    let mut out = format!(
        "{}  asked: {}, carried out: {}\n  {} of {} instances ask their callers for TLS, {} of {} sidecars hold a \
         certificate\n  encrypted: {} of {} connections, {} of {} requests of the last minute\n",
        paint.bold(text(&s["app"])),
        modes(&s["asked"]),
        modes(&s["effective"]),
        cell(&s["tls"]),
        cell(&s["instances"]),
        cell(&s["certificates"]),
        cell(&s["sidecars"]),
        share(&s["connections"], paint),
        cell(&s["connections"]["all"]),
        share(&s["requests"], paint),
        cell(&s["requests"]["all"]),
    );
    let rules: Vec<String> = items(&s["rules"]).map(rule).collect();
    if !rules.is_empty() {
        out.push_str(&format!("  rules: {}\n", rules.join(", ")));
    }
    out.push_str(&callers(look, paint));
    out.push_str(&members(look, paint));
    out
}

fn callers(look: &Value, paint: Paint) -> String {
    let columns = [
        "caller",
        ">requests",
        ">encrypted",
        ">connections",
        ">encrypted",
        "plaintext",
        "last seen so",
        "from",
    ];
    let mut table = Table::new(&columns);
    for e in items(&look["edges"]) {
        let plaintext = if e["plaintext"] == true { paint.warn("yes") } else { "no".into() };
        table.row([
            caller(e),
            cell(&e["requests"]["all"]),
            share(&e["requests"], paint),
            cell(&e["connections"]["all"]),
            share(&e["connections"], paint),
            plaintext,
            ago(&e["plaintextLast"]),
            addresses(e),
        ]);
    }
    if table.is_empty() {
        "  nobody has called it lately\n".into()
    } else {
        format!("\n{}", table.render(|head| paint.bold(head)))
    }
}

/// `risk`; `risk (by its address)`; `unknown`.
pub(super) fn caller(edge: &Value) -> String {
    let name = text(&edge["caller"]);
    match (name.is_empty(), edge["byAddress"] == true) {
        (true, _) => "unknown".into(),
        (false, true) => format!("{name} (by its address)"),
        (false, false) => name,
    }
}

/// `10.0.0.1, 10.0.0.2 and 5 more`; `-`.
pub(super) fn addresses(edge: &Value) -> String {
    let all: Vec<String> = items(&edge["addresses"]).map(|a| text(&a["address"])).collect();
    match all.len() {
        0 => "-".into(),
        n if n <= ADDRESSES => all.join(", "),
        n => format!("{} and {} more", all[..ADDRESSES].join(", "), n - ADDRESSES),
    }
}

fn members(look: &Value, paint: Paint) -> String {
    let mut table = Table::new(&["instance", "asked", "effective", "tls", "certificate", "behind because"]);
    for m in items(&look["members"]) {
        let tls = match (m["tls"] == true, m["tlsRequired"] == true) {
            (true, true) => "required",
            (true, false) => "yes",
            (false, _) => "no",
        };
        let behind = text(&m["behind"]);
        table.row([
            text(&m["instance"]),
            cell(&m["asked"]),
            cell(&m["effective"]),
            tls.to_owned(),
            left(m["certificateEnds"].as_u64().unwrap_or(0)),
            if behind.is_empty() { "-".into() } else { paint.warn(behind) },
        ]);
    }
    if table.is_empty() { String::new() } else { format!("\n{}", table.render(|head| paint.bold(head))) }
}

/// How long a certificate is valid still.
fn left(ends: u64) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    match ends.checked_sub(now.as_secs()) {
        _ if ends == 0 => "none".into(),
        None => "expired".into(),
        Some(s) if s < 3600 => format!("{}m left", s / 60),
        Some(s) if s < 2 * 86_400 => format!("{}h left", s / 3600),
        Some(s) => format!("{}d left", s / 86_400),
    }
}

/// What happened, the oldest first.
fn timeline(events: &Value, paint: Paint) -> String {
    let mut table = Table::new(&["ago", "what", "of", "message"]);
    for e in items(events) {
        let what = text(&e["what"]);
        let what = if e["severity"] == "info" { what } else { paint.warn(what) };
        table.row([ago(&e["at"]), what, text(&e["subject"]), text(&e["message"])]);
    }
    if table.is_empty() { "nothing has happened yet\n".into() } else { table.render(|head| paint.bold(head)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn apps_are_shown_one_a_line_with_who_still_comes_in_plaintext() {
        let all = json!([{
            "app": "pay", "asked": {"permissive": 3, "strict": 1}, "effective": {"permissive": 4}, "tls": 3, "instances": 4,
            "connections": {"encrypted": 5, "all": 10, "percent": 50.0}, "requests": {"percent": 99.9},
            "plaintextCallers": ["risk"],
            "rules": [{"rule": "LinkEncryption/pay", "candidate": "00", "candidateMode": "strict", "percent": 25.0}]
        }]);
        let text = apps(&all, Paint::none());
        for part in ["permissive 3, strict 1", "3/4", "50.0 %", "99.9 %", "risk", "pay: strict to 25 %"] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn one_app_is_shown_by_caller_and_by_instance() {
        let look = json!({
            "summary": {"app": "pay", "asked": {"strict": 1}, "effective": {"permissive": 1}, "tls": 1, "instances": 1,
                        "certificates": 1, "sidecars": 1, "connections": {"percent": null, "all": 0},
                        "requests": {"percent": 100.0, "all": 7}},
            "edges": [{"caller": "risk", "byAddress": true, "plaintext": true, "requests": {"all": 7, "percent": 0.0},
                       "connections": {"all": 1, "percent": 0.0},
                       "addresses": [{"address": "a"}, {"address": "b"}, {"address": "c"}, {"address": "d"}]}],
            "members": [{"instance": "pay-1", "asked": "strict", "effective": "permissive", "tls": true,
                         "tlsRequired": true, "certificateEnds": 0, "behind": "callers come in plaintext"}]
        });
        let text = one(&look, Paint::none());
        for part in [
            "asked: strict, carried out: permissive",
            "- of 0 connections, 100 % of 7 requests",
            "risk (by its address)",
            "a, b, c and 1 more",
            "required",
            "callers come in plaintext",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }
}
