//! The page that lists the cases.
use crate::{cases, deviations};
use std::fmt::Write;
use std::path::Path;

const BEGIN: &str = "<!-- cases of tests/http_conformance -->\n";
const END: &str = "<!-- end of cases -->";

/// Compares the page with the cases; writes it with `RADDLE_BLESS=1`.
pub(crate) fn check() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/http-conformance.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let mut table = "\n| case | what is sent | answer |\n|---|---|---|\n".to_owned();
    for c in cases::all() {
        let instead =
            deviations::of(c.name).map_or(String::new(), |d| format!("; **{}**: {}", d.says, d.why));
        writeln!(table, "| `{}` | {} | {}{instead} |", c.name, c.what, c.want.text()).unwrap();
    }
    let wanted = format!("{before}{BEGIN}{table}\n{END}{after}");
    if std::env::var_os("RADDLE_BLESS").is_some() {
        std::fs::write(&path, wanted).unwrap();
    } else {
        assert!(page == wanted, "docs/reference/http-conformance.md is out of date: run with RADDLE_BLESS=1");
    }
}
