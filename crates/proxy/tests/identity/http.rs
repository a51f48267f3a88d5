//! Fields of HTTP, both versions, gRPC with them.
use crate::callee::{Callee, Got, PAY, Pairs, SHOP, ask, shop};
use raddle_testkit::h2::{self, PREFACE, flag, kind};
use raddle_testkit::h2_hpack::Block;
use raddle_testkit::http::{h2_server, http_server};
use raddle_testkit::{Config, Running, TcpServer, free_addr};

fn one_app() -> (TcpServer, Got) {
    let got = Got::default();
    let keep = got.clone();
    let server = http_server(move |mut c| {
        while let Some((head, _)) = c.request() {
            keep.push(pairs(&head.fields));
            if !c.ok("answer") {
                return;
            }
        }
    });
    (server, got)
}

fn two_app() -> (TcpServer, Got) {
    let got = Got::default();
    let keep = got.clone();
    let server = h2_server(&[], move |mut side| {
        while let Some((stream, request)) = side.request() {
            keep.push(pairs(&request.headers));
            side.answer(stream, "200", &[], b"answer");
        }
    });
    (server, got)
}

fn pairs(fields: &[(impl AsRef<[u8]>, Vec<u8>)]) -> Pairs {
    let text = |b: &[u8]| String::from_utf8_lossy(b).into_owned();
    fields.iter().map(|(n, v)| (text(n.as_ref()), text(v))).collect()
}

const SPOOFED: &str = "GET / HTTP/1.1\r\nHost: pay\r\nX-Raddle-Caller: bank\r\nx_raddle_caller_id: bank\r\n\
                       X-Forwarded-Client-Cert: By=a;URI=b\r\nx-forwarded-client-cert: c\r\n\r\n";

/// What an app that speaks HTTP is told.
fn told() -> Pairs {
    let certificate = ("x-forwarded-client-cert".to_owned(), format!("By={PAY};URI={SHOP}"));
    [vec![certificate], shop()].concat()
}

/// A connection's beginning in HTTP/2, with a request that lies about its caller.
fn spoofed_two(grpc: bool) -> Vec<u8> {
    let mut block = Block::request(if grpc { "POST" } else { "GET" }, "pay", "/shop.Pay/Get")
        .lit("x-raddle-caller", "bank")
        .lit("x-raddle-caller-id", "bank")
        .lit("x-forwarded-client-cert", "By=a;URI=b");
    if grpc {
        block = block.lit("content-type", "application/grpc").lit("te", "trailers");
    }
    let mut bytes = PREFACE.to_vec();
    bytes.extend(h2::encode(kind::SETTINGS, 0, 0, &[]));
    bytes.extend(h2::encode(kind::HEADERS, flag::WHOLE, 1, &block.0));
    bytes
}

#[test]
fn an_http_app_is_told_who_calls_and_never_by_the_caller() {
    let (app, got) = one_app();
    let callee = Callee::of(app.addr);
    ask(callee.tls(&[b"http/1.1"]), SPOOFED.as_bytes(), b"answer");
    assert_eq!(got.reserved(), told());
    ask(callee.plain(), SPOOFED.as_bytes(), b"answer");
    assert_eq!(got.reserved(), []);
}

#[test]
fn an_app_that_speaks_http_2_or_grpc_is_told_who_calls() {
    let (app, got) = two_app();
    let callee = Callee::of(app.addr);
    for grpc in [false, true] {
        ask(callee.tls(&[b"h2"]), &spoofed_two(grpc), b"answer");
        assert_eq!(got.reserved(), told());
        ask(callee.plain(), &spoofed_two(grpc), b"answer");
        assert_eq!(got.reserved(), []);
    }
}

#[test]
fn an_app_that_speaks_the_other_version_is_told_too() {
    let (app, got) = one_app();
    let callee = Callee::with(app.addr, ", appProtocol: http");
    ask(callee.tls(&[b"h2"]), &spoofed_two(false), b"answer");
    assert_eq!(got.reserved(), told());
}

#[test]
fn an_http_app_that_is_not_to_be_told_is_not_and_hears_nobody_else_either() {
    let (app, got) = one_app();
    let callee = Callee::with(app.addr, ", callerIdentity: none");
    ask(callee.tls(&[b"http/1.1"]), SPOOFED.as_bytes(), b"answer");
    assert_eq!(got.reserved(), []);
}

#[test]
fn what_the_app_itself_says_goes_out_as_it_is() {
    let (app, got) = one_app();
    let listen = free_addr();
    let spec =
        format!("{{app: pay, protocol: http, hosts: [pay], endpoints: [{{address: \"{}\"}}]}}", app.addr);
    let config = Config::new().workers(1).outbound(listen).document("Service", "pay", &spec);
    let _sidecar = Running::start(&config);
    ask(std::net::TcpStream::connect(listen).unwrap(), SPOOFED.as_bytes(), b"answer");
    assert_eq!(got.reserved().len(), 4);
}
