use super::*;
use raddle_model::Endpoint;

fn service(name: &str, ports: &[u16]) -> Service {
    let endpoint = |port: &u16| Endpoint {
        address: ([127, 0, 0, 1], *port).into(),
        unit: None,
        group: "default".into(),
        weight: 100,
        labels: Default::default(),
        tls: None,
    };
    Service {
        metadata: raddle_model::Metadata { name: name.into(), ..Default::default() },
        app: "shop".into(),
        protocol: None,
        hosts: vec![format!("{name}.internal")],
        endpoints: ports.iter().map(endpoint).collect(),
    }
}

fn compile(fed: &mut Fed, old: Option<&Snapshot>, own: &[&str]) -> Snapshot {
    let mut resources =
        Resources { services: own.iter().map(|n| service(n, &[1])).collect(), ..Resources::default() };
    let names = own.iter().map(|n| Arc::from(*n)).collect();
    let inputs = fed.merge(&mut resources, &names, old);
    let snapshot = Snapshot::compile_fed(resources, inputs, old, raddle_core::Time::ZERO);
    fed.settled();
    snapshot
}

fn update(name: &str, s: Option<Service>) -> Update {
    Update { services: vec![(name.into(), s)], ..Update::default() }
}

fn rule(id: &str, json: &str) -> Update {
    let doc = RuleDoc { revision: "0123456789abcdef".into(), json: json.into() };
    Update { rules: vec![(id.into(), Some(doc))], ..Update::default() }
}

const GOOD: &str = r#"{"apiVersion":"raddle.io/v1","kind":"TrafficPolicy","metadata":{"name":"calm"},
    "spec":{"to":{"services":["a"]},"timeouts":{"request":"5s"}}}"#;

#[test]
fn a_service_that_did_not_change_keeps_its_compilation() {
    let mut fed = Fed::default();
    fed.take(update("a", Some(service("a", &[1, 2]))));
    fed.take(update("b", Some(service("b", &[3]))));
    let one = compile(&mut fed, None, &[]);
    fed.take(update("b", Some(service("b", &[3, 4]))));
    let two = compile(&mut fed, Some(&one), &[]);
    let of = |s: &Snapshot, n: &str| s.service(n.as_bytes()).cloned().expect("it is there");
    assert!(Arc::ptr_eq(&of(&one, "a"), &of(&two, "a")));
    assert_eq!(of(&two, "b").endpoints.len(), 2);
    assert_eq!(of(&one, "b").id, of(&two, "b").id);
    assert!(two.service_for_host(b"a.internal:80").is_some());
    fed.take(update("a", None));
    assert!(compile(&mut fed, Some(&two), &[]).service(b"a").is_none());
}

#[test]
fn a_file_hides_a_service_of_the_same_name_and_gives_it_back() {
    let mut fed = Fed::default();
    fed.take(update("a", Some(service("a", &[1, 2, 3]))));
    let ends = |s: &Snapshot| s.service(b"a").map_or(0, |s| s.endpoints.len());
    let one = compile(&mut fed, None, &[]);
    let two = compile(&mut fed, Some(&one), &["a"]);
    assert_eq!((ends(&one), ends(&two)), (3, 1));
    assert_eq!(fed.shadowed(), ["a"]);
    let three = compile(&mut fed, Some(&two), &[]);
    assert_eq!(ends(&three), 3);
}

#[test]
fn a_bad_rule_is_refused_alone_and_the_one_before_stays() {
    let mut fed = Fed::default();
    assert!(fed.take(rule("TrafficPolicy/calm", GOOD)).is_empty());
    let bad = GOOD.replace("5s", "5 parsecs");
    let refused = fed.take(rule("TrafficPolicy/calm", &bad));
    assert_eq!(refused.len(), 1);
    assert!(refused[0].reason.contains("spec.timeouts.request"), "{}", refused[0].reason);
    assert_eq!(fed.running().len(), 1);
    fed.take(update("a", Some(service("a", &[1]))));
    let s = compile(&mut fed, None, &[]);
    assert_eq!(
        s.service(b"a").and_then(|s| s.policy.name.as_deref().map(str::to_owned)).as_deref(),
        Some("calm")
    );
}

#[test]
fn a_rule_is_what_it_was_sent_as() {
    let mut fed = Fed::default();
    for (id, json) in [
        ("Route/calm", GOOD.to_owned()),
        ("TrafficPolicy/other", GOOD.to_owned()),
        ("TrafficPolicy/calm", format!("{GOOD}\n---\n{GOOD}")),
        ("TrafficPolicy/calm", String::new()),
        (
            "Service/a",
            r#"{"apiVersion":"raddle.io/v1","kind":"Service","metadata":{"name":"a"},"spec":{"app":"x"}}"#
                .into(),
        ),
    ] {
        assert_eq!(fed.take(rule(id, &json)).len(), 1, "{id}: {json}");
    }
    assert!(fed.running().is_empty());
}

const LINK: &str = r#"{"apiVersion":"raddle.io/v1","kind":"LinkEncryption","metadata":{"name":"pay"},
    "spec":{"mode":"permissive"}}"#;
const ACCESS: &str = r#"{"apiVersion":"raddle.io/v1","kind":"Authorization","metadata":{"name":"pay"},
    "spec":{"action":"deny","rules":[{"when":{"callerApp":"evil"}}]}}"#;

#[test]
fn link_encryption_comes_into_force_and_goes_again() {
    let mut fed = Fed::default();
    assert!(fed.take(rule("LinkEncryption/pay", LINK)).is_empty());
    let one = compile(&mut fed, None, &[]);
    assert_eq!(one.link().rule.as_deref(), Some("pay"));
    assert_eq!(one.link().settings.mode, raddle_model::LinkMode::Permissive);
    fed.take(Update { rules: vec![("LinkEncryption/pay".into(), None)], ..Update::default() });
    let two = compile(&mut fed, Some(&one), &[]);
    assert_eq!(two.link().rule, None);
    assert_eq!(two.link().settings.mode, raddle_model::LinkMode::Disable);
}

#[test]
fn rules_of_different_kinds_may_have_one_name_and_a_file_hides_its_own_kind_only() {
    let mut fed = Fed::default();
    let refused = fed.take(rule("Authorization/pay", ACCESS));
    assert!(refused.is_empty(), "{refused:?}");
    assert!(fed.take(rule("LinkEncryption/pay", LINK)).is_empty());
    let mut files = Resources::default();
    fed.merge(&mut files, &HashSet::new(), None);
    assert_eq!((files.encryption.len(), files.authorization.len()), (1, 1));
    let mut files = Resources { encryption: files.encryption, ..Resources::default() };
    fed.merge(&mut files, &HashSet::new(), None);
    assert_eq!((files.encryption.len(), files.authorization.len()), (1, 1));
    let running: Vec<_> = fed.running().into_iter().map(|r| r.rule.to_string()).collect();
    assert_eq!(running, ["Authorization/pay"], "the file's link encryption is used");
}
