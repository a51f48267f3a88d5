//! 5,000 services with 3 endpoints each, the size the performance goals name. Figures are printed, not gated:
//!
//! `cargo test --release -p raddle-model --test scale -- --nocapture`
use raddle_model::{LoadOptions, Source, load};
use std::fmt::Write;
use std::time::Instant;

#[test]
fn five_thousand_services_load_whole() {
    let mut text = String::new();
    for i in 0..5000 {
        let _ = write!(
            text,
            "---\napiVersion: raddle.io/v1\nkind: Service\nmetadata: {{name: \"com.shop.module{}.Service{i}:1.0\"}}\n\
             spec:\n  app: app-{}\n  protocol: bolt\n  endpoints:\n",
            i % 97,
            i / 10
        );
        for e in 0..3 {
            let _ = writeln!(
                text,
                "  - {{address: 10.{}.{}.{}:12200, unit: u{e}, group: default, weight: 100, labels: {{version: v1}}}}",
                i / 250,
                i % 250,
                e + 1
            );
        }
    }
    let (bytes, before) = (text.len(), memory("VmRSS"));
    let source = [Source { name: "scale.yaml".into(), text }];
    let start = Instant::now();
    let loaded = load(&source, LoadOptions::rules_only());
    let took = start.elapsed();
    let (peak, after) = (memory("VmHWM"), memory("VmRSS"));
    let Ok((resources, warnings)) = loaded else { panic!("it is a good file") };
    assert_eq!(resources.services.len(), 5000);
    assert!(resources.services.iter().all(|s| s.endpoints.len() == 3));
    assert_eq!(warnings, []);
    println!(
        "{bytes} bytes in {took:?}; resident: {before} KiB with the text, peak {peak}, {after} with the resources"
    );
}

/// A line of `/proc/self/status` in KiB; 0 where there is none.
fn memory(what: &str) -> u64 {
    std::fs::read_to_string("/proc/self/status")
        .unwrap_or_default()
        .lines()
        .find_map(|line| line.strip_prefix(what)?.trim_matches(|c: char| !c.is_ascii_digit()).parse().ok())
        .unwrap_or(0)
}
