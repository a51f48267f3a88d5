//! The sixteen bytes every frame begins with.
use super::malformed::{Malformed, MalformedKind};
use super::{Limits, MAGIC, SERIALIZER_MASK};

const FLAG_REQUEST: u8 = 0x80;
const FLAG_TWO_WAY: u8 = 0x40;
const FLAG_EVENT: u8 = 0x20;

/// What the two upper flag bits say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A reply is awaited.
    Request,
    /// No reply may be sent.
    OneWay,
    /// A reply.
    Response,
}

/// The fixed part of a frame, parsed. Its length is within the [`Limits`] it was parsed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Request, one-way or response.
    pub kind: Kind,
    /// Whether it is an event (a heartbeat, a [read-only](super::is_readonly) notice) or the answer to one,
    /// and no call of a method.
    pub event: bool,
    /// The body's serialiser, 0 to 31: see [`super::SERIALIZER_HESSIAN2`].
    pub serializer: u8,
    /// Responses: the status, [`super::STATUS_OK`] or another. Requests: a byte that means nothing.
    pub status: u8,
    /// The request's id, chosen by the caller.
    pub id: u64,
    /// Bytes of the body.
    pub body_len: u32,
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
    /// Bytes of the fixed part, which suffice to parse it.
    pub const LEN: usize = 16;

    /// Parses the fixed part of the frame that `buf` begins with.
    ///
    /// # Errors
    /// [`Malformed`], as early as a byte tells: the connection cannot be read on.
    #[inline]
    pub fn parse(buf: &[u8], limits: &Limits) -> Result<Parsed, Malformed> {
        let Some(fixed) = buf.first_chunk::<{ Head::LEN }>() else {
            return match buf.iter().zip(MAGIC).find(|(byte, magic)| **byte != *magic) {
                Some((byte, _)) => Err(Malformed::new(MalformedKind::UnknownProtocol, u32::from(*byte))),
                None => Ok(Parsed::Incomplete),
            };
        };
        let [m0, m1, flag, status, i0, i1, i2, i3, i4, i5, i6, i7, l0, l1, l2, l3] = *fixed;
        if [m0, m1] != MAGIC {
            let wrong = if m0 == MAGIC[0] { m1 } else { m0 };
            return Err(Malformed::new(MalformedKind::UnknownProtocol, u32::from(wrong)));
        }
        let body_len = u32::from_be_bytes([l0, l1, l2, l3]);
        // In 64 bits, as the sum may exceed 32.
        if u64::from(body_len) + Head::LEN as u64 > u64::from(limits.max_frame) {
            return Err(Malformed::new(MalformedKind::FrameTooLarge, body_len));
        }
        Ok(Parsed::Head(Head {
            kind: match (flag & FLAG_REQUEST != 0, flag & FLAG_TWO_WAY != 0) {
                (true, true) => Kind::Request,
                (true, false) => Kind::OneWay,
                (false, _) => Kind::Response,
            },
            event: flag & FLAG_EVENT != 0,
            serializer: flag & SERIALIZER_MASK,
            status,
            id: u64::from_be_bytes([i0, i1, i2, i3, i4, i5, i6, i7]),
            body_len,
        }))
    }

    /// The sixteen bytes that say this head. The two-way bit of a response is cleared.
    pub const fn to_bytes(&self) -> [u8; Head::LEN] {
        let kind = match self.kind {
            Kind::Request => FLAG_REQUEST | FLAG_TWO_WAY,
            Kind::OneWay => FLAG_REQUEST,
            Kind::Response => 0,
        };
        let event = if self.event { FLAG_EVENT } else { 0 };
        let [i0, i1, i2, i3, i4, i5, i6, i7] = self.id.to_be_bytes();
        let [l0, l1, l2, l3] = self.body_len.to_be_bytes();
        let flag = kind | event | (self.serializer & SERIALIZER_MASK);
        [MAGIC[0], MAGIC[1], flag, self.status, i0, i1, i2, i3, i4, i5, i6, i7, l0, l1, l2, l3]
    }

    /// Bytes before the body.
    #[inline]
    pub const fn head_len(&self) -> usize {
        Head::LEN
    }

    /// Bytes of the whole frame.
    #[inline]
    pub const fn frame_len(&self) -> usize {
        Head::LEN + self.body_len as usize
    }

    /// Where the id's eight bytes are.
    #[inline]
    pub const fn id_offset(&self) -> usize {
        4
    }

    /// The body. `frame` begins with this head's frame; what is cut off is missing from the answer.
    #[inline]
    pub fn body<'a>(&self, frame: &'a [u8]) -> &'a [u8] {
        let to = self.frame_len().min(frame.len());
        &frame[Head::LEN.min(to)..to]
    }

    /// Whether a reply to this frame is awaited: of a call, or of a heartbeat.
    #[inline]
    pub const fn wants_reply(&self) -> bool {
        matches!(self.kind, Kind::Request)
    }

    /// Whether this is a heartbeat or the answer to one, as far as the head tells: every event is, save the
    /// one-way ones, which are notices ([`super::is_readonly`]).
    #[inline]
    pub const fn is_heartbeat(&self) -> bool {
        self.event && !matches!(self.kind, Kind::OneWay)
    }
}

/// Replaces the id in `frame`, which holds the fixed part at least; a shorter one is left alone.
#[inline]
pub fn patch_id(frame: &mut [u8], id: u64) {
    if let Some(slot) = frame.get_mut(4..12) {
        slot.copy_from_slice(&id.to_be_bytes());
    }
}
