//! Bolt and Dubbo.
use super::{Kept, Limited};
use raddle_testkit::{Ask, BoltClient, BoltServer, DubboAsk, DubboClient, DubboServer, Load, Variant};

const PAY: &str = "com.test.Pay:1.0";
/// Three pass; the next does in 1000 s.
const THREE: &str = "rate: 0.001, burst: 3, when: {method: pay}";

#[test]
fn a_bolt_request_over_the_rate_is_answered_in_every_framing_with_reason_and_rule() {
    let server = BoltServer::echo();
    for variant in Variant::ALL {
        let limited = Limited::inbound(server.addr, &[("RateLimit", "pay", THREE)]);
        let mut c = BoltClient::connect(limited.listen);
        let ask = |method| Ask::to(PAY).method(method).variant(variant).id(7);
        for _ in 0..3 {
            assert_eq!(c.call(&ask("pay")).head.status, 0);
        }
        let held = c.call(&ask("pay"));
        assert_eq!((held.head.status, held.flag().as_deref()), (4, Some("RL")), "{held:?}");
        assert_eq!(held.header("raddle-rule").as_deref(), Some("RateLimit/pay"));
        assert_eq!(c.call(&ask("list")).head.status, 0, "another method is not counted");
        assert_eq!((limited.held("RateLimit/pay"), limited.observed("RateLimit/pay")), (1, 0));
        let page = limited.admin().json("/limits");
        assert_eq!((&page["limits"][0]["held"], &page["limits"][0]["passed"]), (&1.into(), &3.into()));
        let line = limited.line("RateLimit/pay");
        assert_eq!((line["flag"].as_str(), line["method"].as_str()), (Some("RL"), Some("pay")), "{line}");
        limited.settles();
    }
}

#[test]
fn a_dubbo_request_over_the_rate_is_answered_with_reason_and_rule() {
    let server = DubboServer::echo();
    let limited = Limited::inbound(server.addr, &[("RateLimit", "pay", "rate: 0.001, burst: 2")]);
    let mut c = DubboClient::connect(limited.listen);
    for n in 1..=2 {
        assert_eq!(c.call(&DubboAsk::to(PAY).id(n)).status(), 20);
    }
    let held = c.call(&DubboAsk::to(PAY).id(9));
    assert_eq!((held.status(), held.flag().as_deref()), (100, Some("RL")), "{}", held.text());
    assert!(held.text().contains("RateLimit/pay"), "{}", held.text());
    assert_eq!(server.requests(), 2);
    limited.settles();
}

#[test]
fn no_more_run_at_once_than_may_and_each_end_makes_room() {
    let kept = Kept::default();
    let server = kept.server();
    let limited = Limited::inbound(server.addr, &[("RateLimit", "two", "concurrency: 2")]);
    let mut c = BoltClient::connect(limited.listen);
    for round in 0..20 {
        c.ask(&Ask::to(PAY).id(1));
        c.ask(&Ask::to(PAY).id(2));
        kept.until(2);
        let held = c.call(&Ask::to(PAY).id(3));
        assert_eq!((held.head.id, held.flag().as_deref()), (3, Some("RL")), "round {round}");
        kept.answer_all();
        assert_eq!(c.frame().head.status + c.frame().head.status, 0);
    }
    assert_eq!(limited.held("RateLimit/two"), 20);
    limited.settles();
}

#[test]
fn a_value_that_is_asked_for_too_often_is_held_and_others_are_not() {
    let server = BoltServer::echo();
    let spec = "rate: 0.001, burst: 2, key: {header: user, values: [{value: vip, bound: 1000}]}";
    let limited = Limited::inbound(server.addr, &[("RateLimit", "users", spec)]);
    let mut c = BoltClient::connect(limited.listen);
    let mut flag = |user: &str| c.call(&Ask::to(PAY).header("user", user)).flag();
    assert_eq!((flag("ann"), flag("ann")), (None, None));
    assert_eq!(flag("ann").as_deref(), Some("HL"));
    assert_eq!(flag("bob"), None);
    assert!((0..20).all(|_| flag("vip").is_none()));
    assert_eq!(limited.line("RateLimit/users")["flag"], "HL");
    limited.settles();
}

#[test]
fn an_observed_limit_passes_all_and_tells_what_it_would_have_held() {
    let server = BoltServer::echo();
    let spec = format!("mode: observe, {THREE}");
    let limited = Limited::inbound(server.addr, &[("RateLimit", "watch", &spec)]);
    let mut c = BoltClient::connect(limited.listen);
    for _ in 0..10 {
        let reply = c.call(&Ask::to(PAY).method("pay"));
        assert_eq!((reply.head.status, reply.header("raddle-rule")), (0, None));
    }
    assert_eq!((limited.observed("RateLimit/watch"), limited.held("RateLimit/watch")), (7, 0));
    let line = limited.line("observed:RateLimit/watch");
    assert!(line["flag"].is_null() && line["ok"] == true, "{line}");
    limited.settles();
}

#[test]
fn a_limit_of_the_outbound_side_holds_before_an_endpoint_hears_of_it() {
    let server = BoltServer::echo();
    let spec = "side: outbound, rate: 0.001, burst: 1";
    let limited = Limited::outbound(PAY, &[server.addr], &[("RateLimit", "out", spec)]);
    let mut c = BoltClient::connect(limited.listen);
    assert_eq!(c.call(&Ask::to(PAY)).head.status, 0);
    assert_eq!(c.call(&Ask::to(PAY)).flag().as_deref(), Some("RL"));
    assert_eq!(server.requests(), 1);
    limited.settles();
}

#[test]
fn a_one_way_request_that_is_held_reaches_nobody_and_none_is_kept_account_of() {
    let server = BoltServer::echo();
    let rules = [("RateLimit", "one", "rate: 0.001, burst: 1"), ("AdaptiveLimit", "app", "mode: enforce")];
    let limited = Limited::inbound(server.addr, &rules);
    let mut c = BoltClient::connect(limited.listen);
    c.ask(&Ask::to(PAY).id(1).one_way());
    c.ask(&Ask::to(PAY).id(2).one_way());
    assert_eq!(c.call(&Ask::to(PAY).id(3)).flag().as_deref(), Some("RL"));
    raddle_testkit::until(raddle_testkit::PATIENCE, "the first", || server.requests() == 1);
    assert_eq!(limited.held("RateLimit/one"), 2);
    limited.settles();
}

#[test]
fn rules_that_change_all_the_time_cost_no_request_and_forget_nothing() {
    let server = BoltServer::echo();
    let count = "concurrency: 100000";
    let limited = Limited::inbound_by(2, server.addr, &[("RateLimit", "all", count)]);
    let load = Load::on(limited.listen, PAY, 8, 16);
    for n in 0..40u32 {
        let rate = format!("rate: {}, burst: 10000000", 1_000_000 + n);
        let adaptive = format!("threshold: 0.{}", 80 + n % 10);
        let all = [
            ("RateLimit", "all", count),
            ("RateLimit", "rate", &rate[..]),
            ("AdaptiveLimit", "app", &adaptive[..]),
        ];
        limited.rules(&all[..=(n % 3) as usize]);
        load.goes_on(50);
    }
    load.stop().expect_all_ok();
    limited.settles();
    // What was in flight through all of it is known to have ended: the bound is free again.
    limited.rules(&[("RateLimit", "all", "concurrency: 1")]);
    let mut c = BoltClient::connect(limited.listen);
    assert!((0..50).all(|_| c.call(&Ask::to(PAY)).head.status == 0));
}

#[test]
fn a_rate_that_was_used_up_stays_so_through_a_reload() {
    let server = BoltServer::echo();
    let limited = Limited::inbound(server.addr, &[("RateLimit", "pay", THREE)]);
    let mut c = BoltClient::connect(limited.listen);
    let mut flags = |n| (0..n).map(|_| c.call(&Ask::to(PAY).method("pay")).flag()).collect::<Vec<_>>();
    assert_eq!(flags(3), [None, None, None]);
    limited.rules(&[("RateLimit", "pay", THREE), ("RateLimit", "other", "rate: 5, when: {method: x}")]);
    assert_eq!(flags(1), [Some("RL".to_owned())]);
}

#[test]
fn a_worker_that_falls_idle_gives_back_what_it_kept_ready() {
    let server = BoltServer::echo();
    // Large enough that a worker takes permits in chunks.
    let limited = Limited::inbound(server.addr, &[("RateLimit", "many", "concurrency: 12800")]);
    let mut c = BoltClient::connect(limited.listen);
    assert_eq!(c.call(&Ask::to(PAY)).head.status, 0);
    let in_use = || limited.admin().json("/limits")["limits"][0]["inUse"].as_u64();
    drop(c);
    raddle_testkit::until(raddle_testkit::PATIENCE, "none is kept", || in_use() == Some(0));
}

#[test]
fn a_value_of_a_dubbo_attachment_is_counted_by_itself() {
    let server = DubboServer::echo();
    let spec = "rate: 0.001, burst: 1, key: {header: shop}";
    let limited = Limited::inbound(server.addr, &[("RateLimit", "shops", spec)]);
    let mut c = DubboClient::connect(limited.listen);
    let mut ask = |n, shop: Option<&str>| {
        let ask = DubboAsk::to(PAY).id(n);
        c.call(&match shop {
            Some(shop) => ask.attachment("shop", shop),
            None => ask,
        })
    };
    assert_eq!((ask(1, Some("a")).flag(), ask(2, Some("b")).flag()), (None, None));
    let held = ask(3, Some("a"));
    assert_eq!(held.flag().as_deref(), Some("HL"));
    assert!((4..9).all(|n| ask(n, None).flag().is_none()), "who says nothing is not counted");
    assert_eq!(limited.line("RateLimit/shops")["flag"], "HL");
    limited.settles();
}
