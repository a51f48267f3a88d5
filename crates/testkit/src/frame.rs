//! Bolt frames as tests see them: whole, with everything in them.
use raddle_wire::bolt::{self, Head, Limits, Parsed, Variant};
use std::io::{self, Read};

/// One frame, as it came over the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its fixed part.
    pub head: Head,
    /// All of its bytes.
    pub bytes: Vec<u8>,
}

impl Frame {
    /// Its content.
    pub fn content(&self) -> &[u8] {
        self.head.content(&self.bytes)
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<String> {
        self.head.headers(&self.bytes).get(name.as_bytes()).map(|v| String::from_utf8_lossy(v).into_owned())
    }

    /// The flag of the sidecar's own answers.
    pub fn flag(&self) -> Option<String> {
        self.header("raddle-reason")
    }

    /// Its CRC is that of its bytes, or it has none.
    pub fn crc_is_right(&self) -> bool {
        if !self.head.variant.crc() {
            return true;
        }
        let (body, crc) = self.bytes.split_at(self.bytes.len() - 4);
        crc32(body).to_be_bytes() == crc
    }

    /// Its bytes without what a proxy must change: id and CRC.
    pub fn without_id(&self) -> Vec<u8> {
        let mut b = self.bytes.clone();
        let at = self.head.id_offset();
        b[at..at + 4].fill(0);
        if self.head.variant.crc() {
            b.truncate(b.len() - 4);
        }
        b
    }
}

/// CRC-32 of IEEE 802.3, eight bytes at a time; on its own, so that tests do not believe the code they test.
pub fn crc32(bytes: &[u8]) -> u32 {
    static TABLES: std::sync::OnceLock<Box<[[u32; 256]; 8]>> = std::sync::OnceLock::new();
    let t = TABLES.get_or_init(|| {
        let mut t = Box::new([[0u32; 256]; 8]);
        for i in 0..256usize {
            t[0][i] = (0..8).fold(i as u32, |c, _| if c & 1 == 1 { 0xEDB8_8320 ^ (c >> 1) } else { c >> 1 });
        }
        for i in 0..256 {
            for k in 1..8 {
                let before = t[k - 1][i];
                t[k][i] = (before >> 8) ^ t[0][(before & 0xFF) as usize];
            }
        }
        t
    });
    let mut crc = !0u32;
    let mut chunks = bytes.chunks_exact(8);
    for c in &mut chunks {
        let low = crc ^ u32::from_le_bytes([c[0], c[1], c[2], c[3]]);
        crc = t[7][(low & 0xFF) as usize]
            ^ t[6][(low >> 8 & 0xFF) as usize]
            ^ t[5][(low >> 16 & 0xFF) as usize]
            ^ t[4][(low >> 24) as usize]
            ^ t[3][c[4] as usize]
            ^ t[2][c[5] as usize]
            ^ t[1][c[6] as usize]
            ^ t[0][c[7] as usize];
    }
    for b in chunks.remainder() {
        crc = t[0][((crc ^ u32::from(*b)) & 0xFF) as usize] ^ (crc >> 8);
    }
    !crc
}

/// Reads whole frames from a stream.
pub struct FrameReader<R> {
    from: R,
    buf: Vec<u8>,
    at: usize,
}

impl<R: Read> FrameReader<R> {
    /// Reads from `from`.
    pub fn new(from: R) -> FrameReader<R> {
        FrameReader { from, buf: Vec::new(), at: 0 }
    }

    /// The next frame; `None` at the end of the stream.
    ///
    /// # Errors
    /// What the stream says (`WouldBlock` or `TimedOut` leave what has come for the next call), and
    /// `InvalidData` for bytes that are no frame or an end in the middle of one.
    pub fn next_frame(&mut self) -> io::Result<Option<Frame>> {
        let limits = Limits { max_frame: 1 << 30, ..Limits::default() };
        loop {
            let rest = &self.buf[self.at..];
            match Head::parse(rest, &limits) {
                Err(e) => return Err(io::Error::new(io::ErrorKind::InvalidData, e)),
                Ok(Parsed::Head(head)) if rest.len() >= head.frame_len() => {
                    let bytes = rest[..head.frame_len()].to_vec();
                    self.at += bytes.len();
                    return Ok(Some(Frame { head, bytes }));
                }
                Ok(Parsed::Head(head)) => self.buf.reserve(head.frame_len()),
                Ok(Parsed::Incomplete) => {}
            }
            self.buf.drain(..self.at);
            self.at = 0;
            let end = self.buf.len();
            let room = self.buf.capacity().saturating_sub(end).clamp(16 << 10, 1 << 20);
            self.buf.resize(end + room, 0);
            let got = self.from.read(&mut self.buf[end..]);
            self.buf.truncate(end + *got.as_ref().unwrap_or(&0));
            match got {
                Ok(0) if end == 0 => return Ok(None),
                Ok(0) => {
                    return Err(io::Error::new(
                        io::ErrorKind::InvalidData,
                        "the stream ended inside a frame",
                    ));
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
                Ok(_) => {}
            }
        }
    }
}

/// A request to be made.
#[derive(Clone, Debug)]
pub struct Ask {
    /// The framing.
    pub variant: Variant,
    /// Its id.
    pub id: u32,
    /// Content serialiser.
    pub codec: u8,
    /// Milliseconds the frame says it waits.
    pub timeout_ms: i32,
    /// It wants no reply.
    pub one_way: bool,
    /// Class name.
    pub class: Vec<u8>,
    /// Header pairs.
    pub headers: Vec<(String, String)>,
    /// Content.
    pub content: Vec<u8>,
}

impl Ask {
    /// A Bolt 1 request to a service, 3 s, with a little content.
    pub fn to(service: &str) -> Ask {
        Ask {
            variant: Variant::V1,
            id: 1,
            codec: bolt::CODEC_PROTOBUF,
            timeout_ms: 3000,
            one_way: false,
            class: bolt::CLASS_REQUEST.to_vec(),
            headers: vec![("service".into(), service.into())],
            content: b"hello".to_vec(),
        }
    }

    /// With this id.
    pub fn id(mut self, id: u32) -> Ask {
        self.id = id;
        self
    }

    /// In this framing.
    pub fn variant(mut self, v: Variant) -> Ask {
        self.variant = v;
        self
    }

    /// With this timeout, in milliseconds.
    pub fn timeout(mut self, ms: i32) -> Ask {
        self.timeout_ms = ms;
        self
    }

    /// As a one-way request.
    pub fn one_way(mut self) -> Ask {
        self.one_way = true;
        self
    }

    /// With one more header.
    pub fn header(mut self, k: &str, v: &str) -> Ask {
        self.headers.push((k.into(), v.into()));
        self
    }

    /// Calling this method.
    pub fn method(self, name: &str) -> Ask {
        self.header("sofa_head_method_name", name)
    }

    /// With this content.
    pub fn content(mut self, c: impl Into<Vec<u8>>) -> Ask {
        self.content = c.into();
        self
    }

    /// Its frame.
    pub fn bytes(&self) -> Vec<u8> {
        let headers: Vec<_> = self.headers.iter().map(|(k, v)| (k.as_bytes(), v.as_bytes())).collect();
        let mut out = Vec::with_capacity(self.content.len() + 512);
        bolt::encode::request(
            &mut out,
            self.variant,
            self.id,
            self.codec,
            self.timeout_ms,
            self.one_way,
            &self.class,
            &headers,
            &self.content,
        );
        out
    }
}

/// `len` bytes that differ everywhere and from seed to seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut out = Vec::with_capacity(len + 8);
    while out.len() < len {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        out.extend_from_slice(&x.to_le_bytes());
    }
    out.truncate(len);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_standard_one() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn frames_come_out_as_they_went_in() {
        let mut all = Vec::new();
        for v in Variant::ALL {
            all.extend(Ask::to("s").variant(v).id(7).content(noise(1, 40_000)).bytes());
        }
        let mut r = FrameReader::new(&all[..]);
        for v in Variant::ALL {
            let f = r.next_frame().unwrap().unwrap();
            assert!(f.head.variant == v && f.head.id == 7 && f.crc_is_right());
            assert_eq!(f.content(), noise(1, 40_000));
            assert_eq!(f.header("service").as_deref(), Some("s"));
        }
        assert!(r.next_frame().unwrap().is_none());
    }
}
