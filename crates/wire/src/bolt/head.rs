//! The fixed part of a frame.
use super::headers::HeaderMap;
use super::malformed::{Malformed, MalformedKind};

/// Which of Bolt's framings a frame uses. A reply uses its request's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Variant {
    /// Protocol 1.
    V1,
    /// Protocol 2, inner version 1: no CRC whatever its switch byte says.
    V2,
    /// Protocol 2, inner version 2, CRC switched off.
    V2Plain,
    /// Protocol 2, inner version 2, with a CRC32 behind the content.
    V2Crc,
}

impl Variant {
    /// Every variant.
    pub const ALL: [Variant; 4] = [Variant::V1, Variant::V2, Variant::V2Plain, Variant::V2Crc];

    /// Whether a CRC32 of the whole frame follows the content.
    #[inline]
    pub const fn crc(self) -> bool {
        matches!(self, Variant::V2Crc)
    }

    /// Bytes before the type byte: protocol and, in version 2, inner version.
    #[inline]
    pub(super) const fn prefix_len(self) -> usize {
        match self {
            Variant::V1 => 1,
            _ => 2,
        }
    }
}

/// The type byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Type 1: a reply is awaited.
    Request,
    /// Type 2: no reply may be sent.
    OneWay,
    /// Type 0.
    Response,
}

impl Kind {
    /// The byte on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Kind::Response => 0,
            Kind::Request => 1,
            Kind::OneWay => 2,
        }
    }
}

/// The command code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// 0: a heartbeat, or with [`Kind::Response`] its acknowledgement.
    Heartbeat,
    /// 1.
    Request,
    /// 2.
    Response,
    /// 100: the sender takes no more requests on this connection. An extension of MOSN's: Java SOFABolt
    /// closes the connection on it.
    GoAway,
    /// Any other code: carried, never interpreted.
    Other(u16),
}

impl Command {
    /// The command of a code.
    #[inline]
    pub const fn from_code(code: u16) -> Command {
        match code {
            0 => Command::Heartbeat,
            1 => Command::Request,
            2 => Command::Response,
            100 => Command::GoAway,
            other => Command::Other(other),
        }
    }

    /// The code on the wire.
    pub const fn code(self) -> u16 {
        match self {
            Command::Heartbeat => 0,
            Command::Request => 1,
            Command::Response => 2,
            Command::GoAway => 100,
            Command::Other(code) => code,
        }
    }
}

/// What a frame may be at most; one beyond it is [`Malformed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a whole frame.
    pub max_frame: u32,
    /// Bytes of the header map. Peers written in Java read its length as a signed 16-bit number, so they
    /// never make one over 32767.
    pub max_header: u32,
}

impl Default for Limits {
    /// 64 MiB and 64 KiB.
    fn default() -> Limits {
        Limits { max_frame: 64 << 20, max_header: 64 << 10 }
    }
}

/// The fixed part of a frame, parsed. Lengths are within the [`Limits`] it was parsed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// The framing.
    pub variant: Variant,
    /// Request, one-way or response.
    pub kind: Kind,
    /// The command.
    pub command: Command,
    /// The request's id, chosen by the caller; wraps.
    pub id: u32,
    /// The content's serialiser: see [`super::CODEC_HESSIAN`].
    pub codec: u8,
    /// Requests: how long the caller waits, in milliseconds (-1 and 0 are seen and mean "unsaid"). Else 0.
    pub timeout_ms: i32,
    /// Responses: the status. Else 0.
    pub status: u16,
    /// Bytes of the class name.
    pub class_len: u16,
    /// Bytes of the header map.
    pub header_len: u16,
    /// Bytes of the content.
    pub content_len: u32,
}

/// What [`Head::parse`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// A whole fixed part.
    Head(Head),
    /// The bytes are the beginning of a fixed part.
    Incomplete,
}

impl Head {
    /// Bytes that always suffice to parse a fixed part.
    pub const MAX_FIXED: usize = 24;

    /// Parses the fixed part of the frame that `buf` begins with.
    ///
    /// # Errors
    /// [`Malformed`], as early as a byte tells: the connection cannot be read on.
    #[inline]
    pub fn parse(buf: &[u8], limits: &Limits) -> Result<Parsed, Malformed> {
        match buf {
            [] => Ok(Parsed::Incomplete),
            [1, rest @ ..] => parse_rest::<false>(Variant::V1, rest, *limits),
            [2, 1, rest @ ..] => parse_rest::<true>(Variant::V2, rest, *limits),
            // Its switch byte tells whether it is V2Plain.
            [2, 2, rest @ ..] => parse_rest::<true>(Variant::V2Crc, rest, *limits),
            [2] => Ok(Parsed::Incomplete),
            [2, ver1, ..] => Err(Malformed::new(MalformedKind::UnknownVersion, u32::from(*ver1))),
            [proto, ..] => Err(Malformed::new(MalformedKind::UnknownProtocol, u32::from(*proto))),
        }
    }

    /// Bytes of the fixed part.
    #[inline]
    pub const fn fixed_len(&self) -> usize {
        let v1 = match self.kind {
            Kind::Response => 20,
            Kind::Request | Kind::OneWay => 22,
        };
        match self.variant {
            Variant::V1 => v1,
            _ => v1 + 2,
        }
    }

    /// Bytes before the content: fixed part, class name and header map.
    #[inline]
    pub const fn head_len(&self) -> usize {
        self.fixed_len() + self.class_len as usize + self.header_len as usize
    }

    /// Bytes of the whole frame, a CRC included.
    #[inline]
    pub const fn frame_len(&self) -> usize {
        self.head_len() + self.content_len as usize + if self.variant.crc() { 4 } else { 0 }
    }

    /// Where the id's four bytes are.
    #[inline]
    pub const fn id_offset(&self) -> usize {
        self.variant.prefix_len() + 4
    }

    /// The class name. `frame` begins with this head's frame; what is cut off is missing from the answer.
    #[inline]
    pub fn class<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        clip(frame, self.fixed_len(), self.class_len as usize)
    }

    /// The header map. `frame` begins with this head's frame; a cut map is not well-formed.
    #[inline]
    pub fn headers<'a>(&self, frame: &'a [u8]) -> HeaderMap<'a> {
        HeaderMap::new(clip(frame, self.fixed_len() + self.class_len as usize, self.header_len as usize))
    }

    /// The content, without a CRC behind it. `frame` begins with this head's frame; what is cut off is
    /// missing from the answer.
    #[inline]
    pub fn content<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        clip(frame, self.head_len(), self.content_len as usize)
    }

    /// Whether a reply to this frame is awaited.
    #[inline]
    pub const fn wants_reply(&self) -> bool {
        matches!(self.kind, Kind::Request) && matches!(self.command, Command::Request | Command::Heartbeat)
    }
}

fn clip(bytes: &[u8], from: usize, len: usize) -> &[u8] {
    let from = from.min(bytes.len());
    let to = from.saturating_add(len).min(bytes.len());
    &bytes[from..to]
}

/// `rest` starts at the type byte.
#[inline]
fn parse_rest<const V2: bool>(variant: Variant, rest: &[u8], limits: Limits) -> Result<Parsed, Malformed> {
    let kind = match rest.first() {
        None => return Ok(Parsed::Incomplete),
        Some(0) => Kind::Response,
        Some(1) => Kind::Request,
        Some(2) => Kind::OneWay,
        Some(other) => return Err(Malformed::new(MalformedKind::UnknownType, u32::from(*other))),
    };
    // type 0, command 1..3, command version 3, id 4..8, codec 8, then version 2's switch.
    let common = if V2 { 10 } else { 9 };
    let Some((start, tail)) = rest.split_at_checked(common) else { return Ok(Parsed::Incomplete) };
    let variant = if V2 && variant.crc() && start[9] & 1 == 0 { Variant::V2Plain } else { variant };
    let (timeout_ms, status, lengths) = match kind {
        Kind::Response => match tail.first_chunk::<10>() {
            Some([a, b, lengths @ ..]) => (0, u16::from_be_bytes([*a, *b]), lengths),
            None => return Ok(Parsed::Incomplete),
        },
        Kind::Request | Kind::OneWay => match tail.first_chunk::<12>() {
            Some([a, b, c, d, lengths @ ..]) => (i32::from_be_bytes([*a, *b, *c, *d]), 0, lengths),
            None => return Ok(Parsed::Incomplete),
        },
    };
    let lengths: &[u8; 8] = lengths;
    let head = Head {
        variant,
        kind,
        command: Command::from_code(u16::from_be_bytes([start[1], start[2]])),
        id: u32::from_be_bytes([start[4], start[5], start[6], start[7]]),
        codec: start[8],
        timeout_ms,
        status,
        class_len: u16::from_be_bytes([lengths[0], lengths[1]]),
        header_len: u16::from_be_bytes([lengths[2], lengths[3]]),
        content_len: u32::from_be_bytes([lengths[4], lengths[5], lengths[6], lengths[7]]),
    };
    if u32::from(head.header_len) > limits.max_header {
        return Err(Malformed::new(MalformedKind::HeaderTooLarge, u32::from(head.header_len)));
    }
    // In 64 bits, as the sum may exceed 32.
    let trailer = if head.variant.crc() { 4 } else { 0 };
    if head.head_len() as u64 + u64::from(head.content_len) + trailer > u64::from(limits.max_frame) {
        return Err(Malformed::new(MalformedKind::FrameTooLarge, head.content_len));
    }
    Ok(Parsed::Head(head))
}
