//! The generator's own, minimal HTTP/2 framing (RFC 9113): what both ends of a connection have in common.
//!
//! [`Conn`] takes in frames, answers those that concern the connection (settings, pings, windows) and hands
//! on those that concern a stream. [`grpc`] is the envelope of a message.
pub(crate) mod grpc;
pub(crate) mod hpack;
mod huffman;
mod send;

pub(crate) use send::{Sender, Then};

use std::borrow::Cow;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// What a client's connection begins with.
pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes of a frame's head.
const HEAD: usize = 9;
/// Bytes of a frame that are taken, most: the protocol's default.
const MAX_FRAME: usize = 16_384;
/// Bytes the peer may send on the connection before it is told of more.
const RECEIVE_WINDOW: u32 = 1 << 30;
/// Received bytes after which it is told.
const ANNOUNCE: u32 = 1 << 20;
/// Bytes of a header block over several frames, most.
const MAX_BLOCK: usize = 256 << 10;

const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

/// The last frame of a stream's direction; for settings and pings, an acknowledgement.
pub(crate) const END_STREAM: u8 = 1;
const ACK: u8 = 1;
/// The last frame of a header block.
pub(crate) const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITISED: u8 = 0x20;

/// The error code that says the sender has no more use for the stream.
pub(crate) const CANCEL: u32 = 8;

/// The bytes are not HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// A frame that concerns streams.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// A piece of a body.
    Data { stream: u32, bytes: &'a [u8], end: bool },
    /// A whole header block.
    Headers { stream: u32, block: Cow<'a, [u8]>, end: bool },
    /// The stream is over, against the plan.
    Reset { stream: u32 },
    /// The peer takes no new streams; those above `last` it has not looked at.
    GoAway { last: u32 },
    /// More may be sent on a stream.
    Window { stream: u32, by: u32 },
}

/// A map by stream id. Ids are counted up, so there is no need to stir them much.
pub(crate) type Streams<T> = HashMap<u32, T, BuildHasherDefault<StreamHasher>>;

/// One multiplication.
#[derive(Default)]
pub(crate) struct StreamHasher(u64);

impl Hasher for StreamHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32(u32::from(*byte));
        }
    }

    fn write_u32(&mut self, n: u32) {
        self.0 = (self.0 ^ u64::from(n)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What the peer has said of itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerSettings {
    /// Streams it takes at once.
    pub(crate) max_streams: u32,
    /// Bytes of dynamic table it keeps.
    pub(crate) header_table: u32,
    initial_window: i64,
    max_frame: usize,
}

impl Default for PeerSettings {
    fn default() -> PeerSettings {
        PeerSettings {
            max_streams: u32::MAX,
            header_table: 4096,
            initial_window: 65_535,
            max_frame: MAX_FRAME,
        }
    }
}

/// One end of a connection.
#[derive(Debug, Default)]
pub(crate) struct Conn {
    pub(crate) peer: PeerSettings,
    /// Bodies on their way out.
    pub(crate) sender: Sender,
    /// Bytes received that the peer has not been told may be sent again.
    received: u32,
    /// A header block whose last frame has not come.
    block: Option<(u32, bool, Vec<u8>)>,
}

impl Conn {
    /// What this end begins with, behind a client's preface. `window` is what the peer may send on a stream.
    pub(crate) fn open(out: &mut Vec<u8>, window: u32, is_client: bool) {
        // A server has nothing to push that it could be told not to.
        let settings: &[(u16, u32)] = if is_client { &[(2, 0), (4, window)] } else { &[(4, window)] };
        put_head(out, settings.len() * 6, SETTINGS, 0, 0);
        for (id, value) in settings {
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
        put_window(out, 0, RECEIVE_WINDOW - 65_535);
    }

    /// Takes in one frame from the front of `input`: how many bytes it was, and what of it concerns streams.
    /// `None` while it is not whole. What is to be answered at once goes to `out`.
    #[allow(clippy::type_complexity)]
    pub(crate) fn take_in<'a>(
        &mut self,
        input: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<(usize, Option<Event<'a>>)>, Malformed> {
        let Some((head, rest)) = input.split_first_chunk::<HEAD>() else { return Ok(None) };
        let [l0, l1, l2, kind, flags, id @ ..] = *head;
        let length = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        if length > MAX_FRAME {
            return Err(Malformed("frame larger than was allowed"));
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let stream = u32::from_be_bytes(id) & 0x7fff_ffff;
        if self.block.is_some() && kind != CONTINUATION {
            return Err(Malformed("header block interrupted"));
        }
        let event = self.frame(kind, flags, stream, payload, out)?;
        Ok(Some((HEAD + length, event)))
    }

    fn frame<'a>(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &'a [u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Event<'a>>, Malformed> {
        let end = flags & END_STREAM != 0;
        match kind {
            DATA | HEADERS | RST_STREAM | CONTINUATION if stream == 0 => Err(Malformed("no stream")),
            DATA => {
                self.received += payload.len() as u32;
                if self.received >= ANNOUNCE {
                    put_window(out, 0, std::mem::take(&mut self.received));
                }
                Ok(Some(Event::Data { stream, bytes: unpadded(payload, flags)?, end }))
            }
            HEADERS => {
                let mut block = unpadded(payload, flags)?;
                if flags & PRIORITISED != 0 {
                    block = block.get(5..).ok_or(Malformed("priority cut short"))?;
                }
                if flags & END_HEADERS != 0 {
                    return Ok(Some(Event::Headers { stream, block: Cow::Borrowed(block), end }));
                }
                self.block = Some((stream, end, block.to_vec()));
                Ok(None)
            }
            CONTINUATION => {
                let (begun, end, mut block) = self.block.take().ok_or(Malformed("nothing to continue"))?;
                block.extend_from_slice(payload);
                if begun != stream || block.len() > MAX_BLOCK {
                    return Err(Malformed("header block of another stream, or without an end"));
                }
                if flags & END_HEADERS != 0 {
                    return Ok(Some(Event::Headers { stream, block: Cow::Owned(block), end }));
                }
                self.block = Some((stream, end, block));
                Ok(None)
            }
            RST_STREAM => Ok(Some(Event::Reset { stream })),
            SETTINGS if flags & ACK != 0 => Ok(None),
            SETTINGS => self.settings(payload, out),
            PING if flags & ACK != 0 => Ok(None),
            PING => {
                put_frame(out, PING, ACK, 0, payload);
                Ok(None)
            }
            GOAWAY => Ok(Some(Event::GoAway { last: u32_of(payload)? & 0x7fff_ffff })),
            WINDOW_UPDATE => {
                let by = u32_of(payload)? & 0x7fff_ffff;
                if stream != 0 {
                    return Ok(Some(Event::Window { stream, by }));
                }
                self.sender.widen(by);
                Ok(None)
            }
            PUSH_PROMISE => Err(Malformed("a push that was forbidden")),
            // Priorities say nothing here; frames of unknown types are to be ignored.
            _ => Ok(None),
        }
    }

    fn settings(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<Option<Event<'static>>, Malformed> {
        let (settings, []) = payload.as_chunks::<6>() else { return Err(Malformed("half a setting")) };
        for [i0, i1, value @ ..] in settings {
            let value = u32::from_be_bytes(*value);
            match u16::from_be_bytes([*i0, *i1]) {
                1 => self.peer.header_table = value,
                3 => self.peer.max_streams = value,
                4 => {
                    let before = std::mem::replace(&mut self.peer.initial_window, i64::from(value));
                    self.sender.shift_all(self.peer.initial_window - before);
                }
                5 => self.peer.max_frame = (value as usize).clamp(MAX_FRAME, 1 << 24),
                _ => {}
            }
        }
        put_head(out, 0, SETTINGS, ACK, 0);
        Ok(None)
    }

    /// Sends a body, or as much of it as the windows let; the rest goes when they do.
    pub(crate) fn send(
        &mut self,
        out: &mut Vec<u8>,
        stream: u32,
        window: i64,
        body: Cow<'_, [u8]>,
        then: Then,
    ) {
        self.sender.send(out, stream, self.peer.initial_window + window, body, then, self.peer.max_frame);
    }

    /// Sends what waited for a window.
    pub(crate) fn pump(&mut self, out: &mut Vec<u8>) {
        self.sender.pump(out, self.peer.max_frame);
    }
}

/// The payload without its padding.
fn unpadded(payload: &[u8], flags: u8) -> Result<&[u8], Malformed> {
    if flags & PADDED == 0 {
        return Ok(payload);
    }
    let (pad, rest) = payload.split_first().ok_or(Malformed("padding cut short"))?;
    let end = rest.len().checked_sub(usize::from(*pad)).ok_or(Malformed("more padding than frame"))?;
    Ok(&rest[..end])
}

fn u32_of(payload: &[u8]) -> Result<u32, Malformed> {
    payload.first_chunk().map(|b| u32::from_be_bytes(*b)).ok_or(Malformed("frame cut short"))
}

fn put_head(out: &mut Vec<u8>, length: usize, kind: u8, flags: u8, stream: u32) {
    out.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

/// Appends a frame.
pub(crate) fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    put_head(out, payload.len(), kind, flags, stream);
    out.extend_from_slice(payload);
}

/// Appends the end of a stream.
pub(crate) fn put_reset(out: &mut Vec<u8>, stream: u32, code: u32) {
    put_frame(out, RST_STREAM, 0, stream, &code.to_be_bytes());
}

fn put_window(out: &mut Vec<u8>, stream: u32, by: u32) {
    put_frame(out, WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        put_frame(&mut out, kind, flags, stream, payload);
        out
    }

    #[test]
    fn settings_and_pings_are_answered_and_windows_kept() {
        let (mut conn, mut out) = (Conn::default(), Vec::new());
        let settings = frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 7, 0, 4, 0, 0, 0, 9]);
        assert_eq!(conn.take_in(&settings, &mut out), Ok(Some((settings.len(), None))));
        assert_eq!((conn.peer.max_streams, conn.peer.initial_window), (7, 9));
        assert_eq!(out, frame(SETTINGS, ACK, 0, &[]));
        out.clear();
        conn.take_in(&frame(PING, 0, 0, b"12345678"), &mut out).unwrap();
        assert_eq!(out, frame(PING, ACK, 0, b"12345678"));
    }

    #[test]
    fn a_header_block_is_put_together_and_must_not_be_interrupted() {
        let (mut conn, mut out) = (Conn::default(), Vec::new());
        let first = frame(HEADERS, END_STREAM | PADDED | PRIORITISED, 1, &[2, 0, 0, 0, 0, 0, b'a', 9, 9]);
        assert_eq!(conn.take_in(&first, &mut out), Ok(Some((first.len(), None))));
        assert!(
            Conn { block: conn.block.clone(), ..Conn::default() }
                .take_in(&frame(DATA, 0, 1, b""), &mut out)
                .is_err()
        );
        let last = frame(CONTINUATION, END_HEADERS, 1, b"b");
        let (_, event) = conn.take_in(&last, &mut out).unwrap().unwrap();
        assert_eq!(event, Some(Event::Headers { stream: 1, block: Cow::Borrowed(b"ab"), end: true }));
    }

    #[test]
    fn what_is_received_is_given_back_before_the_window_is_empty() {
        let (mut conn, mut out) = (Conn::default(), Vec::new());
        let data = frame(DATA, 0, 1, &[0; MAX_FRAME]);
        for _ in 0..64 {
            conn.take_in(&data, &mut out).unwrap();
        }
        assert_eq!(out, frame(WINDOW_UPDATE, 0, 0, &(1_u32 << 20).to_be_bytes()));
        assert!(conn.take_in(&frame(DATA, 0, 1, &vec![0; MAX_FRAME + 1]), &mut out).is_err());
    }
}
