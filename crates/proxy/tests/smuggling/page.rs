//! The page that lists the corpus.
use crate::corpus;
use std::fmt::Write;
use std::path::Path;

/// Compares the page with the corpus; writes it with `RADDLE_BLESS=1`.
pub(crate) fn check() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/http-conformance.md");
    let mut page = std::fs::read_to_string(&path).unwrap();
    let old = page.clone();
    let requests: Vec<_> = corpus::requests().into_iter().map(|c| (c.name, c.want.text())).collect();
    let replies: Vec<_> = corpus::replies().into_iter().map(|c| (c.name, c.told.text())).collect();
    page = put(&page, "requests of tests/smuggling", &requests);
    page = put(&page, "replies of tests/smuggling", &replies);
    if std::env::var_os("RADDLE_BLESS").is_some() {
        std::fs::write(&path, page).unwrap();
    } else {
        assert!(page == old, "docs/reference/http-conformance.md is out of date: run with RADDLE_BLESS=1");
    }
}

fn put(page: &str, what: &str, rows: &[(String, String)]) -> String {
    let (begin, end) = (format!("<!-- {what} -->\n"), format!("<!-- end of {what} -->"));
    let (before, rest) = page.split_once(&begin).unwrap();
    let (_, after) = rest.split_once(&end).unwrap();
    let mut table = "\n| case | outcome |\n|---|---|\n".to_owned();
    for (name, outcome) in rows {
        writeln!(table, "| `{name}` | {outcome} |").unwrap();
    }
    format!("{before}{begin}{table}\n{end}{after}")
}
