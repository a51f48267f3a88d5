//! One end of an HTTP/2 connection, frame by frame (RFC 9113): for tests that say what others never would.
//!
//! [`Peer`] sends any bytes and reads frames with a deadline; it answers nothing by itself but what
//! [`Peer::greet`] says. [`crate::h2_hpack::Block`] makes header blocks.
use crate::h2_hpack::{Block, Decoder, Headers};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// What a client sends first (RFC 9113, 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Frame types (RFC 9113, 6).
pub mod kind {
    #![allow(missing_docs, reason = "the RFC's names")]
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

/// Frame flags.
pub mod flag {
    #![allow(missing_docs, reason = "the RFC's names")]
    pub const END_STREAM: u8 = 1;
    pub const ACK: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 0x20;
    /// A whole request in one HEADERS frame.
    pub const WHOLE: u8 = END_STREAM | END_HEADERS;
}

/// Error codes (RFC 9113, 7).
pub mod code {
    #![allow(missing_docs, reason = "the RFC's names")]
    pub const NO_ERROR: u32 = 0;
    pub const PROTOCOL_ERROR: u32 = 1;
    pub const INTERNAL_ERROR: u32 = 2;
    pub const FLOW_CONTROL_ERROR: u32 = 3;
    pub const STREAM_CLOSED: u32 = 5;
    pub const FRAME_SIZE_ERROR: u32 = 6;
    pub const REFUSED_STREAM: u32 = 7;
    pub const CANCEL: u32 = 8;
    pub const COMPRESSION_ERROR: u32 = 9;
    pub const ENHANCE_YOUR_CALM: u32 = 11;
}

/// Settings (RFC 9113, 6.5.2).
pub mod setting {
    #![allow(missing_docs, reason = "the RFC's names")]
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    pub const MAX_FRAME_SIZE: u16 = 5;
}

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its type.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// The 32 bits at an offset of the payload.
    pub fn word(&self, at: usize) -> u32 {
        self.payload.get(at..at + 4).map_or(0, |b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
    }

    /// The error code, of RST_STREAM and GOAWAY.
    pub fn code(&self) -> u32 {
        self.word(if self.kind == kind::GOAWAY { 4 } else { 0 })
    }

    /// The payload without padding and priority.
    pub fn body(&self) -> &[u8] {
        let (mut from, mut to) = (0, self.payload.len());
        if matches!(self.kind, kind::DATA | kind::HEADERS | kind::PUSH_PROMISE) && self.has(flag::PADDED) {
            to = to.saturating_sub(self.payload.first().map_or(0, |n| *n as usize));
            from = 1;
        }
        if self.kind == kind::HEADERS && self.has(flag::PRIORITY) {
            from += 5;
        }
        self.payload.get(from..to).unwrap_or(&[])
    }

    /// For a failure's text.
    pub fn brief(&self) -> String {
        const NAMES: [&str; 10] = [
            "DATA",
            "HEADERS",
            "PRIORITY",
            "RST_STREAM",
            "SETTINGS",
            "PUSH_PROMISE",
            "PING",
            "GOAWAY",
            "WINDOW_UPDATE",
            "CONTINUATION",
        ];
        let name = NAMES.get(self.kind as usize).copied().unwrap_or("frame of unknown type");
        match self.kind {
            kind::RST_STREAM | kind::GOAWAY => format!("{name}(code {}) on {}", self.code(), self.stream),
            _ => format!("{name}(flags {:#x}, {} bytes) on {}", self.flags, self.payload.len(), self.stream),
        }
    }
}

/// What came, or did not.
#[derive(Debug, PartialEq, Eq)]
pub enum Event {
    /// A frame.
    Frame(Frame),
    /// The other end closed or reset the connection.
    Closed,
    /// Nothing until the deadline.
    Quiet,
}

/// One end of a connection.
pub struct Peer {
    stream: TcpStream,
    buf: Vec<u8>,
    /// Reads the other end's header blocks.
    pub decoder: Decoder,
    /// The other end's settings, as they came: later ones count.
    pub settings: Vec<(u16, u32)>,
}

impl Peer {
    /// Connects; sends nothing.
    #[track_caller]
    pub fn connect(addr: SocketAddr) -> Peer {
        let stream = TcpStream::connect(addr).unwrap_or_else(|e| panic!("connecting to {addr}: {e}"));
        Peer::of(stream)
    }

    /// Of a connection that is there.
    pub fn of(stream: TcpStream) -> Peer {
        let _ = stream.set_nodelay(true);
        let _ = stream.set_write_timeout(Some(crate::PATIENCE));
        Peer { stream, buf: Vec::new(), decoder: Decoder::default(), settings: Vec::new() }
    }

    /// The socket.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Sends bytes as they are. False if the other end has closed, which may be just what a test wants.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends a frame.
    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.send(&encode(kind, flags, stream, payload))
    }

    /// Sends a HEADERS frame.
    pub fn headers(&mut self, stream: u32, flags: u8, block: &Block) -> bool {
        self.frame(kind::HEADERS, flags, stream, &block.0)
    }

    /// Sends a DATA frame.
    pub fn data(&mut self, stream: u32, flags: u8, data: &[u8]) -> bool {
        self.frame(kind::DATA, flags, stream, data)
    }

    /// Sends settings.
    pub fn say_settings(&mut self, settings: &[(u16, u32)]) -> bool {
        self.frame(kind::SETTINGS, 0, 0, &settings_payload(settings))
    }

    /// As a client: preface and settings, then waits until both sides' settings are acknowledged.
    ///
    /// # Errors
    /// What came instead.
    pub fn greet(&mut self, settings: &[(u16, u32)]) -> Result<(), String> {
        self.send(PREFACE);
        self.say_settings(settings);
        self.settle()
    }

    /// Waits for the other end's settings, acknowledges them, and waits for the acknowledgement of ours.
    ///
    /// # Errors
    /// What came instead.
    pub fn settle(&mut self) -> Result<(), String> {
        let (mut theirs, mut acked) = (false, false);
        let end = Instant::now() + crate::PATIENCE;
        while !(theirs && acked) {
            match self.next(end) {
                Event::Frame(f) if f.kind == kind::SETTINGS && f.has(flag::ACK) => acked = true,
                Event::Frame(f) if f.kind == kind::SETTINGS => {
                    self.learn(&f);
                    theirs = true;
                    self.frame(kind::SETTINGS, flag::ACK, 0, &[]);
                }
                Event::Frame(f) if f.kind == kind::WINDOW_UPDATE || f.kind == kind::PING => {}
                other => return Err(format!("no greeting, but {}", brief(&other))),
            }
        }
        Ok(())
    }

    /// Takes over settings.
    pub fn learn(&mut self, f: &Frame) {
        self.settings.extend(
            f.payload
                .chunks_exact(6)
                .map(|c| (u16::from_be_bytes([c[0], c[1]]), u32::from_be_bytes([c[2], c[3], c[4], c[5]]))),
        );
    }

    /// The other end's setting, if it said one.
    pub fn setting(&self, id: u16) -> Option<u32> {
        self.settings.iter().rev().find(|(i, _)| *i == id).map(|(_, v)| *v)
    }

    /// The next frame. Acknowledges nothing.
    pub fn next(&mut self, end: Instant) -> Event {
        loop {
            if let Some(f) = self.take() {
                return Event::Frame(f);
            }
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let _ = self.stream.set_read_timeout(Some(left));
            let mut room = [0; 16 << 10];
            match self.stream.read(&mut room) {
                Ok(0) => return Event::Closed,
                Ok(n) => self.buf.extend_from_slice(&room[..n]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    if Instant::now() >= end {
                        return Event::Quiet;
                    }
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Event::Closed,
            }
        }
    }

    /// The next frame of a type other than these within [`crate::PATIENCE`].
    pub fn next_but(&mut self, skip: &[u8]) -> Event {
        let end = Instant::now() + crate::PATIENCE;
        loop {
            match self.next(end) {
                Event::Frame(f) if skip.contains(&f.kind) => {}
                other => return other,
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let head = self.buf.get(..9)?;
        let len = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
        let (kind, flags) = (head[3], head[4]);
        let payload = self.buf.get(9..9 + len)?.to_vec();
        self.buf.drain(..9 + len);
        Some(Frame { kind, flags, stream, payload })
    }

    /// Reads exactly so many raw bytes (a preface).
    pub fn raw(&mut self, n: usize, end: Instant) -> Option<Vec<u8>> {
        while self.buf.len() < n {
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let _ = self.stream.set_read_timeout(Some(left));
            let mut room = [0; 4096];
            match self.stream.read(&mut room) {
                Ok(0) => return None,
                Ok(k) => self.buf.extend_from_slice(&room[..k]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    if Instant::now() >= end {
                        return None;
                    }
                }
                Err(_) => return None,
            }
        }
        Some(self.buf.drain(..n).collect())
    }

    /// A PING and its answer: everything sent before it has been looked at.
    ///
    /// # Errors
    /// What came instead.
    pub fn ping(&mut self) -> Result<(), String> {
        let text = *b"raddle!?";
        self.frame(kind::PING, 0, 0, &text);
        let end = Instant::now() + crate::PATIENCE;
        loop {
            match self.next(end) {
                Event::Frame(f) if f.kind == kind::PING && f.has(flag::ACK) && f.payload == text => {
                    return Ok(());
                }
                Event::Frame(f) if f.kind != kind::GOAWAY && f.kind != kind::RST_STREAM => {}
                other => return Err(format!("no answer to PING, but {}", brief(&other))),
            }
        }
    }

    /// A stream's response: status, headers, body, trailers. Gives windows back as it reads.
    ///
    /// # Errors
    /// What came instead.
    pub fn response(&mut self, stream: u32) -> Result<Response, String> {
        let end = Instant::now() + crate::PATIENCE;
        let (mut r, mut block) = (Response::default(), Vec::new());
        loop {
            match self.next(end) {
                Event::Frame(f) if f.kind == kind::SETTINGS && !f.has(flag::ACK) => {
                    self.learn(&f);
                    self.frame(kind::SETTINGS, flag::ACK, 0, &[]);
                }
                Event::Frame(f) if f.stream == stream || f.kind == kind::GOAWAY => match f.kind {
                    kind::HEADERS | kind::CONTINUATION => {
                        block.extend_from_slice(f.body());
                        r.ended |= f.kind == kind::HEADERS && f.has(flag::END_STREAM);
                        if f.has(flag::END_HEADERS) {
                            let fields = self.decoder.read(&std::mem::take(&mut block))?;
                            r.take(fields);
                        }
                        if r.ended && f.has(flag::END_HEADERS) {
                            return Ok(r);
                        }
                    }
                    kind::DATA => {
                        r.body.extend_from_slice(f.body());
                        if !f.payload.is_empty() {
                            let n = (f.payload.len() as u32).to_be_bytes();
                            self.frame(kind::WINDOW_UPDATE, 0, 0, &n);
                            if !f.has(flag::END_STREAM) {
                                self.frame(kind::WINDOW_UPDATE, 0, stream, &n);
                            }
                        }
                        if f.has(flag::END_STREAM) {
                            return Ok(r);
                        }
                    }
                    kind::WINDOW_UPDATE | kind::PRIORITY => {}
                    _ => return Err(format!("no response, but {} after {r:?}", f.brief())),
                },
                Event::Frame(f) if f.kind == kind::HEADERS => {
                    // Another stream's: the table must see it.
                    self.decoder.read(f.body())?;
                }
                Event::Frame(_) => {}
                other => return Err(format!("no response, but {} after {r:?}", brief(&other))),
            }
        }
    }
}

/// A response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Response {
    /// Its status; 0 before there is one.
    pub status: u16,
    /// Its fields, pseudo-header fields too.
    pub headers: Headers,
    /// Its body.
    pub body: Vec<u8>,
    /// Its trailers.
    pub trailers: Headers,
    ended: bool,
}

impl Response {
    fn take(&mut self, fields: Headers) {
        let status = fields.iter().find(|(n, _)| n == b":status");
        let status = status.and_then(|(_, v)| std::str::from_utf8(v).ok()?.parse().ok());
        match status {
            Some(100..=199) => {}
            Some(s) => {
                self.status = s;
                self.headers = fields;
            }
            None => self.trailers = fields,
        }
    }

    /// A field's value.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(n, _)| n == name.as_bytes()).map(|(_, v)| &v[..])
    }
}

/// A frame's bytes.
pub fn encode(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    encode_as(payload.len(), kind, flags, stream, payload)
}

/// A frame's bytes with a length that need not be its payload's.
pub fn encode_as(len: usize, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![(len >> 16) as u8, (len >> 8) as u8, len as u8, kind, flags];
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
    out
}

/// The payload of a SETTINGS frame.
pub fn settings_payload(settings: &[(u16, u32)]) -> Vec<u8> {
    settings.iter().flat_map(|(i, v)| [&i.to_be_bytes()[..], &v.to_be_bytes()[..]].concat()).collect()
}

/// An event in words.
pub fn brief(e: &Event) -> String {
    match e {
        Event::Frame(f) => f.brief(),
        Event::Closed => "the connection's end".into(),
        Event::Quiet => "nothing".into(),
    }
}
