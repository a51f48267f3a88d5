//! Dubbo frames as tests see them: whole, with everything in them.
use std::io::{self, Read};

const MAGIC: [u8; 2] = [0xDA, 0xBB];
const HEAD: usize = 16;
const REQUEST: u8 = 0x80;
const TWO_WAY: u8 = 0x40;
const EVENT: u8 = 0x20;
/// More than any test sends.
const MOST: usize = 1 << 30;

/// Statuses that tests name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// 20.
    Ok = 20,
    /// 31.
    ServerTimeout = 31,
    /// 50.
    BadResponse = 50,
    /// 60.
    ServiceNotFound = 60,
    /// 70.
    ServiceError = 70,
    /// 90.
    ClientError = 90,
    /// 100.
    Exhausted = 100,
}

/// One frame, as it came over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DubboFrame {
    /// All of its bytes.
    pub bytes: Vec<u8>,
}

impl DubboFrame {
    /// A frame of its parts.
    pub fn new(flags: u8, status: u8, id: u64, body: &[u8]) -> DubboFrame {
        let mut bytes = Vec::with_capacity(HEAD + body.len());
        bytes.extend(MAGIC);
        bytes.extend([flags, status]);
        bytes.extend(id.to_be_bytes());
        bytes.extend((body.len() as u32).to_be_bytes());
        bytes.extend(body);
        DubboFrame { bytes }
    }

    /// A heartbeat.
    pub fn heartbeat(id: u64) -> DubboFrame {
        DubboFrame::new(REQUEST | TWO_WAY | EVENT | 2, 0, id, b"N")
    }

    /// The notice that no more requests are wanted.
    pub fn readonly() -> DubboFrame {
        DubboFrame::new(REQUEST | EVENT | 2, 0, 0, b"\x01R")
    }

    /// Its id.
    pub fn id(&self) -> u64 {
        self.bytes[4..12].iter().fold(0, |n, b| n << 8 | u64::from(*b))
    }

    /// Its status byte.
    pub fn status(&self) -> u8 {
        self.bytes[3]
    }

    /// Its serialiser.
    pub fn serializer(&self) -> u8 {
        self.bytes[2] & 0x1F
    }

    /// It is a request, with a reply wanted or without.
    pub fn is_request(&self) -> bool {
        self.bytes[2] & REQUEST != 0
    }

    /// It wants a reply.
    pub fn two_way(&self) -> bool {
        self.bytes[2] & TWO_WAY != 0
    }

    /// It is no call.
    pub fn is_event(&self) -> bool {
        self.bytes[2] & EVENT != 0
    }

    /// It is the notice that no more requests are wanted.
    pub fn is_readonly(&self) -> bool {
        self.is_event() && self.is_request() && self.body() == b"\x01R"
    }

    /// Its body.
    pub fn body(&self) -> &[u8] {
        &self.bytes[HEAD..]
    }

    /// What the sidecar says in its own answers, as text: the body's printable bytes.
    pub fn text(&self) -> String {
        self.body()
            .iter()
            .map(|b| if b.is_ascii_graphic() || *b == b' ' { char::from(*b) } else { '.' })
            .collect()
    }

    /// The flag of the sidecar's own answers: `raddle UT: ...`.
    pub fn flag(&self) -> Option<String> {
        let text = self.text();
        let (_, rest) = text.split_once("raddle ")?;
        rest.split_once(':').map(|(flag, _)| flag.to_owned())
    }

    /// Its bytes without what a proxy must change.
    pub fn without_id(&self) -> Vec<u8> {
        let mut b = self.bytes.clone();
        b[4..12].fill(0);
        b
    }

    /// The request's content: its only argument, if it is a byte array that is written in one piece.
    pub fn content(&self) -> Option<Vec<u8>> {
        let mut at = 0;
        let body = self.body();
        if self.is_request() {
            for _ in 0..5 {
                at += string_len(&body[at..])?;
            }
        } else {
            // The kind of result: a value.
            at = 1;
        }
        bytes_of(&body[at..])
    }

    /// The method a request in Hessian calls.
    pub fn method(&self) -> Option<String> {
        let body = self.body();
        let mut at = 0;
        for _ in 0..3 {
            at += string_len(&body[at..])?;
        }
        let len = string_len(&body[at..])?;
        let head = if body[at] < 0x20 { 1 } else { 2 };
        Some(String::from_utf8_lossy(&body[at + head..at + len]).into_owned())
    }
}

/// Bytes of an ASCII string in Hessian.
fn string_len(b: &[u8]) -> Option<usize> {
    match *b {
        [n @ 0..=0x1F, ..] => Some(1 + usize::from(n)),
        [n @ 0x30..=0x33, m, ..] => Some(2 + (usize::from(n - 0x30) << 8 | usize::from(m))),
        _ => None,
    }
}

/// The bytes of a byte array in Hessian.
fn bytes_of(mut b: &[u8]) -> Option<Vec<u8>> {
    let mut all = Vec::new();
    loop {
        let (last, head, len) = match *b {
            [n @ 0x20..=0x2F, ..] => (true, 1, usize::from(n - 0x20)),
            [n @ (b'A' | b'B'), x, y, ..] => (n == b'B', 3, usize::from(x) << 8 | usize::from(y)),
            _ => return None,
        };
        all.extend_from_slice(b.get(head..head + len)?);
        b = &b[head + len..];
        if last {
            return Some(all);
        }
    }
}

/// Appends a string of ASCII.
pub(super) fn push_string(out: &mut Vec<u8>, s: &str) {
    match s.len() {
        n @ 0..=31 => out.push(n as u8),
        n => out.extend([0x30 + (n >> 8) as u8, n as u8]),
    }
    out.extend(s.as_bytes());
}

/// Appends a byte array, in pieces where it is long.
pub(super) fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes;
    while rest.len() > 0xFFFF {
        out.extend(b"A\xFF\xFF");
        out.extend(&rest[..0xFFFF]);
        rest = &rest[0xFFFF..];
    }
    out.push(b'B');
    out.extend((rest.len() as u16).to_be_bytes());
    out.extend(rest);
}

/// Appends a map of strings.
pub(super) fn push_map(out: &mut Vec<u8>, pairs: &[(String, String)]) {
    out.push(b'H');
    for (k, v) in pairs {
        push_string(out, k);
        push_string(out, v);
    }
    out.push(b'Z');
}

/// A request to be made: one byte array to a method.
#[derive(Clone, Debug)]
pub struct DubboAsk {
    /// Its id.
    pub id: u64,
    /// Serialiser; the body is Hessian whatever it says.
    pub serializer: u8,
    /// It wants no reply.
    pub one_way: bool,
    /// The interface.
    pub path: String,
    /// The service's version.
    pub version: String,
    /// The method.
    pub method: String,
    /// Attachments.
    pub attachments: Vec<(String, String)>,
    /// The argument.
    pub content: Vec<u8>,
}

impl DubboAsk {
    /// A request to `interface`, `interface:version` or `interface:version:group`, 3 s, with a little content.
    pub fn to(service: &str) -> DubboAsk {
        let mut parts = service.split(':');
        let mut part = || parts.next().unwrap_or_default().to_owned();
        let (path, version, group) = (part(), part(), part());
        let ask = DubboAsk {
            id: 1,
            serializer: 2,
            one_way: false,
            path,
            version,
            method: "echo".into(),
            attachments: Vec::new(),
            content: b"hello".to_vec(),
        };
        let ask = if group.is_empty() { ask } else { ask.attachment("group", &group) };
        ask.timeout(3000)
    }

    /// With this id.
    pub fn id(mut self, id: u64) -> DubboAsk {
        self.id = id;
        self
    }

    /// With this timeout, in milliseconds; 0 = none said.
    pub fn timeout(mut self, ms: u32) -> DubboAsk {
        self.attachments.retain(|(k, _)| k != "timeout");
        if ms > 0 { self.attachment("timeout", &ms.to_string()) } else { self }
    }

    /// As a one-way request.
    pub fn one_way(mut self) -> DubboAsk {
        self.one_way = true;
        self
    }

    /// With one more attachment.
    pub fn attachment(mut self, k: &str, v: &str) -> DubboAsk {
        self.attachments.push((k.into(), v.into()));
        self
    }

    /// Calling this method.
    pub fn method(mut self, name: &str) -> DubboAsk {
        self.method = name.into();
        self
    }

    /// With this content.
    pub fn content(mut self, c: impl Into<Vec<u8>>) -> DubboAsk {
        self.content = c.into();
        self
    }

    /// Under another serialiser's number.
    pub fn serializer(mut self, n: u8) -> DubboAsk {
        self.serializer = n;
        self
    }

    /// Its frame.
    pub fn bytes(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(self.content.len() + 512);
        for s in ["2.0.2", &self.path, &self.version, &self.method, "[B"] {
            push_string(&mut body, s);
        }
        push_bytes(&mut body, &self.content);
        push_map(&mut body, &self.attachments);
        let two_way = if self.one_way { 0 } else { TWO_WAY };
        DubboFrame::new(REQUEST | two_way | self.serializer, 0, self.id, &body).bytes
    }
}

/// Reads whole frames from a stream.
pub struct DubboReader<R> {
    from: R,
    buf: Vec<u8>,
}

impl<R: Read> DubboReader<R> {
    /// Reads from `from`.
    pub fn new(from: R) -> DubboReader<R> {
        DubboReader { from, buf: Vec::new() }
    }

    /// The next frame; `None` at the end of the stream.
    ///
    /// # Errors
    /// What the stream says (`WouldBlock` or `TimedOut` leave what has come for the next call), and
    /// `InvalidData` for bytes that are no frame or an end in the middle of one.
    pub fn next_frame(&mut self) -> io::Result<Option<DubboFrame>> {
        loop {
            let mut want = HEAD;
            if self.buf.len() >= HEAD {
                let len = self.buf[12..16].iter().fold(0, |n, b| n << 8 | usize::from(*b));
                if self.buf[..2] != MAGIC || len > MOST {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "no Dubbo frame"));
                }
                want += len;
                if self.buf.len() >= want {
                    let rest = self.buf.split_off(want);
                    return Ok(Some(DubboFrame { bytes: std::mem::replace(&mut self.buf, rest) }));
                }
            }
            let end = self.buf.len();
            let room = (want - end).clamp(16 << 10, 1 << 20);
            self.buf.resize(end + room, 0);
            let got = self.from.read(&mut self.buf[end..]);
            self.buf.truncate(end + *got.as_ref().unwrap_or(&0));
            match got {
                Ok(0) if end == 0 => return Ok(None),
                Ok(0) => {
                    let e = io::Error::new(io::ErrorKind::InvalidData, "the stream ended inside a frame");
                    return Err(e);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
                Ok(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::noise;

    #[test]
    fn frames_come_out_as_they_went_in() {
        let content = noise(1, 200_000);
        let ask = DubboAsk::to("com.test.Echo:1.0:blue").id(u64::MAX).content(content.clone());
        let bytes = [ask.bytes(), ask.bytes()].concat();
        let mut r = DubboReader::new(&bytes[..]);
        for _ in 0..2 {
            let f = r.next_frame().unwrap().unwrap();
            assert!(f.id() == u64::MAX && f.is_request() && f.two_way() && !f.is_event());
            assert_eq!(f.method().as_deref(), Some("echo"));
            assert_eq!(f.content(), Some(content.clone()));
        }
        assert!(r.next_frame().unwrap().is_none());
    }
}
