//! What HTTP brings to routing: conditions on path, host and query, what rules do to requests, and services
//! found by host or address.
mod common;
use common::*;
use raddle_core::Protocol;
use raddle_model::{
    Abort, AbortStatus, Actions, Condition, Fault, HeaderMutation, HeaderOps, Matcher, Mirror, PathRewrite,
    PolicySettings, Redirect, Resources, Respond, Rewrite, RouteRule, Subject,
};
use raddle_policy::{Answer, Asked, Decision, Rng, RouteState, Snapshot};
use std::sync::Arc;

fn with(rules: Vec<RouteRule>) -> Snapshot {
    let endpoints = vec![endpoint(0, "default", None, 1), endpoint(1, "g1", None, 1)];
    snapshot(endpoints, vec![route("r", rules)], PolicySettings::default())
}

fn condition(subject: Subject, matcher: Matcher) -> Condition {
    Condition { subject, matcher }
}

fn redirect() -> Actions {
    let redirect =
        Redirect { status: 301, scheme: None, authority: None, path: Some(PathRewrite::Exact("/b".into())) };
    Actions { redirect: Some(redirect), ..Actions::default() }
}

fn rewrite() -> Actions {
    let path = PathRewrite::Prefix { from: "/api".into(), to: "/".into() };
    let rewrite = Rewrite { path: Some(path), authority: Some("orders.internal".into()) };
    let set = HeaderOps { set: vec![("x-env".into(), "gray".into())], ..HeaderOps::default() };
    Actions {
        rewrite: Some(rewrite),
        headers: Some(HeaderMutation { request: set, response: HeaderOps::default() }),
        ..Actions::default()
    }
}

#[test]
fn path_host_and_query_send_requests_like_any_attribute() {
    let to_g1 = |when| RouteRule { when: vec![when], send: to_group("g1"), ..rule() };
    let snap = with(vec![
        to_g1(condition(Subject::Path, Matcher::Prefix("/api/".into()))),
        to_g1(condition(Subject::Authority, Matcher::Equals("gray.shop".into()))),
        to_g1(condition(Subject::Query("debug".into()), Matcher::Exists(true))),
    ]);
    let rule_of = |req: &Request| decide_once(only(&snap), req).1;
    let base = || Request { path: Some("/x".into()), authority: Some("shop".into()), ..Request::default() };
    assert_eq!(rule_of(&base()), "-");
    assert_eq!(rule_of(&Request { path: Some("/api/x".into()), ..base() }), "r/0");
    assert_eq!(rule_of(&Request { authority: Some("gray.shop".into()), ..base() }), "r/1");
    let query = [("debug".to_owned(), String::new())].into();
    assert_eq!(rule_of(&Request { query, ..base() }), "r/2");
    assert_eq!(rule_of(&Request::default()), "-", "an RPC request has none of them");
}

#[test]
fn many_rules_by_path_are_found_like_few() {
    let rules = (0..200).map(|i| RouteRule {
        when: vec![condition(Subject::Path, Matcher::Equals(format!("/p{i}")))],
        send: to_group("g1"),
        ..rule()
    });
    let snap = with(rules.collect());
    for i in [0, 57, 199] {
        let req = Request { path: Some(format!("/p{i}")), ..Request::default() };
        assert_eq!(decide_once(only(&snap), &req).1, format!("r/{i}"));
    }
}

#[test]
fn a_rule_that_answers_asks_no_endpoint() {
    let respond = Respond { status: 418, headers: Vec::new(), body: "tea".into() };
    let respond = Actions { respond: Some(respond), ..Actions::default() };
    let snap = with(vec![
        RouteRule { when: vec![header_is("a", "b")], actions: redirect(), ..rule() },
        RouteRule { actions: respond, ..rule() },
    ]);
    // Neither health nor ifEmpty has a say.
    for host in snap.hosts() {
        host.set_health(raddle_policy::Health::Unhealthy, raddle_core::Time::ZERO);
    }
    assert_eq!(decide_once(only(&snap), &request(&[("a", "b")])), ("301".into(), "r/0".into()));
    assert_eq!(decide_once(only(&snap), &request(&[])), ("418".into(), "r/1".into()));
    match only(&snap).route(&request(&[]), &mut RouteState::default(), &mut Rng::new(1)) {
        Decision::Answer { answer: Answer::Respond(respond), .. } => assert_eq!(respond.body, "tea"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_share_of_requests_can_be_answered() {
    let snap = with(vec![RouteRule { percent_ppm: 250_000, actions: redirect(), ..rule() }]);
    let (mut state, mut rng) = (RouteState::default(), Rng::new(3));
    let answered =
        (0..1000).filter(|_| decide(only(&snap), &request(&[]), &mut state, &mut rng).0 == "301").count();
    assert!((249..=251).contains(&answered), "{answered}");
}

#[test]
fn what_a_rule_does_comes_with_the_decision_and_only_with_its_own() {
    let snap = with(vec![
        RouteRule { when: vec![header_is("a", "b")], actions: rewrite(), send: to_group("g1"), ..rule() },
        RouteRule { when: vec![header_is("a", "c")], send: to_group("g1"), ..rule() },
    ]);
    let actions = |value: &str| match only(&snap).route(
        &request(&[("a", value)]),
        &mut RouteState::default(),
        &mut Rng::new(1),
    ) {
        Decision::Send { actions, .. } => actions.map(|a| {
            let mut path = Vec::new();
            let rewrite = a.rewrite.as_ref().expect("it rewrites");
            assert!(rewrite.path(b"/api/x?y", &mut path));
            assert_eq!(a.headers.request.set, [("x-env".to_owned(), "gray".to_owned())]);
            (String::from_utf8(path).unwrap(), rewrite.authority.as_deref().map(str::to_owned))
        }),
        other => panic!("{other:?}"),
    };
    assert_eq!(actions("b"), Some(("/x?y".into(), Some("orders.internal".into()))));
    assert_eq!(actions("c"), None, "a rule that does nothing");
    assert_eq!(actions("d"), None, "no rule");
}

#[test]
fn a_changed_action_makes_the_route_anew_and_an_equal_one_does_not() {
    let res = |actions| {
        let rules = vec![RouteRule { actions, ..rule() }];
        resources(weighted(&[1]), vec![route("r", rules)], PolicySettings::default())
    };
    let old = Snapshot::compile(res(rewrite()), None);
    let same = Snapshot::compile(res(rewrite()), Some(&old));
    assert!(Arc::ptr_eq(only(&old), only(&same)));
    let other = Snapshot::compile(res(redirect()), Some(&old));
    assert!(!Arc::ptr_eq(only(&old), only(&other)));
}

fn hosts(services: &[(&str, &[&str])]) -> Snapshot {
    let services = services.iter().zip(0..).map(|((name, hosts), i)| raddle_model::Service {
        hosts: hosts.iter().map(ToString::to_string).collect(),
        ..service(name, vec![endpoint(i, "default", None, 1)])
    });
    Snapshot::compile(Resources { services: services.collect(), ..Resources::default() }, None)
}

#[test]
fn a_host_means_the_service_it_names_best() {
    let snap = hosts(&[
        ("orders.shop", &["api.example"]),
        ("orders.shop:8080", &[]),
        ("Pay.Shop", &["*.example", "[::1]"]),
        ("wide", &["*.deep.example", "orders.shop"]),
    ]);
    for (authority, service) in [
        ("orders.shop", "orders.shop"),
        ("orders.shop:8080", "orders.shop:8080"),
        ("orders.shop:9090", "orders.shop"),
        ("ORDERS.Shop.:9090", "orders.shop"),
        ("pay.shop", "Pay.Shop"),
        ("Pay.Shop:80", "Pay.Shop"),
        ("api.example", "orders.shop"),
        ("API.example:443", "orders.shop"),
        ("other.example", "Pay.Shop"),
        ("a.b.example", "Pay.Shop"),
        ("a.deep.example", "wide"),
        ("a.b.deep.example:1", "wide"),
        ("deep.example", "Pay.Shop"),
        ("[::1]:80", "Pay.Shop"),
        ("[::1]", "Pay.Shop"),
        ("example", "-"),
        (".example", "-"),
        ("", "-"),
        (":80", "-"),
        ("orders.shop.evil", "-"),
    ] {
        let found = snap.service_for_host(authority.as_bytes()).map_or("-", |s| &*s.name);
        assert_eq!(found, service, "{authority}");
    }
    assert!(snap.service_for_host(&[b'a'; 10_000]).is_none());
    assert!(snap.service_for_host(b"\xff\0").is_none());
}

#[test]
fn hosts_may_move_from_one_service_to_another() {
    let old = hosts(&[("a", &["x"]), ("b", &[])]);
    let services =
        [("a", vec![]), ("b", vec!["x".to_owned()])].into_iter().zip(0..).map(|((name, hosts), i)| {
            raddle_model::Service { hosts, ..service(name, vec![endpoint(i, "default", None, 1)]) }
        });
    let new =
        Snapshot::compile(Resources { services: services.collect(), ..Resources::default() }, Some(&old));
    assert_eq!(&*old.service_for_host(b"x").unwrap().name, "a");
    assert_eq!(&*new.service_for_host(b"x").unwrap().name, "b");
}

#[test]
fn an_address_means_the_first_service_that_lists_it() {
    let res = || {
        let services = vec![
            service("a", vec![endpoint(1, "default", None, 1)]),
            service("b", vec![endpoint(1, "default", None, 1), endpoint(2, "gray", None, 0)]),
        ];
        Resources { services, ..Resources::default() }
    };
    let old = Snapshot::compile(res(), None);
    // A second time services and hosts are those of before.
    for snap in [&old, &Snapshot::compile(res(), Some(&old))] {
        let at = |addr| snap.service_at(addr).map(|s| s.name.to_string());
        assert_eq!(at(addr(1)).as_deref(), Some("a"));
        assert_eq!(at(addr(2)).as_deref(), Some("b"));
        assert_eq!(at(addr(3)), None);
        assert_eq!(at("[::ffff:10.0.0.1]:12200".parse().unwrap()).as_deref(), Some("a"));
    }
}

#[test]
fn a_service_on_the_fly_sends_everything_to_its_address() {
    let make = |addr| raddle_policy::Service::single("passthrough", "-", addr, Some(Protocol::Tcp));
    let (one, again, other) = (make(addr(1)), make(addr(1)), make(addr(2)));
    assert_eq!((one.id, one.revision), (again.id, again.revision));
    assert_ne!(one.id, other.id);
    let known = hosts(&[("a", &[])]);
    assert!(known.services().all(|s| s.id < one.id), "no service of a snapshot has its id");
    let six = |addr: &str| make(addr.parse().unwrap()).id;
    assert_ne!(six("[::1]:80"), six("[::1]:81"));
    assert_ne!(six("[::1]:80"), six("[::2]:80"));
    assert_eq!(decide_once(&one, &request(&[])), ("default".into(), "-".into()));
    assert_eq!(one.endpoints[0].host.addr, addr(1));
    assert_eq!(one.protocol, Some(Protocol::Tcp));
    assert_eq!(one.default_subset().members.to_vec(), [0]);
}

#[test]
fn an_explanation_says_what_is_done_and_what_is_answered() {
    let fault =
        Fault { delay: None, abort: Some(Abort { status: AbortStatus::Grpc(14), percent_ppm: 10_000 }) };
    let mirror = Mirror { service: "shadow".into(), percent_ppm: 1_000_000 };
    let snap = with(vec![
        RouteRule { percent_ppm: 500_000, actions: redirect(), ..rule() },
        RouteRule { actions: Actions { fault: Some(fault), mirror: Some(mirror), ..rewrite() }, ..rule() },
    ]);
    let asked = Asked {
        service: "s".into(),
        path: Some("/api/x?y=z".into()),
        authority: Some("shop".into()),
        ..Asked::default()
    };
    let told = only(&snap).explain(&asked);
    let [answered, sent] = told.outcomes.as_slice() else { panic!("{:?}", told.outcomes) };
    assert!(answered.answered && answered.endpoints.is_empty());
    assert_eq!(answered.does, ["redirected with 301 to /b"]);
    assert!((answered.share - 0.5).abs() < 1e-9 && (sent.share - 0.5).abs() < 1e-9);
    assert_eq!(
        sent.does,
        [
            "1 % fails with FI, gRPC UNAVAILABLE",
            "is copied to service shadow",
            "path /api/x becomes /x",
            "authority becomes orders.internal",
            "header x-env becomes \"gray\"",
        ]
    );
    assert!(told.rules[0].actions.is_some());
    let text = serde_json::to_string(&told.rules[0].actions).unwrap();
    assert!(text.contains("\"redirect\":{\"status\":301") && !text.contains("mirror"), "{text}");
}
