//! `raddle status` of the whole mesh.
use super::{FormArgs, Server, ServerArgs, cell, items, text};
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::output::{Paint, print};
use crate::table::Table;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::Duration;

/// Shows the mesh, once or again and again.
pub(crate) fn run(server: &ServerArgs, form: FormArgs, watch: bool, interval: Duration) -> Done {
    let server = server.connect()?;
    let clear = watch && form.human() && io::stdout().is_terminal();
    loop {
        let look = look(&server)?;
        if clear {
            print(&format!("\x1b[H\x1b[2J{}", render(&look, Paint::stdout())))?;
        } else {
            form.show(&look, |_| render(&look, Paint::stdout()))?;
        }
        if !watch {
            return Ok(Exit::Ok);
        }
        std::thread::sleep(interval.max(Duration::from_millis(200)));
    }
}

fn look(server: &Server) -> Result<Value, Failure> {
    Ok(json!({"control": server.get("/v1/status")?, "sidecars": server.all("/v1/sidecars")?}))
}

/// Everything on one screen: the control plane, its warnings, sidecars by app, what is refused by name.
fn render(look: &Value, paint: Paint) -> String {
    let control = &look["control"];
    let mut out = format!(
        "{}  version {}, store {}, {} streams, {} rules, {} rollouts\n",
        paint.bold(format!("control plane {}", text(&control["replica"]))),
        cell(&control["version"]),
        cell(&control["store"]),
        cell(&control["streams"]),
        cell(&control["rules"]),
        cell(&control["rollouts"])
    );
    let replicas = control["replicas"].as_array().map_or(0, Vec::len);
    if replicas > 1 {
        let ids: Vec<String> = items(&control["replicas"]).map(|r| text(&r["id"])).collect();
        out.push_str(&format!("  {replicas} replicas: {}\n", ids.join(", ")));
    }
    for warning in items(&control["warnings"]) {
        out.push_str(&format!("  {}\n", paint.warn(text(warning))));
    }
    out.push_str(&apps(look, paint));
    for s in items(&look["sidecars"]) {
        for r in items(&s["refused"]) {
            let what = format!(
                "{} refuses {} {}: {}",
                text(&s["id"]),
                cell(&r["kind"]),
                text(&r["name"]),
                text(&r["reason"])
            );
            out.push_str(&format!("  {}\n", paint.bad(what)));
        }
        for d in items(&s["differs"]) {
            let what = format!(
                "{} runs {} of {}, and should run {}",
                text(&s["id"]),
                cell(&d["running"]),
                text(&d["rule"]),
                cell(&d["wanted"])
            );
            out.push_str(&format!("  {}\n", paint.warn(what)));
        }
    }
    out
}

fn apps(look: &Value, paint: Paint) -> String {
    #[derive(Default)]
    struct App {
        sidecars: u64,
        current: u64,
        drift: u64,
        refused: u64,
        missing: Vec<String>,
    }
    let mut apps: BTreeMap<String, App> = BTreeMap::new();
    for s in items(&look["sidecars"]) {
        let app = apps.entry(text(&s["app"])).or_default();
        app.sidecars += 1;
        app.current += u64::from(s["drift"] == false);
        app.drift += u64::from(s["drift"] == true);
        app.refused += items(&s["refused"]).count() as u64;
        app.missing.extend(items(&s["missing"]).map(text));
        app.missing.sort_unstable();
        app.missing.dedup();
    }
    let mut table = Table::new(&["app", ">sidecars", ">current", ">drift", ">refused", "missing"]);
    for (name, app) in apps {
        let mark = |n: u64| if n > 0 { paint.bad(n) } else { n.to_string() };
        let missing = if app.missing.is_empty() { "-".into() } else { app.missing.join(",") };
        let name = if name.is_empty() { "-".to_owned() } else { name };
        table.row([
            name,
            app.sidecars.to_string(),
            app.current.to_string(),
            mark(app.drift),
            mark(app.refused),
            missing,
        ]);
    }
    if table.is_empty() {
        "  no sidecar is connected\n".into()
    } else {
        table.render(|head| paint.bold(head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sidecars_are_shown_by_app_and_refusals_by_name() {
        let look = json!({
            "control": {"replica": "c1", "version": "0.1.0", "store": "embedded x", "streams": 2, "rules": 1, "rollouts": 0,
                        "replicas": [{"id": "c1"}], "warnings": ["the store is slow"]},
            "sidecars": [
                {"id": "order-1", "app": "order", "drift": false, "refused": [], "missing": []},
                {"id": "order-2", "app": "order", "drift": true, "missing": ["nobody"],
                 "differs": [{"rule": "Route/a", "running": null, "wanted": "0011"}],
                 "refused": [{"kind": "rule", "name": "Route/a", "reason": "weights are not 100"}]}
            ]
        });
        let text = render(&look, Paint::none());
        for part in [
            "control plane c1",
            "the store is slow",
            "order-2 refuses rule Route/a: weights are not 100",
            "order-2 runs - of Route/a, and should run 0011",
            "nobody",
        ] {
            assert!(text.contains(part), "{part} is missing in\n{text}");
        }
    }
}
