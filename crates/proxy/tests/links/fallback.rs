//! Where TLS cannot be had: plaintext goes on if the callee allows it, else requests fail and say why.
use crate::mesh::{Pair, SECRET, SERVICE, ca, identity, identity_at, now, take_on};
use raddle_testkit::h1::Client;
use raddle_testkit::h1_upstream::{H1Upstream, Reply};
use raddle_testkit::{Ask, BoltClient, BoltServer, Load, PATIENCE, TcpServer, until};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const DAY: Duration = Duration::from_secs(86_400);

fn failures(pair: &Pair, cause: &str) -> i64 {
    pair.caller.admin.metric("raddle_link_failures_total", &[&format!("\"{cause}\"")])
}

fn told(pair: &Pair) -> usize {
    pair.caller.admin.get("/events").matches("\"link_not_encrypted\"").count()
}

#[track_caller]
fn goes_on_in_plaintext(pair: &Pair, cause: &str) {
    let load = Load::on(pair.listen, SERVICE, 2, 4);
    load.goes_on(50);
    pair.want("true");
    until(PATIENCE, "it is tried", || failures(pair, cause) > 0);
    load.goes_on(200);
    load.stop().expect_all_ok();
    assert_eq!(told(pair), 1, "one event for a host and cause");
    assert!(pair.caller.admin.metric("raddle_link_fallbacks_total", &[cause]) > 0);
    assert_eq!(pair.tap.open(true), 0);
}

#[test]
fn a_callee_without_a_certificate_is_called_in_plaintext_and_encrypted_once_it_has_one() {
    let server = BoltServer::echo();
    let pair = Pair::started("bolt", server.addr, |_| None, true);
    let load = Load::on(pair.listen, SERVICE, 2, 4);
    load.goes_on(50);
    pair.want("true");
    pair.caller.admin.until_metric("raddle_link_fallbacks_total", &[], |n| n > 0);
    load.goes_on(200);
    take_on(&pair.callee, Some(identity(&pair.ca, "callee")));
    until(PATIENCE, "tried again", || pair.tap.open(true) > 0 && pair.tap.open(false) == 0);
    load.goes_on(200);
    load.stop().expect_all_ok();
    assert!(pair.caller.admin.has_event("link_encrypted"));
}

#[test]
fn a_caller_without_a_certificate_goes_on_in_plaintext_and_switches_once_it_has_one() {
    let server = BoltServer::echo();
    let pair = Pair::started("bolt", server.addr, |ca| Some(identity(ca, "callee")), false);
    goes_on_in_plaintext(&pair, "no_identity");
    take_on(&pair.caller, Some(identity(&pair.ca, "caller")));
    until(PATIENCE, "it switches", || pair.tap.open(true) > 0 && pair.tap.open(false) == 0);
}

#[test]
fn another_apps_certificate_is_refused_by_name_of_whom_it_should_be() {
    let server = BoltServer::echo();
    let pair = Pair::started("bolt", server.addr, |ca| Some(identity(ca, "thief")), true);
    goes_on_in_plaintext(&pair, "wrong_peer");
    pair.want("{required: true}");
    let mut c = BoltClient::connect(pair.listen);
    until(PATIENCE, "plaintext is no way out", || {
        let reply = c.call(&Ask::to(SERVICE).content(SECRET));
        let text = String::from_utf8_lossy(reply.content()).into_owned();
        reply.flag().as_deref() == Some("UF") && pair.tap.open(false) == 0 && !text.contains("thief")
    });
    let events = pair.caller.admin.get("/events");
    assert!(events.contains("which is to be app callee"), "{events}");
}

#[test]
fn an_expired_certificate_is_no_certificate() {
    let server = BoltServer::echo();
    let old = |ca: &_| Some(identity_at(ca, &[ca], "callee", DAY, now() - 2 * 86_400));
    let pair = Pair::started("bolt", server.addr, old, true);
    goes_on_in_plaintext(&pair, "expired");
}

#[test]
fn a_certificate_of_another_ca_is_no_certificate() {
    let server = BoltServer::echo();
    let stranger = ca();
    let pair = Pair::started(
        "bolt",
        server.addr,
        |own| Some(identity_at(&stranger, &[own, &stranger], "callee", DAY, now())),
        true,
    );
    goes_on_in_plaintext(&pair, "untrusted");
}

#[test]
fn a_callee_that_does_not_trust_us_is_called_in_plaintext() {
    let server = BoltServer::echo();
    let stranger = ca();
    // Its certificate is good; ours is not, to it, and that it says after we think that all is well.
    let pair = Pair::started(
        "bolt",
        server.addr,
        |own| Some(identity_at(own, &[own, &stranger], "callee", DAY, now())),
        true,
    );
    take_on(&pair.caller, Some(identity_at(&stranger, &[&stranger, &pair.ca], "caller", DAY, now())));
    let load = Load::on(pair.listen, SERVICE, 2, 4);
    load.goes_on(50);
    // Trusted first...
    drop(load.stop());
    let narrow = identity(&pair.ca, "callee");
    take_on(&pair.callee, Some(narrow));
    pair.want("true");
    take_on(&pair.caller, Some(identity_at(&stranger, &[&stranger, &pair.ca], "caller", DAY, now())));
    let load = Load::on(pair.listen, SERVICE, 2, 4);
    until(PATIENCE, "it is tried", || failures(&pair, "refused") > 0);
    load.goes_on(300);
    load.stop().expect_all_ok();
}

#[test]
fn with_fallback_denied_requests_say_whom_they_could_not_reach_and_why() {
    let app = H1Upstream::start(|_| Reply::ok(SECRET));
    let pair = Pair::started("http", app.addr(), |ca| Some(identity(ca, "thief")), true);
    pair.want("{required: true}");
    let mut c = Client::connect(pair.listen);
    for _ in 0..5 {
        c.send("GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
        let r = c.response("GET").unwrap();
        let text = String::from_utf8_lossy(&r.body).into_owned();
        assert_eq!((r.status(), r.head.get("x-raddle-reason").as_deref()), (503, Some("UF")), "{text}");
        assert!(text.contains("which is to be app callee"), "{text}");
    }
    assert_eq!(app.count(), 0);
    // Put right, it is had again without a reload.
    take_on(&pair.callee, Some(identity(&pair.ca, "callee")));
    until(PATIENCE, "served", || {
        c.send("GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
        c.response("GET").is_ok_and(|r| r.status() == 200)
    });
    assert_eq!(pair.tap.count(super::mesh::Tapped::tells), 0, "not a byte in plaintext");
}

#[test]
fn health_checks_go_by_the_link_that_requests_go_by() {
    let app = H1Upstream::start(|_| Reply::ok(SECRET));
    let pair = Pair::new("http", app.addr());
    let check = "healthCheck: {kind: http, path: /, interval: 400ms, timeout: 400ms}";
    for tls in ["{required: true}", "true"] {
        pair.want_with(tls, |c| c.policy("all", check));
        let until_checked = || pair.tap.count(|t| t.is_tls() && !t.open);
        let before = until_checked();
        until(PATIENCE, "checked by TLS", || until_checked() >= before + 3);
        assert_eq!(pair.tap.count(|t| !t.is_tls()), 0);
        until(PATIENCE, "and healthy", || {
            pair.caller.admin.json("/clusters")[0]["endpoints"][0]["health"] == "healthy"
        });
    }
}

#[test]
fn a_plaintext_only_server_that_does_not_answer_tls_at_all_costs_a_second_and_no_request() {
    let app = H1Upstream::start(|_| Reply::ok(SECRET));
    let to = app.addr();
    let deaf = TcpServer::start(move |mut s| {
        let mut first = [0; 1];
        if s.peek(&mut first).is_err() || first[0] == 0x16 {
            // It listens, and has nothing to say.
            let _ = s.read_to_end(&mut Vec::new());
            return;
        }
        let mut up = TcpStream::connect(to).unwrap();
        let (mut s2, mut up2) = (s.try_clone().unwrap(), up.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut up2, &mut s2));
        let _ = std::io::copy(&mut s, &mut up);
        let _ = up.flush();
    });
    let pair = Pair::started("http", deaf.addr, |_| None, true);
    pair.want("true");
    let began = Instant::now();
    let mut c = Client::connect(pair.listen);
    for _ in 0..20 {
        c.send("GET / HTTP/1.1\r\nHost: shop\r\n\r\n");
        assert_eq!(c.response("GET").unwrap().body, SECRET);
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}
