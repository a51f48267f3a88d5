//! HTTP/1.1, HTTP/2 and gRPC.
use super::Guarded;
use raddle_testkit::h1::{Client, Response};
use raddle_testkit::h2_hpack::Block;
use raddle_testkit::http::{H2Side, h2_server, http_server};

#[track_caller]
fn asks(c: &mut Client, request: &str) -> Response {
    assert!(c.send(request));
    c.response("GET").unwrap_or_else(|e| panic!("{request}: {e}"))
}

fn get(path: &str, host: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n")
}

fn reason(r: &Response) -> Option<String> {
    r.head.get("x-raddle-reason")
}

#[test]
fn a_denied_request_gets_403_and_learns_the_rule_only_where_it_explains() {
    let server = http_server(|mut c| while c.request().is_some() && c.ok("answer") {});
    let admin = "action: deny, rules: [{name: admin, when: {path: {prefix: /admin}}}]";
    let told = "explain: true, action: deny, rules: [{when: {authority: Secret.Shop}}]";
    let guarded = Guarded::start(server.addr, &[("admins", admin), ("told", told)]);
    let mut c = Client::connect(guarded.listen);
    assert_eq!(asks(&mut c, &get("/", "shop", "")).status(), 200);
    let denied = asks(&mut c, &get("/admin/users", "shop", ""));
    assert_eq!((denied.status(), reason(&denied).as_deref()), (403, Some("RBAC")));
    assert_eq!(denied.head.get("x-raddle-rule"), None);
    let text = String::from_utf8_lossy(&denied.body).into_owned();
    assert!(text.contains("authorization denies the request") && !text.contains("admins"), "{text}");
    let denied = asks(&mut c, &get("/", "secret.shop:8080", ""));
    assert_eq!(denied.head.get("x-raddle-rule").as_deref(), Some("Authorization/told/0"));
    assert_eq!(asks(&mut c, &get("/", "shop", "")).status(), 200, "the connection goes on");
    assert_eq!((guarded.denied("admins"), guarded.denied("told")), (1, 1));
    assert_eq!(guarded.line("Authorization/admins/admin")["status"], 403);
}

#[test]
fn no_spelling_of_a_path_gets_past_a_rule_about_it() {
    let server = http_server(|mut c| while c.request().is_some() && c.ok("answer") {});
    let guarded =
        Guarded::start(server.addr, &[("admin", "action: deny, rules: [{when: {path: {prefix: /admin}}}]")]);
    let mut c = Client::connect(guarded.listen);
    for path in [
        "/%61dmin",
        "/%41dmin/../admin",
        "//admin",
        "/x/../admin",
        "/x/%2e%2e/admin",
        "/x/%2E%2E/admin",
        "/./admin",
        "/;/admin",
        "/x\\..\\admin",
        "/x%2f..%2fadmin",
        "/admin%252f",
    ] {
        let r = asks(&mut c, &get(path, "shop", ""));
        assert_eq!((r.status(), reason(&r).as_deref()), (403, Some("RBAC")), "{path}");
    }
    assert_eq!(asks(&mut c, &get("/caf%C3%A9?to=/../admin", "shop", "")).status(), 200);
    // Rules that do not look at paths let them be.
    guarded.rules(&[("other", "action: deny, rules: [{when: {method: DELETE}}]")]);
    assert_eq!(asks(&mut c, &get("/a//b", "shop", "")).status(), 200);
}

#[test]
fn a_field_sent_twice_hides_nothing() {
    let server = http_server(|mut c| while c.request().is_some() && c.ok("answer") {});
    let guarded =
        Guarded::start(server.addr, &[("role", "action: deny, rules: [{when: {header: {x-role: admin}}}]")]);
    let mut c = Client::connect(guarded.listen);
    for fields in ["X-Role: admin\r\nX-Role: user\r\n", "x-role: user\r\nX-ROLE: admin\r\n"] {
        assert_eq!(asks(&mut c, &get("/", "shop", fields)).status(), 403, "{fields}");
    }
    assert_eq!(asks(&mut c, &get("/", "shop", "X-Role: user\r\n")).status(), 200);
}

#[test]
fn the_address_of_the_connection_counts_and_not_what_is_said_of_it() {
    let server = http_server(|mut c| while c.request().is_some() && c.ok("answer") {});
    let guarded =
        Guarded::start(server.addr, &[("ten", "action: allow, rules: [{when: {source: 10.0.0.0/8}}]")]);
    let mut c = Client::connect(guarded.listen);
    assert_eq!(asks(&mut c, &get("/", "shop", "X-Forwarded-For: 10.1.1.1\r\n")).status(), 403);
}

/// Answers every call with gRPC's status 0.
fn grpc_server() -> raddle_testkit::TcpServer {
    h2_server(&[], |mut side| {
        while let Some((stream, _)) = side.request() {
            side.answer(stream, "200", &[("content-type", "application/grpc"), ("grpc-status", "0")], b"");
        }
    })
}

fn call(side: &mut H2Side, path: &str, fields: &[(&str, &str)]) -> raddle_testkit::http::Stream {
    let block =
        Block::request("POST", "shop", path).lit("content-type", "application/grpc").lit("te", "trailers");
    let block = fields.iter().fold(block, |b, (name, value)| b.lit(name, value));
    let stream = side.ask(&block, true);
    side.done(stream)
}

#[test]
fn a_denied_grpc_call_gets_permission_denied_and_others_on_the_connection_pass() {
    let server = grpc_server();
    let rules = [
        ("refunds", "action: deny, rules: [{when: {service: pay.Pay, method: Refund}}]"),
        ("old", "action: deny, rules: [{when: {service: 'pay.Triple:1.0:blue'}}]"),
    ];
    let guarded = Guarded::start(server.addr, &rules);
    let mut c = H2Side::connect(guarded.listen, &[]);
    assert_eq!(call(&mut c, "/pay.Pay/Pay", &[]).get("grpc-status").as_deref(), Some("0"));
    let denied = call(&mut c, "/pay.Pay/Refund", &[]);
    assert_eq!(denied.get("grpc-status").as_deref(), Some("7"));
    assert_eq!((denied.status(), denied.get("x-raddle-reason").as_deref()), (200, Some("RBAC")));
    assert_eq!(denied.get("x-raddle-rule"), None);
    let message = denied.get("grpc-message").unwrap();
    assert!(
        message.contains("authorization denies the request") && !message.contains("refunds"),
        "{message}"
    );
    // Triple says version and group in fields; a service is known by all of its names.
    let triple = |c: &mut H2Side, version: &str| {
        let fields = [("tri-service-version", version), ("tri-service-group", "blue")];
        (
            call(c, "/pay.Triple/Pay", &fields).get("grpc-status"),
            call(c, "/pay.Pay/Refund", &fields).get("grpc-status"),
        )
    };
    assert_eq!(triple(&mut c, "1.0"), (Some("7".into()), Some("7".into())));
    assert_eq!(triple(&mut c, "2.0"), (Some("0".into()), Some("7".into())));
    assert_eq!((guarded.denied("refunds"), guarded.denied("old")), (3, 1));
}
