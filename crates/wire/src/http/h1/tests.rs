use super::Framing;
use super::read::{Limits, Malformed, Parsed, ReadRequest, ReadResponse, request, response};
use super::write::{self, Connection};
use crate::http::{Request, Response};

fn read(bytes: &[u8]) -> Result<(Request, ReadRequest), Malformed> {
    let mut r = Request::default();
    match request(bytes, &Limits::default(), &mut r)? {
        Parsed::Head(h) => Ok((r, h)),
        Parsed::Incomplete => panic!("incomplete: {:?}", String::from_utf8_lossy(bytes)),
    }
}

fn read_response(bytes: &[u8], method: &[u8]) -> Result<(Response, ReadResponse), Malformed> {
    let mut r = Response::default();
    match response(bytes, &Limits::default(), method, &mut r)? {
        Parsed::Head(h) => Ok((r, h)),
        Parsed::Incomplete => panic!("incomplete: {:?}", String::from_utf8_lossy(bytes)),
    }
}

#[test]
fn a_request_is_written_as_it_was_read_without_what_is_about_its_connection() {
    let wire =
        b"POST /a?b HTTP/1.1\r\nHost: shop:81\r\nX-One: 1\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 2\r\n\
                 Keep-Alive: timeout=5\r\nContent-Length: 3\r\nx-one: 3\r\n\r\nabc";
    let (r, h) = read(wire).unwrap();
    assert_eq!(h.framing, Framing::Length(3));
    assert!(h.keep_alive);
    assert_eq!(&wire[h.used..], b"abc");
    let mut out = Vec::new();
    write::request(&mut out, &r, h.framing, Connection::Stays);
    let text = String::from_utf8(out).unwrap();
    assert_eq!(
        text,
        "POST /a?b HTTP/1.1\r\nHost: shop:81\r\nX-One: 1\r\nContent-Length: 3\r\nx-one: 3\r\n\r\n"
    );
}

#[test]
fn what_two_readers_could_take_differently_is_refused() {
    let get = |rest: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{rest}\r\n").into_bytes();
    for (status, wire) in [
        (400, get("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n")),
        (400, get("Content-Length: 1\r\nContent-Length: 1\r\n")),
        (400, get("Content-Length: 1, 1\r\n")),
        (400, get("Content-Length: +1\r\n")),
        (400, get("Content-Length: 99999999999999999999\r\n")),
        (501, get("Transfer-Encoding: gzip, chunked\r\n")),
        (501, get("Transfer-Encoding: xchunked\r\n")),
        (400, get("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")),
        (400, get("Transfer-Encoding : chunked\r\n")),
        (400, get("A: b\r\n c: d\r\n")),
        (400, get("A: b\nC: d\r\n")),
        (400, get("A: b\rC: d\r\n")),
        (400, get("A: \0\r\n")),
        (400, get("Host: b\r\n")),
        (400, get("Connection: host\r\n")),
        (400, b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        (400, b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_vec()),
        (400, b"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        (400, b"GET http://u@h/ HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        (400, b"GET ftp://h/ HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n".to_vec()),
        (417, get("Expect: something\r\n")),
        (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec()),
    ] {
        let text = String::from_utf8_lossy(&wire).into_owned();
        match read(&wire) {
            Err(e) => assert_eq!(e.status, status, "{text:?}: {e}"),
            Ok(_) => panic!("accepted: {text:?}"),
        }
    }
}

#[test]
fn an_absolute_target_outranks_the_host_field() {
    let (r, _) = read(b"GET HTTP://b:8/x?y HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!((r.authority(), r.target(), r.absolute), (&b"b:8"[..], &b"/x?y"[..], true));
    let (r, _) = read(b"CONNECT b:443 HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!((r.authority(), r.target()), (&b"b:443"[..], &b""[..]));
}

#[test]
fn upgrades_pass_but_not_to_http2() {
    let (r, h) =
        read(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").unwrap();
    assert!(h.upgrade && r.fields.has("upgrade"));
    let (r, h) =
        read(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n")
            .unwrap();
    assert!(!h.upgrade && r.fields.is_empty());
}

#[test]
fn a_head_over_the_limit_is_refused_and_one_under_it_awaited() {
    let limits = Limits { max_head: 100 };
    let mut r = Request::default();
    let long = |n: usize| [b"GET / HTTP/1.1\r\nHost: a\r\nX: ".to_vec(), vec![b'x'; n]].concat();
    assert_eq!(request(&long(20), &limits, &mut r), Ok(Parsed::Incomplete));
    assert_eq!(request(&long(200), &limits, &mut r).unwrap_err().status, 431);
    let line = [b"GET /".to_vec(), vec![b'x'; 200]].concat();
    assert_eq!(request(&line, &limits, &mut r).unwrap_err().status, 414);
}

#[test]
fn responses_have_the_bodies_their_requests_say() {
    let head = |s: &str| s.replace('\n', "\r\n").into_bytes();
    let (_, h) = read_response(&head("HTTP/1.1 200 OK\nContent-Length: 5\n\n"), b"HEAD").unwrap();
    assert_eq!((h.framing, h.keep_alive), (Framing::None, true));
    let (_, h) = read_response(&head("HTTP/1.1 200 OK\n\n"), b"GET").unwrap();
    assert_eq!((h.framing, h.keep_alive), (Framing::UntilClose, false));
    let (_, h) = read_response(&head("HTTP/1.1 304 Not Modified\nContent-Length: 5\n\n"), b"GET").unwrap();
    assert_eq!((h.framing, h.keep_alive), (Framing::None, true));
    let (_, h) = read_response(&head("HTTP/1.0 200 OK\nContent-Length: 5\n\n"), b"GET").unwrap();
    assert_eq!((h.framing, h.keep_alive), (Framing::Length(5), false));
    for bad in ["HTTP/1.1 200 OK\nContent-Length: 1\nTransfer-Encoding: chunked\n\n", "HTTP/1.1 99 x\n\n"] {
        assert_eq!(read_response(&head(bad), b"GET").unwrap_err().status, 502);
    }
}
