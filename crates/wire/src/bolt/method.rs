//! The method a request calls.
use super::head::{Command, Head, Kind};
use super::{CODEC_HESSIAN, HEADER_METHOD};
use crate::hessian::{self, Peek};

/// Bytes of content looked at for a method name, at most.
pub const PEEK_MAX: usize = 2048;

/// The outcome of looking for a method name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method<'a> {
    /// It is this.
    Found(&'a [u8]),
    /// More of the frame has to arrive to tell.
    NeedMore,
    /// The frame does not say, or not within [`PEEK_MAX`] bytes of content.
    Unknown,
}

/// The method that a request calls. `frame` begins with `head`'s frame and may be cut anywhere.
///
/// Java SOFARPC writes it to the header map; Node's SOFARPC does so with protobuf only and has it, with
/// Hessian, inside the serialised `SofaRequest`, which is peeked into without allocating.
pub fn method<'a>(head: &Head, frame: &'a [u8]) -> Method<'a> {
    if head.kind == Kind::Response || head.command != Command::Request {
        return Method::Unknown;
    }
    if frame.len() < head.head_len() {
        return Method::NeedMore;
    }
    if let Some(name) = head.headers(frame).get(HEADER_METHOD) {
        return Method::Found(name);
    }
    if head.codec != CODEC_HESSIAN {
        return Method::Unknown;
    }
    let content = head.content(frame);
    let window = &content[..content.len().min(PEEK_MAX)];
    match hessian::draft::request_method(window) {
        Peek::Found(name) => Method::Found(name),
        Peek::Cut if window.len() < PEEK_MAX.min(head.content_len as usize) => Method::NeedMore,
        Peek::Cut | Peek::Absent => Method::Unknown,
    }
}
