//! The sidecar's own replies to requests it does not forward.
use super::head::Head;
use super::{CLASS_RESPONSE, HEADER_REASON, HEADER_RULE, encode};
use raddle_core::Reason;

/// What a reply of the sidecar's own says.
#[derive(Clone, Copy, Debug)]
pub struct Reply<'a> {
    /// Why.
    pub reason: Reason,
    /// The rule that caused it, if one did.
    pub rule: Option<&'a str>,
    /// What exactly, for a person.
    pub detail: &'a str,
}

/// Appends the reply to `request`.
pub fn reply(out: &mut Vec<u8>, request: &Head, reply: &Reply<'_>) {
    let mut headers: [(&[u8], &[u8]); 2] = [(HEADER_REASON, reply.reason.flag().as_bytes()), (b"", b"")];
    let headers = match reply.rule {
        Some(rule) => {
            headers[1] = (HEADER_RULE, rule.as_bytes());
            &headers[..]
        }
        None => &headers[..1],
    };
    let status = reply.reason.bolt_status();
    encode::response(out, request.variant, request.id, request.codec, status, CLASS_RESPONSE, headers, b"");
}
