//! What a reload relies on to keep what has not changed.
use raddle_model::{LoadOptions, Resources, Source, load};

const RULES: &str = "\
apiVersion: raddle.io/v1
kind: Service
metadata: {name: s}
spec: {app: a, endpoints: [{address: 10.0.0.1:1, labels: {x: y, v: '1'}}]}
---
apiVersion: raddle.io/v1
kind: TrafficPolicy
metadata: {name: p}
spec: {to: {services: [s]}, timeouts: {request: 1s}}
---
apiVersion: raddle.io/v1
kind: Route
metadata: {name: r}
spec: {to: {app: a}, rules: [{when: {header: {k: {regex: 'a+'}}}, percent: 0.1}]}
";

fn prints(text: &str) -> [u64; 3] {
    let source = [Source { name: "x".into(), text: text.into() }];
    let (Resources { services, policies, routes, .. }, _) =
        load(&source, LoadOptions::rules_only()).unwrap_or_else(|report| panic!("{report}"));
    [services[0].metadata.fingerprint, policies[0].metadata.fingerprint, routes[0].metadata.fingerprint]
}

#[test]
fn the_same_content_has_the_same_fingerprint_wherever_and_however_it_is_written() {
    let moved = format!("# a comment\n\n{RULES}")
        .replace("{x: y, v: '1'}", "\n   {v: 1, x: \"y\"}")
        .replace("1s", "1000ms")
        .replace("percent: 0.1", "percent: 0.10");
    assert_eq!(prints(RULES), prints(&moved));
    // A default that is written out is the same content.
    assert_eq!(prints(RULES), prints(&RULES.replace("10.0.0.1:1,", "10.0.0.1:1, weight: 100,")));
}

#[test]
fn any_other_content_has_another_fingerprint() {
    let before = prints(RULES);
    for (from, to, changed) in [
        ("10.0.0.1:1", "10.0.0.1:2", 0),
        ("v: '1'", "v: '2'", 0),
        ("{name: s}", "{name: s, labels: {a: b}}", 0),
        ("request: 1s", "request: 2s", 1),
        ("request: 1s", "connect: 1s", 1),
        ("a+", "b+", 2),
        ("percent: 0.1", "percent: 0.101", 2),
    ] {
        let after = prints(&RULES.replace(from, to));
        let differ: Vec<usize> = (0..3).filter(|i| before[*i] != after[*i]).collect();
        assert_eq!(differ, [changed], "{from} -> {to}");
    }
}
