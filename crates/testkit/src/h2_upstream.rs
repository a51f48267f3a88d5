//! An HTTP/2 server (prior knowledge) that holds every request against RFC 9113, section 8, and keeps it.
use crate::h2::{Event, Frame, PREFACE, Peer, flag, kind, setting};
use crate::h2_hpack::{Block, Headers, shown};
use crate::tcp::TcpServer;
use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A request as it came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded2 {
    /// Its fields, in order, pseudo-header fields too.
    pub headers: Headers,
    /// Its body.
    pub body: Vec<u8>,
    /// Its trailers.
    pub trailers: Headers,
}

impl Recorded2 {
    /// The first value of a field.
    pub fn get(&self, name: &str) -> Option<String> {
        let v = self.headers.iter().find(|(n, _)| n == name.as_bytes());
        v.map(|(_, v)| String::from_utf8_lossy(v).into_owned())
    }
}

/// What the server answers: HEADERS with a block, DATA, trailers.
#[derive(Clone, Debug)]
pub struct Reply2 {
    /// The response's head.
    pub block: Block,
    /// Its body, if it has one; at most what the windows take.
    pub body: Option<Vec<u8>>,
    /// Its trailers.
    pub trailers: Option<Block>,
}

impl Reply2 {
    /// A plain 200.
    pub fn ok(body: impl AsRef<[u8]>) -> Reply2 {
        Reply2 { block: Block::new().indexed(8), body: Some(body.as_ref().to_vec()), trailers: None }
    }
}

#[derive(Default)]
struct Seen {
    requests: Vec<Recorded2>,
    wrong: Vec<String>,
    connections: usize,
}

/// The server. Dropping it ends its listening.
pub struct H2Upstream {
    server: TcpServer,
    seen: Arc<Mutex<Seen>>,
}

impl H2Upstream {
    /// Answers each whole request with what `answer` says.
    #[track_caller]
    pub fn start(answer: impl Fn(&Recorded2) -> Reply2 + Send + Sync + 'static) -> H2Upstream {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let s = seen.clone();
        let server = TcpServer::start(move |stream| {
            let lock = || s.lock().unwrap_or_else(PoisonError::into_inner);
            lock().connections += 1;
            if let Err(e) = serve(stream, &s, &answer) {
                lock().wrong.push(e);
            }
        });
        H2Upstream { server, seen }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the whole requests so far.
    pub fn take(&self) -> Vec<Recorded2> {
        std::mem::take(&mut self.seen().requests)
    }

    /// How many whole requests are recorded and not taken.
    pub fn count(&self) -> usize {
        self.seen().requests.len()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.seen().connections
    }

    /// Takes what came and was malformed.
    pub fn take_wrong(&self) -> Vec<String> {
        std::mem::take(&mut self.seen().wrong)
    }
}

fn serve(
    stream: TcpStream,
    seen: &Mutex<Seen>,
    answer: &impl Fn(&Recorded2) -> Reply2,
) -> Result<(), String> {
    let mut p = Peer::of(stream);
    let long = || Instant::now() + Duration::from_secs(3600);
    match p.raw(PREFACE.len(), long()) {
        Some(b) if b == PREFACE => {}
        Some(b) => return Err(format!("preface {}", crate::h1::show(&b))),
        // Nothing said at all: a probe.
        None => return Ok(()),
    }
    p.say_settings(&[(setting::MAX_CONCURRENT_STREAMS, 1000)]);
    let mut open: HashMap<u32, Recorded2> = HashMap::new();
    // A block under way: its stream, whether the stream ends with it, its bytes.
    let mut block: Option<(u32, bool, Vec<u8>)> = None;
    let mut highest = 0;
    loop {
        let f = match p.next(long()) {
            Event::Frame(f) => f,
            Event::Closed | Event::Quiet => return Ok(()),
        };
        if block.is_some() && f.kind != kind::CONTINUATION {
            return Err(format!("{} within a header block", f.brief()));
        }
        match f.kind {
            kind::SETTINGS if !f.has(flag::ACK) => {
                p.learn(&f);
                p.frame(kind::SETTINGS, flag::ACK, 0, &[]);
            }
            kind::PING if !f.has(flag::ACK) => {
                p.frame(kind::PING, flag::ACK, 0, &f.payload);
            }
            kind::HEADERS => {
                if f.stream % 2 == 0 || (f.stream <= highest && !open.contains_key(&f.stream)) {
                    return Err(format!("{} begins no stream", f.brief()));
                }
                highest = highest.max(f.stream);
                block = Some((f.stream, f.has(flag::END_STREAM), f.body().to_vec()));
            }
            kind::CONTINUATION => match &mut block {
                Some((s, _, b)) if *s == f.stream => b.extend_from_slice(&f.payload),
                _ => return Err(format!("{} continues nothing", f.brief())),
            },
            kind::DATA => data(&mut p, &mut open, &f)?,
            kind::RST_STREAM => {
                open.remove(&f.stream);
            }
            _ => {}
        }
        let mut done = (f.kind == kind::DATA && f.has(flag::END_STREAM)).then_some(f.stream);
        if matches!(f.kind, kind::HEADERS | kind::CONTINUATION)
            && f.has(flag::END_HEADERS)
            && let Some((stream, last, bytes)) = block.take()
        {
            let fields = p.decoder.read(&bytes)?;
            match open.get_mut(&stream) {
                Some(r) if last => r.trailers = fields,
                Some(_) => return Err("two heads on one stream".into()),
                None => {
                    open.insert(stream, Recorded2 { headers: fields, ..Recorded2::default() });
                }
            }
            done = last.then_some(stream);
        }
        if let Some(stream) = done
            && let Some(r) = open.remove(&stream)
        {
            check(&r)?;
            let reply = answer(&r);
            seen.lock().unwrap_or_else(PoisonError::into_inner).requests.push(r);
            say(&mut p, stream, &reply);
        }
    }
}

fn data(p: &mut Peer, open: &mut HashMap<u32, Recorded2>, f: &Frame) -> Result<(), String> {
    // A stream that was answered early may still get what was under way.
    if let Some(r) = open.get_mut(&f.stream) {
        r.body.extend_from_slice(f.body());
    }
    if f.stream == 0 {
        return Err("DATA on stream 0".into());
    }
    if !f.payload.is_empty() {
        let n = (f.payload.len() as u32).to_be_bytes();
        p.frame(kind::WINDOW_UPDATE, 0, 0, &n);
        if !f.has(flag::END_STREAM) {
            p.frame(kind::WINDOW_UPDATE, 0, f.stream, &n);
        }
    }
    Ok(())
}

fn say(p: &mut Peer, stream: u32, r: &Reply2) {
    let bare = r.body.is_none() && r.trailers.is_none();
    p.headers(stream, if bare { flag::WHOLE } else { flag::END_HEADERS }, &r.block);
    if let Some(body) = &r.body {
        let chunks: Vec<&[u8]> = if body.is_empty() { vec![&[]] } else { body.chunks(16 << 10).collect() };
        for (i, c) in chunks.iter().enumerate() {
            let last = i + 1 == chunks.len() && r.trailers.is_none();
            p.data(stream, if last { flag::END_STREAM } else { 0 }, c);
        }
    }
    if let Some(t) = &r.trailers {
        p.headers(stream, flag::WHOLE, t);
    }
}

/// What a well-formed request has (RFC 9113, 8.2 and 8.3).
fn check(r: &Recorded2) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("{what}: {:?}", shown(&r.headers)));
    let mut regular = false;
    for (name, value) in r.headers.iter().chain(&r.trailers) {
        if name.is_empty() || name.iter().any(|b| *b <= 0x20 || *b >= 0x7f || b.is_ascii_uppercase()) {
            return wrong("a bad name");
        }
        if value.iter().any(|b| matches!(b, 0 | b'\r' | b'\n')) || value.trim_ascii().len() != value.len() {
            return wrong("a bad value");
        }
        let pseudo = name.starts_with(b":");
        if pseudo && regular {
            return wrong("a pseudo-header field behind others");
        }
        regular |= !pseudo;
        match &name[..] {
            b"connection" | b"keep-alive" | b"proxy-connection" | b"transfer-encoding" | b"upgrade" => {
                return wrong("a connection's field");
            }
            b"te" if value != b"trailers" => return wrong("te"),
            _ => {}
        }
    }
    if r.trailers.iter().any(|(n, _)| n.starts_with(b":")) {
        return wrong("a pseudo-header field in trailers");
    }
    let count = |n: &str| r.headers.iter().filter(|(m, _)| m == n.as_bytes()).count();
    let connect = r.get(":method").as_deref() == Some("CONNECT");
    let (schemes, paths) = if connect { (0, 0) } else { (1, 1) };
    if count(":method") != 1
        || count(":scheme") != schemes
        || count(":path") != paths
        || count(":authority") > 1
    {
        return wrong("pseudo-header fields");
    }
    if !connect && !r.get(":path").is_some_and(|p| p.starts_with('/') || p == "*") {
        return wrong("path");
    }
    if count("host") > 1
        || (count("host") == 1 && count(":authority") == 1 && r.get("host") != r.get(":authority"))
    {
        return wrong("host beside :authority");
    }
    match r.get("content-length") {
        Some(n) if n.parse() != Ok(r.body.len()) => wrong("content-length is not the body's"),
        Some(_) if count("content-length") > 1 => wrong("two content-lengths"),
        _ => Ok(()),
    }
}
