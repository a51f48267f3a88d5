//! What each limit would say to a request that is only imagined.
use super::Limited;
use super::http::get;
use raddle_testkit::h1::Client;
use raddle_testkit::http::http_server;
use raddle_testkit::{Ask, BoltClient, BoltServer};
use serde_json::Value;

const PAY: &str = "com.test.Pay:1.0";

fn explain(limited: &Limited, query: &str) -> Value {
    limited.admin().json(&format!("/limits/explain?{query}"))
}

/// Rule and word of each step.
fn steps(told: &Value) -> Vec<(&str, &str)> {
    let steps = told["steps"].as_array().expect("steps");
    steps.iter().map(|s| (s["rule"].as_str().unwrap(), s["would"].as_str().unwrap())).collect()
}

#[test]
fn rules_are_told_in_the_order_they_are_asked_with_what_they_would_say_and_nothing_is_counted() {
    let server = BoltServer::echo();
    let rules = [
        ("AdaptiveLimit", "app", "mode: enforce"),
        ("RateLimit", "paced", "rate: 0.02, burst: 1, maxWait: 1m"),
        ("RateLimit", "users", "rate: 0.001, burst: 1, key: {header: user}"),
        ("RateLimit", "pay", "rate: 0.001, burst: 1, when: {method: pay}"),
        ("RateLimit", "list", "rate: 0, when: {method: list}"),
        ("RateLimit", "watch", "mode: observe, concurrency: 0"),
    ];
    let limited = Limited::inbound(server.addr, &rules);
    let ask = "service=com.test.Pay%3A1.0&method=pay&header.user=ann";
    for _ in 0..3 {
        let told = explain(&limited, ask);
        assert_eq!((&told["verdict"], &told["rule"]), (&"pass".into(), &Value::Null), "{told}");
        let all = [
            ("AdaptiveLimit/app", "pass"),
            ("RateLimit/watch", "refuse"),
            ("RateLimit/pay", "pass"),
            ("RateLimit/users", "pass"),
            ("RateLimit/paced", "pass"),
        ];
        assert_eq!(steps(&told), all);
    }
    let mut c = BoltClient::connect(limited.listen);
    assert_eq!(c.call(&Ask::to(PAY).method("pay").header("user", "ann")).head.status, 0);
    let told = explain(&limited, ask);
    assert_eq!((&told["verdict"], &told["rule"]), (&"refuse".into(), &"RateLimit/pay".into()));
    let said: Vec<_> = steps(&told).into_iter().map(|(_, would)| would).collect();
    assert_eq!(said, ["pass", "refuse", "refuse", "refuse", "wait"]);
    let bob = explain(&limited, "service=com.test.Pay%3A1.0&method=query&header.user=bob");
    assert_eq!(steps(&bob)[2], ("RateLimit/users", "pass"));
    assert_eq!(bob["verdict"], "wait");
    let list = explain(&limited, "service=com.test.Pay%3A1.0&method=list");
    assert_eq!((&list["verdict"], steps(&list)[3]), (&"refuse".into(), ("RateLimit/users", "uncounted")));
    // What is said is what happens.
    assert_eq!(c.call(&Ask::to(PAY).method("pay").header("user", "ann")).flag().as_deref(), Some("RL"));
    assert_eq!(c.call(&Ask::to(PAY).method("list")).flag().as_deref(), Some("RL"));
    limited.settles();
}

#[test]
fn a_request_of_http_is_known_by_host_and_path_and_the_outbound_side_has_breakers() {
    let server = http_server(|mut c| while c.request().is_some() && c.ok("answer") {});
    let rule = "rate: 0.001, burst: 1, key: {by: callerIp}, when: {path: {prefix: /pay}}";
    let limited =
        Limited::inbound(server.addr, &[("RateLimit", "ip", rule), ("AdaptiveLimit", "app", "by: method")]);
    let mut c = Client::connect(limited.listen);
    assert_eq!(get(&mut c, "/pay/1", "").status(), 200);
    let told = explain(&limited, "authority=shop:80&method=GET&path=/pay/42&callerIp=127.0.0.1");
    assert_eq!(told["rule"], "RateLimit/ip", "{told}");
    assert!(
        told["steps"][0]["says"].as_str().is_some_and(|s| s.contains("GET /pay/*") || s.contains("looked"))
    );
    let other = explain(&limited, "authority=shop:80&method=GET&path=/pay/42&callerIp=127.0.0.2");
    assert_eq!(other["verdict"], "pass");
    let elsewhere = explain(&limited, "authority=shop&method=GET&path=/list&callerIp=127.0.0.1");
    assert_eq!(steps(&elsewhere).len(), 1, "{elsewhere}");
    assert!(limited.admin().get("/limits/explain?side=up&service=a").contains("side: up is not known here"));

    let callee = BoltServer::echo();
    let hand = [("CircuitBreaker", "hand", "per: service, state: open")];
    let limited = Limited::outbound(PAY, &[callee.addr], &hand);
    let told = explain(&limited, "service=com.test.Pay%3A1.0&side=outbound");
    assert_eq!((&told["verdict"], steps(&told)), (&"refuse".into(), vec![("CircuitBreaker/hand", "refuse")]));
    let inbound = explain(&limited, "service=com.test.Pay%3A1.0");
    assert_eq!((&inbound["verdict"], steps(&inbound)), (&"pass".into(), vec![]));
}
