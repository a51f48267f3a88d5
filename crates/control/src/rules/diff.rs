//! What changes in a document, as people compare texts.
use raddle_model::to_yaml;
use std::fmt::Write as _;

/// Unchanged lines around a change.
const AROUND: usize = 3;
/// Longer texts are told as a whole: comparing takes time and memory by the product of both lengths.
const MOST_LINES: usize = 2000;

/// A unified diff of two documents in canonical JSON, shown as YAML; empty = they are the same.
pub(super) fn documents(id: &str, before: Option<&str>, after: Option<&str>) -> String {
    let text = |json: Option<&str>| json.map(to_yaml).unwrap_or_default();
    let (old, new) = (text(before), text(after));
    if old == new {
        return String::new();
    }
    let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let mut out = format!("--- {id}\n+++ {id}\n");
    let edits = edits(&old, &new);
    hunks(&edits, &mut out);
    out
}

/// A line: kept (' '), removed ('-') or added ('+').
type Edit<'a> = (char, &'a str);

/// The shortest edits, by the longest common subsequence.
fn edits<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<Edit<'a>> {
    if old.len().max(new.len()) > MOST_LINES {
        return old.iter().map(|l| ('-', *l)).chain(new.iter().map(|l| ('+', *l))).collect();
    }
    let width = new.len() + 1;
    let mut common = vec![0u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i * width + j] = if old[i] == new[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j, mut edits) = (0, 0, Vec::new());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            edits.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j >= new.len()
            || (i < old.len() && common[(i + 1) * width + j] >= common[i * width + j + 1])
        {
            edits.push(('-', old[i]));
            i += 1;
        } else {
            edits.push(('+', new[j]));
            j += 1;
        }
    }
    edits
}

fn hunks(edits: &[Edit<'_>], out: &mut String) {
    let near = |at: usize| {
        let from = at.saturating_sub(AROUND);
        edits[from..(at + AROUND + 1).min(edits.len())].iter().any(|(kind, _)| *kind != ' ')
    };
    let (mut old, mut new, mut at) = (1, 1, 0);
    while at < edits.len() {
        if !near(at) {
            (old, new, at) = (old + 1, new + 1, at + 1);
            continue;
        }
        let end = (at..edits.len()).find(|n| !near(*n)).unwrap_or(edits.len());
        let count = |but: char| edits[at..end].iter().filter(|(kind, _)| *kind != but).count();
        let (removed, added) = (count('+'), count('-'));
        // Writing to a String does not fail.
        let _ = writeln!(out, "@@ -{old},{removed} +{new},{added} @@");
        for (kind, line) in &edits[at..end] {
            let _ = writeln!(out, "{kind}{line}");
        }
        (old, new, at) = (old + removed, new + added, end);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_shows_what_changed_and_little_around_it() {
        let json = |n: u32| format!(r#"{{"a":1,"b":2,"c":3,"d":4,"e":{n},"f":6,"g":7,"h":8,"i":9}}"#);
        let text = documents("Route/x", Some(&json(5)), Some(&json(50)));
        let expected = "--- Route/x\n+++ Route/x\n@@ -2,7 +2,7 @@\n b: 2\n c: 3\n d: 4\n-e: 5\n+e: 50\n f: 6\n g: 7\n h: 8\n";
        assert_eq!(text, expected);
        assert_eq!(documents("Route/x", Some(&json(5)), Some(&json(5))), "");
        assert!(documents("Route/x", None, Some(&json(5))).contains("@@ -1,0 +1,9 @@"));
    }
}
