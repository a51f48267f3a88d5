//! `raddle check`: everything that is wrong with a configuration, before it runs.
use crate::Done;
use crate::exit::Exit;
use crate::output::{OutputArgs, Paint, print, print_json};
use crate::sources;
use clap::Args;
use raddle_model::{LoadOptions, Mistake, Report, Resources};
use serde_json::json;
use std::path::PathBuf;

/// Check configuration files without running anything
///
/// All mistakes are told at once, each with file, line, column, field, what is wrong and what would be
/// right. Files are checked one by one and all together, as one configuration.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 no mistakes (there may be warnings), 1 a file cannot be read, 3 mistakes.

Examples:
  raddle check shop.yaml
  raddle check shop.yaml routes.yaml      # as one configuration
  raddle check /etc/raddle/               # its .yaml, .yml and .json files, in the order of names
  raddle check shop.yaml -o json | jq '.mistakes[] | .file, .line'")]
pub(crate) struct CheckArgs {
    /// Files or directories
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// A missing Sidecar document is a mistake: the files are to run a sidecar
    #[arg(long)]
    require_sidecar: bool,
    #[command(flatten)]
    output: OutputArgs,
}

pub(crate) fn run(args: &CheckArgs) -> Done {
    let sources = sources::read(&args.paths)?;
    let mut opts = LoadOptions::rules_only();
    opts.require_sidecar = args.require_sidecar;
    let (resources, report) = match raddle_model::load(&sources, opts) {
        Ok((resources, warnings)) => (Some(resources), Report { mistakes: Vec::new(), warnings }),
        Err(report) => (None, report),
    };
    if args.output.json() {
        print_json(&machine(resources.as_ref(), &report, sources.len()))?;
    } else {
        print(&human(resources.as_ref(), &report, sources.len(), Paint::stdout()))?;
    }
    Ok(if report.mistakes.is_empty() { Exit::Ok } else { Exit::Mistakes })
}

fn human(resources: Option<&Resources>, report: &Report, files: usize, paint: Paint) -> String {
    let mut out = String::new();
    for mistake in &report.mistakes {
        out.push_str(&format!("{}\n", line(mistake, "", paint)));
    }
    for warning in &report.warnings {
        out.push_str(&format!("{}\n", line(warning, &paint.warn(" warning:"), paint)));
    }
    let mut summary = vec![count(files, "file")];
    if let Some(r) = resources {
        summary.push(if r.sidecar.is_some() { "1 sidecar".into() } else { "no sidecar".into() });
        let endpoints = r.services.iter().map(|s| s.endpoints.len()).sum();
        let all = [(r.services.len(), "service"), (endpoints, "endpoint"), (r.policies.len(), "policy")];
        summary.extend(all.map(|(n, what)| count(n, what)));
        summary.push(count(r.routes.len(), "route"));
        let some = [
            (r.certificates.len(), "certificate"),
            (r.encryption.len(), "rule of link encryption"),
            (r.authorization.len(), "rule of authorization"),
            (r.adaptive.len(), "rule of adaptive limiting"),
            (r.rates.len(), "rate limit"),
            (r.breakers.len(), "circuit breaker"),
        ];
        summary.extend(some.into_iter().filter(|(n, _)| *n > 0).map(|(n, what)| count(n, what)));
    }
    let warnings = match report.warnings.len() {
        0 => String::new(),
        n => format!(", {}", count(n, "warning")),
    };
    let verdict = match report.mistakes.len() {
        0 => paint.good(format!("no mistakes{warnings}")),
        n => paint.bad(format!("{}{warnings}", count(n, "mistake"))),
    };
    out.push_str(&format!("{verdict} in {}\n", summary.join(", ")));
    out
}

/// `file:line:col: path: problem; remedy`, the place dimmed, `kind` after it.
fn line(found: &Mistake, kind: &str, paint: Paint) -> String {
    let text = found.to_string();
    let place =
        Mistake { path: String::new(), problem: String::new(), remedy: String::new(), ..found.clone() }
            .to_string();
    match text.strip_prefix(place.as_str()) {
        Some(rest) if !place.is_empty() => {
            format!("{}{kind} {}", paint.dim(place.trim_end()), rest.trim_start())
        }
        _ => format!("{kind} {text}").trim_start().to_owned(),
    }
}

fn machine(resources: Option<&Resources>, report: &Report, files: usize) -> serde_json::Value {
    let list = |found: &[Mistake]| -> Vec<serde_json::Value> {
        found
            .iter()
            .map(|m| {
                json!({"file": m.file, "line": m.line, "column": m.column, "path": m.path,
                       "problem": m.problem, "remedy": m.remedy})
            })
            .collect()
    };
    json!({
        "ok": report.mistakes.is_empty(),
        "files": files,
        "mistakes": list(&report.mistakes),
        "warnings": list(&report.warnings),
        "resources": resources.map(|r| json!({
            "sidecar": r.sidecar.as_ref().map(|s| &s.metadata.name),
            "services": r.services.len(),
            "policies": r.policies.len(),
            "routes": r.routes.len(),
            "certificates": r.certificates.len(),
            "linkEncryption": r.encryption.len(),
            "authorization": r.authorization.len(),
            "adaptiveLimit": r.adaptive.len(),
            "rateLimit": r.rates.len(),
            "circuitBreaker": r.breakers.len(),
        })),
    })
}

/// `1 file`, `2 files`, `2 policies`, `2 rules of authorization`.
fn count(n: usize, what: &str) -> String {
    if let Some(rest) = what.strip_prefix("rule ").filter(|_| n != 1) {
        return format!("{n} rules {rest}");
    }
    match (n, what.strip_suffix('y')) {
        (1, _) => format!("1 {what}"),
        (_, Some(stem)) => format!("{n} {stem}ies"),
        _ => format!("{n} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistake_says_where_what_and_what_would_be_right() {
        let mistake = Mistake {
            file: "shop.yaml".into(),
            line: 12,
            column: 7,
            path: "spec.endpoints[2].weight".into(),
            problem: "20000 is over 10000".into(),
            remedy: "give 0..=10000".into(),
        };
        let report = Report { mistakes: vec![mistake], warnings: Vec::new() };
        assert_eq!(
            human(None, &report, 1, Paint::none()),
            "shop.yaml:12:7: spec.endpoints[2].weight: 20000 is over 10000; give 0..=10000\n\
             1 mistake in 1 file\n"
        );
    }

    #[test]
    fn numbers_agree_with_their_nouns() {
        assert_eq!(count(1, "policy"), "1 policy");
        assert_eq!(count(2, "policy"), "2 policies");
        assert_eq!(count(0, "file"), "0 files");
        assert_eq!(count(1, "rule of authorization"), "1 rule of authorization");
        assert_eq!(count(2, "rule of authorization"), "2 rules of authorization");
    }
}
