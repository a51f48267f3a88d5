//! Rules that change while connections live.
use super::Guarded;
use raddle_testkit::h1::Client;
use raddle_testkit::http::http_server;
use raddle_testkit::{Ask, BoltClient, BoltServer};

const PAY: &str = "com.test.Pay:1.0";

#[test]
fn a_change_of_rules_holds_for_the_next_request_and_cuts_no_connection() {
    let server = BoltServer::echo();
    let guarded = Guarded::start(server.addr, &[]);
    let mut c = BoltClient::connect(guarded.listen);
    assert_eq!(c.call(&Ask::to(PAY).method("pay")).flag(), None);
    guarded.rules(&[("none", "action: deny, rules: [{when: {method: pay}}]")]);
    assert_eq!(c.call(&Ask::to(PAY).method("pay")).flag().as_deref(), Some("RBAC"));
    assert_eq!(c.call(&Ask::to(PAY).method("list")).flag(), None);
    guarded.rules(&[("one", "action: allow, rules: [{when: {method: pay}}]")]);
    assert_eq!(c.call(&Ask::to(PAY).method("pay")).flag(), None);
    assert_eq!(c.call(&Ask::to(PAY).method("list")).flag().as_deref(), Some("RBAC"));
    guarded.rules(&[]);
    assert_eq!(c.call(&Ask::to(PAY).method("list")).flag(), None);
    assert_eq!(server.accepted(), 1, "one connection carried it all");
}

#[test]
fn a_request_in_flight_ends_as_it_began() {
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let server = http_server(move |mut c| {
        while c.request().is_some() {
            let _ = wait.lock().unwrap().recv();
            if !c.ok("answer") {
                return;
            }
        }
    });
    let guarded = Guarded::start(server.addr, &[]);
    let mut c = Client::connect(guarded.listen);
    c.send("GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
    guarded.admin().until_metric("raddle_requests_in_flight", &[], |n| n == 1);
    guarded.rules(&[("all", "action: deny, rules: [{}]")]);
    go.send(()).unwrap();
    assert_eq!(c.response("GET").unwrap().status(), 200);
    c.send("GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
    assert_eq!(c.response("GET").unwrap().status(), 403);
}

#[test]
fn the_admin_page_says_what_each_rule_makes_of_a_request() {
    let server = BoltServer::echo();
    let guarded =
        Guarded::start(server.addr, &[("cart", "action: allow, rules: [{when: {callerApp: cart}}]")]);
    let told = guarded.admin().json("/explain/authorization?callerApp=cart&service=s&header.tier=gold");
    assert_eq!(
        (told["allowed"].as_bool(), told["by"].as_str()),
        (Some(true), Some("Authorization/cart/0")),
        "{told}"
    );
    let told = guarded.admin().json("/explain/authorization?service=s&source=10.0.0.1");
    assert_eq!(told["allowed"], false, "{told}");
    let condition = &told["rules"][0]["clauses"][0]["conditions"][0];
    assert_eq!(condition["hidden"], "the caller has no certificate", "{told}");
    assert_eq!(
        guarded.admin().try_get("/explain/authorization?source=here").map(|(status, _)| status),
        Some(400)
    );
    assert_eq!(guarded.denied("(no allow rule)"), 0, "nothing is counted");
}
