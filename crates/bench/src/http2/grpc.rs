//! A gRPC message with one field of bytes: `message Echo { bytes content = 1; }`.

/// Bytes before a message: whether it is compressed, and its length.
const ENVELOPE: usize = 5;
/// The field's number and type.
const FIELD: u8 = 0x0a;

/// A message with `content` in it.
pub(crate) fn message(content: &[u8]) -> Vec<u8> {
    let mut body = vec![0; ENVELOPE];
    if !content.is_empty() {
        body.push(FIELD);
        let mut rest = content.len();
        while rest >= 0x80 {
            body.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        body.push(rest as u8);
        body.extend_from_slice(content);
    }
    let length = (body.len() - ENVELOPE) as u32;
    body[1..ENVELOPE].copy_from_slice(&length.to_be_bytes());
    body
}

/// What is in a message's first field, if it is one of bytes.
pub(crate) fn content(body: &[u8]) -> &[u8] {
    let Some([FIELD, rest @ ..]) = body.get(ENVELOPE..) else { return &[] };
    let length_ends = rest.iter().position(|b| b & 0x80 == 0).map_or(rest.len(), |at| at + 1);
    &rest[length_ends..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_what_protobuf_says() {
        assert_eq!(message(b""), [0, 0, 0, 0, 0]);
        assert_eq!(message(b"abc"), *b"\0\0\0\0\x05\x0a\x03abc");
        assert_eq!(message(&[1; 300])[..8], [0, 0, 0, 1, 0x2f, 0x0a, 0xac, 0x02]);
        assert_eq!(content(&message(&[1; 300])), [1; 300]);
        assert_eq!(content(b"\0\0\0\0\x02\x08"), b"");
    }
}
