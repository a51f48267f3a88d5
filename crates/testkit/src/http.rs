//! HTTP for behaviour tests: an HTTP/1.1 server whose every byte and moment the test decides, and either end
//! of an HTTP/2 connection with what came on each stream.
//!
//! [`crate::h1::Client`] is the caller that goes with them.
use crate::h1::{self, Body, Head};
use crate::h2::{Event, Frame, PREFACE, Peer, brief, flag, kind, setting};
use crate::h2_hpack::{Block, Headers};
use crate::{PATIENCE, TcpServer};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A server's end of an HTTP/1.1 connection.
pub struct HttpConn {
    stream: TcpStream,
    buf: Vec<u8>,
    /// Its number on its server, from 0.
    pub number: usize,
}

impl HttpConn {
    fn more(&mut self) -> bool {
        let mut room = vec![0; 64 << 10];
        match self.stream.read(&mut room) {
            Ok(n) if n > 0 => {
                self.buf.extend_from_slice(&room[..n]);
                true
            }
            _ => false,
        }
    }

    /// The next request's head; `None` if the connection ends.
    #[track_caller]
    pub fn head(&mut self) -> Option<Head> {
        loop {
            match h1::head(&self.buf) {
                Ok(Some((head, used))) => {
                    self.buf.drain(..used);
                    return Some(head);
                }
                Ok(None) if self.more() => {}
                Ok(None) => return None,
                Err(e) => panic!("no canonical request: {e}"),
            }
        }
    }

    /// The next `n` bytes; fewer if the connection ends.
    pub fn take(&mut self, n: usize) -> Vec<u8> {
        while self.buf.len() < n && self.more() {}
        let n = n.min(self.buf.len());
        self.buf.drain(..n).collect()
    }

    /// The body that goes with a head, and its trailers; what came of it if the connection ends.
    #[track_caller]
    pub fn body(&mut self, head: &Head) -> (Vec<u8>, Vec<(String, Vec<u8>)>) {
        match h1::framing(head) {
            Ok(Some(Body::Length(n))) => (self.take(n), vec![]),
            Ok(Some(Body::Chunked)) => loop {
                match h1::chunked(&self.buf) {
                    Ok(Some((data, trailers, used))) => {
                        self.buf.drain(..used);
                        return (data, trailers);
                    }
                    Ok(None) if self.more() => {}
                    Ok(None) => return (std::mem::take(&mut self.buf), vec![]),
                    Err(e) => panic!("no canonical body: {e}"),
                }
            },
            Ok(_) => (vec![], vec![]),
            Err(e) => panic!("no canonical framing: {e}"),
        }
    }

    /// The next whole request.
    #[track_caller]
    pub fn request(&mut self) -> Option<(Head, Vec<u8>)> {
        let head = self.head()?;
        let body = self.body(&head).0;
        Some((head, body))
    }

    /// Sends bytes. False if the other end has closed.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    /// Sends a 200 with a body of known length.
    pub fn ok(&mut self, body: impl AsRef<[u8]>) -> bool {
        let body = body.as_ref();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        self.send([head.as_bytes(), body].concat())
    }

    /// Everything until the other end closes, or nothing if it resets.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.buf)
    }

    /// Whether the other end closes within [`PATIENCE`]; what it still sends is dropped.
    pub fn ends(&mut self) -> bool {
        let end = Instant::now() + PATIENCE;
        let _ = self.stream.set_read_timeout(Some(Duration::from_millis(100)));
        let mut room = [0; 4096];
        while Instant::now() < end {
            match self.stream.read(&mut room) {
                Ok(0) => return true,
                Err(e) if e.kind() != std::io::ErrorKind::WouldBlock => return true,
                _ => {}
            }
        }
        false
    }

    /// Closes by a reset.
    pub fn reset(self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Ends the sending side.
    pub fn finish(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

/// An HTTP/1.1 server that runs the test's code for each connection.
#[track_caller]
pub fn http_server(f: impl Fn(HttpConn) + Send + Sync + 'static) -> TcpServer {
    let count = AtomicUsize::new(0);
    TcpServer::start(move |stream| {
        let _ = stream.set_nodelay(true);
        f(HttpConn { stream, buf: Vec::new(), number: count.fetch_add(1, Ordering::Relaxed) });
    })
}

/// What came on a stream.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    /// Statuses of interim responses.
    pub interim: Vec<u16>,
    /// The head.
    pub headers: Headers,
    /// The body so far.
    pub body: Vec<u8>,
    /// The trailers.
    pub trailers: Headers,
    /// The other end has ended it.
    pub ended: bool,
    /// The code it was reset with.
    pub reset: Option<u32>,
}

impl Stream {
    /// A field of the head, or of the trailers.
    pub fn get(&self, name: &str) -> Option<String> {
        let all = self.headers.iter().chain(&self.trailers);
        let found = all.into_iter().find(|(n, _)| n == name.as_bytes());
        found.map(|(_, v)| String::from_utf8_lossy(v).into_owned())
    }

    /// The status; 0 if there is none.
    pub fn status(&self) -> u16 {
        self.get(":status").and_then(|s| s.parse().ok()).unwrap_or(0)
    }

    /// Whether nothing more comes.
    pub fn over(&self) -> bool {
        self.ended || self.reset.is_some()
    }
}

/// Either end of an HTTP/2 connection.
pub struct H2Side {
    /// The connection, for frames of the test's own.
    pub peer: Peer,
    /// What came, by stream.
    pub streams: BTreeMap<u32, Stream>,
    /// The last GOAWAY: its last stream and code.
    pub goaway: Option<(u32, u32)>,
    /// The other end has closed.
    pub closed: bool,
    /// Whether windows are given back as data comes.
    pub gives: bool,
    /// Bytes sent and window given, by stream; 0 is the connection.
    windows: BTreeMap<u32, (i64, i64)>,
    block: Vec<u8>,
    next: u32,
}

impl H2Side {
    fn of(peer: Peer) -> H2Side {
        let (streams, windows) = (BTreeMap::new(), BTreeMap::new());
        H2Side {
            peer,
            streams,
            windows,
            goaway: None,
            closed: false,
            gives: true,
            block: Vec::new(),
            next: 1,
        }
    }

    /// A caller that has greeted with these settings.
    #[track_caller]
    pub fn connect(addr: SocketAddr, settings: &[(u16, u32)]) -> H2Side {
        let mut peer = Peer::connect(addr);
        if let Err(e) = peer.greet(settings) {
            panic!("{addr} does not greet: {e}");
        }
        H2Side::of(peer)
    }

    /// A server's end; `None` if what comes is no HTTP/2.
    pub fn server(stream: TcpStream, settings: &[(u16, u32)]) -> Option<H2Side> {
        let mut peer = Peer::of(stream);
        peer.raw(PREFACE.len(), Instant::now() + PATIENCE).filter(|p| p == PREFACE)?;
        peer.say_settings(settings);
        Some(H2Side::of(peer))
    }

    /// Begins a stream. Returns its number.
    pub fn ask(&mut self, block: &Block, ends: bool) -> u32 {
        let stream = self.next;
        self.next += 2;
        self.peer.headers(stream, if ends { flag::WHOLE } else { flag::END_HEADERS }, block);
        stream
    }

    /// Begins a GET.
    pub fn get(&mut self, authority: &str, path: &str) -> u32 {
        self.ask(&Block::request("GET", authority, path), true)
    }

    /// Sends data in frames of at most 16 KiB, as the windows allow; gives up if they do not open.
    #[track_caller]
    pub fn data(&mut self, stream: u32, data: &[u8], ends: bool) {
        if data.is_empty() {
            self.peer.data(stream, u8::from(ends), b"");
        }
        let mut left = data.chunks(16_384).peekable();
        while let Some(c) = left.next() {
            let end = Instant::now() + PATIENCE;
            while self.room(stream) < c.len() as i64 {
                if !self.step(end) {
                    return;
                }
            }
            for s in [0, stream] {
                self.windows.entry(s).or_default().0 += c.len() as i64;
            }
            self.peer.data(stream, u8::from(ends && left.peek().is_none()), c);
        }
    }

    /// Bytes that may be sent on a stream.
    fn room(&self, stream: u32) -> i64 {
        let initial = self.peer.setting(setting::INITIAL_WINDOW_SIZE).unwrap_or(65_535);
        let left = |s: u32, first: i64| {
            let (sent, given) = self.windows.get(&s).copied().unwrap_or_default();
            first + given - sent
        };
        left(0, 65_535).min(left(stream, i64::from(initial)))
    }

    /// Answers a stream: a status and fields, a body, trailers if there are any.
    pub fn answer(&mut self, stream: u32, status: &str, fields: &[(&str, &str)], body: &[u8]) {
        let mut block = Block::new().lit(":status", status);
        for (n, v) in fields {
            block = block.lit(n, v);
        }
        self.peer.headers(stream, if body.is_empty() { flag::WHOLE } else { flag::END_HEADERS }, &block);
        if !body.is_empty() {
            self.data(stream, body, true);
        }
    }

    /// Takes in one event until `end`. False if nothing came.
    #[track_caller]
    pub fn step(&mut self, end: Instant) -> bool {
        match self.peer.next(end) {
            Event::Frame(f) => {
                self.on_frame(&f);
                true
            }
            Event::Closed => {
                self.closed = true;
                false
            }
            Event::Quiet => false,
        }
    }

    #[track_caller]
    fn on_frame(&mut self, f: &Frame) {
        match f.kind {
            kind::SETTINGS if !f.has(flag::ACK) => {
                self.peer.learn(f);
                self.peer.frame(kind::SETTINGS, flag::ACK, 0, &[]);
            }
            kind::PING if !f.has(flag::ACK) => {
                self.peer.frame(kind::PING, flag::ACK, 0, &f.payload);
            }
            kind::WINDOW_UPDATE => self.windows.entry(f.stream).or_default().1 += i64::from(f.word(0)),
            kind::GOAWAY => self.goaway = Some((f.word(0), f.code())),
            kind::RST_STREAM => self.streams.entry(f.stream).or_default().reset = Some(f.code()),
            kind::HEADERS | kind::CONTINUATION => {
                self.block.extend_from_slice(f.body());
                let s = self.streams.entry(f.stream).or_default();
                s.ended |= f.kind == kind::HEADERS && f.has(flag::END_STREAM);
                if f.has(flag::END_HEADERS) {
                    let block = std::mem::take(&mut self.block);
                    let fields = self.peer.decoder.read(&block).unwrap_or_else(|e| panic!("{e}"));
                    match fields.first() {
                        Some((n, v)) if n == b":status" && v.starts_with(b"1") => {
                            s.interim.push(String::from_utf8_lossy(v).parse().unwrap_or(0));
                        }
                        Some((n, _)) if n.starts_with(b":") => s.headers = fields,
                        _ => s.trailers = fields,
                    }
                }
            }
            kind::DATA => {
                let s = self.streams.entry(f.stream).or_default();
                s.body.extend_from_slice(f.body());
                s.ended |= f.has(flag::END_STREAM);
                if self.gives && !f.payload.is_empty() {
                    let n = (f.payload.len() as u32).to_be_bytes();
                    self.peer.frame(kind::WINDOW_UPDATE, 0, 0, &n);
                    if !f.has(flag::END_STREAM) {
                        self.peer.frame(kind::WINDOW_UPDATE, 0, f.stream, &n);
                    }
                }
            }
            _ => {}
        }
    }

    /// Takes in what comes until `f` holds; fails the test if it does not within [`PATIENCE`].
    #[track_caller]
    pub fn until(&mut self, what: &str, f: impl Fn(&H2Side) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !f(self) {
            assert!(
                self.step(end) || f(self),
                "{what}: not with {:?}, goaway {:?}, closed {}",
                self.streams,
                self.goaway,
                self.closed
            );
        }
    }

    /// A stream when it is over.
    #[track_caller]
    pub fn done(&mut self, stream: u32) -> Stream {
        self.until("a stream is over", |s| s.streams.get(&stream).is_some_and(Stream::over));
        self.streams.remove(&stream).unwrap_or_default()
    }

    /// The number of a stream whose head has come and that was not taken yet, as a server.
    #[track_caller]
    pub fn begun(&mut self) -> Option<u32> {
        let from = self.next;
        let end = Instant::now() + Duration::from_secs(60);
        while !self.streams.contains_key(&from) {
            if !self.step(end) {
                return None;
            }
        }
        self.next = from + 2;
        Some(from)
    }

    /// The next whole request, as a server; `None` if the connection ends.
    #[track_caller]
    pub fn request(&mut self) -> Option<(u32, Stream)> {
        let stream = self.begun()?;
        Some((stream, self.done(stream)))
    }

    /// The next event in words, for a failure's text.
    pub fn instead(&mut self) -> String {
        brief(&self.peer.next(Instant::now() + Duration::from_millis(1)))
    }
}

/// An HTTP/2 server that runs the test's code for each connection, and says these settings.
#[track_caller]
pub fn h2_server(settings: &'static [(u16, u32)], f: impl Fn(H2Side) + Send + Sync + 'static) -> TcpServer {
    TcpServer::start(move |stream| {
        if let Some(side) = H2Side::server(stream, settings) {
            f(side);
        }
    })
}
