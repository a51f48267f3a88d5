//! What is no frame.
use std::fmt;

/// What is wrong with a frame; its name is stable, for metrics, and Bolt's where it is the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MalformedKind {
    /// The first two bytes are not `DA BB`.
    UnknownProtocol,
    /// The frame is over [`super::Limits::max_frame`].
    FrameTooLarge,
}

impl MalformedKind {
    /// Every kind, in declaration order.
    pub const ALL: [MalformedKind; 2] = [MalformedKind::UnknownProtocol, MalformedKind::FrameTooLarge];

    /// The stable name in metric labels.
    pub const fn name(self) -> &'static str {
        match self {
            MalformedKind::UnknownProtocol => "unknown_protocol",
            MalformedKind::FrameTooLarge => "frame_too_large",
        }
    }
}

/// Bytes that are no Dubbo frame, or one over the limits. The connection cannot be read on.
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
                write!(f, "byte {found:#04x} is none of Dubbo's magic, 0xda 0xbb")
            }
            MalformedKind::FrameTooLarge => write!(f, "frame with {found} bytes of body is over the limit"),
        }
    }
}

impl std::error::Error for Malformed {}
