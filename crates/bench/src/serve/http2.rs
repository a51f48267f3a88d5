//! The server's end of an HTTP/2 connection: every request is answered with its own body, or one of a size.
use super::talk::{Replies, malformed, put_content};
use crate::http2::hpack::{self, NameAs};
use crate::http2::{Conn, END_HEADERS, END_STREAM, Event, HEADERS, PREFACE, Streams, Then, grpc, put_frame};
use std::borrow::Cow;
use std::io;

/// Bytes a client may send on a stream.
const STREAM_WINDOW: u32 = 64 << 20;
/// `:status: 200` in the static table.
const STATUS_200: u8 = 0x88;
const CONTENT_LENGTH: usize = 28;
const CONTENT_TYPE: usize = 31;
/// `grpc-status: 0`, written out.
const FINE: &[u8] = b"\x00\x0bgrpc-status\x010";
const GRPC_TYPE: &str = "application/grpc";

/// A request that is not all here, or a reply that is not all gone.
#[derive(Debug, Default)]
struct Request {
    body: Vec<u8>,
    /// Bytes the client takes on this stream beyond what every stream begins with.
    window: i64,
}

/// A connection.
#[derive(Debug, Default)]
pub(super) struct Http2 {
    conn: Conn,
    grpc: bool,
    greeted: bool,
    requests: Streams<Request>,
}

impl Http2 {
    pub(super) fn new(grpc: bool) -> Http2 {
        Http2 { grpc, ..Http2::default() }
    }

    pub(super) fn answer(
        &mut self,
        input: &[u8],
        size: Option<usize>,
        replies: &mut Replies,
    ) -> io::Result<usize> {
        let mut used = 0;
        if !self.greeted {
            let Some(preface) = input.get(..PREFACE.len()) else {
                return if PREFACE.starts_with(input) { Ok(0) } else { Err(malformed("no preface")) };
            };
            if preface != PREFACE {
                return Err(malformed("no preface"));
            }
            self.greeted = true;
            used = PREFACE.len();
            Conn::open(&mut replies.at_once, STREAM_WINDOW, false);
        }
        while let Some((bytes, event)) =
            self.conn.take_in(&input[used..], &mut replies.at_once).map_err(|e| malformed(e.0))?
        {
            used += bytes;
            if let Some(event) = event {
                self.on(event, size, &mut replies.later)?;
            }
        }
        self.conn.pump(&mut replies.later);
        Ok(used)
    }

    fn on(&mut self, event: Event<'_>, size: Option<usize>, out: &mut Vec<u8>) -> io::Result<()> {
        match event {
            // What the headers say does not matter to an echo, so they are not even decoded. Trailers are
            // headers too.
            Event::Headers { stream, end: false, .. } => {
                self.requests.entry(stream).or_default();
            }
            Event::Headers { stream, end: true, .. } => {
                let request = self.requests.remove(&stream).unwrap_or_default();
                self.reply(stream, request.window, &request.body, size, out);
            }
            Event::Data { stream, bytes, end } => {
                // Data may still be on its way for a stream that was reset.
                let Some(request) = self.requests.get_mut(&stream) else { return Ok(()) };
                if request.body.len() + bytes.len() > STREAM_WINDOW as usize {
                    return Err(malformed("more than the window"));
                }
                if !end {
                    request.body.extend_from_slice(bytes);
                    return Ok(());
                }
                let Request { mut body, window } = self.requests.remove(&stream).unwrap_or_default();
                if body.is_empty() {
                    // The usual case: one frame, no copy.
                    self.reply(stream, window, bytes, size, out);
                } else {
                    body.extend_from_slice(bytes);
                    self.reply(stream, window, &body, size, out);
                }
            }
            Event::Reset { stream } => {
                self.requests.remove(&stream);
                self.conn.sender.forget(stream);
            }
            Event::Window { stream, by } => match self.requests.get_mut(&stream) {
                Some(request) => request.window += i64::from(by),
                None => self.conn.sender.widen_stream(stream, by),
            },
            Event::GoAway { .. } => {}
        }
        Ok(())
    }

    fn reply(&mut self, stream: u32, window: i64, body: &[u8], size: Option<usize>, out: &mut Vec<u8>) {
        let body: Cow<'_, [u8]> = match size {
            None => Cow::Borrowed(body),
            Some(size) => {
                let mut sized = Vec::with_capacity(size);
                put_content(&mut sized, if self.grpc { grpc::content(body) } else { body }, size);
                Cow::Owned(if self.grpc { grpc::message(&sized) } else { sized })
            }
        };
        let mut head = vec![STATUS_200];
        if self.grpc {
            hpack::put_literal(&mut head, NameAs::Static(CONTENT_TYPE), GRPC_TYPE, false);
        } else {
            hpack::put_literal(&mut head, NameAs::Static(CONTENT_LENGTH), &body.len().to_string(), false);
        }
        let bare = body.is_empty() && !self.grpc;
        let flags = END_HEADERS | if bare { END_STREAM } else { 0 };
        put_frame(out, HEADERS, flags, stream, &head);
        if !bare {
            let then = if self.grpc { Then::Trailers(FINE) } else { Then::End };
            self.conn.send(out, stream, window, body, then);
        }
    }
}
