//! An HTTP/1.1 server that keeps every byte it gets, and holds every request against the canonical form.
use crate::h1::{self, Body, Head};
use crate::tcp::TcpServer;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The connection it came on, from 0.
    pub connection: usize,
    /// Its head.
    pub head: Head,
    /// The head's bytes.
    pub bytes: Vec<u8>,
    /// Its body.
    pub body: Vec<u8>,
    /// Its trailers.
    pub trailers: Vec<(String, Vec<u8>)>,
}

impl Recorded {
    /// Its path and query.
    pub fn target(&self) -> &str {
        self.head.line.split(' ').nth(1).unwrap_or("")
    }

    /// Its method.
    pub fn method(&self) -> &str {
        self.head.line.split(' ').next().unwrap_or("")
    }
}

/// What the server answers.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The bytes, whatever they are.
    pub bytes: Vec<u8>,
    /// Close afterwards.
    pub close: bool,
}

impl Reply {
    /// A plain 200.
    pub fn ok(body: impl AsRef<[u8]>) -> Reply {
        let body = body.as_ref();
        let mut bytes = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(body);
        Reply { bytes, close: false }
    }

    /// Any bytes; the connection stays.
    pub fn raw(bytes: impl AsRef<[u8]>) -> Reply {
        Reply { bytes: bytes.as_ref().to_vec(), close: false }
    }

    /// Any bytes and the connection's end.
    pub fn last(bytes: impl AsRef<[u8]>) -> Reply {
        Reply { bytes: bytes.as_ref().to_vec(), close: true }
    }
}

#[derive(Default)]
struct Seen {
    requests: Vec<Recorded>,
    wrong: Vec<String>,
    connections: usize,
    open: usize,
}

/// The server. Dropping it ends its listening.
pub struct H1Upstream {
    server: TcpServer,
    seen: Arc<Mutex<Seen>>,
}

impl H1Upstream {
    /// Answers each whole request with what `answer` says.
    #[track_caller]
    pub fn start(answer: impl Fn(&Recorded) -> Reply + Send + Sync + 'static) -> H1Upstream {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let s = seen.clone();
        let server = TcpServer::start(move |stream| serve(stream, &s, &answer));
        H1Upstream { server, seen }
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.server.addr
    }

    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the whole requests so far.
    pub fn take(&self) -> Vec<Recorded> {
        std::mem::take(&mut self.seen().requests)
    }

    /// How many whole requests are recorded and not taken.
    pub fn count(&self) -> usize {
        self.seen().requests.len()
    }

    /// Connections so far, and those that are open.
    pub fn connections(&self) -> (usize, usize) {
        let s = self.seen();
        (s.connections, s.open)
    }

    /// Takes what came and was not canonical HTTP/1.1.
    pub fn take_wrong(&self) -> Vec<String> {
        std::mem::take(&mut self.seen().wrong)
    }
}

fn serve(mut stream: TcpStream, seen: &Mutex<Seen>, answer: &impl Fn(&Recorded) -> Reply) {
    let lock = || seen.lock().unwrap_or_else(PoisonError::into_inner);
    let connection = {
        let mut s = lock();
        s.connections += 1;
        s.open += 1;
        s.connections - 1
    };
    let _ = stream.set_nodelay(true);
    let (mut buf, mut room) = (Vec::new(), vec![0; 64 << 10]);
    'all: loop {
        match request(&buf, connection) {
            Ok(Some((r, used))) => {
                buf.drain(..used);
                let reply = answer(&r);
                lock().requests.push(r);
                if stream.write_all(&reply.bytes).is_err() || reply.close {
                    break 'all;
                }
            }
            Ok(None) => match stream.read(&mut room) {
                Ok(n) if n > 0 => buf.extend_from_slice(&room[..n]),
                _ => break,
            },
            Err(e) => {
                lock().wrong.push(format!("{e}; all of it: {}", h1::show(&buf)));
                break;
            }
        }
    }
    lock().open -= 1;
}

/// A whole request in front of `buf`. What is there of a cut one must be canonical too.
fn request(buf: &[u8], connection: usize) -> Result<Option<(Recorded, usize)>, String> {
    let Some((head, used)) = h1::head(buf)? else { return Ok(None) };
    check(&head)?;
    let framing = h1::framing(&head)?;
    let rest = &buf[used..];
    let whole = match framing {
        None => Some((vec![], vec![], 0)),
        Some(Body::Length(n)) => (rest.len() >= n).then(|| (rest[..n].to_vec(), vec![], n)),
        Some(Body::Chunked) => h1::chunked(rest)?,
        Some(Body::Close) => return Err("a request until the connection's end".into()),
    };
    let Some((body, trailers, n)) = whole else { return Ok(None) };
    for (name, _) in &trailers {
        let name = name.to_ascii_lowercase();
        if ["content-length", "transfer-encoding", "host", "connection"].contains(&name.as_str()) {
            return Err(format!("{name} among the trailers"));
        }
    }
    Ok(Some((Recorded { connection, head, bytes: buf[..used].to_vec(), body, trailers }, used + n)))
}

/// What a canonical request's head has.
fn check(h: &Head) -> Result<(), String> {
    let parts: Vec<&str> = h.line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = parts[..] else { return Err(format!("request line {:?}", h.line)) };
    if method.is_empty()
        || !method.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    {
        return Err(format!("method {method:?}"));
    }
    let form = match method {
        "CONNECT" => !target.contains('/') && !target.is_empty(),
        "OPTIONS" => target.starts_with('/') || target == "*",
        _ => target.starts_with('/'),
    };
    if !form || target.contains('#') {
        return Err(format!("target {target:?}"));
    }
    if h.all("host").count() != 1 {
        return Err(format!("{} Hosts", h.all("host").count()));
    }
    if h.all("host").any(|v| v.iter().any(|b| b" /?#@\\,".contains(b) || *b >= 0x80)) {
        return Err(format!("Host {:?}", h.get("host")));
    }
    for name in ["keep-alive", "proxy-connection", "http2-settings"] {
        if h.all(name).next().is_some() {
            return Err(format!("{name} passed on"));
        }
    }
    for v in h.all("connection").chain(h.all("te")) {
        if ![&b"keep-alive"[..], b"close", b"upgrade", b"te", b"trailers"].contains(&v) {
            return Err(format!("a connection's field passed on: {}", h1::show(v)));
        }
    }
    Ok(())
}
