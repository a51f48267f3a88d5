//! The reference of the control plane's metrics is made from the code.
use raddle_control::metrics::ALL;

const HEAD: &str = "\
# Metrics of the control plane

<!-- Made from crates/control/src/metrics.rs: change it there, then run
     RADDLE_BLESS=1 cargo test -p raddle-control --test metrics -->

The control plane serves these at `/metrics` of its REST address, in the Prometheus text format 0.0.4. Counters start at
0 with the process; gauges say what this replica knows.

| name | type | meaning |
|---|---|---|
";

#[test]
fn the_reference_lists_every_metric() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/control-metrics.md");
    let rows = ALL.iter().map(|m| format!("| `{}` | {} | {} |\n", m.name, m.kind, m.help));
    let page: String = [HEAD.to_owned()].into_iter().chain(rows).collect();
    if std::env::var_os("RADDLE_BLESS").is_some() {
        std::fs::write(path, &page).expect("written");
    }
    let there = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(there, page, "run it with RADDLE_BLESS=1");
}

#[test]
fn names_are_unique_and_say_their_type() {
    for (i, m) in ALL.iter().enumerate() {
        assert!(ALL[..i].iter().all(|other| other.name != m.name), "{} is there twice", m.name);
        assert_eq!(m.kind == "counter", m.name.ends_with("_total"), "{}", m.name);
        assert!(m.help.ends_with('.'), "{}", m.name);
    }
}
