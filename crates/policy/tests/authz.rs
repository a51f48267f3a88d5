//! `Authorization`: what each part of it means, and that the index decides as a naive reading of the rules does.
mod common;
use common::named;
use proptest::prelude::*;
use raddle_model::{
    AuthAction, AuthClause, AuthCondition, AuthSubject, Authorization, Cidr, Matcher, Resources, RuleMode,
    Scope,
};
use raddle_policy::Snapshot;
use raddle_policy::authz::{
    Asked, Caller, Cost, Facts, Identity, NO_ALLOW_RULE, Names, Refusal, Rules, UNCLEAR, Unclear, Verdict,
    is_plain,
};
use std::sync::Arc;

fn text(subject: AuthSubject, matcher: Matcher) -> AuthCondition {
    AuthCondition::Text { subject, matcher }
}

fn is(subject: AuthSubject, value: &str) -> AuthCondition {
    text(subject, Matcher::Equals(value.into()))
}

fn from(block: &str) -> AuthCondition {
    AuthCondition::Source { blocks: vec![block.parse().expect("a block")], inside: true }
}

fn rule(name: &str, action: AuthAction, clauses: Vec<Vec<AuthCondition>>) -> Authorization {
    Authorization {
        metadata: named(name),
        scope: Scope::default(),
        rollout: None,
        action,
        mode: RuleMode::Enforce,
        explain: false,
        rules: clauses.into_iter().map(|when| AuthClause { name: None, when }).collect(),
    }
}

fn observed(rule: Authorization) -> Authorization {
    Authorization { mode: RuleMode::Observe, ..rule }
}

fn compiled(rules: &[Authorization]) -> Arc<Rules> {
    let resources = Resources { authorization: rules.to_vec(), ..Resources::default() };
    Snapshot::compile(resources, None).authorization().clone()
}

fn shop() -> Option<Identity> {
    Some(Identity { app: "shop".into(), unit: "u1".into(), id: "spiffe://mesh/unit/u1/app/shop".into() })
}

fn call(service: &str, method: &str) -> Asked {
    Asked {
        caller: shop(),
        source: Some("10.0.0.7".parse().expect("an address")),
        service: Some(service.into()),
        method: Some(method.into()),
        ..Asked::default()
    }
}

/// `+BY` if it passes, `-WHAT` if it is refused, with `?WHAT` behind if something was observed.
fn said(rules: &[Authorization], asked: &Asked) -> String {
    say(&compiled(rules).judge(asked))
}

fn say(verdict: &Verdict<'_>) -> String {
    match verdict {
        Verdict::Refuse(r) => format!("-{}", r.text()),
        Verdict::Pass { by, observed } => {
            let by = by.map_or("", |c| &*c.text);
            let observed = observed.map_or_else(String::new, |o| format!(" ?{}", o.text()));
            format!("+{by}{observed}")
        }
    }
}

use AuthAction::{Allow, Deny};
use AuthSubject::{Authority, CallerApp, CallerId, CallerUnit, Header, Method, Path, Service};

#[test]
fn without_rules_everything_passes() {
    assert!(compiled(&[]).is_empty());
    assert_eq!(said(&[], &Asked::default()), "+");
}

#[test]
fn what_is_denied_is_refused_whatever_allows_it() {
    let rules = [
        rule("all", Allow, vec![vec![]]),
        rule("no-refunds", Deny, vec![vec![is(Service, "a.Pay:1.0"), is(Method, "refund")]]),
    ];
    assert_eq!(said(&rules, &call("a.Pay:1.0", "refund")), "-Authorization/no-refunds/0");
    assert_eq!(said(&rules, &call("a.Pay:1.0", "pay")), "+Authorization/all/0");
}

#[test]
fn once_a_rule_allows_what_none_takes_is_refused_and_the_rules_are_named() {
    let mut rules = vec![rule("shop", Allow, vec![vec![is(CallerApp, "shop")], vec![is(CallerApp, "cart")]])];
    assert_eq!(said(&rules, &call("s", "m")), "+Authorization/shop/0");
    let stranger = Asked { caller: None, ..call("s", "m") };
    assert_eq!(said(&rules, &stranger), "-Authorization (no allow rule takes it: shop)");
    for i in 0..9 {
        rules.push(rule(&format!("r{i}"), Allow, vec![vec![is(CallerApp, "x")]]));
    }
    assert_eq!(
        said(&rules, &stranger),
        "-Authorization (no allow rule takes it: shop, r0, r1, r2, r3, r4, r5, r6 and 2 more)"
    );
}

#[test]
fn nothing_that_asks_for_an_identity_holds_for_a_caller_without_one() {
    let nobody = Asked { caller: None, ..call("s", "m") };
    for subject in [CallerApp, CallerUnit, CallerId] {
        for matcher in [
            Matcher::NotEquals("x".into()),
            Matcher::NotIn(vec!["x".into()]),
            Matcher::Exists(false),
            Matcher::Exists(true),
            Matcher::Prefix(String::new()),
        ] {
            let rules = [rule("r", Deny, vec![vec![text(subject.clone(), matcher.clone())]])];
            assert_eq!(said(&rules, &nobody), "+", "{subject:?} {matcher:?}");
        }
    }
    // A header that says an app is no identity.
    let forged = Asked { headers: vec![("app".into(), "shop".into())], ..nobody };
    assert_eq!(said(&[rule("r", Deny, vec![vec![is(CallerApp, "shop")]])], &forged), "+");
}

#[test]
fn an_absent_header_is_as_in_routes() {
    let header = || Header("tier".into());
    let denies =
        |matcher| said(&[rule("r", Deny, vec![vec![text(header(), matcher)]])], &call("s", "m")) != "+";
    assert!(denies(Matcher::NotEquals("gold".into())) && denies(Matcher::Exists(false)));
    assert!(!denies(Matcher::Equals(String::new())) && !denies(Matcher::Exists(true)));
}

#[test]
fn a_header_sent_several_times_cannot_hide_a_value() {
    let sent = |values: &[&str]| Asked {
        headers: values.iter().map(|v| ("role".to_owned(), (*v).to_owned())).collect(),
        ..call("s", "m")
    };
    let role = |m| text(Header("role".into()), m);
    let deny = [rule("r", Deny, vec![vec![role(Matcher::Equals("admin".into()))]])];
    assert_ne!(said(&deny, &sent(&["user", "admin"])), "+");
    assert_ne!(said(&deny, &sent(&["admin", "user"])), "+");
    let only = [rule("r", Allow, vec![vec![role(Matcher::NotEquals("admin".into()))]])];
    assert!(said(&only, &sent(&["user", "admin"])).starts_with('-'));
    assert!(said(&only, &sent(&["user"])).starts_with('+'));
}

#[test]
fn sources_are_blocks_and_an_unknown_one_lies_in_and_outside_of_none() {
    let inside = [rule("r", Deny, vec![vec![from("10.0.0.0/8")]])];
    let outside =
        AuthCondition::Source { blocks: vec!["10.0.0.0/8".parse::<Cidr>().expect("a block")], inside: false };
    let outside = [rule("r", Deny, vec![vec![outside]])];
    let at =
        |ip: Option<&str>| Asked { source: ip.map(|i| i.parse().expect("an address")), ..call("s", "m") };
    assert_ne!(said(&inside, &at(Some("10.1.2.3"))), "+");
    assert_ne!(said(&inside, &at(Some("::ffff:10.1.2.3"))), "+");
    assert_eq!(said(&inside, &at(Some("11.0.0.1"))), "+");
    assert_ne!(said(&outside, &at(Some("11.0.0.1"))), "+");
    assert_eq!((said(&inside, &at(None)), said(&outside, &at(None))), ("+".into(), "+".into()));
}

#[test]
fn hosts_are_compared_without_case_and_with_or_without_port() {
    let asked = |host: &str| Asked { authority: Some(host.into()), ..call("s", "GET") };
    let deny = [rule("r", Deny, vec![vec![is(Authority, "Pay.Shop")]])];
    for host in ["pay.shop", "PAY.shop:80", "pay.shop.", "pay.shop.:80"] {
        assert_ne!(said(&deny, &asked(host)), "+", "{host}");
    }
    let others = [rule("r", Deny, vec![vec![text(Authority, Matcher::NotEquals("pay.shop".into()))]])];
    assert_eq!(said(&others, &asked("Pay.shop:80")), "+");
    assert_ne!(said(&others, &asked("pay.shops")), "+");
}

#[test]
fn observed_rules_refuse_nothing_and_are_no_reason_that_others_must_allow() {
    let deny = observed(rule("watch", Deny, vec![vec![is(Method, "refund")]]));
    let allow = observed(rule("only-cart", Allow, vec![vec![is(CallerApp, "cart")]]));
    assert_eq!(said(std::slice::from_ref(&deny), &call("s", "refund")), "+ ?Authorization/watch/0");
    assert_eq!(said(std::slice::from_ref(&deny), &call("s", "pay")), "+");
    let none = "Authorization (no allow rule takes it: only-cart)";
    assert_eq!(said(std::slice::from_ref(&allow), &call("s", "m")), format!("+ ?{none}"));
    // What a rule in force allows needs no other.
    let shop = rule("shop", Allow, vec![vec![is(CallerApp, "shop")]]);
    assert_eq!(said(&[allow.clone(), shop.clone()], &call("s", "m")), "+Authorization/shop/0");
    let both = compiled(&[allow.clone(), shop]);
    let stranger = Asked { caller: None, ..call("s", "m") };
    assert!(matches!(both.judge(&stranger), Verdict::Refuse(Refusal::NotAllowed(_))));
    // An observation is counted under the rules that would refuse; a refusal under no rule's name.
    let labels = |v: Verdict<'_>| -> Vec<String> {
        let refusal = match v {
            Verdict::Refuse(r) | Verdict::Pass { observed: Some(r), .. } => r,
            Verdict::Pass { .. } => panic!("nothing refuses it"),
        };
        refusal.labels().map(str::to_owned).collect()
    };
    assert_eq!(labels(compiled(&[allow]).judge(&stranger)), ["only-cart"]);
    assert_eq!(labels(both.judge(&stranger)), [NO_ALLOW_RULE]);
}

#[test]
fn what_might_be_read_otherwise_is_refused_only_where_rules_look_at_it() {
    let by_service = [rule("r", Deny, vec![vec![is(Service, "other")]])];
    let allow_service = [rule("r", Allow, vec![vec![is(Service, "s")], vec![is(CallerApp, "admin")]])];
    let by_app = [rule("r", Deny, vec![vec![is(CallerApp, "other")]])];
    let with = |names| Asked { names, ..call("s", "m") };
    let differ = Verdict::Refuse(Refusal::Unclear(Unclear::Differ));
    assert_eq!(compiled(&by_service).judge(&with(Names::Differ)), differ);
    assert_eq!(compiled(&allow_service).judge(&with(Names::Differ)), differ);
    assert_eq!(said(&by_app, &with(Names::Differ)), "+");
    let hidden = Verdict::Refuse(Refusal::Unclear(Unclear::Hidden));
    assert_eq!(compiled(&by_service).judge(&with(Names::Hidden)), hidden);
    // What allows by a name does not hold; what allows without one does.
    assert!(said(&allow_service, &with(Names::Hidden)).starts_with('-'));
    let admin = Some(Identity { app: "admin".into(), ..Identity::default() });
    let admin = Asked { caller: admin, ..with(Names::Hidden) };
    assert_eq!(said(&allow_service, &admin), "+Authorization/r/1");
    // A method that cannot be read is of no account where rules look at services alone.
    assert_eq!(said(&by_service, &with(Names::NoMethod)), "+");
    assert_eq!(said(&allow_service, &with(Names::NoMethod)), "+Authorization/r/0");
    let by_method = [rule("r", Deny, vec![vec![is(Method, "other")]])];
    assert_eq!(compiled(&by_method).judge(&with(Names::NoMethod)), hidden);
    // Paths.
    let by_path = [rule("r", Deny, vec![vec![text(Path, Matcher::Prefix("/admin".into()))]])];
    let at = |path: &str| Asked { path: Some(path.into()), ..call("s", "GET") };
    for path in ["/%61dmin", "//admin", "/x/../admin", "/x;/../admin"] {
        assert_eq!(
            compiled(&by_path).judge(&at(path)),
            Verdict::Refuse(Refusal::Unclear(Unclear::Path)),
            "{path}"
        );
        assert_eq!(said(&by_app, &at(path)), "+", "{path}");
    }
    assert_eq!(said(&by_path, &at("/shop?to=//admin")), "+");
    let labels: Vec<_> = Refusal::Unclear(Unclear::Path).labels().collect();
    assert_eq!(labels, [UNCLEAR]);
}

#[test]
fn a_caller_is_told_a_rules_name_only_if_the_rule_says_so() {
    let told = |explain| {
        let rules = [
            Authorization { explain, ..rule("secret", Deny, vec![vec![is(Method, "a")]]) },
            Authorization { explain, ..rule("open", Allow, vec![vec![is(Method, "b")]]) },
            rule("quiet", Allow, vec![vec![is(Method, "c")]]),
        ];
        let rules = compiled(&rules);
        ["a", "z"].map(|method| match rules.judge(&call("s", method)) {
            Verdict::Refuse(r) => r.told().map(str::to_owned),
            Verdict::Pass { .. } => panic!("it passes"),
        })
    };
    assert_eq!(told(false), [None, None]);
    let open = "Authorization (no allow rule takes it: open)";
    assert_eq!(told(true), [Some("Authorization/secret/0".into()), Some(open.into())]);
}

#[test]
fn rules_that_did_not_change_stay_the_same_object() {
    let of = |rules: &[Authorization]| Resources { authorization: rules.to_vec(), ..Resources::default() };
    let one = rule("r", Deny, vec![vec![is(Method, "a")]]);
    let first = Snapshot::compile(of(std::slice::from_ref(&one)), None);
    let second = Snapshot::compile(of(std::slice::from_ref(&one)), Some(&first));
    assert!(Arc::ptr_eq(first.authorization(), second.authorization()));
    let other = rule("r", Deny, vec![vec![is(Method, "b")]]);
    let third = Snapshot::compile(of(&[other]), Some(&second));
    assert!(!Arc::ptr_eq(second.authorization(), third.authorization()));
    let elsewhere = Scope { apps: vec!["other".into()], ..Scope::default() };
    let fourth = Snapshot::compile(of(&[Authorization { scope: elsewhere, ..one }]), Some(&third));
    assert!(fourth.authorization().is_empty());
}

#[test]
fn headers_sent_too_often_to_look_at_all_combinations_are_refused_and_not_looked_at() {
    let grid =
        |i: usize| vec![is(Header("a".into()), &format!("a{i}")), is(Header("b".into()), &format!("b{i}"))];
    let rules = compiled(&[rule("r", Deny, (0..1000).map(grid).collect())]);
    let headers = (0..100)
        .flat_map(|i| [("a".to_owned(), format!("x{i}")), ("b".to_owned(), format!("x{i}"))])
        .collect();
    let mut cost = Cost::default();
    let verdict = rules.judge_at(&Asked { headers, ..call("s", "m") }, &mut cost);
    assert_eq!(verdict, Verdict::Refuse(Refusal::Unclear(Unclear::TooMany)));
    assert!(cost.lookups <= 256 && cost.clauses == 0, "{cost:?}");
}

#[test]
fn explaining_says_what_each_condition_asked_and_found() {
    let rules = compiled(&[
        rule("cart", Allow, vec![vec![is(CallerApp, "cart"), is(Service, "s")]]),
        observed(rule("watch", Deny, vec![vec![from("10.0.0.0/8")]])),
    ]);
    let asked = Asked { caller: None, ..call("s", "m") };
    let told = serde_json::to_value(rules.explain(&asked)).expect("plain values");
    assert_eq!(told["allowed"], false);
    assert_eq!(told["by"], "Authorization (no allow rule takes it: cart)");
    let condition = &told["rules"][0]["clauses"][0]["conditions"][0];
    assert_eq!(condition["subject"], "callerApp");
    assert_eq!(condition["matcher"], serde_json::json!({"equals": "cart"}));
    assert_eq!(condition["hidden"], "the caller has no certificate");
    assert_eq!(told["rules"][0]["clauses"][0]["conditions"][1]["found"], serde_json::json!(["s"]));
    assert_eq!(told["rules"][1]["takes"], true);
    assert_eq!(told["rules"][1]["mode"], "observe");
}

/// What a request costs, over all that a mesh of `n` rules is asked.
fn cost(n: usize, rules: impl Fn(usize) -> Authorization, asked: impl Fn(usize) -> Asked) -> Cost {
    let rules = compiled(&(0..n).map(rules).collect::<Vec<_>>());
    let mut cost = Cost::default();
    for i in 0..100 {
        rules.judge_at(&asked((i * 97) % n), &mut cost);
    }
    cost
}

#[test]
fn ten_thousand_rules_cost_a_request_what_ten_do() {
    type Make<'a> = &'a dyn Fn(usize) -> Authorization;
    let app = |i: usize| format!("app{i}");
    let forms: [(&str, Make<'_>); 6] = [
        ("by app", &|i| rule(&app(i), Allow, vec![vec![is(CallerApp, &app(i))]])),
        ("by app and method", &|i| {
            rule(
                &app(i),
                Allow,
                vec![vec![is(CallerApp, &app(i / 100)), is(Method, &format!("m{}", i % 100))]],
            )
        }),
        ("denied by source", &|i| {
            rule(&app(i), Deny, vec![vec![from(&format!("10.{}.{}.0/24", 1 + i / 250, i % 250))]])
        }),
        ("by prefix of the service", &|i| {
            let prefix = Matcher::Prefix(format!("com.app{i:05}."));
            rule(&app(i), Allow, vec![vec![text(Service, prefix)]])
        }),
        ("by one of several apps, and what cannot be looked up", &|i| {
            let apps = Matcher::In((0..5).map(|k| app(i * 5 + k)).collect());
            let other = Matcher::NotEquals("refund".into());
            rule(&app(i), Allow, vec![vec![text(CallerApp, apps), text(Method, other)]])
        }),
        ("mixed", &|i| match i % 4 {
            0 => rule(&app(i), Deny, vec![vec![is(Header("x".into()), &app(i))]]),
            1 => rule(&app(i), Allow, vec![vec![is(Service, "s"), is(CallerApp, &app(i))]]),
            2 => observed(rule(&app(i), Deny, vec![vec![is(CallerId, &app(i))]])),
            _ => rule(&app(i), Allow, vec![vec![is(Method, &app(i))], vec![is(CallerUnit, &app(i))]]),
        }),
    ];
    let asked = |i: usize| Asked {
        caller: Some(Identity { app: app(i), unit: app(i), id: app(i) }),
        headers: vec![("x".into(), app(i))],
        source: Some(format!("10.{}.{}.9", 1 + i / 250, i % 250).parse().expect("an address")),
        ..call(&format!("com.app{i:05}.Pay:1.0"), &format!("m{}", i % 100))
    };
    for (what, make) in forms {
        let (few, many) = (cost(10, make, asked), cost(10_000, make, asked));
        let work = |c: Cost| f64::from(c.lookups + c.clauses);
        println!("{what}: 10 rules {few:?}, 10,000 rules {many:?} (of 100 requests)");
        assert!(work(many) < 1.5 * work(few).max(100.0), "{what}: {few:?} became {many:?}");
    }
}

fn regex(text: &str) -> regex::Regex {
    regex::Regex::new(text).expect("an expression")
}

/// The rules, read as their documentation says, one after another.
mod naive {
    use super::*;

    pub(super) fn judge(rules: &[Authorization], asked: &Asked) -> String {
        let of = |mode, action| rules.iter().filter(move |r| r.mode == mode && r.action == action);
        let side = |mode, allowed: bool| -> Result<String, String> {
            let looks = |subjects: &[AuthSubject], only: Option<AuthAction>| {
                rules
                    .iter()
                    .filter(|r| r.mode == mode && only.is_none_or(|a| r.action == a))
                    .flat_map(|r| r.rules.iter().flat_map(|c| &c.when))
                    .any(|c| matches!(c, AuthCondition::Text { subject, .. } if subjects.contains(subject)))
            };
            let names = looks(&[Service, Method], None);
            if names && asked.names == Names::Differ {
                return Err("Authorization (names differ)".into());
            }
            let hidden: &[AuthSubject] = match asked.names {
                Names::Hidden => &[Service, Method],
                Names::NoMethod => &[Method],
                Names::Clear | Names::Differ => &[],
            };
            if looks(hidden, Some(Deny)) {
                return Err("Authorization (names hidden)".into());
            }
            let path = asked.path.as_deref().map(|p| p.split('?').next().unwrap_or(p));
            if looks(&[Path], None) && path.is_some_and(|p| !is_plain(p.as_bytes())) {
                return Err("Authorization (path unclear)".into());
            }
            if let Some(denied) = of(mode, Deny).find_map(|r| takes(r, asked)) {
                return Err(denied);
            }
            let allows: Vec<&str> = of(mode, Allow).map(|r| r.metadata.name.as_str()).collect();
            if allows.is_empty() || allowed {
                return Ok(String::new());
            }
            of(mode, Allow).find_map(|r| takes(r, asked)).ok_or_else(|| {
                let more =
                    if allows.len() > 8 { format!(" and {} more", allows.len() - 8) } else { String::new() };
                let first: Vec<&str> = allows.into_iter().take(8).collect();
                format!("Authorization (no allow rule takes it: {}{more})", first.join(", "))
            })
        };
        match side(RuleMode::Enforce, false) {
            Err(refused) => format!("-{refused}"),
            Ok(by) => match side(RuleMode::Observe, !by.is_empty()) {
                Ok(_) => format!("+{by}"),
                Err(observed) => format!("+{by} ?{observed}"),
            },
        }
    }

    fn takes(rule: &Authorization, asked: &Asked) -> Option<String> {
        let i = rule.rules.iter().position(|c| c.when.iter().all(|c| holds(c, asked)))?;
        Some(format!("Authorization/{}/{i}", rule.metadata.name))
    }

    fn holds(condition: &AuthCondition, asked: &Asked) -> bool {
        match condition {
            AuthCondition::Source { blocks, inside } => {
                asked.source.is_some_and(|ip| blocks.iter().any(|b| b.contains(ip)) == *inside)
            }
            AuthCondition::Text { subject, matcher } => {
                let mut values: Vec<String> = Vec::new();
                if subject.needs_identity() {
                    let Some(Caller { app, unit, id }) = asked.caller() else { return false };
                    let part = match subject {
                        CallerApp => app,
                        CallerUnit => unit,
                        _ => id,
                    };
                    if part.is_empty() {
                        return false;
                    }
                    values.push(part.into());
                } else if *subject == Method && asked.names != Names::Clear
                    || *subject == Service && matches!(asked.names, Names::Hidden | Names::Differ)
                {
                    return false;
                } else {
                    asked.values(subject, &mut |v| values.push(String::from_utf8_lossy(v).into_owned()));
                }
                matches(matcher, &values)
            }
        }
    }

    fn matches(matcher: &Matcher, values: &[String]) -> bool {
        match matcher {
            Matcher::Equals(v) => values.contains(v),
            Matcher::NotEquals(v) => !values.contains(v),
            Matcher::In(vs) => values.iter().any(|v| vs.contains(v)),
            Matcher::NotIn(vs) => !values.iter().any(|v| vs.contains(v)),
            Matcher::Prefix(p) => values.iter().any(|v| v.starts_with(p.as_str())),
            Matcher::Regex(r) => {
                let whole = regex(&format!("^(?:{})$", r.as_str()));
                values.iter().any(|v| whole.is_match(v))
            }
            Matcher::Range { min, max } => {
                values.iter().any(|v| v.parse().is_ok_and(|n: i64| (*min..=*max).contains(&n)))
            }
            Matcher::Exists(wanted) => values.is_empty() != *wanted,
        }
    }
}

/// Values few enough that conditions hold now and then.
fn value() -> impl Strategy<Value = String> {
    prop_oneof!["[ab]{0,2}", "[0-3]", Just("/a/b".to_owned()), Just("/a/../b".to_owned())]
}

fn subject() -> impl Strategy<Value = AuthSubject> {
    prop_oneof![
        Just(CallerApp),
        Just(CallerUnit),
        Just(CallerId),
        Just(Service),
        Just(Method),
        Just(Path),
        Just(Authority),
        "[hk]".prop_map(Header),
    ]
}

fn matcher() -> impl Strategy<Value = Matcher> {
    prop_oneof![
        4 => value().prop_map(Matcher::Equals),
        1 => value().prop_map(Matcher::NotEquals),
        2 => prop::collection::vec(value(), 1..12).prop_map(Matcher::In),
        1 => prop::collection::vec(value(), 1..4).prop_map(Matcher::NotIn),
        2 => value().prop_map(Matcher::Prefix),
        1 => prop::sample::select(vec!["a|ab", "[ab]*", "a.?"]).prop_map(|r| Matcher::Regex(regex(r))),
        1 => (0..3i64, 0..3i64).prop_map(|(a, b)| Matcher::Range { min: a.min(b), max: a.max(b) }),
        1 => any::<bool>().prop_map(Matcher::Exists),
    ]
}

fn block() -> impl Strategy<Value = Cidr> {
    let v4 = ("10\\.0\\.[01]\\.[0-3]", prop::sample::select(vec![0, 8, 24, 31, 32]));
    let v6 = ("::[0-2]", prop::sample::select(vec![0, 127, 128]));
    prop_oneof![v4, v6].prop_map(|(ip, prefix): (String, u8)| {
        Cidr::new(ip.parse().expect("an address"), prefix).expect("a block")
    })
}

fn condition() -> impl Strategy<Value = AuthCondition> {
    prop_oneof![
        5 => (subject(), matcher()).prop_map(|(s, m)| text(s, m)),
        1 => (prop::collection::vec(block(), 1..4), any::<bool>())
            .prop_map(|(blocks, inside)| AuthCondition::Source { blocks, inside }),
    ]
}

fn rules() -> impl Strategy<Value = Vec<Authorization>> {
    let clause = prop::collection::vec(condition(), 0..4);
    let one = (prop::collection::vec(clause, 1..4), any::<bool>(), prop::bool::weighted(0.3));
    prop::collection::vec(one, 0..30).prop_map(|all| {
        let made = all.into_iter().enumerate().map(|(i, (clauses, deny, watch))| {
            // Rules that take everything would leave nothing to the others: they come late.
            let clauses =
                if i < 10 { clauses.into_iter().filter(|c| c.len() > 1).collect() } else { clauses };
            let made = rule(&format!("r{i}"), if deny { Deny } else { Allow }, clauses);
            if watch { observed(made) } else { made }
        });
        made.collect()
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    let some = || prop::option::of(value());
    let caller = prop::option::of(("[ab]{0,2}", "[ab]{0,1}", "[ab]{0,2}"))
        .prop_map(|c| c.map(|(app, unit, id)| Identity { app, unit, id }));
    let source = prop::option::of(prop_oneof!["10\\.0\\.[01]\\.[0-3]", "::[0-2]"])
        .prop_map(|s| s.map(|s| s.parse().expect("an address")));
    let names = prop_oneof![
        6 => Just(Names::Clear),
        1 => prop::sample::select(vec![Names::Hidden, Names::NoMethod, Names::Differ]),
    ];
    let headers = prop::collection::vec(("[hk]", value()), 0..4);
    (caller, source, (some(), some(), some(), some()), headers, names).prop_map(
        |(caller, source, (service, method, path, authority), headers, names)| Asked {
            caller,
            source,
            service,
            method,
            path,
            authority,
            headers,
            names,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn the_verdict_and_the_rule_named_are_those_of_a_naive_reading(
        rules in rules(),
        asked in prop::collection::vec(asked(), 8),
    ) {
        let compiled = compiled(&rules);
        for asked in asked {
            prop_assert_eq!(say(&compiled.judge(&asked)), naive::judge(&rules, &asked), "{:?}", asked);
            let told = compiled.explain(&asked);
            prop_assert_eq!(told.allowed, naive::judge(&rules, &asked).starts_with('+'));
        }
    }
}
