//! `raddle explain authorization`: whether a request would pass, and what each rule makes of it.
use super::super::{accepted, reach, understand};
use super::render::matcher;
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::http::escape;
use crate::output::{OutputArgs, Paint, print, print_json};
use crate::{parse, sources};
use clap::Args;
use raddle_model::{LoadOptions, Member, Resources};
use raddle_policy::authz::{Asked, Rules};
use serde::Deserialize;
use serde_json::Value;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// Most rules shown to people.
const RULES_MOST: usize = 100;

/// Explain whether a request may pass, and what every Authorization rule makes of it
///
/// Asks the callee's running sidecar; or, with --config, works out the same from files. Without --caller-app and
/// --caller-id the caller has no certificate. Nothing is sent and nothing is counted.
#[derive(Debug, Args)]
pub(super) struct AuthorizationArgs {
    #[command(flatten)]
    request: RequestArgs,
    /// Admin address of the callee's sidecar
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:15000")]
    admin: SocketAddr,
    /// Explain from these files or directories; no sidecar is asked
    #[arg(short = 'f', long, value_name = "PATH", num_args = 1.., conflicts_with = "admin")]
    config: Vec<PathBuf>,
    /// With --config: app of the callee, where the files have no Sidecar and no such Service
    #[arg(long, requires = "config", value_name = "APP")]
    app: Option<String>,
    /// With --config: unit of the callee
    #[arg(long, requires = "config", value_name = "UNIT")]
    unit: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
}

/// A request that is only imagined.
#[derive(Debug, Args)]
struct RequestArgs {
    /// App in the caller's certificate
    #[arg(long, value_name = "APP")]
    caller_app: Option<String>,
    /// Unit in the caller's certificate
    #[arg(long, value_name = "UNIT")]
    caller_unit: Option<String>,
    /// SPIFFE id in the caller's certificate; says app and unit, too
    #[arg(long, value_name = "ID")]
    caller_id: Option<String>,
    /// Address the caller's connection comes from
    #[arg(long, value_name = "IP")]
    source: Option<IpAddr>,
    /// Service the request asks for
    #[arg(long)]
    service: Option<String>,
    /// Method the request asks for; HTTP: GET, POST, ...
    #[arg(long)]
    method: Option<String>,
    /// HTTP: path of the request
    #[arg(long, value_name = "/PATH")]
    path: Option<String>,
    /// HTTP: host of the request
    #[arg(long, value_name = "HOST[:PORT]")]
    authority: Option<String>,
    /// A header of the request; may be given more than once
    #[arg(long = "header", value_parser = parse::pair, value_name = "NAME=VALUE")]
    headers: Vec<(String, String)>,
}

impl RequestArgs {
    fn pairs(&self) -> impl Iterator<Item = (String, String)> {
        let source = self.source.map(|ip| ip.to_string());
        let single = [
            ("callerApp", &self.caller_app),
            ("callerUnit", &self.caller_unit),
            ("callerId", &self.caller_id),
            ("source", &source),
            ("service", &self.service),
            ("method", &self.method),
            ("path", &self.path),
            ("authority", &self.authority),
        ];
        let single = single.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
        let headers = self.headers.iter().map(|(name, value)| (format!("header.{name}"), value.clone()));
        single.chain(headers).collect::<Vec<_>>().into_iter()
    }
}

pub(super) fn run(args: &AuthorizationArgs) -> Done {
    let explained = match args.config.as_slice() {
        [] => live(args)?,
        paths => offline(args, paths)?,
    };
    if args.output.json() {
        print_json(&explained)?;
    } else {
        let known: Explained = serde_json::from_value(explained)
            .map_err(|e| Failure::new(format!("this raddle does not understand the answer: {e}")))?;
        print(&human(&known, Paint::stdout()))?;
    }
    Ok(Exit::Ok)
}

fn live(args: &AuthorizationArgs) -> Result<Value, Failure> {
    let parts: Vec<String> =
        args.request.pairs().map(|(name, value)| format!("{}={}", escape(&name), escape(&value))).collect();
    let question = format!("/explain/authorization?{}", parts.join("&"));
    let answer = reach(args.admin, &question)?;
    understand(args.admin, &accepted(args.admin, &question, answer)?)
}

fn offline(args: &AuthorizationArgs, paths: &[PathBuf]) -> Result<Value, Failure> {
    let sources = sources::read(paths)?;
    let (resources, _warnings) =
        raddle_model::load(&sources, LoadOptions::rules_only()).map_err(|report| sources::refuse(&report))?;
    let asked = Asked::from_pairs(args.request.pairs()).map_err(Failure::new)?;
    let explained = rules(args, &resources)?.explain(&asked);
    serde_json::to_value(explained).map_err(|e| Failure::new(e.to_string()))
}

/// The rules that reach the callee's sidecar.
fn rules(args: &AuthorizationArgs, resources: &Resources) -> Result<Rules, Failure> {
    let named = args.request.service.as_deref();
    let service = resources.services.iter().find(|s| Some(s.metadata.name.as_str()) == named);
    let app = match (&args.app, &resources.sidecar, service) {
        (Some(app), ..) => app.clone(),
        (None, Some(sidecar), _) if args.unit.is_none() => {
            return Ok(Rules::reaching(&resources.authorization, sidecar));
        }
        (None, Some(sidecar), _) => sidecar.app.clone(),
        (None, None, Some(service)) => service.app.clone(),
        (None, None, None) => {
            let problem =
                "the files name neither a Sidecar nor this Service: say whose sidecar judges, by --app";
            return Err(Failure::new(problem));
        }
    };
    Ok(Rules::reaching(&resources.authorization, &Callee { app, unit: args.unit.clone() }))
}

/// An instance of which only app and unit are known.
struct Callee {
    app: String,
    unit: Option<String>,
}

impl Member for Callee {
    fn id(&self) -> &'static str {
        ""
    }

    fn app(&self) -> &str {
        &self.app
    }

    fn unit(&self) -> Option<&str> {
        self.unit.as_deref()
    }

    fn group(&self) -> &'static str {
        "default"
    }

    fn version(&self) -> Option<&str> {
        None
    }

    fn label(&self, _: &str) -> Option<&str> {
        None
    }

    fn address(&self) -> Option<IpAddr> {
        None
    }
}

/// What a sidecar (or `raddle_policy`) answers; fields this version does not know are passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Explained {
    allowed: bool,
    by: Option<String>,
    why: String,
    observed: Option<String>,
    rules: Vec<Rule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    rule: String,
    action: String,
    mode: String,
    takes: bool,
    clauses: Vec<Clause>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Clause {
    clause: String,
    takes: bool,
    conditions: Vec<Condition>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Condition {
    subject: String,
    matcher: Value,
    found: Vec<String>,
    hidden: Option<String>,
    holds: bool,
}

/// The verdict, then every rule: those that take the request first.
fn human(e: &Explained, paint: Paint) -> String {
    let verdict = if e.allowed { paint.good("passes") } else { paint.bad("refused (RBAC)") };
    let by = e.by.as_ref().map_or(String::new(), |by| format!(" by {by}"));
    let mut out = format!("{verdict}{by}: {}\n", e.why);
    if let Some(observed) = &e.observed {
        out.push_str(&format!("{} by {observed}\n", paint.warn("observed: it would be refused")));
    }
    out.push_str(&format!("\n{}\n", paint.bold("Rules that reach the sidecar")));
    if e.rules.is_empty() {
        out.push_str("  none\n");
    }
    let (taking, others): (Vec<&Rule>, Vec<&Rule>) = e.rules.iter().partition(|r| r.takes);
    for rule in taking.iter().chain(&others).take(RULES_MOST) {
        rule_lines(rule, paint, &mut out);
    }
    if let more @ 1.. = e.rules.len().saturating_sub(RULES_MOST) {
        out.push_str(&format!("  and {more} more that do not take it; -o json has all\n"));
    }
    out
}

fn rule_lines(rule: &Rule, paint: Paint, out: &mut String) {
    let mark = match (rule.takes, rule.action.as_str()) {
        (true, "deny") => paint.bad("✗"),
        (true, _) => paint.good("✓"),
        (false, _) => paint.dim("·"),
    };
    let takes = if rule.takes { "takes it" } else { "does not take it" };
    let mode = if rule.mode == "observe" { ", observed only" } else { "" };
    out.push_str(&format!("  {mark} {} {}{mode}: {takes}\n", rule.action, rule.rule));
    for clause in &rule.clauses {
        let mark = if clause.takes { paint.good("✓") } else { paint.dim("✗") };
        let every = if clause.conditions.is_empty() { ": every request" } else { "" };
        out.push_str(&format!("      {mark} clause {}{every}\n", clause.clause));
        for c in &clause.conditions {
            let mark = if c.holds { paint.good("✓") } else { paint.bad("✗") };
            let found = match (&c.hidden, c.found.as_slice()) {
                (Some(hidden), _) => hidden.clone(),
                (None, []) => "the request has none".into(),
                (None, all) => {
                    let all: Vec<String> = all.iter().map(|f| format!("{f:?}")).collect();
                    format!("the request has {}", all.join(" and "))
                }
            };
            out.push_str(&format!("          {mark} {} {}; {found}\n", c.subject, matcher(&c.matcher)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_explanation_says_the_verdict_and_what_each_condition_found() {
        let explained = json!({
            "allowed": false,
            "by": "Authorization (no allow rule takes it: cart)",
            "why": "there are rules that allow, and none takes it",
            "rules": [
                {"rule": "cart", "action": "allow", "mode": "enforce", "takes": false, "clauses": [{
                    "clause": "0", "takes": false, "conditions": [
                        {"subject": "callerApp", "matcher": {"equals": "cart"}, "found": [], "holds": false,
                         "hidden": "the caller has no certificate"},
                        {"subject": "service", "matcher": {"prefix": "a."}, "found": ["a.B:1.0", "a.B"], "holds": true},
                    ],
                }]},
                {"rule": "watch", "action": "deny", "mode": "observe", "takes": true, "clauses": [
                    {"clause": "all", "takes": true, "conditions": []},
                ]},
            ],
        });
        let explained: Explained = serde_json::from_value(explained).expect("it is one");
        assert_eq!(
            human(&explained, Paint::none()),
            "refused (RBAC) by Authorization (no allow rule takes it: cart): there are rules that allow, and none takes it\n\
             \n\
             Rules that reach the sidecar\n  \
               ✗ deny watch, observed only: takes it\n      \
                   ✓ clause all: every request\n  \
               · allow cart: does not take it\n      \
                   ✗ clause 0\n          \
                       ✗ callerApp equals \"cart\"; the caller has no certificate\n          \
                       ✓ service prefix \"a.\"; the request has \"a.B:1.0\" and \"a.B\"\n"
        );
    }
}
