//! Making whole frames. All append to `out`.
use super::head::{Head, Kind};
pub use super::reply::reply;
use super::{SERIALIZER_HESSIAN2, STATUS_OK};

/// Bodies of heartbeats are a null, which no serialiser writes in more bytes than this.
const MAX_NULL: usize = 32;

/// A heartbeat, in Hessian: every peer reads that, whatever it serialises its calls with.
pub fn heartbeat(out: &mut Vec<u8>, id: u64) {
    frame(out, Head { event: true, ..blank(Kind::Request, id, SERIALIZER_HESSIAN2) }, b"N");
}

/// The acknowledgement of the heartbeat `request`, whose frame `frame` begins with.
///
/// In the serialiser of the request, by giving back its body: a null is the same either way. A heartbeat with
/// a body that is cut off, or too long for a null, is acknowledged in Hessian.
pub fn heartbeat_ack(out: &mut Vec<u8>, request: &Head, frame: &[u8]) {
    let body = request.body(frame);
    let whole = body.len() == request.body_len as usize && (1..=MAX_NULL).contains(&body.len());
    let (serializer, body) =
        if whole { (request.serializer, body) } else { (SERIALIZER_HESSIAN2, &b"N"[..]) };
    let head = Head { event: true, status: STATUS_OK, ..blank(Kind::Response, request.id, serializer) };
    self::frame(out, head, body);
}

/// Says that no more requests are wanted on the connection: see [`super::is_readonly`].
pub fn readonly(out: &mut Vec<u8>, id: u64) {
    frame(out, Head { event: true, ..blank(Kind::OneWay, id, SERIALIZER_HESSIAN2) }, b"\x01R");
}

/// A request, or a one-way one.
pub fn request(out: &mut Vec<u8>, id: u64, serializer: u8, oneway: bool, body: &[u8]) {
    let kind = if oneway { Kind::OneWay } else { Kind::Request };
    frame(out, blank(kind, id, serializer), body);
}

/// A response.
pub fn response(out: &mut Vec<u8>, id: u64, serializer: u8, status: u8, body: &[u8]) {
    frame(out, Head { status, ..blank(Kind::Response, id, serializer) }, body);
}

const fn blank(kind: Kind, id: u64, serializer: u8) -> Head {
    Head { kind, event: false, serializer, status: 0, id, body_len: 0 }
}

/// Writes a frame whose length follows from its body.
fn frame(out: &mut Vec<u8>, head: Head, body: &[u8]) {
    let body = &body[..body.len().min(u32::MAX as usize)];
    out.reserve(Head::LEN + body.len());
    fixed(out, &Head { body_len: body.len() as u32, ..head });
    out.extend_from_slice(body);
}

/// Writes the fixed part that `head` says, and nothing else.
pub fn fixed(out: &mut Vec<u8>, head: &Head) {
    out.extend_from_slice(&head.to_bytes());
}
