//! Bodies: which bytes of a stream are data, and where they end.
use super::Framing;
use super::read::{self, Limits, Malformed, Parsed};
use crate::http::Fields;
use std::ops::Range;

/// Chunk headers longer than this are refused: nobody uses extensions, and they cost to skip.
const CHUNK_LINE_MOST: usize = 256;

/// What was found next in a body's bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// These bytes (a range of the ones given) are data.
    Data(Range<usize>),
    /// More bytes are needed.
    More,
    /// The body is over; with its trailers, if it had any.
    End(Option<Box<Fields>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Length(u64),
    ChunkHead,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    UntilClose,
    Over,
}

/// Finds the data in a body's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoder {
    state: State,
}

impl Decoder {
    /// For a body framed like that.
    pub fn new(framing: Framing) -> Decoder {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Over,
            Framing::Length(n) => State::Length(n),
            Framing::Chunked => State::ChunkHead,
            Framing::UntilClose => State::UntilClose,
        };
        Decoder { state }
    }

    /// Whether nothing of the body is to come.
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// Whether the connection's end is the body's.
    pub fn ends_with_connection(&self) -> bool {
        self.state == State::UntilClose
    }

    /// Looks at the next bytes. Returns how many were used and what they are; data is a range of `bytes`
    /// that ends where the used ones do.
    ///
    /// # Errors
    /// Chunks that are none.
    pub fn next(&mut self, bytes: &[u8], limits: &Limits) -> Result<(usize, Piece), Malformed> {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            match self.state {
                State::Over => return Ok((at, Piece::End(None))),
                State::UntilClose if rest.is_empty() => return Ok((at, Piece::More)),
                State::UntilClose => return Ok((bytes.len(), Piece::Data(at..bytes.len()))),
                State::Length(left) | State::ChunkData(left) => {
                    if rest.is_empty() {
                        return Ok((at, Piece::More));
                    }
                    let n = left.min(rest.len() as u64);
                    let chunk = matches!(self.state, State::ChunkData(_));
                    self.state = match (left - n, chunk) {
                        (0, true) => State::ChunkEnd,
                        (0, false) => State::Over,
                        (left, true) => State::ChunkData(left),
                        (left, false) => State::Length(left),
                    };
                    let end = at + n as usize;
                    return Ok((end, Piece::Data(at..end)));
                }
                State::ChunkHead => match chunk_head(rest)? {
                    None => return Ok((at, Piece::More)),
                    Some((used, size)) => {
                        at += used;
                        self.state = if size == 0 { State::Trailers } else { State::ChunkData(size) };
                    }
                },
                State::ChunkEnd => match rest {
                    [b'\r', b'\n', ..] => {
                        at += 2;
                        self.state = State::ChunkHead;
                    }
                    [] | [b'\r'] => return Ok((at, Piece::More)),
                    _ => return Err(bad("a chunk is longer than it says")),
                },
                State::Trailers => {
                    let mut fields = Fields::default();
                    match read::trailers(rest, limits, &mut fields)? {
                        Parsed::Incomplete => return Ok((at, Piece::More)),
                        Parsed::Head(used) => {
                            self.state = State::Over;
                            let fields = (!fields.is_empty()).then(|| Box::new(fields));
                            return Ok((at + used, Piece::End(fields)));
                        }
                    }
                }
            }
        }
    }
}

const fn bad(what: &'static str) -> Malformed {
    Malformed { status: 400, what }
}

/// Size line of a chunk: hexadecimal digits, an ignored extension, CRLF.
fn chunk_head(bytes: &[u8]) -> Result<Option<(usize, u64)>, Malformed> {
    let mut size: u64 = 0;
    let mut digits = 0;
    for &b in bytes {
        let Some(d) = char::from(b).to_digit(16) else { break };
        digits += 1;
        if digits > 15 {
            return Err(bad("a chunk's size is too large"));
        }
        size = size << 4 | u64::from(d);
    }
    let Some(&next) = bytes.get(digits) else { return Ok(None) };
    if digits == 0 {
        return Err(bad("a chunk's size is not a number"));
    }
    let rest = &bytes[digits..];
    match next {
        b'\r' => match rest.get(1) {
            None => Ok(None),
            Some(b'\n') => Ok(Some((digits + 2, size))),
            Some(_) => Err(bad("a chunk's size does not end as lines do")),
        },
        b';' => {
            let looked_at = &rest[..rest.len().min(CHUNK_LINE_MOST)];
            match looked_at.iter().position(|b| (*b < 0x20 && *b != b'\t') || *b == 0x7F) {
                Some(at) if rest[at] == b'\r' => match rest.get(at + 1) {
                    None => Ok(None),
                    Some(b'\n') => Ok(Some((digits + at + 2, size))),
                    Some(_) => Err(bad("a chunk's extension does not end as lines do")),
                },
                Some(_) => Err(bad("a chunk's extension holds a control character")),
                None if rest.len() < CHUNK_LINE_MOST => Ok(None),
                None => Err(bad("a chunk's extension is too long")),
            }
        }
        _ => Err(bad("a chunk's size is not a number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Decoded = (Vec<u8>, Option<Box<Fields>>, usize);

    fn decode(framing: Framing, bytes: &[u8], step: usize) -> Result<Decoded, Malformed> {
        let (mut d, mut data, mut at, mut have) = (Decoder::new(framing), Vec::new(), 0, 0);
        loop {
            let (used, piece) = d.next(&bytes[at..have], &Limits::default())?;
            match piece {
                Piece::Data(r) => data.extend_from_slice(&bytes[at..have][r]),
                Piece::End(t) => return Ok((data, t, at + used)),
                Piece::More if have == bytes.len() => return Ok((data, None, usize::MAX)),
                Piece::More => have = (have + step).min(bytes.len()),
            }
            at += used;
        }
    }

    #[test]
    fn chunks_are_found_however_the_bytes_are_cut() {
        let wire =
            b"5\r\nhello\r\n1;x=\"y\"\r\n \r\nA\r\n0123456789\r\n0\r\nX-Sum: 7\r\nHost: no\r\n\r\nNEXT";
        for step in 1..wire.len() {
            let (data, trailers, used) = decode(Framing::Chunked, wire, step).unwrap();
            assert_eq!(data, b"hello 0123456789");
            let trailers = trailers.unwrap();
            assert_eq!(trailers.get("x-sum"), Some(&b"7"[..]));
            assert_eq!(trailers.len(), 1, "what names a host may not come after the body");
            assert_eq!(&wire[used..], b"NEXT");
        }
    }

    #[test]
    fn chunks_that_two_readers_could_take_differently_are_refused() {
        for wire in [
            &b"5\nhello\r\n0\r\n\r\n"[..],
            b"+5\r\nhello\r\n0\r\n\r\n",
            b" 5\r\nhello\r\n0\r\n\r\n",
            b"5 \r\nhello\r\n0\r\n\r\n",
            b"0x5\r\nhello\r\n0\r\n\r\n",
            b"5\r\nhelloX\r\n0\r\n\r\n",
            b"5\r\nhello\n0\r\n\r\n",
            b"fffffffffffffffff\r\n",
            b"5;a\nb\r\nhello\r\n0\r\n\r\n",
            b"\r\n",
            b"0\r\n\n",
            b"0\r\na b: c\r\n\r\n",
        ] {
            assert!(
                decode(Framing::Chunked, wire, wire.len()).is_err(),
                "{:?}",
                String::from_utf8_lossy(wire)
            );
        }
    }

    #[test]
    fn a_length_ends_the_body_and_not_a_byte_later() {
        let (data, _, used) = decode(Framing::Length(3), b"abcdef", 2).unwrap();
        assert_eq!((&data[..], used), (&b"abc"[..], 3));
    }
}
