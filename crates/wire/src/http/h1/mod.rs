//! HTTP/1.x on the wire (RFC 9112): heads in [`read`], bodies in [`body`], and [`mod@write`].
//!
//! Strict on purpose. What a lenient reader repairs is what request smuggling lives on: bare line feeds,
//! folded lines, two lengths, a length beside chunks. All of it is refused here, with the sentence that goes
//! into the answer.
pub mod body;
pub mod read;
pub mod write;

pub use body::{Decoder, Piece};
pub use read::{Limits, Malformed, Parsed, ReadRequest, ReadResponse, request, response};

/// The part of a message that follows its head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Framing {
    /// No body.
    #[default]
    None,
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
    /// Everything until the connection ends (responses only).
    UntilClose,
}

impl Framing {
    /// Whether there is nothing to come.
    pub fn is_empty(self) -> bool {
        matches!(self, Framing::None | Framing::Length(0))
    }
}

#[cfg(test)]
mod tests;
