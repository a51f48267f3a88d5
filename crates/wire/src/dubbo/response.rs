//! What a response or an event says in the first bytes of its body.
use super::attachments::{self, Attachments};
use super::head::{Head, Kind};
use super::{ATTACHMENTS_MAX, SERIALIZER_FASTJSON, SERIALIZER_FASTJSON2, SERIALIZER_HESSIAN2, STATUS_OK};

/// What a response with status 20 brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResponseKind {
    /// A value.
    Value,
    /// An exception of the application's (or of a sidecar's: [`super::reason_of`]).
    Exception,
    /// A null, as all methods without a result do.
    Null,
    /// It has another status, is no response to a call, is cut before it says, or in a serialisation that is
    /// not read.
    Unknown,
}

/// What a response brings. `frame` begins with `head`'s frame; six bytes of the body suffice.
#[inline]
pub fn response_kind(head: &Head, frame: &[u8]) -> ResponseKind {
    if head.kind != Kind::Response || head.event || head.status != STATUS_OK {
        return ResponseKind::Unknown;
    }
    // From 3 on: with attachments.
    match number(head, frame) {
        Some(0 | 3) => ResponseKind::Exception,
        Some(1 | 4) => ResponseKind::Value,
        Some(2 | 5) => ResponseKind::Null,
        _ => ResponseKind::Unknown,
    }
}

/// The number a result begins with.
fn number(head: &Head, frame: &[u8]) -> Option<u8> {
    match (head.serializer, head.body(frame)) {
        (SERIALIZER_HESSIAN2, [byte, ..]) => Some(byte.wrapping_sub(0x90)),
        (SERIALIZER_FASTJSON, [digit, b'\r' | b'\n', ..]) => Some(digit.wrapping_sub(b'0')),
        // A length of four bytes, then JSONB's mark of a byte and the byte.
        (SERIALIZER_FASTJSON2, [0, 0, 0, 2, 0xBD, byte, ..]) => Some(*byte),
        _ => None,
    }
}

/// The attachments of a response, behind its value, if it has some. `frame` begins with `head`'s frame.
///
/// The value is stepped over, which takes time in its length: they are not found behind more than
/// [`ATTACHMENTS_MAX`] bytes, nor where the frame is cut before their end.
pub fn response_attachments<'a>(head: &Head, frame: &'a [u8]) -> Option<Attachments<'a>> {
    if head.kind != Kind::Response || head.event || head.status != STATUS_OK {
        return None;
    }
    let values = match number(head, frame)? {
        3 | 4 => 1,
        5 => 0,
        _ => return None,
    };
    let body = head.body(frame);
    let body = &body[..body.len().min(ATTACHMENTS_MAX)];
    // The number is a value as well.
    let found = match head.serializer {
        SERIALIZER_HESSIAN2 => attachments::hessian(body, 1 + values),
        SERIALIZER_FASTJSON => attachments::json(body, 1 + values),
        SERIALIZER_FASTJSON2 => attachments::jsonb(body, 1 + values),
        _ => return None,
    };
    found.ok()
}

/// Whether this is a read-only notice: its sender takes no more requests on the connection, and will answer
/// those it has. `frame` begins with `head`'s frame and holds the whole of it.
///
/// It is an event, one-way, with the string `R` as its body. A Java server sends it to its connections when it
/// begins to shut down (`HeaderExchangeServer.sendChannelReadOnlyEvent`), then waits for the requests in flight
/// and closes. A Java client that gets it marks the connection (`HeaderExchangeHandler.handlerEvent`), takes
/// the provider for unavailable (`DubboInvoker.isAvailable`) and sends its calls to others; it does not
/// connect anew, and calls this one nevertheless if there is no other.
/// [`encode::readonly`](super::encode::readonly) makes one.
pub fn is_readonly(head: &Head, frame: &[u8]) -> bool {
    if head.kind == Kind::Response || !head.event {
        return false;
    }
    let body = head.body(frame);
    match head.serializer {
        SERIALIZER_HESSIAN2 => body == b"\x01R",
        SERIALIZER_FASTJSON => body.trim_ascii_end() == b"\"R\"",
        // A length of four bytes, then JSONB's one-character string.
        SERIALIZER_FASTJSON2 => body == b"\0\0\0\x02\x4AR",
        _ => false,
    }
}
