//! The generator's own, minimal Bolt framing (SOFABolt 1.6, protocol versions 1 and 2).
//!
//! Only what a generator and an echo server need: read a head, write a request template, write a reply.
use std::fmt;
use std::ops::Range;

pub use crate::token::begins as has_token;

/// Largest frame accepted, bytes.
pub const MAX_FRAME: usize = 64 << 20;

const REQUEST_CLASS: &[u8] = b"com.alipay.sofa.rpc.core.request.SofaRequest";
const RESPONSE_CLASS: &[u8] = b"com.alipay.sofa.rpc.core.response.SofaResponse";
const CODEC_PROTOBUF: u8 = 11;

/// Which form of Bolt the generator sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Version {
    /// Protocol 1.
    #[default]
    V1,
    /// Protocol 2 without a checksum.
    V2,
    /// Protocol 2 with the CRC32 trailer (what SOFABolt's Java client sends by default).
    V2Crc,
}

impl std::str::FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Version, String> {
        match text {
            "1" | "v1" => Ok(Version::V1),
            "2" | "v2" => Ok(Version::V2),
            "2-crc" | "v2-crc" => Ok(Version::V2Crc),
            _ => Err("expected one of v1, v2, v2-crc".into()),
        }
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Wants a reply.
    Request,
    /// Wants none.
    OneWay,
    /// Is a reply.
    Response,
}

/// The bytes are not Bolt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed Bolt frame: {}", self.0)
    }
}

impl std::error::Error for Malformed {}

/// A frame's fixed part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Version and checksum form.
    pub version: Version,
    /// Request, one-way or response.
    pub kind: Kind,
    /// Command code: 0 heartbeat, 1 request, 2 response, 100 goaway.
    pub command: u16,
    /// Request id.
    pub id: u32,
    /// Serialiser byte.
    pub codec: u8,
    /// Response status; 0 for requests.
    pub status: u16,
    content_at: usize,
    content: usize,
}

fn u16_at(buf: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([buf[at], buf[at + 1]])
}

fn u32_at(buf: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([buf[at], buf[at + 1], buf[at + 2], buf[at + 3]])
}

impl Head {
    /// Reads a head from the front of `buf`; `None` while it is not whole yet.
    pub fn parse(buf: &[u8]) -> Result<Option<Head>, Malformed> {
        let Some(&proto) = buf.first() else { return Ok(None) };
        let shift = match proto {
            1 => 0,
            2 => 1,
            _ => return Err(Malformed("first byte is neither 1 nor 2")),
        };
        if buf.len() < 2 + shift {
            return Ok(None);
        }
        let kind = match buf[1 + shift] {
            0 => Kind::Response,
            1 => Kind::Request,
            2 => Kind::OneWay,
            _ => return Err(Malformed("unknown frame type")),
        };
        // Version 2 has the extra `ver1` and `switch` bytes; a response is two bytes shorter.
        let lengths_at = 14 + 2 * shift - if kind == Kind::Response { 2 } else { 0 };
        let fixed = lengths_at + 8;
        if buf.len() < fixed {
            return Ok(None);
        }
        let version = match (shift, buf[1], buf.get(11)) {
            (0, ..) => Version::V1,
            (_, 2, Some(switch)) if switch & 1 == 1 => Version::V2Crc,
            _ => Version::V2,
        };
        let class = usize::from(u16_at(buf, lengths_at));
        let header = usize::from(u16_at(buf, lengths_at + 2));
        let content = u32_at(buf, lengths_at + 4) as usize;
        let head = Head {
            version,
            kind,
            command: u16_at(buf, 2 + shift),
            id: u32_at(buf, 5 + shift),
            codec: buf[9 + shift],
            status: if kind == Kind::Response { u16_at(buf, 10 + 2 * shift) } else { 0 },
            content_at: fixed + class + header,
            content,
        };
        if head.total() > MAX_FRAME {
            return Err(Malformed("frame over 64 MiB"));
        }
        Ok(Some(head))
    }

    /// Bytes of the whole frame, checksum included.
    pub fn total(&self) -> usize {
        self.content_at + self.content + if self.version == Version::V2Crc { 4 } else { 0 }
    }

    /// Where the content lies in the frame.
    pub fn content(&self) -> Range<usize> {
        self.content_at..self.content_at + self.content
    }
}

/// Whether a whole frame's checksum, if it carries one, is right.
pub fn checksum_ok(head: &Head, frame: &[u8]) -> bool {
    if head.version != Version::V2Crc {
        return true;
    }
    let (body, sum) = frame.split_at(frame.len() - 4);
    crc32fast::hash(body) == u32_at(sum, 0)
}

/// Appends the reply to the request `head` of `frame`: `size` content bytes, or as many as it brought.
///
/// The content is the request's own, cut or filled with zeros to `size`. A heartbeat gets an empty ack.
pub fn write_reply(out: &mut Vec<u8>, head: &Head, frame: &[u8], size: Option<usize>) {
    let heartbeat = head.command == 0;
    let (class, content): (&[u8], &[u8]) =
        if heartbeat { (&[], &[]) } else { (RESPONSE_CLASS, &frame[head.content()]) };
    let len = if heartbeat { 0 } else { size.unwrap_or(content.len()) };
    let start = out.len();
    match head.version {
        Version::V1 => out.push(1),
        Version::V2 => out.extend_from_slice(&[2, 1]),
        Version::V2Crc => out.extend_from_slice(&[2, 2]),
    }
    out.push(0);
    out.extend_from_slice(&if heartbeat { 0_u16 } else { 2 }.to_be_bytes());
    out.push(1);
    out.extend_from_slice(&head.id.to_be_bytes());
    out.push(head.codec);
    match head.version {
        Version::V1 => {}
        Version::V2 => out.push(0),
        Version::V2Crc => out.push(1),
    }
    out.extend_from_slice(&0_u16.to_be_bytes());
    out.extend_from_slice(&(class.len() as u16).to_be_bytes());
    out.extend_from_slice(&0_u16.to_be_bytes());
    out.extend_from_slice(&(len as u32).to_be_bytes());
    out.extend_from_slice(class);
    out.extend_from_slice(&content[..len.min(content.len())]);
    out.resize(out.len() + len.saturating_sub(content.len()), 0);
    if head.version == Version::V2Crc {
        let sum = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&sum.to_be_bytes());
    }
}

/// A request frame ready but for its id and content token.
#[derive(Clone, Debug)]
pub struct Template {
    frame: Vec<u8>,
    id_at: usize,
    content_at: usize,
    crc: bool,
}

impl Template {
    /// A request for `service` with `headers` beside the usual ones, `size` bytes of content and a
    /// timeout in milliseconds.
    ///
    /// The header map is that of SOFARPC's protobuf clients: service, method, target service.
    ///
    /// # Errors
    /// When the header map does not fit the 16-bit length field.
    pub fn new(
        version: Version,
        service: &str,
        method: &str,
        headers: &[(String, String)],
        size: usize,
        timeout_ms: i32,
    ) -> Result<Template, Malformed> {
        let mut map = Vec::new();
        let usual =
            [("service", service), ("sofa_head_method_name", method), ("sofa_head_target_service", service)];
        let extra = headers.iter().map(|(k, v)| (k.as_str(), v.as_str()));
        for text in usual.into_iter().chain(extra).flat_map(|(k, v)| [k, v]) {
            map.extend_from_slice(&(text.len() as u32).to_be_bytes());
            map.extend_from_slice(text.as_bytes());
        }
        let map_len = u16::try_from(map.len()).map_err(|_| Malformed("header map over 64 KiB"))?;
        let mut frame = match version {
            Version::V1 => vec![1, 1],
            Version::V2 => vec![2, 1, 1],
            Version::V2Crc => vec![2, 2, 1],
        };
        frame.extend_from_slice(&[0, 1, 1]);
        let id_at = frame.len();
        frame.extend_from_slice(&[0; 4]);
        frame.push(CODEC_PROTOBUF);
        match version {
            Version::V1 => {}
            Version::V2 => frame.push(0),
            Version::V2Crc => frame.push(1),
        }
        frame.extend_from_slice(&timeout_ms.to_be_bytes());
        frame.extend_from_slice(&(REQUEST_CLASS.len() as u16).to_be_bytes());
        frame.extend_from_slice(&map_len.to_be_bytes());
        frame.extend_from_slice(&(size as u32).to_be_bytes());
        frame.extend_from_slice(REQUEST_CLASS);
        frame.extend_from_slice(&map);
        let content_at = frame.len();
        // A pattern, so that a proxy that shifts or mixes content is seen in a dump.
        frame.extend((0..size).map(|i| b'a' + (i % 26) as u8));
        Ok(Template { frame, id_at, content_at, crc: version == Version::V2Crc })
    }

    /// Bytes of a frame beside its content.
    pub fn overhead(&self) -> usize {
        self.content_at + if self.crc { 4 } else { 0 }
    }

    /// Appends a request with this id; `token` begins its content (as much as fits).
    pub fn write(&self, out: &mut Vec<u8>, id: u32, token: u64) {
        let start = out.len();
        out.extend_from_slice(&self.frame);
        let frame = &mut out[start..];
        frame[self.id_at..self.id_at + 4].copy_from_slice(&id.to_be_bytes());
        crate::token::put(&mut frame[self.content_at..], token);
        if self.crc {
            let sum = crc32fast::hash(frame);
            out.extend_from_slice(&sum.to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version) -> Vec<u8> {
        let template = Template::new(version, "bench.Echo:1.0", "echo", &[], 32, 3000).unwrap();
        let mut out = Vec::new();
        template.write(&mut out, 7, 0x0102_0304_0506_0708);
        assert_eq!(out.len(), template.overhead() + 32);
        out
    }

    #[test]
    fn a_request_and_its_reply_read_back_in_every_version() {
        for version in [Version::V1, Version::V2, Version::V2Crc] {
            let frame = request(version);
            let head = Head::parse(&frame).unwrap().unwrap();
            assert_eq!((head.version, head.kind, head.id), (version, Kind::Request, 7));
            assert_eq!(head.total(), frame.len());
            assert!(checksum_ok(&head, &frame));
            assert!(crate::token::begins(&frame[head.content()], 0x0102_0304_0506_0708));
            for size in [None, Some(0), Some(100)] {
                let mut out = Vec::new();
                write_reply(&mut out, &head, &frame, size);
                let reply = Head::parse(&out).unwrap().unwrap();
                assert_eq!(
                    (reply.kind, reply.id, reply.status, reply.total()),
                    (Kind::Response, 7, 0, out.len())
                );
                assert_eq!(reply.content().len(), size.unwrap_or(32));
                assert!(checksum_ok(&reply, &out));
            }
        }
    }

    #[test]
    fn a_captured_frame_of_a_real_client_is_read() {
        // sofa-rpc-node 2.10: heartbeat, version 1.
        let frame = [1, 1, 0, 0, 1, 0, 0, 0, 9, 1, 0, 0, 0x0b, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0];
        let head = Head::parse(&frame).unwrap().unwrap();
        assert_eq!((head.command, head.id, head.total()), (0, 9, 22));
        let mut out = Vec::new();
        write_reply(&mut out, &head, &frame, Some(1024));
        assert_eq!(out.len(), 20);
    }

    #[test]
    fn a_partial_head_asks_for_more_and_foreign_bytes_are_refused() {
        let frame = request(Version::V2);
        for end in 0..24 {
            assert_eq!(Head::parse(&frame[..end]), Ok(None));
        }
        assert!(Head::parse(b"GET / HTTP/1.1\r\n\r\n").is_err());
        let mut huge = frame;
        huge[20..24].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(Head::parse(&huge).is_err());
    }
}
