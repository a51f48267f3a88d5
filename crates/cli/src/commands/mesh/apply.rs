//! `raddle apply`, `raddle diff`, `raddle delete`.
use super::{FormArgs, Server, ServerArgs, cell, force, items, mistake, rule_path, text};
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::http::client::Request;
use crate::http::escape;
use crate::output::{Paint, progress};
use crate::sources;
use clap::Args;
use raddle_model::Source;
use serde_json::Value;
use std::io::Read;
use std::path::PathBuf;

/// Apply rules: check them, keep them as new revisions, and roll them out
///
/// Every document is checked with the rules there are; if anything is wrong, everything is told and nothing is applied.
/// A rule with `spec.rollout` is rolled out in its stages, others reach everyone at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 applied (or nothing to do), 1 refused (a rollout runs, the rule changed meanwhile), 3 mistakes.

Examples:
  raddle apply -f checkout.yaml
  raddle apply -f rules/ --dry-run               # what would change?
  raddle apply -f checkout.yaml --comment 'JIRA-17: slow start'
  raddle apply -f pay-strict.yaml --force        # refuse plaintext callers at once
  cat checkout.yaml | raddle apply -f -")]
pub(crate) struct ApplyArgs {
    #[command(flatten)]
    files: FileArgs,
    /// Change nothing; say what would be
    #[arg(long)]
    dry_run: bool,
    /// Why; kept in the history
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// Undo a rollout of the rule that runs, and begin with this
    #[arg(long)]
    replace: bool,
    /// Refuse plaintext callers at once: sets `spec.force` in every LinkEncryption that is sent
    #[arg(long)]
    force: bool,
    /// Only if the rule in force has this revision; `none` = only if there is none
    #[arg(long, value_name = "REVISION")]
    expect: Option<String>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    form: FormArgs,
}

/// What is to be applied.
#[derive(Debug, Args)]
struct FileArgs {
    /// File, directory, or - for standard input; may be given more than once
    #[arg(short = 'f', long = "file", required = true, value_name = "PATH")]
    files: Vec<PathBuf>,
}

/// Show what applying files would change
#[derive(Debug, Args)]
#[command(after_help = "\
Exit codes: 0 nothing would change, 1 something would (or it failed), 3 mistakes.

Examples:
  raddle diff -f checkout.yaml
  raddle diff -f rules/")]
pub(crate) struct DiffArgs {
    #[command(flatten)]
    files: FileArgs,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    form: FormArgs,
}

/// Remove a rule, in the stages of its own rollout
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle delete Route/checkout
  raddle delete Route/checkout --dry-run")]
pub(crate) struct DeleteArgs {
    /// KIND/NAME
    #[arg(required = true, value_name = "RULE")]
    rules: Vec<String>,
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

pub(crate) fn apply(args: &ApplyArgs) -> Done {
    let mut sources = args.files.read()?;
    if args.force {
        let (changed, forced) = force::force(sources);
        sources = changed;
        for id in &forced {
            progress(&format!("{id}: spec.force is set to true: plaintext callers are refused at once"));
        }
        if forced.is_empty() {
            progress("--force: there is no LinkEncryption to force");
        }
    }
    let mut query = vec![format!("dryRun={}", args.dry_run), format!("replace={}", args.replace)];
    query.extend(args.comment.iter().map(|c| format!("comment={}", escape(c))));
    query.extend(args.expect.iter().map(|e| format!("expect={}", escape(e))));
    let server = args.server.connect()?;
    let answer = send(&server, &format!("/v1/apply?{}", query.join("&")), &sources)?;
    told(&answer, &sources);
    let paint = Paint::stdout();
    args.form.show(&answer, |_| items(&answer["applied"]).map(|a| line(a, args.dry_run, paint)).collect())?;
    Ok(Exit::Ok)
}

pub(crate) fn diff(args: &DiffArgs) -> Done {
    let sources = args.files.read()?;
    let answer = send(&args.server.connect()?, "/v1/diff", &sources)?;
    told(&answer, &sources);
    let changed = items(&answer["applied"]).any(|a| a["changed"] == true);
    let paint = Paint::stdout();
    args.form
        .show(&answer, |_| items(&answer["applied"]).map(|a| colours(&text(&a["diff"]), paint)).collect())?;
    Ok(if changed { Exit::Failed } else { Exit::Ok })
}

pub(crate) fn delete(args: &DeleteArgs) -> Done {
    let server = args.server.connect()?;
    for rule in &args.rules {
        let mut path = format!("{}?dryRun={}", rule_path(rule)?, args.dry_run);
        if let Some(comment) = &args.comment {
            path.push_str(&format!("&comment={}", escape(comment)));
        }
        let answer = server.json(&Request::new("DELETE", path))?;
        let paint = Paint::stdout();
        args.form
            .show(&answer, |_| items(&answer["applied"]).map(|a| line(a, args.dry_run, paint)).collect())?;
    }
    Ok(Exit::Ok)
}

impl FileArgs {
    fn read(&self) -> Result<Vec<Source>, Failure> {
        let mut all = Vec::new();
        for path in &self.files {
            if path.as_os_str() == "-" {
                let mut text = String::new();
                std::io::stdin()
                    .read_to_string(&mut text)
                    .map_err(|e| Failure::new(format!("standard input: {e}")))?;
                all.push(Source { name: "standard input".into(), text });
            } else {
                all.extend(sources::read(std::slice::from_ref(path))?);
            }
        }
        Ok(all)
    }
}

/// Sends all files as one body, so that they are checked and applied together; mistakes come back with the files' names
/// and lines.
pub(super) fn send(server: &Server, path: &str, sources: &[Source]) -> Result<Value, Failure> {
    let mut body = String::new();
    for source in sources {
        if !body.is_empty() {
            body.push_str("---\n");
        }
        body.push_str(&source.text);
        if !body.ends_with('\n') {
            body.push('\n');
        }
    }
    let mut request = Request::new("POST", path);
    request.body = Some(("application/yaml", body.into_bytes()));
    let answer = server.raw(&request)?;
    let mut value: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    if answer.status < 300 {
        return Ok(value);
    }
    if let Some(mistakes) = value["error"]["mistakes"].as_array_mut() {
        for mistake in mistakes.iter_mut() {
            place(mistake, sources);
        }
        let lines: Vec<String> = mistakes.iter().map(mistake).collect();
        let n = lines.len();
        if answer.status == 422 && n > 0 {
            let plural = if n == 1 { "" } else { "s" };
            return Err(Failure::mistakes(format!(
                "{n} mistake{plural}, nothing is applied\n{}",
                lines.join("\n")
            )));
        }
    }
    Err(server.refused(&answer))
}

/// Says of a place in the body which file and line it is.
fn place(mistake: &mut Value, sources: &[Source]) {
    let Some(line) = mistake["line"].as_u64() else { return };
    let mut first = 1;
    for (i, source) in sources.iter().enumerate() {
        let lines = source.text.lines().count() as u64;
        // The line that divides it from the next belongs to it, for what is said at its end.
        if line < first + lines + 1 || i + 1 == sources.len() {
            mistake["file"] = Value::String(source.name.clone());
            if line > 0 {
                mistake["line"] = Value::from(line.saturating_sub(first) + 1);
            }
            return;
        }
        first += lines + 1;
    }
}

/// Warnings, on standard error.
fn told(answer: &Value, sources: &[Source]) {
    for warning in items(&answer["warnings"]) {
        let mut warning = warning.clone();
        place(&mut warning, sources);
        progress(&format!("warning: {}", mistake(&warning)));
    }
}

/// What became of one document.
pub(super) fn line(applied: &Value, dry: bool, paint: Paint) -> String {
    let id = text(&applied["id"]);
    if applied["changed"] != true {
        return format!("{id}  {}\n", paint.dim("unchanged"));
    }
    let what = match (applied["before"].is_null(), applied["after"].is_null()) {
        (true, _) => "created",
        (_, true) => "removed",
        _ => "changed",
    };
    let will = if dry { "would be " } else { "" };
    let mut out = format!("{id}  {will}{}", paint.good(what));
    if !applied["after"].is_null() {
        out.push_str(&format!("  revision {} ({})", cell(&applied["number"]), cell(&applied["after"])));
    }
    let rollout = &applied["rollout"];
    if !rollout.is_null() {
        let stages = rollout["stages"].as_array().map_or(0, Vec::len);
        let percent = cell(&rollout["percent"]);
        out.push_str(&format!("  to {percent} % first, {stages} stages; see raddle rollout status {id}"));
    }
    out.push('\n');
    out
}

/// A unified diff in colours.
pub(super) fn colours(diff: &str, paint: Paint) -> String {
    let mut out = String::new();
    for line in diff.lines() {
        let line = match line.as_bytes().first() {
            Some(b'+') => paint.good(line),
            Some(b'-') => paint.bad(line),
            Some(b'@') => paint.dim(line),
            _ => line.to_owned(),
        };
        out.push_str(&line);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_place_in_the_body_is_said_as_the_files_line() {
        let source = |name: &str, text: &str| Source { name: name.into(), text: text.into() };
        let sources = [source("a.yaml", "1\n2\n3\n"), source("b.yaml", "1\n2"), source("c.yaml", "1\n")];
        for (line, file, local) in
            [(1, "a.yaml", 1), (3, "a.yaml", 3), (5, "b.yaml", 1), (6, "b.yaml", 2), (8, "c.yaml", 1)]
        {
            let mut mistake = json!({"line": line, "file": "body"});
            place(&mut mistake, &sources);
            assert_eq!((&mistake["file"], &mistake["line"]), (&json!(file), &json!(local)), "{line}");
        }
    }

    #[test]
    fn what_became_of_a_document_is_one_line() {
        let created = json!({"id": "Route/a", "before": null, "after": "0011", "number": 1, "changed": true, "rollout": null});
        assert_eq!(line(&created, false, Paint::none()), "Route/a  created  revision 1 (0011)\n");
        let staged = json!({"id": "Route/a", "before": "00", "after": "11", "number": 2, "changed": true,
                            "rollout": {"stages": [1, 2], "percent": 10.0}});
        let text = line(&staged, true, Paint::none());
        assert!(
            text.starts_with("Route/a  would be changed  revision 2 (11)  to 10.0 % first, 2 stages"),
            "{text}"
        );
    }
}
