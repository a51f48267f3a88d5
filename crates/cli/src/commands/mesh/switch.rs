//! `raddle explain encryption APP`: what is asked of an app's links, what is carried out, why the two differ, and what to
//! do next.
use super::encryption::{addresses, caller, modes};
use super::{FormArgs, ServerArgs, ago, cell, items, text};
use crate::Done;
use crate::exit::Exit;
use crate::http::escape;
use crate::output::Paint;
use clap::Args;
use serde_json::Value;
use std::collections::BTreeMap;

/// Callers and instances named; of more it is said how many.
const NAMED: usize = 20;

/// Explain how an app's links are encrypted, why not otherwise, and what to do next
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle explain encryption pay")]
pub(crate) struct SwitchArgs {
    /// The app that is called
    app: String,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    form: FormArgs,
}

pub(crate) fn run(args: &SwitchArgs) -> Done {
    let look = args.server.connect()?.get(&format!("/v1/encryption/{}", escape(&args.app)))?;
    args.form.show(&look, |_| {
        let paint = Paint::stdout();
        let mut out = paint.bold(format!("{}\n", args.app));
        for (head, lines) in story(&look) {
            out.push_str(&format!("{}\n", paint.bold(head)));
            for line in &lines {
                out.push_str(&format!("  {line}\n"));
            }
        }
        out
    })?;
    Ok(Exit::Ok)
}

/// Sentences, under their headings.
fn story(look: &Value) -> Vec<(&'static str, Vec<String>)> {
    let all = [
        ("Asked for", asked(look)),
        ("Carried out", carried_out(look)),
        ("Behind", behind(look)),
        ("In plaintext", plaintext(look)),
        ("Next", next(look)),
    ];
    all.into_iter().filter(|(_, lines)| !lines.is_empty()).collect()
}

fn asked(look: &Value) -> Vec<String> {
    let rules: Vec<&Value> = items(&look["summary"]["rules"]).collect();
    if rules.is_empty() {
        return vec!["No LinkEncryption rule reaches its sidecars: callers use plaintext.".into()];
    }
    rules.into_iter().map(rule).collect()
}

fn rule(rule: &Value) -> String {
    let id = text(&rule["rule"]);
    let stable = match rule["revision"].as_str() {
        Some(revision) => format!("{id} asks for {} (revision {revision})", cell(&rule["mode"])),
        None => format!("{id} is new"),
    };
    let percent = cell(&rule["percent"]);
    match rule["candidate"].as_str() {
        None => format!("{stable}, of every sidecar in its scope."),
        Some("") => format!("{stable}; it is being removed, from {percent} % of the sidecars so far."),
        Some(revision) => {
            let mode = cell(&rule["candidateMode"]);
            format!(
                "{stable}; {mode} (revision {revision}) is being rolled out, to {percent} % of the sidecars so far."
            )
        }
    }
}

fn carried_out(look: &Value) -> Vec<String> {
    let s = &look["summary"];
    let share = |share: &Value, what: &str| match share["percent"].as_f64() {
        None => format!("None so far of {what}."),
        Some(percent) => {
            format!(
                "{} of {} {what} are encrypted: {percent:.1} %.",
                cell(&share["encrypted"]),
                cell(&share["all"])
            )
        }
    };
    vec![
        format!(
            "Its {} sidecars are asked for {}, and carry out {}.",
            cell(&s["sidecars"]),
            modes(&s["asked"]),
            modes(&s["effective"])
        ),
        format!("{} of its {} instances ask their callers for TLS.", cell(&s["tls"]), cell(&s["instances"])),
        share(&s["connections"], "connections"),
        share(&s["requests"], "requests of the last minute"),
    ]
}

/// Why instances do not do what they are asked, with who it is true of.
fn behind(look: &Value) -> Vec<String> {
    let mut why: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for m in items(&look["members"]).filter(|m| !text(&m["behind"]).is_empty()) {
        why.entry(text(&m["behind"])).or_default().push(text(&m["instance"]));
    }
    let line = |(why, ids): (String, Vec<String>)| {
        let more = ids.len().saturating_sub(NAMED);
        let named = ids[..ids.len().min(NAMED)].join(", ");
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{named}{more}: {why}.")
    };
    why.into_iter().map(line).collect()
}

fn plaintext(look: &Value) -> Vec<String> {
    let open: Vec<&Value> = items(&look["edges"]).filter(|e| e["plaintext"] == true).collect();
    let all = look["summary"]["requests"]["all"].as_f64().unwrap_or(0.0);
    let line = |e: &&Value| {
        let of = &e["requests"];
        let plain = of["all"].as_f64().unwrap_or(0.0) - of["encrypted"].as_f64().unwrap_or(0.0);
        let share = if all > 0.0 { plain / all * 100.0 } else { 0.0 };
        let from = addresses(e);
        let from = if from == "-" { String::new() } else { format!(" from {from}") };
        format!(
            "{}{from}: {share:.1} % of the requests, last seen {} ago.",
            caller(e),
            ago(&e["plaintextLast"])
        )
    };
    let mut lines: Vec<String> = open.iter().take(NAMED).map(line).collect();
    if open.len() > NAMED {
        lines.push(format!("And {} more callers.", open.len() - NAMED));
    }
    lines
}

/// The one thing to do.
fn next(look: &Value) -> Vec<String> {
    let s = &look["summary"];
    let app = text(&s["app"]);
    let open = items(&look["edges"]).any(|e| e["plaintext"] == true);
    let rules: Vec<&Value> = items(&s["rules"]).collect();
    let rolling = rules.iter().find(|r| !r["candidate"].is_null());
    let count = |of: &str, mode: &str| s[of][mode].as_u64().unwrap_or(0);
    let bare = items(&look["members"]).any(|m| text(&m["behind"]).contains("certificate"));
    let step = if rules.is_empty() {
        format!(
            "To begin: apply a LinkEncryption with mode permissive and scope {{apps: [{app}]}}: raddle apply -f FILE"
        )
    } else if let Some(rule) = rolling {
        let id = text(&rule["rule"]);
        format!("It goes on by itself: raddle rollout status {id}. To go back: raddle rollout undo {id}")
    } else if bare {
        "Give those instances a certificate, whose lack is named above: raddle status --admin IP:PORT on their host says \
         more."
            .into()
    } else if count("asked", "strict") > 0 && count("effective", "strict") < count("asked", "strict") {
        format!(
            "Strict takes effect by itself once nobody comes in plaintext: raddle status encryption {app} --watch. To \
             refuse those callers now: raddle apply -f FILE --force"
        )
    } else if count("asked", "strict") > 0 {
        format!("Nothing: plaintext is refused. To go back: raddle rollback {}", text(&rules[0]["rule"]))
    } else if count("asked", "permissive") > 0 && open {
        format!("Wait until the callers above have switched: raddle status encryption {app} --watch")
    } else if count("asked", "permissive") > 0 {
        "Nobody comes in plaintext. To refuse it from now on, set mode: strict: raddle apply -f FILE".into()
    } else {
        format!("To begin, set mode: permissive: raddle edit {}", text(&rules[0]["rule"]))
    };
    vec![step]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn look(asked: &str, effective: &str, plaintext: bool, behind: &str) -> Value {
        json!({
            "summary": {"app": "pay", "asked": {asked: 2}, "effective": {effective: 2}, "tls": 2, "instances": 2,
                        "sidecars": 2, "requests": {"encrypted": 90, "all": 100, "percent": 90.0},
                        "connections": {"encrypted": 0, "all": 0, "percent": null},
                        "rules": [{"rule": "LinkEncryption/pay", "revision": "0011", "mode": asked}]},
            "edges": [{"caller": "risk", "plaintext": plaintext, "requests": {"encrypted": 0, "all": 10},
                       "addresses": [{"address": "10.0.0.7"}], "plaintextLast": 0}],
            "members": [{"instance": "pay-1", "behind": behind}, {"instance": "pay-2", "behind": behind}]
        })
    }

    fn told(look: &Value) -> String {
        let lines = story(look)
            .into_iter()
            .flat_map(|(head, lines)| std::iter::once(head.to_owned()).chain(lines).collect::<Vec<_>>());
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn it_says_what_is_asked_what_is_done_why_and_what_next() {
        let text = told(&look("strict", "permissive", true, "strict waits"));
        for part in [
            "LinkEncryption/pay asks for strict (revision 0011), of every sidecar in its scope.",
            "asked for strict, and carry out permissive",
            "90 of 100 requests of the last minute are encrypted: 90.0 %",
            "None so far of connections.",
            "pay-1, pay-2: strict waits.",
            "risk from 10.0.0.7: 10.0 % of the requests",
            "raddle apply -f FILE --force",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }

    #[test]
    fn the_next_step_fits_where_one_is() {
        let step = |look: &Value| next(look).remove(0);
        assert!(step(&look("permissive", "permissive", true, "")).starts_with("Wait until"));
        assert!(step(&look("permissive", "permissive", false, "")).contains("mode: strict"));
        assert!(step(&look("strict", "strict", false, "")).contains("raddle rollback LinkEncryption/pay"));
        assert!(
            step(&look("permissive", "disable", true, "it holds no certificate")).contains("certificate")
        );
        assert!(step(&look("disable", "disable", true, "")).contains("raddle edit LinkEncryption/pay"));
        let mut none = look("disable", "disable", true, "");
        none["summary"]["rules"] = json!([]);
        assert!(step(&none).starts_with("To begin: apply"));
        let mut rolling = look("permissive", "permissive", true, "");
        rolling["summary"]["rules"][0]["candidate"] = json!("00");
        assert!(step(&rolling).contains("raddle rollout undo LinkEncryption/pay"));
    }
}
