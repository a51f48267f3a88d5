//! Making whole frames. All append to `out`.
//!
//! Class names and header maps are at most 65535 bytes on the wire: longer ones are refused by dropping
//! header pairs that do not fit, never by writing a length that lies.
use super::head::{Command, Head, Kind, Variant};
use super::headers::push_pair;
pub use super::reply::reply;

/// A heartbeat.
pub fn heartbeat(
    out: &mut Vec<u8>,
    variant: Variant,
    id: u32,
    codec: u8,
    timeout_ms: i32,
    headers: &[(&str, &str)],
) {
    let head = blank(variant, Kind::Request, Command::Heartbeat, id, codec);
    let pairs = headers.iter().map(|(k, v)| (k.as_bytes(), v.as_bytes()));
    frame(out, Head { timeout_ms, ..head }, b"", pairs, b"");
}

/// The acknowledgement of the heartbeat `request`.
pub fn heartbeat_ack(out: &mut Vec<u8>, request: &Head) {
    let head = blank(request.variant, Kind::Response, Command::Heartbeat, request.id, request.codec);
    frame(out, head, b"", std::iter::empty(), b"");
}

/// Says that no more requests are wanted on the connection.
///
/// MOSN and Raddle understand it. Java SOFABolt (1.6.10) knows no such command and closes the connection
/// with requests in flight: send it only to peers that said they know it.
pub fn goaway(out: &mut Vec<u8>, variant: Variant, id: u32) {
    let head = blank(variant, Kind::OneWay, Command::GoAway, id, super::CODEC_HESSIAN);
    frame(out, head, b"", std::iter::empty(), b"");
}

/// A request, or a one-way one.
#[expect(clippy::too_many_arguments, reason = "they are the fields of the frame, in its order")]
pub fn request(
    out: &mut Vec<u8>,
    variant: Variant,
    id: u32,
    codec: u8,
    timeout_ms: i32,
    oneway: bool,
    class: &[u8],
    headers: &[(&[u8], &[u8])],
    content: &[u8],
) {
    let kind = if oneway { Kind::OneWay } else { Kind::Request };
    let head = Head { timeout_ms, ..blank(variant, kind, Command::Request, id, codec) };
    frame(out, head, class, headers.iter().copied(), content);
}

/// A response.
pub fn response(
    out: &mut Vec<u8>,
    variant: Variant,
    id: u32,
    codec: u8,
    status: u16,
    class: &[u8],
    headers: &[(&[u8], &[u8])],
    content: &[u8],
) {
    let head = Head { status, ..blank(variant, Kind::Response, Command::Response, id, codec) };
    frame(out, head, class, headers.iter().copied(), content);
}

const fn blank(variant: Variant, kind: Kind, command: Command, id: u32, codec: u8) -> Head {
    Head {
        variant,
        kind,
        command,
        id,
        codec,
        timeout_ms: 0,
        status: 0,
        class_len: 0,
        header_len: 0,
        content_len: 0,
    }
}

/// Writes a frame whose lengths follow from its parts.
fn frame<'a>(
    out: &mut Vec<u8>,
    mut head: Head,
    class: &[u8],
    headers: impl Iterator<Item = (&'a [u8], &'a [u8])>,
    content: &[u8],
) {
    let start = out.len();
    let class = &class[..class.len().min(usize::from(u16::MAX))];
    let content = &content[..content.len().min(u32::MAX as usize)];
    head.class_len = class.len() as u16;
    head.content_len = content.len() as u32;
    out.reserve(head.frame_len());
    fixed(out, &head);
    out.extend_from_slice(class);
    let map = out.len();
    for (key, value) in headers {
        let grown = out.len() - map + 8 + key.len() + value.len();
        if u16::try_from(grown).is_ok() {
            push_pair(out, key, value);
        }
    }
    // The map's length is known only now; it is the two bytes before the content's length.
    let header_len = (out.len() - map) as u16;
    let at = start + head.fixed_len() - 6;
    out[at..at + 2].copy_from_slice(&header_len.to_be_bytes());
    out.extend_from_slice(content);
    if head.variant.crc() {
        let crc = crc32fast::hash(&out[start..]);
        out.extend_from_slice(&crc.to_be_bytes());
    }
}

/// Writes the fixed part that `head` says, and nothing else.
pub fn fixed(out: &mut Vec<u8>, head: &Head) {
    match head.variant {
        Variant::V1 => out.push(1),
        Variant::V2 => out.extend_from_slice(&[2, 1]),
        Variant::V2Plain | Variant::V2Crc => out.extend_from_slice(&[2, 2]),
    }
    out.push(head.kind.code());
    out.extend_from_slice(&head.command.code().to_be_bytes());
    out.push(1); // the command's own version: there has been one
    out.extend_from_slice(&head.id.to_be_bytes());
    out.push(head.codec);
    match head.variant {
        Variant::V1 => {}
        Variant::V2 | Variant::V2Plain => out.push(0),
        Variant::V2Crc => out.push(1),
    }
    match head.kind {
        Kind::Response => out.extend_from_slice(&head.status.to_be_bytes()),
        Kind::Request | Kind::OneWay => out.extend_from_slice(&head.timeout_ms.to_be_bytes()),
    }
    out.extend_from_slice(&head.class_len.to_be_bytes());
    out.extend_from_slice(&head.header_len.to_be_bytes());
    out.extend_from_slice(&head.content_len.to_be_bytes());
}
