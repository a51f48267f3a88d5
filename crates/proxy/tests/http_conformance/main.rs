//! HTTP/2 as the sidecar's callers may get it wrong: the cases of h2spec (<https://github.com/summerwind/h2spec>)
//! under their names there, said in our own words, and some more.
//!
//! A case sends frames on a connection of its own and says what may be answered. Behind the sidecar is a server
//! that checks every request it gets, so each case shows two things: the caller is answered as RFC 9113 wants
//! it, and nothing malformed is passed on. All run twice, with an HTTP/1.1 and an HTTP/2 server behind.
//!
//! `RADDLE_CONFORM_PEER=127.0.0.1:8080 cargo test -p raddle-proxy --test http_conformance peer -- --ignored`
//! runs them against another server (one that answers 200 to everything), which tells the cases' own mistakes
//! from the sidecar's.
mod abuse;
mod case;
mod cases;
mod deviations;
mod page;
mod run;

use case::Ctx;
use raddle_testkit::h1_upstream::{H1Upstream, Recorded, Reply};
use raddle_testkit::h2_upstream::{H2Upstream, Recorded2, Reply2};
use raddle_testkit::{Config, Running, free_addr};

fn body(target: &str) -> Vec<u8> {
    target.strip_prefix("/size/").and_then(|n| n.parse().ok()).map_or(b"ok".to_vec(), |n| vec![b'x'; n])
}

fn answer1(r: &Recorded) -> Reply {
    Reply::ok(if r.method() == "HEAD" { vec![] } else { body(r.target()) })
}

fn answer2(r: &Recorded2) -> Reply2 {
    let mut reply = Reply2::ok(body(&r.get(":path").unwrap_or_default()));
    if r.get(":method").as_deref() == Some("HEAD") {
        reply.body = None;
    }
    reply
}

fn sidecar(forward: std::net::SocketAddr, app: &str) -> (std::net::SocketAddr, Running) {
    let listen = free_addr();
    let line = format!("inbound: [{{listen: \"{listen}\", forward: \"{forward}\", appProtocol: {app}}}]");
    let running = Running::start(&Config::new().workers(1).sidecar(&line));
    (listen, running)
}

/// Not a test: the child processes of the others.
#[test]
fn sidecar_process() {
    raddle_testkit::child::entry();
}

#[test]
fn every_case_is_answered_as_the_rfc_says_with_http1_behind() {
    let up = H1Upstream::start(answer1);
    let (listen, _sidecar) = sidecar(up.addr(), "http");
    run::all(listen, true, &|| up.take_wrong());
}

#[test]
fn every_case_is_answered_as_the_rfc_says_with_http2_behind() {
    let up = H2Upstream::start(answer2);
    let (listen, _sidecar) = sidecar(up.addr(), "http2");
    run::all(listen, true, &|| up.take_wrong());
}

#[test]
#[ignore = "needs RADDLE_CONFORM_PEER"]
fn peer() {
    let addr = std::env::var("RADDLE_CONFORM_PEER").unwrap().parse().unwrap();
    run::all(addr, false, &Vec::new);
}

#[test]
fn the_page_lists_every_case() {
    page::check();
}
