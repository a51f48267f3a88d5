//! What is answered, protocol by protocol: bytes of a connection in, replies out.
use super::http2::Http2;
use crate::bolt::{self, Head, Kind};
use crate::burn::{self, Pool, message};
use crate::{Protocol, dubbo, http1};
use std::io;
use std::sync::Arc;

/// What was made of a connection's bytes.
#[derive(Debug, Default)]
pub(super) struct Replies {
    /// Sent without delay: what keeps the connection alive.
    pub(super) at_once: Vec<u8>,
    /// Replies to requests: held back if a delay is asked for.
    pub(super) later: Vec<u8>,
    /// Whether the connection ends when all of it is sent.
    pub(super) close: bool,
    /// What an app that works is asked for; whether its connection ends then.
    pub(super) asked: Option<(Asked, bool)>,
}

/// What an app that works can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// One of its interfaces.
    Interface(usize),
    /// How busy it is.
    Load,
}

impl Replies {
    pub(super) fn clear(&mut self) {
        self.at_once.clear();
        self.later.clear();
        self.close = false;
        self.asked = None;
    }
}

/// A connection's end of a protocol.
pub(super) enum Talk {
    /// These have nothing to remember between two frames.
    Frames(fn(&[u8], Option<usize>, &mut Replies) -> io::Result<usize>),
    Http2(Box<Http2>),
    /// HTTP/1.1 to an app that works.
    Burn(Arc<Pool>),
}

impl Talk {
    pub(super) fn burning(pool: Arc<Pool>) -> Talk {
        Talk::Burn(pool)
    }

    pub(super) fn new(protocol: Protocol) -> Talk {
        match protocol {
            Protocol::Bolt => Talk::Frames(bolt),
            Protocol::Dubbo => Talk::Frames(dubbo),
            Protocol::Http => Talk::Frames(http1),
            Protocol::Tcp => Talk::Frames(tcp),
            Protocol::Http2 | Protocol::Grpc => Talk::Http2(Box::new(Http2::new(protocol == Protocol::Grpc))),
        }
    }

    /// Answers the whole frames in `input` with `size` content bytes, or their own; returns how many bytes
    /// they were. An error means that the connection must go.
    pub(super) fn answer(
        &mut self,
        input: &[u8],
        size: Option<usize>,
        replies: &mut Replies,
    ) -> io::Result<usize> {
        match self {
            Talk::Frames(answer) => answer(input, size, replies),
            Talk::Http2(http2) => http2.answer(input, size, replies),
            Talk::Burn(pool) => ask(pool, input, replies),
        }
    }
}

/// The connection must go.
pub(super) fn malformed(what: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn tcp(input: &[u8], _: Option<usize>, replies: &mut Replies) -> io::Result<usize> {
    replies.later.extend_from_slice(input);
    Ok(input.len())
}

fn bolt(input: &[u8], size: Option<usize>, replies: &mut Replies) -> io::Result<usize> {
    let mut used = 0;
    while let Some(head) = Head::parse(&input[used..]).map_err(malformed)? {
        let Some(frame) = input.get(used..used + head.total()) else { break };
        used += frame.len();
        if !bolt::checksum_ok(&head, frame) {
            return Err(malformed(bolt::Malformed("wrong checksum")));
        }
        if head.kind == Kind::Request {
            let out = if head.command == 0 { &mut replies.at_once } else { &mut replies.later };
            bolt::write_reply(out, &head, frame, size);
        }
    }
    Ok(used)
}

fn dubbo(input: &[u8], size: Option<usize>, replies: &mut Replies) -> io::Result<usize> {
    let mut used = 0;
    while let Some(head) = dubbo::Head::parse(&input[used..]).map_err(malformed)? {
        let Some(frame) = input.get(used..used + head.total()) else { break };
        used += frame.len();
        if head.is_request() && head.wants_reply() {
            let out = if head.is_event() { &mut replies.at_once } else { &mut replies.later };
            dubbo::write_reply(out, &head, frame, size);
        }
    }
    Ok(used)
}

fn http1(input: &[u8], size: Option<usize>, replies: &mut Replies) -> io::Result<usize> {
    let mut used = 0;
    while !replies.close {
        let rest = &input[used..];
        let Some(message) = http1::message(rest).map_err(|e| malformed(e.0))? else {
            let waits = http1::Head::parse(rest)
                .map_err(|e| malformed(e.0))?
                .is_some_and(|h| h.is_all(rest) && h.waits);
            if waits {
                replies.at_once.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            break;
        };
        used += message.total;
        let length = size.unwrap_or(message.body.len());
        let out = &mut replies.later;
        out.extend_from_slice(
            b"HTTP/1.1 200 OK\r\nserver: raddle-bench\r\ncontent-type: application/octet-stream\r\n",
        );
        if message.head.close {
            out.extend_from_slice(b"connection: close\r\n");
            replies.close = true;
        }
        out.extend_from_slice(b"content-length: ");
        out.extend_from_slice(length.to_string().as_bytes());
        out.extend_from_slice(b"\r\n\r\n");
        put_content(out, &message.body, length);
    }
    Ok(used)
}

/// Reads one request to an app that works. A client must wait for a reply before it asks again.
fn ask(pool: &Pool, input: &[u8], replies: &mut Replies) -> io::Result<usize> {
    let Some(message_in) = http1::message(input).map_err(|e| malformed(e.0))? else { return Ok(0) };
    let (used, close) = (message_in.total, message_in.head.close);
    if used < input.len() {
        return Err(malformed("requests before the last one was answered"));
    }
    let target = http1::target(input).unwrap_or_default();
    let asked = match target {
        "/load" => Some(Asked::Load),
        _ => burn::interface(&pool.menu, target).map(Asked::Interface),
    };
    match asked {
        Some(asked) => replies.asked = Some((asked, close)),
        None => {
            let text = "no such interface; there are /cart/get, /cart/list, ... and /load\n";
            replies.later.extend(message("404 Not Found", "text/plain", "", text));
            replies.close |= close;
        }
    }
    Ok(used)
}

/// Appends `body`, cut or filled up to `length`.
pub(super) fn put_content(out: &mut Vec<u8>, body: &[u8], length: usize) {
    out.extend_from_slice(&body[..length.min(body.len())]);
    out.resize(out.len() + length.saturating_sub(body.len()), b'x');
}
