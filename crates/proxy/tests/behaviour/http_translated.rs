//! One version of HTTP in, the other out; and gRPC, whose errors are its own.
use crate::http_sides::{HOST, get, h1_to, h2_to, nothing_is_left, service, started};
use raddle_testkit::h1::Client;
use raddle_testkit::h2::{code, flag, kind};
use raddle_testkit::h2_hpack::Block;
use raddle_testkit::http::{H2Side, Stream, h2_server, http_server};
use raddle_testkit::{PATIENCE, refused_addr};
use std::sync::{Mutex, mpsc};

const RPC: &str = "shop.v1.Cart";

fn call(path: &str, fields: &[(&str, &str)]) -> Block {
    let mut b = Block::request("POST", "anything:8080", path)
        .lit("content-type", "application/grpc")
        .lit("te", "trailers");
    for (n, v) in fields {
        b = b.lit(n, v);
    }
    b
}

/// gRPC's status and flag, of a response that is trailers only.
#[track_caller]
fn trailers_only(s: &Stream) -> (String, Option<String>) {
    assert_eq!((s.status(), s.body.len(), s.reset), (200, 0, None), "{s:?}");
    assert_eq!(s.get("content-type").as_deref(), Some("application/grpc"));
    assert!(s.trailers.is_empty(), "one HEADERS frame says all");
    (s.get("grpc-status").unwrap(), s.get("x-raddle-reason"))
}

#[test]
fn an_http_1_caller_reaches_an_http_2_endpoint_with_host_body_and_trailers() {
    let server = h2_server(&[], |mut side| {
        while let Some((id, r)) = side.request() {
            assert_eq!(r.get(":authority").as_deref(), Some("shop:8080"));
            assert_eq!((r.get(":scheme").as_deref(), r.get("host")), (Some("http"), None));
            assert_eq!((r.get("x-a").as_deref(), r.get("connection")), (Some("b"), None));
            let head = Block::new().lit(":status", "201").lit("x-c", "d");
            side.peer.headers(id, flag::END_HEADERS, &head);
            side.data(id, &r.body, false);
            let sum = r.get("x-sum").unwrap_or_default();
            side.peer.headers(id, flag::WHOLE, &Block::new().lit("x-sum", sum));
        }
    });
    let (sidecar, listen) = h2_to(&[server.addr]);
    let mut c = Client::connect(listen);
    for _ in 0..5 {
        c.send("POST /p?q=1 HTTP/1.1\r\nHost: shop:8080\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n");
        c.send("5\r\nhello\r\n0\r\nx-sum: 5\r\n\r\n");
        let r = c.response("POST").unwrap();
        assert_eq!((r.status(), &r.body[..]), (201, &b"hello"[..]));
        assert_eq!(r.head.get("x-c").as_deref(), Some("d"));
        assert_eq!(r.trailers, [("x-sum".into(), b"5".to_vec())]);
    }
    // Without a body each way.
    nothing_is_left(&sidecar);
}

#[test]
fn an_http_2_caller_reaches_an_http_1_endpoint_with_authority_body_and_trailers() {
    let server = http_server(|mut c| {
        while let Some(head) = c.head() {
            let (body, trailers) = c.body(&head);
            assert_eq!(head.get("host").as_deref(), Some("shop:8080"));
            if head.line.starts_with("HEAD") {
                c.send("HTTP/1.1 200 OK\r\ncontent-length: 55\r\n\r\n");
                continue;
            }
            c.send("HTTP/1.1 103 Early Hints\r\n\r\n");
            c.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
            c.send([format!("{:x}\r\n", body.len()).as_bytes(), &body, b"\r\n0\r\n"].concat());
            for (n, v) in trailers {
                c.send([n.as_bytes(), b": ", &v, b"\r\n"].concat());
            }
            c.send("\r\n");
        }
    });
    let (sidecar, listen) = h1_to(&[server.addr]);
    let mut c = H2Side::connect(listen, &[]);
    for _ in 0..5 {
        let id = c.ask(&Block::request("POST", "shop:8080", "/p"), false);
        c.data(id, b"hello", false);
        c.peer.headers(id, flag::WHOLE, &Block::new().lit("x-sum", "5"));
        let s = c.done(id);
        assert_eq!((s.status(), &s.body[..], s.interim.clone()), (200, &b"hello"[..], vec![103]));
        assert_eq!((s.get("x-sum").as_deref(), s.get("transfer-encoding")), (Some("5"), None));
        let id = c.ask(&Block::request("HEAD", "shop:8080", "/"), true);
        let s = c.done(id);
        assert_eq!((s.status(), s.get("content-length").as_deref(), s.reset), (200, Some("55"), None));
    }
    nothing_is_left(&sidecar);
}

#[test]
fn streams_of_one_caller_are_served_by_as_many_http_1_connections() {
    let (tx, rx) = mpsc::channel::<()>();
    let rx = Mutex::new(rx);
    let server = http_server(move |mut c| {
        while let Some((head, _)) = c.request() {
            // Not by the connection: which of them is made first does not matter.
            if head.line.contains("/slow") {
                let _ = rx.lock().unwrap().recv();
            }
            c.ok("ok");
        }
    });
    let (sidecar, listen) = h1_to(&[server.addr]);
    let mut c = H2Side::connect(listen, &[]);
    let slow = c.get(HOST, "/slow");
    sidecar.admin.until_metric("raddle_endpoint_requests_in_flight", &[], |n| n == 1);
    for _ in 0..20 {
        let id = c.get(HOST, "/");
        assert_eq!(c.done(id).body, b"ok");
    }
    tx.send(()).unwrap();
    assert_eq!(c.done(slow).body, b"ok");
    nothing_is_left(&sidecar);
}

#[test]
fn an_endpoint_that_resets_the_stream_is_told_to_an_http_1_caller_as_uc() {
    let server = h2_server(&[], |mut side| {
        while let Some(id) = side.begun() {
            side.peer.frame(kind::RST_STREAM, 0, id, &code::INTERNAL_ERROR.to_be_bytes());
        }
    });
    let (sidecar, listen) = h2_to(&[server.addr]);
    let mut c = Client::connect(listen);
    for _ in 0..3 {
        c.send(get("/"));
        let r = c.response("GET").unwrap();
        assert_eq!((r.status(), r.head.get("x-raddle-reason").as_deref()), (503, Some("UC")));
    }
    nothing_is_left(&sidecar);
}

#[test]
fn grpc_finds_its_service_by_path_and_triples_version_and_group() {
    let says = |text: &'static str| {
        h2_server(&[], move |mut side| {
            while let Some((id, r)) = side.request() {
                assert_eq!(r.get("te").as_deref(), Some("trailers"));
                let head = Block::new().lit(":status", "200").lit("content-type", "application/grpc");
                side.peer.headers(id, flag::END_HEADERS, &head);
                side.data(id, text.as_bytes(), false);
                side.peer.headers(id, flag::WHOLE, &Block::new().lit("grpc-status", "0"));
            }
        })
    };
    let (plain, second) = (says("plain"), says("second"));
    let (sidecar, listen) = started(|c| {
        let c = service(c, RPC, "grpc", &[plain.addr]);
        service(c, &format!("{RPC}:2.0:g"), "grpc", &[second.addr])
    });
    let mut c = H2Side::connect(listen, &[]);
    let triple = [("tri-service-version", "2.0"), ("tri-service-group", "g")];
    for (fields, want) in [(&[][..], "plain"), (&triple[..], "second")] {
        let id = c.ask(&call(&format!("/{RPC}/Add"), fields), false);
        c.data(id, b"\0\0\0\0\0", true);
        let s = c.done(id);
        assert_eq!(
            (String::from_utf8_lossy(&s.body).as_ref(), s.get("grpc-status").as_deref()),
            (want, Some("0"))
        );
    }
    sidecar.admin.until_metric("raddle_requests_total", &["ok", RPC], |n| n == 2);
    nothing_is_left(&sidecar);
}

#[test]
fn grpc_callers_get_the_sidecars_rejections_in_their_own_words() {
    let dies = h2_server(&[], |mut side| assert!(side.begun().is_some()));
    let (sidecar, listen) = started(|c| {
        let c = service(c, "Refuses", "grpc", &[refused_addr()]);
        let c = service(c, "Empty", "grpc", &[]);
        let c = service(c, "Dies", "grpc", &[dies.addr]);
        let c = service(c, "Aborts", "grpc", &[dies.addr]);
        let rule = "{to: {services: [Aborts]}, rules: [{name: x, fault: {abort: {grpcStatus: DATA_LOSS}}}]}";
        let c = c.document("Route", "faulty", rule);
        let c = service(c, "Answers", "grpc", &[dies.addr]);
        c.document("Route", "web", "{to: {services: [Answers]}, rules: [{respond: {body: hi}}]}")
    });
    let mut c = H2Side::connect(listen, &[]);
    let table = [
        ("Nobody", "14", "NC"),
        ("Empty", "14", "UH"),
        ("Refuses", "14", "UF"),
        ("Dies", "14", "UC"),
        ("Aborts", "15", "FI"),
        ("Answers", "12", "NR"),
    ];
    for (name, status, flag) in table {
        let id = c.ask(&call(&format!("/{name}/Do"), &[]), true);
        let got = trailers_only(&c.done(id));
        assert_eq!((got.0.as_str(), got.1.as_deref()), (status, Some(flag)), "{name}");
    }
    nothing_is_left(&sidecar);
}

#[test]
fn a_grpc_deadline_is_kept_for_the_caller_and_the_endpoint_is_told() {
    let (tx, rx) = mpsc::channel();
    let tx = Mutex::new(tx);
    let server = h2_server(&[], move |mut side| {
        while let Some(id) = side.begun() {
            assert_eq!(side.streams[&id].get("grpc-timeout").as_deref(), Some("120m"));
            side.until("the call is given up", |s| s.streams[&id].reset.is_some());
            tx.lock().unwrap().send(side.streams[&id].reset.unwrap()).unwrap();
        }
    });
    let (sidecar, listen) = started(|c| service(c, RPC, "grpc", &[server.addr]));
    let mut c = H2Side::connect(listen, &[]);
    let id = c.ask(&call(&format!("/{RPC}/Slow"), &[("grpc-timeout", "120m")]), false);
    let got = trailers_only(&c.done(id));
    assert_eq!((got.0.as_str(), got.1.as_deref()), ("4", Some("UT")));
    assert_eq!(rx.recv_timeout(PATIENCE), Ok(code::CANCEL));
    nothing_is_left(&sidecar);
}
