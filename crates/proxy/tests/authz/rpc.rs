//! Bolt and Dubbo.
use super::Guarded;
use raddle_testkit::{Ask, BoltClient, BoltServer, DubboAsk, DubboClient, DubboServer, Variant};

const PAY: &str = "com.test.Pay:1.0";
const DENY: &str =
    "action: deny, rules: [{name: refunds, when: {service: 'com.test.Pay:1.0', method: refund}}]";

#[test]
fn a_denied_bolt_request_is_answered_in_every_framing_and_named_in_log_and_metric_only() {
    let server = BoltServer::echo();
    let guarded = Guarded::start(server.addr, &[("no-refunds", DENY)]);
    for variant in Variant::ALL {
        let mut c = BoltClient::connect(guarded.listen);
        let denied = c.call(&Ask::to(PAY).method("refund").variant(variant).id(7));
        assert_eq!((denied.head.status, denied.flag().as_deref()), (2, Some("RBAC")), "{denied:?}");
        assert_eq!(denied.header("raddle-rule"), None);
        let text = String::from_utf8_lossy(denied.content()).into_owned();
        assert!(text.contains("authorization denies the request") && !text.contains("no-refunds"), "{text}");
        assert_eq!(c.call(&Ask::to(PAY).method("pay").variant(variant)).head.status, 0);
    }
    assert_eq!(guarded.denied("no-refunds"), 4);
    assert_eq!(server.requests(), 4, "what is refused does not reach the app");
    let line = guarded.line("Authorization/no-refunds/refunds");
    assert_eq!((line["flag"].as_str(), line["method"].as_str()), (Some("RBAC"), Some("refund")), "{line}");
}

#[test]
fn a_rule_that_explains_is_named_to_the_caller() {
    let server = BoltServer::echo();
    let spec = format!("explain: true, {DENY}");
    let guarded = Guarded::start(server.addr, &[("no-refunds", &spec)]);
    let denied = BoltClient::connect(guarded.listen).call(&Ask::to(PAY).method("refund"));
    assert_eq!(denied.header("raddle-rule").as_deref(), Some("Authorization/no-refunds/refunds"));
}

#[test]
fn a_denied_one_way_request_reaches_nobody_and_is_counted() {
    let server = BoltServer::echo();
    let guarded = Guarded::start(server.addr, &[("no-refunds", DENY)]);
    let mut c = BoltClient::connect(guarded.listen);
    c.ask(&Ask::to(PAY).method("refund").id(1).one_way());
    assert_eq!(c.call(&Ask::to(PAY).method("pay").id(2)).head.id, 2);
    assert_eq!((guarded.denied("no-refunds"), server.requests()), (1, 1));
}

#[test]
fn a_caller_in_plaintext_has_no_identity_whatever_its_headers_say() {
    let server = BoltServer::echo();
    let guarded =
        Guarded::start(server.addr, &[("cart", "action: allow, rules: [{when: {callerApp: cart}}]")]);
    let mut c = BoltClient::connect(guarded.listen);
    let forged = Ask::to(PAY).header("app", "cart").header("rpc_trace_context.sofaCallerApp", "cart");
    assert_eq!(c.call(&forged).flag().as_deref(), Some("RBAC"));
    assert_eq!(guarded.denied("(no allow rule)"), 1);
    guarded.line("Authorization (no allow rule takes it: cart)");
}

#[test]
fn headers_and_the_callers_address_are_looked_at() {
    let server = BoltServer::echo();
    let rules = [
        (
            "gold",
            "action: allow, rules: [{when: {header: {tier: {in: [gold, silver]}}, source: 127.0.0.0/8}}]",
        ),
        ("bad", "action: deny, rules: [{when: {header: {bad: {exists: true}}}}]"),
    ];
    let guarded = Guarded::start(server.addr, &rules);
    let mut c = BoltClient::connect(guarded.listen);
    let mut flag = |ask: Ask| c.call(&ask).flag();
    assert_eq!(flag(Ask::to(PAY).header("tier", "gold")), None);
    assert_eq!(flag(Ask::to(PAY).header("tier", "wood")).as_deref(), Some("RBAC"));
    assert_eq!(flag(Ask::to(PAY)).as_deref(), Some("RBAC"));
    assert_eq!(flag(Ask::to(PAY).header("tier", "gold").header("bad", "")).as_deref(), Some("RBAC"));
    assert_eq!((guarded.denied("bad"), guarded.denied("(no allow rule)")), (1, 2));
}

/// A frame that a real client sent.
fn captured(name: &str) -> Vec<u8> {
    let path = format!("{}/../wire/tests/frames/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let text = text.trim();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8], nth: usize) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let at = (0..bytes.len()).filter(|&i| bytes[i..].starts_with(from)).nth(nth).expect("it is there");
    [&bytes[..at], to, &bytes[at + to.len()..]].concat()
}

#[test]
fn real_clients_requests_are_judged_by_their_names_and_liars_are_refused() {
    let server = BoltServer::echo();
    // Rules that look at names, and take none of these.
    let deny = "action: deny, rules: [{when: {service: other, method: other}}]";
    let guarded = Guarded::start(server.addr, &[("deny", deny)]);
    let mut c = BoltClient::connect(guarded.listen);
    for name in ["bolt1-hessian-req-plus-int-int", "java-bolt1-hessian-req", "bolt1-protobuf-req"] {
        c.send(&captured(name));
        assert_eq!(c.frame().flag(), None, "{name}");
    }
    // Another service outside than inside, and the other way round.
    let honest = captured("bolt1-hessian-req-plus-int-int");
    let (own, other) = (b"com.nodejs.test.TestService:1.0", b"com.nodejs.test.NestService:1.0");
    for nth in 0..2 {
        c.send(&replaced(&honest, own, other, nth));
        assert_eq!(c.frame().flag().as_deref(), Some("RBAC"), "{nth}");
    }
    // Java says the method in both places.
    let honest = captured("java-bolt1-hessian-req");
    for nth in 0..2 {
        c.send(&replaced(&honest, b"dump", b"pump", nth));
        assert_eq!(c.frame().flag().as_deref(), Some("RBAC"), "{nth}");
    }
    assert_eq!(guarded.denied("(unclear)"), 4);
    guarded.line("Authorization (names differ)");
    // Without rules that look there it is nobody's business.
    guarded.rules(&[("deny", "action: deny, rules: [{when: {callerApp: x}}]")]);
    c.send(&replaced(&honest, b"dump", b"pump", 0));
    assert_eq!(c.frame().flag(), None);
}

#[test]
fn a_denied_dubbo_request_is_answered_and_what_its_provider_would_run_counts() {
    let server = DubboServer::echo();
    let deny = "action: deny, rules: [{when: {service: com.test.Secret}}]";
    let guarded = Guarded::start(server.addr, &[("secret", deny)]);
    let mut c = DubboClient::connect(guarded.listen);
    let denied = c.call(&DubboAsk::to("com.test.Secret:1.0:blue").id(9));
    assert_eq!((denied.status(), denied.flag().as_deref()), (80, Some("RBAC")), "{}", denied.text());
    assert!(!denied.text().contains("secret"), "{}", denied.text());
    assert_eq!(c.call(&DubboAsk::to("com.test.Open:1.0")).status(), 20);
    // A provider goes by its attachments.
    let liar = DubboAsk::to("com.test.Open:1.0").attachment("path", "com.test.Secret");
    assert_eq!(c.call(&liar).flag().as_deref(), Some("RBAC"));
    // Another serialiser's frame does not say what it calls.
    assert_eq!(c.call(&DubboAsk::to("com.test.Open:1.0").serializer(22)).flag().as_deref(), Some("RBAC"));
    assert_eq!((guarded.denied("secret"), guarded.denied("(unclear)")), (1, 2));
    assert_eq!(server.requests(), 1);
    // What allows without looking at names allows it still.
    guarded.rules(&[("all", "action: allow, rules: [{when: {source: 127.0.0.1, header: {token: t}}}]")]);
    let ask = DubboAsk::to("com.test.Open:1.0").attachment("token", "t");
    assert_eq!(c.call(&ask).status(), 20);
    assert_eq!(c.call(&DubboAsk::to("com.test.Open:1.0")).flag().as_deref(), Some("RBAC"));
}

#[test]
fn an_observed_rule_refuses_nothing_and_tells_what_it_would_have() {
    let server = BoltServer::echo();
    let watch = format!("mode: observe, explain: true, {DENY}");
    let only = "mode: observe, action: allow, rules: [{when: {method: pay}}]";
    let guarded = Guarded::start(server.addr, &[("watch", &watch), ("only-pay", only)]);
    let mut c = BoltClient::connect(guarded.listen);
    let reply = c.call(&Ask::to(PAY).method("refund"));
    assert_eq!((reply.head.status, reply.header("raddle-rule")), (0, None));
    assert_eq!(c.call(&Ask::to(PAY).method("list")).head.status, 0);
    assert_eq!(c.call(&Ask::to(PAY).method("pay")).head.status, 0);
    assert_eq!((guarded.observed("watch"), guarded.observed("only-pay")), (1, 1));
    assert_eq!((guarded.denied("watch"), guarded.denied("only-pay")), (0, 0));
    // No successful request is logged here but these.
    let line = guarded.line("observed:Authorization/watch/refunds");
    assert_eq!((line["flag"].is_null(), line["method"].as_str()), (true, Some("refund")), "{line}");
    guarded.line("observed:Authorization (no allow rule takes it: only-pay)");
}
