//! What must hold for any text: asked by the property tests and by `fuzz/fuzz_targets/model_load.rs`.
use raddle_model::{LoadOptions, Mistake, Report, Source, load};

/// Loads one text as rules, with less room than usual, so that bounds are met early.
pub(crate) fn check(text: &str) -> Result<(), Report> {
    let opts = LoadOptions { max_nodes: 100_000, ..LoadOptions::rules_only() };
    load(&[Source { name: "x".into(), text: text.into() }], opts).map(|_| ())
}

/// Every answer is one a user can act on.
pub(crate) fn loads(data: &[u8]) {
    let Err(report) = check(&String::from_utf8_lossy(data)) else { return };
    assert!(!report.mistakes.is_empty());
    // The note that some are left out has no place.
    let placed = |m: &&Mistake| !m.file.is_empty();
    for m in report.mistakes.iter().chain(&report.warnings).filter(placed) {
        assert!(m.line > 0 && m.column > 0, "{m:?}");
        assert!(!m.problem.is_empty() && !m.remedy.is_empty(), "{m:?}");
        assert!(!m.to_string().contains(char::is_control), "{m:?}");
    }
    let places =
        |found: &[Mistake]| found.iter().filter(placed).map(|m| (m.line, m.column)).collect::<Vec<_>>();
    assert!(places(&report.mistakes).is_sorted() && places(&report.warnings).is_sorted(), "{report}");
}
