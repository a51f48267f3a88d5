//! The generator's own, minimal Dubbo framing (Dubbo 2, serialiser Hessian 2).
//!
//! Only what a generator and an echo server need: read a head, write a request template with one string
//! argument, find that argument in a request, write it back as the reply's value.
use std::fmt;
use std::ops::Range;

/// Largest frame accepted, bytes.
const MAX_FRAME: usize = 64 << 20;
/// Bytes before the body.
pub const HEAD: usize = 16;

const MAGIC: [u8; 2] = [0xda, 0xbb];
const REQUEST: u8 = 0x80;
const TWO_WAY: u8 = 0x40;
const EVENT: u8 = 0x20;
const HESSIAN2: u8 = 2;
/// The status of a reply that is no failure of the framework.
pub const OK: u8 = 20;
/// What reply bodies begin with: a value and attachments, as an integer of one byte.
const VALUE_WITH_ATTACHMENTS: u8 = 0x94;
const VALUE: u8 = 0x91;
const VERSION: &str = "2.0.2";
/// Characters in a piece of a string, most. What Java's writer uses.
const PIECE: usize = 0x8000;

/// The bytes are not Dubbo.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed Dubbo frame: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// A frame's fixed part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    flags: u8,
    /// Reply status; 0 for requests.
    pub status: u8,
    /// Request id.
    pub id: u64,
    body: usize,
}

impl Head {
    /// Reads a head from the front of `buf`; `None` while it is not whole yet.
    ///
    /// # Errors
    /// When the magic is wrong or the frame too large.
    pub fn parse(buf: &[u8]) -> Result<Option<Head>, Malformed> {
        if buf.iter().zip(MAGIC).any(|(a, b)| *a != b) {
            return Err(Malformed("wrong magic"));
        }
        let Some((head, _)) = buf.split_first_chunk::<HEAD>() else { return Ok(None) };
        let [_, _, flags, status, id @ .., l0, l1, l2, l3] = *head;
        let body = u32::from_be_bytes([l0, l1, l2, l3]) as usize;
        if body > MAX_FRAME {
            return Err(Malformed("frame over 64 MiB"));
        }
        Ok(Some(Head { flags, status, id: u64::from_be_bytes(id), body }))
    }

    /// Bytes of the whole frame.
    pub fn total(&self) -> usize {
        HEAD + self.body
    }

    /// Whether it asks, and not answers.
    pub fn is_request(&self) -> bool {
        self.flags & REQUEST != 0
    }

    /// Whether a reply is wanted.
    pub fn wants_reply(&self) -> bool {
        self.flags & TWO_WAY != 0
    }

    /// Whether it is a heartbeat or another event of the framework.
    pub fn is_event(&self) -> bool {
        self.flags & EVENT != 0
    }
}

/// A Hessian 2 string at the front of `buf`: its bytes with length marks, and how many characters it has.
/// `None` if there is another type, or it is cut short.
fn string(buf: &[u8]) -> Option<(usize, usize)> {
    let (mut at, mut characters) = (0, 0);
    loop {
        let (length, last) = match *buf.get(at)? {
            n @ 0x00..=0x1f => (usize::from(n), true),
            n @ 0x30..=0x33 => (usize::from(n & 3) << 8 | usize::from(*buf.get(at + 1)?), true),
            mark @ (b'S' | b'R') => {
                (usize::from(*buf.get(at + 1)?) << 8 | usize::from(*buf.get(at + 2)?), mark == b'S')
            }
            _ => return None,
        };
        at += match buf[at] {
            0x00..=0x1f => 1,
            0x30..=0x33 => 2,
            _ => 3,
        };
        characters += length;
        at += utf16(buf.get(at..)?, length)?;
        if last {
            return Some((at, characters));
        }
    }
}

/// Bytes of the first `units` UTF-16 units of UTF-8 text: Hessian counts as Java does.
fn utf16(text: &[u8], units: usize) -> Option<usize> {
    // All the load's own text is ASCII, so this nearly always is the answer.
    if text.get(..units)?.is_ascii() {
        return Some(units);
    }
    let (mut at, mut left) = (0, units);
    while left > 0 {
        let (bytes, counts) = match *text.get(at)? {
            0x00..=0x7f => (1, 1),
            0xc0..=0xdf => (2, 1),
            0xe0..=0xef => (3, 1),
            0xf0..=0xf7 => (4, 2),
            _ => return None,
        };
        at += bytes;
        left = left.checked_sub(counts)?;
    }
    (at <= text.len()).then_some(at)
}

/// Appends a string of ASCII characters.
fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    let mut rest = text;
    while rest.len() > 0xffff {
        let (piece, more) = rest.split_at(PIECE);
        out.push(b'R');
        out.extend_from_slice(&(PIECE as u16).to_be_bytes());
        out.extend_from_slice(piece);
        rest = more;
    }
    match rest.len() {
        n @ 0..=31 => out.push(n as u8),
        n @ 32..=1023 => out.extend_from_slice(&[0x30 | (n >> 8) as u8, n as u8]),
        n => {
            out.push(b'S');
            out.extend_from_slice(&(n as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(rest);
}

/// The first piece of the text at the front of `string`, which is one.
fn first_piece(string: &[u8]) -> &[u8] {
    let mark = match string.first() {
        Some(0x00..=0x1f) => 1,
        Some(0x30..=0x33) => 2,
        _ => 3,
    };
    string.get(mark..).unwrap_or_default()
}

/// Where the first argument of a request lies in its frame; `None` if it is not a string.
fn argument(frame: &[u8]) -> Option<Range<usize>> {
    let mut at = HEAD;
    // Dubbo's version, path, version, method, parameter types.
    for _ in 0..5 {
        at += string(frame.get(at..)?)?.0;
    }
    let (bytes, _) = string(frame.get(at..)?)?;
    Some(at..at + bytes)
}

/// Appends the reply to the request `head` of `frame`: its string argument, or one of `size` characters that
/// begins as it does.
///
/// A request without a string argument gets an empty one back. An event gets an empty reply.
pub fn write_reply(out: &mut Vec<u8>, head: &Head, frame: &[u8], size: Option<usize>) {
    let start = out.len();
    let event = if head.is_event() { EVENT } else { 0 };
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[HESSIAN2 | event, OK]);
    out.extend_from_slice(&head.id.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    if head.is_event() {
        out.push(b'N');
    } else {
        out.push(VALUE_WITH_ATTACHMENTS);
        match (size, argument(frame)) {
            (Some(size), argument) => {
                let start = argument.map_or(&[][..], |argument| first_piece(&frame[argument]));
                let start = &start[..start.len().min(size).min(8)];
                let mut text = if start.is_ascii() { start.to_vec() } else { Vec::new() };
                text.resize(size, b'x');
                put_string(out, &text);
            }
            (None, Some(argument)) => out.extend_from_slice(&frame[argument]),
            (None, None) => put_string(out, b""),
        }
        out.push(b'H');
        put_string(out, b"dubbo");
        put_string(out, VERSION.as_bytes());
        out.push(b'Z');
    }
    put_length(out, start);
}

fn put_length(out: &mut [u8], start: usize) {
    let body = (out.len() - start - HEAD) as u32;
    out[start + 12..start + HEAD].copy_from_slice(&body.to_be_bytes());
}

/// What the body of a reply with status [`OK`] holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// A string: how many characters, and the first piece of it.
    Text(usize, &'a [u8]),
    /// A value of another type, or none.
    Other,
    /// The callee threw.
    Exception,
}

/// Reads the body of a reply frame.
pub fn outcome(frame: &[u8]) -> Outcome<'_> {
    match frame.get(HEAD) {
        Some(0x90 | 0x93) => Outcome::Exception,
        Some(&(VALUE | VALUE_WITH_ATTACHMENTS)) => {
            let value = &frame[HEAD + 1..];
            match string(value) {
                Some((_, characters)) => Outcome::Text(characters, first_piece(value)),
                None => Outcome::Other,
            }
        }
        _ => Outcome::Other,
    }
}

/// The token a request's text begins with: any seven-bit bytes are ASCII text.
pub const fn text_token(token: u64) -> u64 {
    token & 0x7f7f_7f7f_7f7f_7f7f
}

/// A request frame ready but for its id and token.
#[derive(Clone, Debug)]
pub struct Template {
    frame: Vec<u8>,
    content: Range<usize>,
}

impl Template {
    /// A request for `service` (`interface:version[:group]`) with one string argument of `size` characters.
    ///
    /// `attachments` come beside the usual ones: path, interface, version, group, timeout.
    pub fn new(
        service: &str,
        method: &str,
        attachments: &[(String, String)],
        size: usize,
        timeout_ms: i32,
    ) -> Template {
        let mut parts = service.splitn(3, ':');
        let interface = parts.next().unwrap_or_default();
        let version = parts.next().unwrap_or("0.0.0");
        let group = parts.next();
        let mut frame = MAGIC.to_vec();
        frame.extend_from_slice(&[REQUEST | TWO_WAY | HESSIAN2, 0]);
        frame.extend_from_slice(&[0; 12]);
        for text in [VERSION, interface, version, method, "Ljava/lang/String;"] {
            put_string(&mut frame, text.as_bytes());
        }
        // A pattern, so that a proxy that shifts or mixes content is seen in a dump.
        let text: Vec<u8> = (0..size).map(|i| b'a' + (i % 26) as u8).collect();
        let before = frame.len();
        put_string(&mut frame, &text);
        let mark = match size {
            0..=31 => 1,
            32..=1023 => 2,
            _ => 3,
        };
        // The token lies in the first piece, and pieces are longer than a token.
        let content = before + mark..before + mark + size.min(8);
        frame.push(b'H');
        let timeout = timeout_ms.to_string();
        let usual =
            [("path", interface), ("interface", interface), ("version", version), ("timeout", &timeout)];
        let group = group.map(|g| ("group", g));
        let extra = attachments.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        for text in usual.into_iter().chain(group).chain(extra).flat_map(|(k, v)| [k, v]) {
            put_string(&mut frame, text.as_bytes());
        }
        frame.push(b'Z');
        put_length(&mut frame, 0);
        Template { frame, content }
    }

    /// Bytes of a frame.
    pub fn len(&self) -> usize {
        self.frame.len()
    }

    /// Never: a frame has a head.
    pub fn is_empty(&self) -> bool {
        self.frame.is_empty()
    }

    /// Appends a request with this id; `token` begins its text (as much as fits).
    pub fn write(&self, out: &mut Vec<u8>, id: u64, token: u64) {
        let start = out.len();
        out.extend_from_slice(&self.frame);
        let frame = &mut out[start..];
        frame[4..12].copy_from_slice(&id.to_be_bytes());
        crate::token::put(&mut frame[self.content.clone()], text_token(token));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
            .collect()
    }

    /// `echo("héllo 中文")` of dubbo-ssl-python 0.9.6.
    const PYTHON_ECHO: &str = "dabbc2000000000000000000000000c1 05322e302e32
        30216f72672e6170616368652e647562626f2e64656d6f2e4563686f53657276696365 05302e302e30 046563686f
        124c6a6176612f6c616e672f537472696e673b 0868c3a96c6c6f20e4b8ade69687
        48 0470617468 30216f72672e6170616368652e647562626f2e64656d6f2e4563686f53657276696365 09696e74657266616365
        30216f72672e6170616368652e647562626f2e64656d6f2e4563686f53657276696365 0776657273696f6e 05302e302e30
        0567726f7570 00 5a";

    #[test]
    fn a_request_and_its_reply_read_back_at_every_form_of_length() {
        for size in [0, 3, 31, 32, 1023, 1024, 65_535, 65_536, 200_000] {
            let template = Template::new("bench.Echo:1.0:blue", "echo", &[], size, 3000);
            let mut frame = Vec::new();
            template.write(&mut frame, u64::MAX - 5, 0xf102_0304_0506_0708);
            let head = Head::parse(&frame).unwrap().unwrap();
            assert_eq!((head.id, head.total()), (u64::MAX - 5, frame.len()));
            assert!(head.is_request() && head.wants_reply() && !head.is_event());
            for wanted in [None, Some(0), Some(100_000)] {
                let mut reply = Vec::new();
                write_reply(&mut reply, &head, &frame, wanted);
                let answer = Head::parse(&reply).unwrap().unwrap();
                assert_eq!((answer.status, answer.id, answer.total()), (OK, head.id, reply.len()));
                assert!(!answer.is_request());
                let Outcome::Text(characters, text) = outcome(&reply) else { panic!("{size}") };
                assert_eq!(characters, wanted.unwrap_or(size));
                if wanted.is_none() {
                    let token = text_token(0xf102_0304_0506_0708);
                    assert!(crate::token::begins(&text[..size.min(8)], token), "{size}");
                }
            }
        }
    }

    #[test]
    fn the_argument_of_a_real_client_is_echoed() {
        let frame = hex(PYTHON_ECHO);
        let head = Head::parse(&frame).unwrap().unwrap();
        assert_eq!(head.total(), frame.len());
        assert_eq!(&frame[argument(&frame).unwrap()], "\u{8}héllo 中文".as_bytes());
        let mut reply = Vec::new();
        write_reply(&mut reply, &head, &frame, None);
        assert!(
            matches!(outcome(&reply), Outcome::Text(8, text) if text.starts_with("héllo 中文".as_bytes()))
        );
    }

    #[test]
    fn a_heartbeat_is_answered_in_the_way_java_does() {
        let frame = hex("dabbe200 0000000000000007 00000001 4e");
        let head = Head::parse(&frame).unwrap().unwrap();
        assert!(head.is_event() && head.is_request());
        let mut reply = Vec::new();
        write_reply(&mut reply, &head, &frame, Some(1024));
        assert_eq!(reply, hex("dabb2214 0000000000000007 00000001 4e"));
    }

    #[test]
    fn an_exception_and_another_protocol_are_told() {
        assert_eq!(outcome(&hex("dabb021400000000000000030000000693 04626f6f6d")), Outcome::Exception);
        assert_eq!(outcome(&hex("dabb0214000000000000000300000002 9491")), Outcome::Other);
        assert!(Head::parse(b"HTTP/1.1 400").is_err());
        assert_eq!(Head::parse(&[0xda]), Ok(None));
    }
}
