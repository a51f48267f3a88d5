//! Files made to hurt: they get an answer, soon, and never a panic.
mod checks;

use checks::{check, loads};
use proptest::prelude::*;
use std::fmt::Write;

/// Pieces that files are made of, good and bad, so that random texts get past the first line.
const PIECES: &[&str] = &[
    "apiVersion: raddle.io/v1\n",
    "kind: Service\n",
    "kind: Route\n",
    "kind: TrafficPolicy\n",
    "kind: Sidecar\n",
    "metadata: {name: a}\n",
    "spec:\n",
    "spec: {app: a}\n",
    "  app: x\n",
    "  rules:\n",
    "  - when: {header: {a: b}}\n",
    "    send: {group: g}\n",
    "  endpoints:\n",
    "  - {address: 1.2.3.4:5}\n",
    "  to: {services: [a]}\n",
    "---\n",
    "...\n",
    "  balancer: {consistentHash: method}\n",
    "    percent: 0.1\n",
    "  retry: {on: [timeout]}\n",
    "\t",
    " ",
    "\n",
    ": ",
    "- ",
    "? ",
    "[",
    "]",
    "{",
    "}",
    ",",
    "&a ",
    "*a",
    "!!str ",
    "!x ",
    "|\n",
    ">-\n",
    "'",
    "\"",
    "#",
    "%YAML 1.2\n",
    "\u{feff}",
    "\r",
    "\0",
    "é",
    "\u{2028}",
    "~",
    "null",
    "\\u",
    "<<: ",
    "10s",
    "64MiB",
    "-",
    "0.1",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn any_text_gets_a_usable_answer(text in any::<String>()) {
        loads(text.as_bytes());
    }

    #[test]
    fn any_text_of_yaml_pieces_gets_a_usable_answer(picks in prop::collection::vec(0..PIECES.len(), 0..60)) {
        let text: String = picks.into_iter().map(|i| PIECES[i]).collect();
        loads(text.as_bytes());
    }

    #[test]
    fn any_damaged_good_file_gets_a_usable_answer(
        which in 0usize..3, at in any::<prop::sample::Index>(), cut in 0usize..40, put in 0..PIECES.len()
    ) {
        let good: Vec<char> = EXAMPLES[which].chars().collect();
        let at = at.index(good.len());
        let mut text: String = good[..at].iter().collect();
        text.push_str(PIECES[put]);
        text.extend(&good[(at + cut).min(good.len())..]);
        loads(text.as_bytes());
    }
}

const EXAMPLES: [&str; 3] = [
    include_str!("../../../examples/shop.yaml"),
    include_str!("../../../examples/routes.yaml"),
    include_str!("../../../examples/policy.yaml"),
];

#[test]
fn a_billion_laughs_end_at_the_bound() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        let last = format!("*a{}", i - 1);
        let _ = writeln!(text, "a{i}: &a{i} [{}]", vec![last; 10].join(", "));
    }
    let report = check(&text).expect_err("it is refused");
    assert!(report.to_string().contains("too many values"), "{report}");
}

#[test]
fn nesting_of_any_depth_and_style_is_answered() {
    for piece in ["[", "{", "- ", "? ", "a: ", "{a: ", "[a, ", "&a [", "!!seq [", "- - ", "? - "] {
        let report = check(&piece.repeat(50_000)).expect_err("it is refused");
        assert!(!report.mistakes.is_empty());
    }
    let mut indented = String::new();
    for depth in 0..2000 {
        let _ = writeln!(indented, "{}a:", " ".repeat(depth));
    }
    assert!(check(&indented).is_err());
}

#[test]
fn long_lines_names_and_lists_are_answered() {
    let head = "apiVersion: raddle.io/v1\nkind: Service\nmetadata: {name: a}\nspec:\n  app: x\n";
    for body in [
        "a".repeat(1 << 20),
        format!("  {}: x\n", "b".repeat(1 << 20)),
        format!("  unit: \"{}\"\n", "\\n".repeat(1 << 18)),
        (0..50_000).fold(String::new(), |text, i| text + "  f" + &i.to_string() + ": 1\n"),
        "  f: 1\n".repeat(50_000),
        format!("  endpoints: [{}]\n", "x, ".repeat(50_000)),
        format!("  endpoints: {}\n", "#".repeat(1 << 20)),
        "  ".repeat(1 << 19),
        "\n".repeat(1 << 20),
        "---\n".repeat(1 << 16),
    ] {
        let _ = check(&format!("{head}{body}"));
    }
}

#[test]
fn quadratic_shapes_stay_within_reach() {
    let mut policies = String::new();
    for i in 0..3000 {
        let _ = write!(
            policies,
            "---\napiVersion: raddle.io/v1\nkind: TrafficPolicy\nmetadata: {{name: p{i}}}\n\
             spec: {{scope: {{apps: [a{i}]}}, to: {{services: [s]}}}}\n"
        );
    }
    let _ = check(&policies);
    let mut sidecar = String::from(
        "apiVersion: raddle.io/v1\nkind: Sidecar\nmetadata: {name: s}\nspec: {app: a, outbound: [",
    );
    for i in 0..10_000 {
        let _ = write!(sidecar, "{{listen: '127.0.{}.{}:80', protocol: bolt}},", i / 250, i % 250);
    }
    let report = check(&(sidecar + "]}\n")).expect_err("it is refused");
    assert!(report.to_string().contains("10000 listeners are more than 1000"), "{report}");
}

#[test]
fn what_fuzzing_found_once_is_answered() {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/model_load");
    for entry in std::fs::read_dir(corpus).expect("the corpus is there") {
        let bytes = std::fs::read(entry.expect("readable").path()).expect("readable");
        loads(&bytes);
    }
}
