//! A connection of the generator: its socket, what it speaks, its requests.
use super::flight::InFlight;
use super::speak::Session;
use crate::stream::Stream;

/// A socket of the generator: not there, being made, or made.
pub(super) enum Link {
    /// To be tried again at a time (nanoseconds since the start).
    Down { retry_at: u64 },
    /// Connecting.
    Connecting(Stream),
    /// Connected.
    Up(Stream),
}

/// A connection.
pub(super) struct Connection<'a> {
    pub(super) link: Link,
    /// Before the next try after a loss, nanoseconds.
    pub(super) backoff: u64,
    pub(super) session: Box<dyn Session + 'a>,
    pub(super) flight: InFlight,
}

impl Connection<'_> {
    /// Whether it is to be made anew, at the peer's wish.
    pub(super) fn is_over(&self) -> bool {
        self.session.is_over() && self.flight.busy() == 0 && matches!(self.link, Link::Up(_))
    }
}
