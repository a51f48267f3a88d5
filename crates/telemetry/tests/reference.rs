//! The metrics reference is that of the code.
use raddle_telemetry::reference::metrics_markdown;
use std::path::Path;

/// Run with `RADDLE_BLESS=1` to write the file anew.
#[test]
fn the_metrics_reference_is_not_stale() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/metrics.md");
    let now = metrics_markdown();
    if std::env::var_os("RADDLE_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().expect("has a folder")).expect("made");
        std::fs::write(&path, &now).expect("written");
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(kept == now, "{} is stale: run this test with RADDLE_BLESS=1", path.display());
}
