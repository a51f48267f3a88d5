//! Configuration files by path: files as they are, directories file by file.
use crate::exit::Failure;
use raddle_model::Source;
use std::fs;
use std::path::{Path, PathBuf};

/// The texts behind `paths`, directories opened out in the order of names.
///
/// # Errors
/// The first path that cannot be read, and directories without a configuration file.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Source>, Failure> {
    files(paths)?
        .iter()
        .map(|path| {
            let text = fs::read_to_string(path).map_err(|e| unreadable(path, &e))?;
            Ok(Source { name: path.display().to_string(), text })
        })
        .collect()
}

fn files(paths: &[PathBuf]) -> Result<Vec<PathBuf>, Failure> {
    let mut found = Vec::new();
    for path in paths {
        if !path.is_dir() {
            found.push(path.clone());
            continue;
        }
        let entries = fs::read_dir(path).map_err(|e| unreadable(path, &e))?;
        let mut inside: Vec<PathBuf> = entries.flatten().map(|e| e.path()).filter(|p| is_config(p)).collect();
        if inside.is_empty() {
            let message = format!("{}: no .yaml, .yml or .json file in this directory", path.display());
            return Err(Failure::new(message));
        }
        inside.sort();
        found.append(&mut inside);
    }
    Ok(found)
}

/// Hidden files are left out: editors and Kubernetes volumes keep copies in them.
fn is_config(path: &Path) -> bool {
    let hidden = path.file_name().is_none_or(|n| n.to_string_lossy().starts_with('.'));
    let known = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
    known && !hidden && path.is_file()
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

/// What a command that wanted to use a configuration says of its mistakes.
pub(crate) fn refuse(report: &raddle_model::Report) -> Failure {
    let n = report.mistakes.len();
    Failure::mistakes(format!("the configuration has {n} mistake{}\n{report}", if n == 1 { "" } else { "s" }))
}
