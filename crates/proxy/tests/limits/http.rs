//! HTTP/1.1, HTTP/2 and gRPC.
use super::Limited;
use raddle_testkit::h1::{Client, Response};
use raddle_testkit::h2_hpack::Block;
use raddle_testkit::http::{H2Side, Stream, h2_server, http_server};
use raddle_testkit::{PATIENCE, until_some};

#[track_caller]
pub(super) fn get(c: &mut Client, path: &str, fields: &str) -> Response {
    assert!(c.send(format!("GET {path} HTTP/1.1\r\nHost: shop\r\n{fields}\r\n")));
    c.response("GET").unwrap_or_else(|e| panic!("{path}: {e}"))
}

pub(super) fn reason(r: &Response) -> Option<String> {
    r.head.get("x-raddle-reason")
}

pub(super) fn call(side: &mut H2Side, path: &str) -> Stream {
    let block =
        Block::request("POST", "shop", path).lit("content-type", "application/grpc").lit("te", "trailers");
    let stream = side.ask(&block, true);
    side.done(stream)
}

#[test]
fn a_request_over_the_rate_gets_429_and_its_connection_goes_on() {
    let server = http_server(|mut c| while c.request().is_some() && c.ok("answer") {});
    let spec = "rate: 0.001, burst: 2, when: {path: {prefix: /pay}}";
    let limited = Limited::inbound(server.addr, &[("RateLimit", "pay", spec)]);
    let mut c = Client::connect(limited.listen);
    assert_eq!((get(&mut c, "/pay/1", "").status(), get(&mut c, "/pay/2", "").status()), (200, 200));
    let held = get(&mut c, "/pay/3", "");
    assert_eq!((held.status(), reason(&held).as_deref()), (429, Some("RL")));
    assert_eq!(held.head.get("x-raddle-rule").as_deref(), Some("RateLimit/pay"));
    // One in a thousand seconds, of which a moment has gone.
    let again: u32 = held.head.get("retry-after").expect("a time").parse().expect("seconds");
    assert!((990..=1000).contains(&again), "{again}");
    assert_eq!(get(&mut c, "/list", "").status(), 200);
    assert_eq!(limited.held("RateLimit/pay"), 1);
    assert_eq!(limited.line("RateLimit/pay")["flag"], "RL");
    limited.settles();
}

#[test]
fn values_of_a_path_and_of_a_query_are_counted_by_themselves() {
    let server = http_server(|mut c| while c.request().is_some() && c.ok("answer") {});
    let rules = [
        ("RateLimit", "item", "rate: 0.001, burst: 1, key: {pathPart: 1}, when: {path: {prefix: /items}}"),
        ("RateLimit", "who", "rate: 0.001, burst: 1, key: {query: who}"),
    ];
    let limited = Limited::inbound(server.addr, &rules);
    let mut c = Client::connect(limited.listen);
    let mut flag = |path: &str| reason(&get(&mut c, path, ""));
    assert_eq!((flag("/items/1"), flag("/items/2")), (None, None));
    assert_eq!(flag("/items/1").as_deref(), Some("HL"));
    assert_eq!((flag("/x?who=a"), flag("/x?who=b")), (None, None));
    assert_eq!(flag("/y?who=a").as_deref(), Some("HL"));
    limited.settles();
}

#[test]
fn a_stream_of_http2_that_is_held_leaves_the_others_alone() {
    let server = h2_server(&[], |mut side| {
        while let Some((stream, _)) = side.request() {
            side.answer(stream, "200", &[], b"answer");
        }
    });
    let limited = Limited::inbound(server.addr, &[("RateLimit", "two", "rate: 0.001, burst: 2")]);
    let mut c = H2Side::connect(limited.listen, &[]);
    let streams: Vec<u32> = (0..4).map(|n| c.get("shop", &format!("/{n}"))).collect();
    let all: Vec<_> = streams.into_iter().map(|s| c.done(s)).collect();
    assert_eq!(all.iter().map(Stream::status).collect::<Vec<_>>(), [200, 200, 429, 429]);
    assert_eq!(all[3].get("x-raddle-reason").as_deref(), Some("RL"));
    assert!(all[3].get("retry-after").is_some_and(|s| s.parse::<u32>().is_ok_and(|s| s > 900)));
    limited.settles();
}

#[test]
fn a_grpc_call_over_the_rate_gets_resource_exhausted() {
    let server = h2_server(&[], |mut side| {
        while let Some((stream, _)) = side.request() {
            side.answer(stream, "200", &[("content-type", "application/grpc"), ("grpc-status", "0")], b"");
        }
    });
    let spec = "rate: 0.001, burst: 1, when: {service: pay.Pay, method: Refund}";
    let limited = Limited::inbound(server.addr, &[("RateLimit", "refunds", spec)]);
    let mut c = H2Side::connect(limited.listen, &[]);
    assert_eq!(call(&mut c, "/pay.Pay/Refund").get("grpc-status").as_deref(), Some("0"));
    let held = call(&mut c, "/pay.Pay/Refund");
    assert_eq!((held.status(), held.get("grpc-status").as_deref()), (200, Some("8")));
    assert_eq!(held.get("x-raddle-rule").as_deref(), Some("RateLimit/refunds"));
    assert!(held.get("grpc-message").unwrap().contains("[RL]"));
    // gRFC A6: when another may pass, in milliseconds.
    let pushback: i64 = held.get("grpc-retry-pushback-ms").expect("a time").parse().expect("milliseconds");
    assert!((990_000..=1_200_000).contains(&pushback), "{pushback}");
    // One that would be over by then is told not to wait for it.
    let block = Block::request("POST", "shop", "/pay.Pay/Refund").lit("content-type", "application/grpc");
    let stream = c.ask(&block.lit("te", "trailers").lit("grpc-timeout", "5S"), true);
    assert_eq!(c.done(stream).get("grpc-retry-pushback-ms").as_deref(), Some("-1"));
    assert_eq!(call(&mut c, "/pay.Pay/Pay").get("grpc-status").as_deref(), Some("0"));
    assert_eq!(limited.line("RateLimit/refunds")["method"], "Refund");
    limited.settles();
}

#[test]
fn a_connection_that_changes_its_protocol_counts_until_it_ends() {
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
    let limited = Limited::inbound(server.addr, &[("RateLimit", "one", "concurrency: 1")]);
    let mut long = Client::connect(limited.listen);
    assert!(long.send("GET / HTTP/1.1\r\nHost: shop\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"));
    assert_eq!(long.any_response("GET").unwrap().status(), 101);
    let mut c = Client::connect(limited.listen);
    assert_eq!(get(&mut c, "/", "").status(), 429, "it still runs");
    drop(long);
    limited.settles();
    assert_eq!(get(&mut c, "/", "").status(), 200);
}

#[test]
fn an_observed_limit_is_counted_and_logged_once_for_a_request() {
    let server = http_server(|mut c| while c.request().is_some() && c.ok("answer") {});
    let limited = Limited::inbound(server.addr, &[("RateLimit", "none", "mode: observe, rate: 0")]);
    let mut c = Client::connect(limited.listen);
    assert!((0..3).all(|_| get(&mut c, "/", "").status() == 200));
    assert_eq!(limited.observed("RateLimit/none"), 3);
    limited.line("observed:RateLimit/none");
    // Nobody is told that any was held.
    let page = limited.admin().get("/limits?format=text");
    assert!(page.contains("passed 0, would have held 3, would have waited 0\n"), "{page}");
    let told = |limited: &Limited| {
        let limit = &limited.admin().json("/limits")["limits"][0];
        (limit["held"].as_u64(), limit["wouldHaveHeld"].as_u64())
    };
    assert_eq!(told(&limited), (Some(3), Some(3)));
    // Nor when it is carried out from then on.
    limited.rules(&[("RateLimit", "none", "rate: 0")]);
    assert_eq!(get(&mut c, "/", "").status(), 429);
    assert_eq!(told(&limited), (Some(4), Some(3)));
    let page = limited.admin().get("/limits?format=text");
    assert!(page.contains("passed 0, held 1, would have held 3, waited 0\n"), "{page}");
    limited.settles();
}

#[test]
fn a_client_that_is_held_is_told_when_to_come_again_as_far_as_that_is_known() {
    let server = http_server(|mut c| while c.request().is_some() && c.ok("answer") {});
    let limited = Limited::inbound(server.addr, &[("RateLimit", "r", "rate: 4, burst: 1, maxWait: 100ms")]);
    let mut c = Client::connect(limited.listen);
    let mut held = || {
        until_some(PATIENCE, "a refusal", || {
            let response = get(&mut c, "/", "");
            (response.status() == 429).then(|| response.head.get("retry-after"))
        })
    };
    assert_eq!(held().as_deref(), Some("1"), "a part of a second is rounded up");
    limited.rules(&[("RateLimit", "r", "rate: 0.01, burst: 1, key: {header: host}")]);
    assert!(held().is_some_and(|s| s.parse::<u32>().is_ok_and(|s| s > 90)), "of one value");
    // While nothing passes whatever time it is, no time is said.
    limited.rules(&[("RateLimit", "r", "rate: 0")]);
    assert_eq!(held(), None);
    limited.rules(&[("RateLimit", "r", "concurrency: 0")]);
    assert_eq!(held(), None);
}
