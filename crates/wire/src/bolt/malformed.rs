//! What is no frame.
use std::fmt;

/// What is wrong with a frame; its name is stable, for metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MalformedKind {
    /// The first byte is neither 1 nor 2.
    UnknownProtocol,
    /// Version 2's inner version is neither 1 nor 2.
    UnknownVersion,
    /// The type byte is none of 0, 1, 2.
    UnknownType,
    /// The header map is over [`super::Limits::max_header`].
    HeaderTooLarge,
    /// The frame is over [`super::Limits::max_frame`].
    FrameTooLarge,
}

impl MalformedKind {
    /// Every kind, in declaration order.
    pub const ALL: [MalformedKind; 5] = [
        MalformedKind::UnknownProtocol,
        MalformedKind::UnknownVersion,
        MalformedKind::UnknownType,
        MalformedKind::HeaderTooLarge,
        MalformedKind::FrameTooLarge,
    ];

    /// The stable name in metric labels.
    pub const fn name(self) -> &'static str {
        match self {
            MalformedKind::UnknownProtocol => "unknown_protocol",
            MalformedKind::UnknownVersion => "unknown_version",
            MalformedKind::UnknownType => "unknown_type",
            MalformedKind::HeaderTooLarge => "header_too_large",
            MalformedKind::FrameTooLarge => "frame_too_large",
        }
    }
}

/// Bytes that are no Bolt frame, or one over the limits. The connection cannot be read on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong.
    pub reason: MalformedKind,
    /// The number found where another was expected.
    pub found: u32,
}

impl Malformed {
    pub(super) const fn new(reason: MalformedKind, found: u32) -> Malformed {
        Malformed { reason, found }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = self.found;
        match self.reason {
            MalformedKind::UnknownProtocol => {
                write!(f, "first byte {found:#04x} is neither Bolt 1 nor Bolt 2")
            }
            MalformedKind::UnknownVersion => write!(f, "Bolt 2 version {found} is neither 1 nor 2"),
            MalformedKind::UnknownType => {
                write!(f, "type byte {found} is none of 0 (response), 1 (request), 2 (one-way)")
            }
            MalformedKind::HeaderTooLarge => write!(f, "header map of {found} bytes is over the limit"),
            MalformedKind::FrameTooLarge => {
                write!(f, "frame with {found} bytes of content is over the limit")
            }
        }
    }
}

impl std::error::Error for Malformed {}
