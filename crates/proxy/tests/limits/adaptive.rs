//! Adaptive limiting, with a load of the app that is only pretended.
use super::Limited;
use super::http::get;
use raddle_policy::limit::adaptive::Sample;
use raddle_testkit::h1::Client;
use raddle_testkit::http::http_server;
use raddle_testkit::{Ask, BoltClient, BoltServer, DubboAsk, DubboClient, DubboServer, until};
use std::sync::Arc;
use std::time::Duration;

const PAY: &str = "com.test.Pay:1.0";
const SOME_SECONDS: Duration = Duration::from_secs(30);

fn pretend(limited: &Limited, cpu: f64) {
    let limiting = limited.running.sidecar().shared().limits.load_full().expect("there is a rule");
    limiting.pretended.store(Some(Arc::new(Sample { cpu, cores: 1.0, ..Sample::default() })));
}

#[test]
fn load_test_traffic_goes_first_when_the_app_is_short() {
    let server = BoltServer::echo();
    let limited = Limited::inbound(server.addr, &[("AdaptiveLimit", "app", "mode: enforce")]);
    let mut c = BoltClient::connect(limited.listen);
    let marked = Ask::to(PAY).method("pay").header("shadowTest", "T");
    pretend(&limited, 0.2);
    assert_eq!(c.call(&marked).flag(), None);
    pretend(&limited, 1.0);
    until(SOME_SECONDS, "marked requests are held", || c.call(&marked).flag().as_deref() == Some("AL"));
    let held = c.call(&marked);
    assert_eq!((held.head.status, held.header("raddle-rule").as_deref()), (4, Some("AdaptiveLimit/app")));
    assert_eq!(c.call(&Ask::to(PAY).method("pay")).flag(), None, "what people wait for passes");
    assert_eq!(limited.line("AdaptiveLimit/app")["flag"], "AL");
    limited.settles();
    let page = limited.admin().json("/limits");
    assert_eq!(
        (&page["adaptive"]["rule"], &page["adaptive"]["active"]),
        (&"AdaptiveLimit/app".into(), &true.into())
    );
    let active = |name| limited.admin().metric(&format!("raddle_adaptive_limit_{name}"), &[]);
    assert_eq!((active("active"), active("would_be_active")), (1, 0));
    assert!(limited.admin().get("/limits?format=text").contains("AdaptiveLimit/app"));
    // A change of the rule forgets nothing: it is still held.
    limited.rules(&[("AdaptiveLimit", "app", "threshold: 0.7")]);
    assert_eq!(c.call(&marked).flag().as_deref(), Some("AL"));
}

#[test]
fn an_observed_rule_holds_nothing_and_counts() {
    let server = http_server(|mut c| while c.request().is_some() && c.ok("answer") {});
    let limited = Limited::inbound(server.addr, &[("AdaptiveLimit", "app", "mode: observe")]);
    pretend(&limited, 1.0);
    let mut c = Client::connect(limited.listen);
    until(SOME_SECONDS, "it would hold something", || {
        assert_eq!(get(&mut c, "/users/42", "shadowTest: T\r\n").status(), 200);
        limited.observed("AdaptiveLimit/app") > 0
    });
    limited.line("observed:AdaptiveLimit/app");
    assert_eq!(limited.held("AdaptiveLimit/app"), 0);
    let active = |name| limited.admin().metric(&format!("raddle_adaptive_limit_{name}"), &[]);
    limited.admin().until_metric("raddle_adaptive_limit_would_be_active", &[], |n| n == 1);
    assert_eq!(active("active"), 0);
    // Nobody is told that something was done.
    let page = limited.admin().get("/limits?format=text");
    assert!(page.contains("would hold") && !page.contains(" holds "), "{page}");
    let explained = limited.admin().json("/limits/explain");
    assert_eq!(explained["sidecars"][0]["times"][0]["observed"], true, "{explained}");
    pretend(&limited, 0.1);
    limited.rules(&[]);
    until(SOME_SECONDS, "its end is told", || limited.admin().has_event("limit_ended"));
    let events = limited.admin().get("/events");
    assert!(events.contains("would be held") && !events.contains("is held"), "{events}");
    limited.settles();
}

#[test]
fn interfaces_are_told_apart_without_what_differs_from_customer_to_customer() {
    let server = http_server(|mut c| while c.request().is_some() && c.ok("answer") {});
    let limited = Limited::inbound(server.addr, &[("AdaptiveLimit", "app", "mode: enforce")]);
    let mut c = Client::connect(limited.listen);
    for n in 0..50 {
        assert_eq!(get(&mut c, &format!("/users/{n}/orders"), "").status(), 200);
    }
    let limiting = limited.running.sidecar().shared().limits.load_full().unwrap();
    assert_eq!(limiting.board.interfaces(), 2, "one, and the place that all latecomers share");
    assert_eq!(&*limiting.board.name(1), "GET /users/*/orders");
    limited.settles();
}

#[test]
fn a_connection_that_changes_its_protocol_is_over_for_the_controller_when_it_is_agreed_to() {
    let server = http_server(|mut c| {
        while let Some((head, _)) = c.request() {
            if head.get("upgrade").is_some() {
                c.send("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n");
                c.rest();
                return;
            }
            c.ok("answer");
        }
    });
    let rules = [("AdaptiveLimit", "app", "mode: enforce"), ("RateLimit", "two", "concurrency: 2")];
    let limited = Limited::inbound(server.addr, &rules);
    pretend(&limited, 0.1);
    let mut upgraded = Client::connect(limited.listen);
    assert!(upgraded.send("GET /ws HTTP/1.1\r\nHost: shop\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"));
    assert_eq!(upgraded.any_response("GET").unwrap().status(), 101);
    let mut connected = Client::connect(limited.listen);
    assert!(connected.send("CONNECT shop:443 HTTP/1.1\r\nHost: shop:443\r\n\r\n"));
    assert_eq!(connected.response("CONNECT").unwrap().status(), 200);
    until(SOME_SECONDS, "neither is in flight", || {
        let top = &limited.admin().json("/limits/explain")["sidecars"][0]["top"];
        let of = |name: &str| top.as_array()?.iter().find(|i| i["name"] == name)?["inflight"].as_u64();
        (of("GET /ws"), of("CONNECT /")) == (Some(0), Some(0))
    });
    let mut c = Client::connect(limited.listen);
    assert_eq!(get(&mut c, "/", "").status(), 429, "a bound on concurrency counts both until they end");
    drop((upgraded, connected));
    limited.settles();
    assert_eq!(get(&mut c, "/", "").status(), 200);
}

#[test]
fn the_mark_of_load_test_traffic_is_what_the_rule_says() {
    let server = BoltServer::echo();
    let spec = "loadTest: {header: x-load, values: [\"1\", stress]}";
    let limited = Limited::inbound(server.addr, &[("AdaptiveLimit", "app", spec)]);
    let mut c = BoltClient::connect(limited.listen);
    pretend(&limited, 1.0);
    let marked = |value: &str| Ask::to(PAY).method("pay").header("x-load", value);
    until(SOME_SECONDS, "marked requests are held", || {
        c.call(&marked("stress")).flag().as_deref() == Some("AL")
    });
    assert_eq!(c.call(&marked("1")).flag().as_deref(), Some("AL"));
    assert_eq!(c.call(&marked("0")).flag(), None);
    assert_eq!(c.call(&Ask::to(PAY).method("pay").header("shadowTest", "T")).flag(), None, "not here");
    limited.settles();
}

#[test]
fn a_dubbo_app_says_what_a_request_costs_in_an_attachment_of_its_reply() {
    let server = DubboServer::start(|call| {
        // No value, and attachments: x-cost, 12.5 ms.
        let _ = call.reply(20, b"\x95H\x06x-cost\x0512500Z");
    });
    let limited = Limited::inbound(server.addr, &[("AdaptiveLimit", "app", "costHeader: x-cost")]);
    pretend(&limited, 0.1);
    let mut c = DubboClient::connect(limited.listen);
    let cost = || {
        let top = &limited.admin().json("/limits/explain")["sidecars"][0]["top"];
        top.as_array().and_then(|all| all.iter().find_map(|i| i["costMs"].as_f64())).unwrap_or(0.0)
    };
    until(SOME_SECONDS, "its cost is known", || {
        assert_eq!(c.call(&DubboAsk::to(PAY).method("pay")).flag(), None);
        (12.4..12.6).contains(&cost())
    });
    limited.settles();
}
