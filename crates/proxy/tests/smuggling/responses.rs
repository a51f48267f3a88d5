//! Sends the corpus' responses and looks at what callers are told.
use crate::corpus::{Reply as Case, Told, replies};
use crate::sides::{sidecar, sidecar2};
use raddle_testkit::h1::{Client, show};
use raddle_testkit::h1_upstream::{H1Upstream, Recorded, Reply};
use raddle_testkit::h2::{Peer, flag};
use raddle_testkit::h2_hpack::Block;
use std::net::SocketAddr;

/// What a caller was told: status, body.
type Answer = Result<(u16, Vec<u8>), String>;

fn upstream() -> H1Upstream {
    let cases: Vec<(Vec<u8>, bool)> = replies().into_iter().map(|r| (r.bytes, r.close)).collect();
    H1Upstream::start(move |r: &Recorded| {
        let case = r.target().strip_prefix("/reply/").and_then(|n| cases.get(n.parse::<usize>().ok()?));
        case.map_or(Reply::ok("fresh"), |(bytes, close)| Reply { bytes: bytes.clone(), close: *close })
    })
}

pub(crate) fn run_http1() {
    let up = upstream();
    let (listen, _sidecar) = sidecar(up.addr(), "http");
    all(listen, &up, |addr, method, path| {
        let mut c = Client::connect(addr);
        c.send(format!("{method} {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let first = c.response(method).map(|r| (r.status(), r.body));
        // The connection goes on, or ends; it never says more than was asked.
        let mut next = Ok((200, b"fresh".to_vec()));
        if first.is_ok() && c.send("GET /fresh HTTP/1.1\r\nHost: a\r\n\r\n") {
            next = c.response("GET").map(|r| (r.status(), r.body));
            if matches!(&next, Err(e) if e.contains("connection's end after \"\"")) {
                next = Ok((200, b"fresh".to_vec()));
            }
        }
        (first, next)
    });
}

pub(crate) fn run_http2() {
    let up = upstream();
    let (listen, _sidecar) = sidecar2(up.addr(), "http");
    all(listen, &up, |addr, method, path| {
        let mut p = Peer::connect(addr);
        if let Err(e) = p.greet(&[]) {
            return (Err(e.clone()), Err(e));
        }
        let mut ask = |stream, method: &str, path: &str| {
            p.headers(stream, flag::WHOLE, &Block::request(method, "a", path));
            p.response(stream).map(|r| (r.status, r.body))
        };
        (ask(1, method, path), ask(3, "GET", "/fresh"))
    });
}

fn all(listen: SocketAddr, up: &H1Upstream, ask: impl Fn(SocketAddr, &str, &str) -> (Answer, Answer)) {
    let mut failed = Vec::new();
    let only = std::env::var("RADDLE_CONFORM_CASE").unwrap_or_default();
    let cases = replies();
    for (i, c) in cases.iter().enumerate().filter(|(_, c)| c.name.starts_with(&only)) {
        let (first, next) = ask(listen, c.method, &format!("/reply/{i}"));
        let mut end = judge(c, first);
        if next != Ok((200, b"fresh".to_vec())) {
            end = Err(format!("the next request got {}", told(next)));
        }
        let (other, _) = ask(listen, "GET", "/fresh");
        if other != Ok((200, b"fresh".to_vec())) {
            end = Err(format!("another caller got {}", told(other)));
        }
        let wrong = up.take_wrong();
        if !wrong.is_empty() {
            end = Err(format!("the server behind got {wrong:?}"));
        }
        if let Err(e) = end {
            failed.push(format!(
                "{} to {}: {}, wanted {}: {e}",
                c.name,
                c.method,
                show(&c.bytes),
                c.told.text()
            ));
        }
    }
    println!("{} cases, {} failed", cases.len(), failed.len());
    assert!(failed.is_empty(), "{} of {} cases failed:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

fn judge(c: &Case, got: Answer) -> Result<(), String> {
    match (&c.told, got) {
        (Told::BadGateway, Ok((502, body))) if body.windows(4).all(|w| w != b"evil") => Ok(()),
        // What has begun before the fault was seen can only be cut.
        (Told::Cut, Err(_)) => Ok(()),
        (Told::Cut, Ok((502, _))) => Ok(()),
        (Told::This(status, body, _), Ok((s, b))) if s == *status && b == *body => Ok(()),
        (_, got) => Err(told(got)),
    }
}

fn told(a: Answer) -> String {
    match a {
        Ok((status, body)) => format!("{status} {}", show(&body)),
        Err(e) => e,
    }
}
