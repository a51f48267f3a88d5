//! What every kind of bad file is answered with: `bad/NAME.yaml` gets exactly `bad/NAME.txt`.
//!
//! After a deliberate change: `RADDLE_BLESS=1 cargo test -p raddle-model --test bad`, then read the diff as a
//! user would.
use raddle_model::{LoadOptions, Report, Source, load};
use std::path::Path;

#[test]
fn every_bad_file_gets_exactly_its_messages() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad");
    let mut stale = Vec::new();
    let mut seen = 0;
    for entry in std::fs::read_dir(dir).expect("the bad files are there") {
        let path = entry.expect("readable").path();
        if path.extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        seen += 1;
        let name = path.file_name().expect("it has a name").to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).expect("readable");
        let report = match load(&[Source { name: name.clone(), text }], LoadOptions::rules_only()) {
            Ok(_) => panic!("{name} was accepted"),
            Err(report) => format!("{report}\n"),
        };
        let golden = path.with_extension("txt");
        if std::env::var_os("RADDLE_BLESS").is_some() {
            std::fs::write(&golden, &report).expect("writable");
        }
        if std::fs::read_to_string(&golden).unwrap_or_default() != report {
            stale.push(format!("--- {name} gives\n{report}"));
        }
    }
    assert!(seen >= 8, "only {seen} files found");
    assert!(stale.is_empty(), "{}", stale.join("\n"));
}

fn source(name: &str, text: &str) -> Source {
    Source { name: name.into(), text: text.into() }
}

fn report(sources: &[Source], opts: LoadOptions) -> Report {
    match load(sources, opts) {
        Ok(_) => panic!("it was accepted"),
        Err(report) => report,
    }
}

#[test]
fn a_file_that_is_not_yaml_does_not_hide_the_mistakes_of_others() {
    let bad = source("b.yaml", "a: [");
    let other = source("a.yaml", "apiVersion: raddle.io/v1\nkind: Service\nmetadata: {name: s}\nspec: {}\n");
    let report = report(&[bad, other], LoadOptions::rules_only());
    let files: Vec<&str> = report.mistakes.iter().map(|m| m.file.as_str()).collect();
    assert_eq!(files, ["b.yaml", "a.yaml"], "in the order the sources were given: {report}");
}

#[test]
fn a_proxy_without_a_sidecar_document_is_a_mistake_and_a_check_is_not() {
    let rules = [source("rules.yaml", "")];
    assert!(load(&rules, LoadOptions::rules_only()).is_ok());
    let report = report(&rules, LoadOptions::default());
    assert_eq!(
        report.to_string(),
        "rules.yaml: no document of kind Sidecar; add one: it says which app this is and where to listen"
    );
    assert!(load(&[], LoadOptions::default()).is_err());
}

#[test]
fn names_declared_in_another_file_are_known() {
    let sidecar = source(
        "sidecar.yaml",
        "apiVersion: raddle.io/v1\nkind: Sidecar\nmetadata: {name: s}\n\
         spec: {app: a, outbound: [{listen: '127.0.0.1:1', protocol: tcp, service: db}]}\n",
    );
    let service = |name: &str| {
        let text = "apiVersion: raddle.io/v1\nkind: Service\nmetadata: {name: db}\n\
                    spec: {app: b, endpoints: [{address: '10.0.0.1:1'}]}\n";
        source(name, text)
    };
    let (_, warnings) =
        load(&[sidecar.clone(), service("x.yaml")], LoadOptions::default()).expect("it is right");
    assert_eq!(warnings, []);
    let twice = report(&[sidecar, service("x.yaml"), service("y.yaml")], LoadOptions::default());
    assert_eq!(
        twice.to_string(),
        "y.yaml:3:18: metadata.name: Service \"db\" is declared at x.yaml:3:18 already; give each its own name"
    );
}

#[test]
fn a_cluster_limit_where_nobody_counts_it_is_warned_of_and_elsewhere_is_not() {
    let rated = |scope: &str, rate: u32| {
        let head = "apiVersion: raddle.io/v1\nkind: RateLimit\nmetadata: {name: all}\n";
        source(
            "rule.yaml",
            &format!("{head}spec: {{scope: {{apps: [{scope}]}}, rate: {rate}, reach: cluster}}\n"),
        )
    };
    let rule = |scope: &str| rated(scope, 9);
    let sidecar = |control: &str| {
        let head = "apiVersion: raddle.io/v1\nkind: Sidecar\nmetadata: {name: s}\n";
        let inbound = "inbound: [{listen: '127.0.0.1:1', forward: '127.0.0.1:2'}]";
        source("sidecar.yaml", &format!("{head}spec: {{app: a, {inbound}{control}}}\n"))
    };
    let warned = |sources: &[Source]| -> Vec<String> {
        let (_, warnings) = load(sources, LoadOptions::rules_only()).expect("it is right");
        warnings.iter().filter(|w| w.path == "spec.reach").map(ToString::to_string).collect()
    };
    assert_eq!(
        warned(&[sidecar(""), rule("a")]),
        [
            "rule.yaml:1:1: spec.reach: the control plane counts such a rule, and this sidecar has none: everything passes; \
          give the Sidecar a controlPlane, or leave reach out: it then counts by itself"
        ]
    );
    assert!(warned(&[sidecar(""), rule("b")]).is_empty(), "it is another app's");
    assert!(warned(&[sidecar(""), rated("a", 0)]).is_empty(), "of none nothing need be counted");
    assert!(warned(&[rule("a")]).is_empty(), "it is for the control plane");
    let control = ", controlPlane: {addresses: ['127.0.0.1:7070']}";
    assert!(warned(&[sidecar(control), rule("a")]).is_empty());
}

#[test]
fn a_flood_of_mistakes_is_cut_off_and_counted() {
    let text = "a: b\n---\n".repeat(50);
    let opts = LoadOptions { max_mistakes: 10, ..LoadOptions::rules_only() };
    let report = report(&[source("many.yaml", &text)], opts);
    assert_eq!(report.mistakes.len(), 11);
    assert_eq!(report.mistakes[10].to_string(), "40 more mistakes are not shown; mend these first");
}

#[test]
fn json_is_read_like_yaml() {
    let text = r#"{"apiVersion": "raddle.io/v1", "kind": "Service", "metadata": {"name": "s"},
        "spec": {"app": "a", "endpoints": [{"address": "10.0.0.1:1", "weight": 7}]}}"#;
    let (resources, _) = load(&[source("s.json", text)], LoadOptions::rules_only()).expect("it is right");
    assert_eq!(resources.services[0].endpoints[0].weight, 7);
}
