//! Requests that change their version on the way, byte by byte.
use crate::sides::sidecar2;
use raddle_testkit::h1_upstream::{H1Upstream, Reply};
use raddle_testkit::h2::{Peer, flag};
use raddle_testkit::h2_hpack::Block;
use raddle_testkit::{PATIENCE, until};

type Trailers = Vec<(String, Vec<u8>)>;

/// What an HTTP/1.1 server gets of a request made by `send` on stream 1.
#[track_caller]
fn through(send: impl Fn(&mut Peer)) -> (String, Vec<u8>, Trailers) {
    let up = H1Upstream::start(|_| Reply::ok("ok"));
    let (listen, _sidecar) = sidecar2(up.addr(), "http");
    let mut p = Peer::connect(listen);
    p.greet(&[]).unwrap();
    send(&mut p);
    assert_eq!(p.response(1).unwrap().status, 200);
    until(PATIENCE, "it is recorded", || up.count() == 1);
    assert_eq!(up.take_wrong(), Vec::<String>::new());
    let r = up.take().remove(0);
    (String::from_utf8(r.bytes).unwrap(), r.body, r.trailers)
}

#[test]
fn a_get_is_written_as_anyone_would() {
    let (head, body, _) = through(|p| {
        p.headers(
            1,
            flag::WHOLE,
            &Block::request("GET", "a:81", "/x?y").lit("x-b", "1").lit("te", "trailers"),
        );
    });
    assert!(head.starts_with("GET /x?y HTTP/1.1\r\nHost: a:81\r\n"), "{head}");
    assert!(head.contains("\r\nx-b: 1\r\n"), "{head}");
    assert!(!head.contains("\r\n:"), "{head}");
    assert!(!head.contains("content-length") && !head.contains("transfer-encoding"), "{head}");
    assert_eq!(body, b"");
}

#[test]
fn a_body_of_known_length_keeps_it() {
    let (head, body, _) = through(|p| {
        p.headers(1, flag::END_HEADERS, &Block::request("POST", "a", "/").lit("content-length", "4"));
        p.data(1, 0, b"te");
        p.data(1, flag::END_STREAM, b"st");
    });
    assert!(head.contains("\r\ncontent-length: 4\r\n") && !head.contains("transfer-encoding"), "{head}");
    assert_eq!(body, b"test");
}

#[test]
fn a_body_of_unknown_length_comes_in_chunks_with_its_trailers() {
    let (head, body, trailers) = through(|p| {
        p.headers(1, flag::END_HEADERS, &Block::request("POST", "a", "/"));
        p.data(1, 0, b"GET / HTTP/1.1\r\n\r\n");
        p.headers(1, flag::WHOLE, &Block::new().lit("x-sum", "1").lit("content-length", "7"));
    });
    assert!(
        head.contains("\r\ntransfer-encoding: chunked\r\n") && !head.contains("content-length"),
        "{head}"
    );
    assert_eq!(body, b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(trailers, [("x-sum".to_owned(), b"1".to_vec())]);
}

#[test]
fn cookies_in_pieces_become_one() {
    let (head, ..) = through(|p| {
        p.headers(1, flag::WHOLE, &Block::request("GET", "a", "/").lit("cookie", "a=1").lit("cookie", "b=2"));
    });
    assert!(head.contains("\r\ncookie: a=1; b=2\r\n"), "{head}");
    assert_eq!(head.matches("cookie").count(), 1, "{head}");
}

#[test]
fn a_host_field_is_enough_and_occurs_once() {
    let (head, ..) = through(|p| {
        let b =
            Block::new().lit(":method", "GET").lit(":scheme", "http").lit(":path", "/").lit("host", "b.test");
        p.headers(1, flag::WHOLE, &b);
    });
    assert!(head.starts_with("GET / HTTP/1.1\r\nHost: b.test\r\n"), "{head}");
    assert_eq!(head.to_lowercase().matches("host:").count(), 1, "{head}");
}
