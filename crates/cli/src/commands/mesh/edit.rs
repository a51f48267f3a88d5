//! `raddle edit`: a rule in one's editor, applied when it is saved.
use super::apply::{line, send};
use super::{ServerArgs, items, rule_path, yaml};
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::http::escape;
use crate::output::{Paint, print, progress};
use clap::Args;
use raddle_model::Source;
use std::io::Write;
use std::path::Path;
use std::process::Command;

/// Change a rule in your editor ($VISUAL, $EDITOR, else vi)
///
/// What is saved is checked and applied. If it has mistakes, the editor opens again with them on top; an empty file, or
/// one that is not changed, ends it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle edit Route/checkout
  EDITOR='code --wait' raddle edit Route/checkout --comment 'try p2c'")]
pub(crate) struct EditArgs {
    /// KIND/NAME
    rule: String,
    /// Why; kept in the history
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// Undo a rollout of the rule that runs, and begin with this
    #[arg(long)]
    replace: bool,
    #[command(flatten)]
    server: ServerArgs,
}

pub(crate) fn run(args: &EditArgs) -> Done {
    let server = args.server.connect()?;
    let rule = server.get(&rule_path(&args.rule)?)?;
    let original = yaml::render(&rule["document"]);
    let mut path = format!("/v1/apply?replace={}", args.replace);
    if let Some(revision) = rule["revision"].as_str() {
        // Nobody's change meanwhile is overwritten.
        path.push_str(&format!("&expect={revision}"));
    }
    if let Some(comment) = &args.comment {
        path.push_str(&format!("&comment={}", escape(comment)));
    }
    let file = tempfile::Builder::new()
        .prefix("raddle-")
        .suffix(".yaml")
        .tempfile()
        .map_err(|e| Failure::new(format!("a file to edit: {e}")))?;
    let mut content = original.clone();
    loop {
        let edited = edit(file.path(), &content)?;
        let bare = without_notes(&edited);
        if bare.trim().is_empty() || bare == original || edited == content {
            progress("nothing is changed");
            return Ok(if bare == original { Exit::Ok } else { Exit::Failed });
        }
        let source = Source { name: args.rule.clone(), text: bare.clone() };
        match send(&server, &path, &[source]) {
            Ok(answer) => {
                let paint = Paint::stdout();
                let lines: String = items(&answer["applied"]).map(|a| line(a, false, paint)).collect();
                print(&lines)?;
                return Ok(Exit::Ok);
            }
            Err(failure) if failure.exit == Exit::Mistakes => {
                content = with_notes(&failure.to_string(), &bare);
            }
            Err(failure) => {
                let kept = file.keep().map(|(_, path)| path.display().to_string());
                let kept = kept.map(|path| format!("\nwhat you wrote is in {path}")).unwrap_or_default();
                return Err(Failure::new(format!("{failure}{kept}")));
            }
        }
    }
}

/// Lets the user edit a text.
fn edit(path: &Path, content: &str) -> Result<String, Failure> {
    let failed = |e: std::io::Error| Failure::new(format!("{}: {e}", path.display()));
    std::fs::File::create(path).and_then(|mut f| f.write_all(content.as_bytes())).map_err(failed)?;
    let named = |name| std::env::var(name).ok().filter(|v| !v.trim().is_empty());
    let editor = named("VISUAL").or_else(|| named("EDITOR")).unwrap_or_else(|| "vi".into());
    let mut words = editor.split_whitespace();
    let status = Command::new(words.next().unwrap_or("vi"))
        .args(words)
        .arg(path)
        .status()
        .map_err(|e| Failure::new(format!("the editor {editor:?} does not start: {e}; set EDITOR")))?;
    if !status.success() {
        return Err(Failure::new(format!("the editor {editor:?} ended with {status}; nothing is applied")));
    }
    std::fs::read_to_string(path).map_err(failed)
}

/// What marks the lines that say what was wrong.
const NOTE: &str = "#! ";

fn with_notes(said: &str, text: &str) -> String {
    let notes: Vec<_> = said.lines().map(|line| format!("{NOTE}{line}\n")).collect();
    notes.concat() + text
}

fn without_notes(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with(NOTE)).flat_map(|line| [line, "\n"]);
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_go_on_top_and_off_again() {
        let noted = with_notes("1 mistake\nRoute/a:3:1: x", "kind: Route\n# mine\n");
        assert_eq!(noted, "#! 1 mistake\n#! Route/a:3:1: x\nkind: Route\n# mine\n");
        assert_eq!(without_notes(&noted), "kind: Route\n# mine\n");
    }
}
