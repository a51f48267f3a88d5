//! `raddle get`: rules, services, apps, instances, sidecars.
use super::{Form, FormArgs, Server, ServerArgs, ago, cell, items, kind_named, rule_path, text, yaml};
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::http::escape;
use crate::output::{Paint, print};
use crate::table::Table;
use clap::Args;
use serde_json::{Value, json};

/// Show rules, services, apps, instances, sidecars
///
/// A rule is shown as the YAML that `raddle apply` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle get rules
  raddle get route                     # rules of one kind
  raddle get Route/checkout            # one rule, as YAML
  raddle get services -o wide
  raddle get service/com.shop.OrderService:1.0
  raddle get instances --app order
  raddle get sidecars -o json | jq '.[].refused'")]
pub(crate) struct GetArgs {
    /// rules, a kind, KIND/NAME, services, apps, instances, sidecars, service/NAME, app/NAME, sidecar/ID
    #[arg(value_name = "WHAT")]
    what: String,
    /// Only what is of this app
    #[arg(long, value_name = "APP")]
    app: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    form: FormArgs,
}

pub(crate) fn run(args: &GetArgs) -> Done {
    let server = args.server.connect()?;
    match args.what.split_once('/') {
        Some((kind, name)) => one(&server, args, kind, name)?,
        None => list(&server, args)?,
    }
    Ok(Exit::Ok)
}

fn one(server: &Server, args: &GetArgs, kind: &str, name: &str) -> Result<(), Failure> {
    let place = match kind.to_ascii_lowercase().as_str() {
        "service" | "services" => "services",
        "app" | "apps" => "apps",
        "sidecar" | "sidecars" => "sidecars",
        _ => {
            let rule = server.get(&rule_path(&args.what)?)?;
            // What people get is what they may change and apply.
            return match args.form.form {
                Form::Human | Form::Wide => {
                    let document = if rule["document"].is_null() {
                        &rule["candidateDocument"]
                    } else {
                        &rule["document"]
                    };
                    print(&yaml::render(document))
                }
                Form::Json | Form::Yaml => args.form.show(&rule, |_| String::new()),
            };
        }
    };
    let value = server.get(&format!("/v1/{place}/{}", escape(name)))?;
    args.form.show(&value, |wide| match place {
        "services" => service(&value, wide),
        _ => yaml::render(&value),
    })
}

fn list(server: &Server, args: &GetArgs) -> Result<(), Failure> {
    let word = args.what.to_ascii_lowercase();
    let app = args.app.as_ref().map_or_else(String::new, |app| format!("?app={}", escape(app)));
    let (path, table): (String, fn(&Value, bool) -> String) = match word.as_str() {
        "rules" | "rule" => ("/v1/rules".into(), rules),
        "services" | "service" => (format!("/v1/services{app}"), services),
        "apps" | "app" => ("/v1/apps".into(), apps),
        "instances" | "instance" => (format!("/v1/instances{app}"), instances),
        "sidecars" | "sidecar" => (format!("/v1/sidecars{app}"), sidecars),
        _ => match kind_named(&word) {
            Some(kind) => (format!("/v1/rules?kind={kind}"), rules),
            None => {
                let kinds = raddle_control::api::kinds().join(", ");
                return Err(Failure::usage(format!(
                    "there is no {:?}; give rules, services, apps, instances, sidecars, or a kind: {kinds}",
                    args.what
                )));
            }
        },
    };
    let all = server.all(&path)?;
    args.form.show(&all, |wide| {
        let text = table(&all, wide);
        if all.as_array().is_some_and(Vec::is_empty) { "none\n".into() } else { text }
    })
}

fn draw(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let paint = Paint::stdout();
    let mut table = Table::new(columns);
    rows.for_each(|row| table.row(row));
    table.render(|head| paint.bold(head))
}

fn rules(all: &Value, wide: bool) -> String {
    let columns: &[&str] = if wide {
        &["rule", "revision", ">number", "rollout", "age", "author", "comment"]
    } else {
        &["rule", "revision", ">number", "rollout", "age"]
    };
    draw(
        columns,
        items(all).map(|r| {
            let rollout = match &r["rollout"] {
                Value::Null => "-".to_owned(),
                rollout => format!("{} {} %", cell(&rollout["state"]), cell(&rollout["percent"])),
            };
            let at = ago(&r["at"]);
            let mut row = vec![cell(&r["id"]), cell(&r["revision"]), cell(&r["number"]), rollout, at];
            row.extend(wide.then(|| cell(&r["author"])));
            row.extend(wide.then(|| cell(&r["comment"])));
            row
        }),
    )
}

fn services(all: &Value, wide: bool) -> String {
    let columns: &[&str] = if wide {
        &["service", "app", "protocol", ">endpoints", ">tls", "protected", "hosts"]
    } else {
        &["service", "app", "protocol", ">endpoints"]
    };
    draw(
        columns,
        items(all).map(|s| {
            let mut row =
                vec![cell(&s["name"]), cell(&s["app"]), cell(&s["protocol"]), cell(&s["endpoints"])];
            if wide {
                row.extend([cell(&s["tls"]), cell(&s["protected"]), cell(&s["hosts"])]);
            }
            row
        }),
    )
}

fn service(s: &Value, wide: bool) -> String {
    let mut out =
        format!("{}  app {}, protocol {}\n", text(&s["name"]), cell(&s["app"]), cell(&s["protocol"]));
    if s["protected"] == true {
        let what = "too many instances vanished at once: this is the last good list (self-protection)";
        out.push_str(&format!("{}\n", Paint::stdout().warn(what)));
    }
    let columns: &[&str] = if wide {
        &["endpoint", "instance", "unit", "group", "version", ">weight", "tls", "kept"]
    } else {
        &["endpoint", "instance", "unit", "group"]
    };
    let rows = items(&s["endpoints"]).map(|e| {
        let address = text(&e["address"]);
        let address = if address.contains(':') { format!("[{address}]") } else { address };
        let mut row = vec![
            format!("{address}:{}", e["port"]),
            cell(&e["instance"]),
            cell(&e["unit"]),
            cell(&e["group"]),
        ];
        if wide {
            row.extend([cell(&e["version"]), cell(&e["weight"]), cell(&e["tls"]), cell(&e["kept"])]);
        }
        row
    });
    out.push_str(&draw(columns, rows));
    out
}

fn apps(all: &Value, _wide: bool) -> String {
    draw(
        &["app", ">instances", ">tls"],
        items(all).map(|a| vec![cell(&a["name"]), cell(&a["instances"]), cell(&a["tls"])]),
    )
}

fn instances(all: &Value, wide: bool) -> String {
    let columns: &[&str] = if wide {
        &["instance", "app", "unit", "group", "address", "version", ">weight", "tls", "labels"]
    } else {
        &["instance", "app", "unit", "group", "address"]
    };
    draw(
        columns,
        items(all).map(|i| {
            let mut row = vec![
                cell(&i["id"]),
                cell(&i["app"]),
                cell(&i["unit"]),
                cell(&i["group"]),
                cell(&i["address"]),
            ];
            if wide {
                let labels = i["labels"].as_object().into_iter().flatten();
                let labels: Vec<_> = labels.map(|(k, v)| format!("{k}={}", text(v))).collect();
                row.extend([cell(&i["version"]), cell(&i["weight"]), cell(&i["tls"]), cell(&json!(labels))]);
            }
            row
        }),
    )
}

/// Sidecars as a table.
pub(super) fn sidecars(all: &Value, wide: bool) -> String {
    let columns: &[&str] = if wide {
        &[
            "sidecar", "app", "unit", "software", "replica", "since", "drift", ">rules", ">refused",
            ">missing", "identity",
        ]
    } else {
        &["sidecar", "app", "unit", "software", "since", "drift", ">rules", ">refused"]
    };
    let count = |v: &Value| v.as_array().map_or(0, Vec::len).to_string();
    draw(
        columns,
        items(all).map(|s| {
            let paint = Paint::stdout();
            let drift = if s["drift"] == true { paint.warn("yes") } else { "no".into() };
            let refused = match count(&s["refused"]) {
                n if n == "0" => n,
                n => paint.bad(n),
            };
            let mut row = vec![cell(&s["id"]), cell(&s["app"]), cell(&s["unit"]), cell(&s["software"])];
            row.extend(wide.then(|| cell(&s["replica"])));
            row.extend([ago(&s["since"]), drift, count(&s["running"]), refused]);
            if wide {
                row.extend([count(&s["missing"]), cell(&s["identity"])]);
            }
            row
        }),
    )
}
