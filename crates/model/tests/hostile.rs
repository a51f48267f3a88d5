//! Files made to hurt: they get an answer, soon, and never a panic.
use proptest::prelude::*;
use raddle_model::{LoadOptions, Report, Source, load};

fn check(text: &str) -> Result<(), Report> {
    let opts = LoadOptions { max_nodes: 100_000, ..LoadOptions::rules_only() };
    load(&[Source { name: "x".into(), text: text.into() }], opts).map(|_| ())
}

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
    fn no_text_panics(text in any::<String>()) {
        let _ = check(&text);
    }

    #[test]
    fn no_text_of_yaml_pieces_panics(picks in prop::collection::vec(0..PIECES.len(), 0..60)) {
        let text: String = picks.into_iter().map(|i| PIECES[i]).collect();
        let _ = check(&text);
    }

    #[test]
    fn no_damaged_good_file_panics(
        which in 0usize..3, at in any::<prop::sample::Index>(), cut in 0usize..40, put in 0..PIECES.len()
    ) {
        let good: Vec<char> = EXAMPLES[which].chars().collect();
        let at = at.index(good.len());
        let mut text: String = good[..at].iter().collect();
        text.push_str(PIECES[put]);
        text.extend(&good[(at + cut).min(good.len())..]);
        let _ = check(&text);
    }

    #[test]
    fn every_mistake_has_a_place_a_problem_and_a_remedy(picks in prop::collection::vec(0..PIECES.len(), 1..40)) {
        let text: String = picks.into_iter().map(|i| PIECES[i]).collect();
        if let Err(report) = check(&text) {
            for m in report.mistakes.iter().chain(&report.warnings) {
                prop_assert!(m.line > 0 && m.column > 0, "{m:?}");
                prop_assert!(!m.problem.is_empty() && !m.remedy.is_empty(), "{m:?}");
                prop_assert!(!m.to_string().contains('\n'), "{m:?}");
            }
            let places: Vec<_> = report.mistakes.iter().map(|m| (m.line, m.column)).collect();
            prop_assert!(places.is_sorted());
        }
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
        text.push_str(&format!("a{i}: &a{i} [{}]\n", vec![last; 10].join(", ")));
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
        indented.push_str(&format!("{}a:\n", " ".repeat(depth)));
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
        (0..50_000).map(|i| format!("  f{i}: 1\n")).collect(),
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
    let policy = |i: usize| {
        format!(
            "---\napiVersion: raddle.io/v1\nkind: TrafficPolicy\nmetadata: {{name: p{i}}}\n\
             spec: {{scope: {{apps: [a{i}]}}, to: {{services: [s]}}}}\n"
        )
    };
    let _ = check(&(0..3000).map(policy).collect::<String>());
    let listeners = |i: usize| format!("{{listen: '127.0.{}.{}:80', protocol: bolt}},", i / 250, i % 250);
    let _ = check(&format!(
        "apiVersion: raddle.io/v1\nkind: Sidecar\nmetadata: {{name: s}}\nspec: {{app: a, outbound: [{}]}}\n",
        (0..10_000).map(listeners).collect::<String>()
    ));
}
