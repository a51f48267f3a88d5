//! Sends the corpus' requests and looks at both sides.
use crate::corpus::{Case, Want, requests};
use crate::sides::sidecar;
use raddle_testkit::h1::{Client, show};
use raddle_testkit::h1_upstream::{H1Upstream, Reply};
use raddle_testkit::h2_upstream::{H2Upstream, Reply2};
use raddle_testkit::{PATIENCE, until};
use std::net::SocketAddr;
use std::time::Duration;

/// What a refused connection may still hold: it must not be served.
const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: evil\r\n\r\n";
/// For what comes at once, and what must not come at all.
const SOON: Duration = Duration::from_secs(5);

/// One side of the comparison: heads (or what stands for them) and bodies that came through.
type Got = Vec<(String, Vec<u8>)>;

/// The server behind, in either version.
trait Behind {
    fn take(&self) -> Got;
    fn count(&self) -> usize;
    fn wrong(&self) -> Vec<String>;
    /// An expected request, in this server's form.
    fn form(&self, expected: &(String, Vec<u8>)) -> (String, Vec<u8>);
}

impl Behind for H1Upstream {
    fn take(&self) -> Got {
        H1Upstream::take(self)
            .into_iter()
            .map(|r| (String::from_utf8_lossy(&r.bytes).into_owned(), r.body))
            .collect()
    }
    fn count(&self) -> usize {
        H1Upstream::count(self)
    }
    fn wrong(&self) -> Vec<String> {
        self.take_wrong()
    }
    fn form(&self, expected: &(String, Vec<u8>)) -> (String, Vec<u8>) {
        expected.clone()
    }
}

impl Behind for H2Upstream {
    fn take(&self) -> Got {
        let all = H2Upstream::take(self).into_iter();
        all.map(|r| {
            let part = |n: &str| r.get(n).unwrap_or_default();
            (format!("{} {} {}", part(":method"), part(":authority"), part(":path")), r.body)
        })
        .collect()
    }
    fn count(&self) -> usize {
        H2Upstream::count(self)
    }
    fn wrong(&self) -> Vec<String> {
        self.take_wrong()
    }
    fn form(&self, expected: &(String, Vec<u8>)) -> (String, Vec<u8>) {
        let mut words = expected.0.split([' ', '\r']);
        let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let host = expected.0.split("\r\nHost: ").nth(1).and_then(|r| r.split('\r').next()).unwrap_or("");
        // HTTP/2 wants an authority: where none is said, it is the server's own.
        let own = self.addr().to_string();
        let host = if host.is_empty() { &own } else { host };
        (format!("{method} {host} {path}"), expected.1.clone())
    }
}

pub(crate) fn run_http1() {
    let up = H1Upstream::start(|_| Reply::ok("ok"));
    let (listen, _sidecar) = sidecar(up.addr(), "http");
    all(listen, &up, usize::MAX);
}

pub(crate) fn run_http2() {
    let up = H2Upstream::start(|_| Reply2::ok("ok"));
    let (listen, _sidecar) = sidecar(up.addr(), "http2");
    all(listen, &up, usize::MAX);
}

pub(crate) fn run_slowly() {
    let up = H1Upstream::start(|_| Reply::ok("ok"));
    let (listen, _sidecar) = sidecar(up.addr(), "http");
    all(listen, &up, 1);
}

/// Every case, written in pieces of `step` bytes; large ones only whole.
fn all(listen: SocketAddr, up: &dyn Behind, step: usize) {
    let only = std::env::var("RADDLE_CONFORM_CASE").unwrap_or_default();
    let mut failed = Vec::new();
    let cases = requests().into_iter().filter(|c| c.name.starts_with(&only));
    let cases: Vec<_> = cases.filter(|c| step > c.bytes.len() || c.bytes.len() < 500).collect();
    for c in &cases {
        let mut end = one(listen, up, c, step);
        let wrong = up.wrong();
        if !wrong.is_empty() {
            end = Err(format!("the server behind got {wrong:?}"));
        }
        if let Err(e) = end {
            failed.push(format!("{}: sent {}, wanted {}: {e}", c.name, show(&c.bytes), c.want.text()));
        }
        up.take();
    }
    println!("{} cases, {} failed", cases.len(), failed.len());
    assert!(failed.is_empty(), "{} of {} cases failed:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

fn one(listen: SocketAddr, up: &dyn Behind, c: &Case, step: usize) -> Result<(), String> {
    let mut client = Client::connect(listen);
    let mut bytes = c.bytes.clone();
    if !matches!(c.want, Want::Passed(_)) {
        bytes.extend_from_slice(SMUGGLED);
    }
    for piece in bytes.chunks(step) {
        // It may be refused before all of it is sent.
        client.send(piece);
    }
    match &c.want {
        Want::Refused(statuses) => refused(&mut client, up, statuses),
        Want::Passed(expected) => passed(&mut client, up, expected),
        Want::Cut => cut(&mut client, up),
        Want::Either(statuses, expected) => {
            let r = client.response("GET")?;
            match statuses.contains(&r.status()) {
                true => closed(&mut client, up),
                false => {
                    let mut expected = expected.clone();
                    // The one behind it was served as well, unless the connection ended.
                    client.response("GET").ok();
                    let got = up.take();
                    expected.truncate(1);
                    compare(&got[..1.min(got.len())], up, &expected)
                }
            }
        }
    }
}

fn refused(client: &mut Client, up: &dyn Behind, statuses: &[u16]) -> Result<(), String> {
    let r = client.response("GET")?;
    if !statuses.contains(&r.status()) {
        return Err(format!("status {} {}", r.status(), show(&r.body)));
    }
    closed(client, up)
}

fn closed(client: &mut Client, up: &dyn Behind) -> Result<(), String> {
    client.closes(SOON)?;
    match up.take() {
        got if got.is_empty() => Ok(()),
        got => Err(format!("passed on {got:?}")),
    }
}

fn cut(client: &mut Client, up: &dyn Behind) -> Result<(), String> {
    client.finish();
    let (bytes, ended) = client.rest(SOON);
    if !ended {
        return Err(format!("it stays open after {}", show(&bytes)));
    }
    if !bytes.is_empty() && !["400", "413", "414", "431"].iter().any(|s| bytes[9..].starts_with(s.as_bytes()))
    {
        return Err(format!("answered {}", show(&bytes)));
    }
    match up.take() {
        got if got.is_empty() => Ok(()),
        got => Err(format!("passed on {got:?}")),
    }
}

fn passed(client: &mut Client, up: &dyn Behind, expected: &[(String, Vec<u8>)]) -> Result<(), String> {
    for e in expected {
        let r = client.response(e.0.split(' ').next().unwrap_or(""))?;
        if r.status() != 200 {
            return Err(format!("status {} {}", r.status(), show(&r.body)));
        }
    }
    until(PATIENCE, "what was answered is recorded", || up.count() >= expected.len());
    compare(&up.take(), up, expected)
}

fn compare(got: &[(String, Vec<u8>)], up: &dyn Behind, expected: &[(String, Vec<u8>)]) -> Result<(), String> {
    let expected: Got = expected.iter().map(|e| up.form(e)).collect();
    if got == expected { Ok(()) } else { Err(format!("passed on {got:?}, not {expected:?}")) }
}
