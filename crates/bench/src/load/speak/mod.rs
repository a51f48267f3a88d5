//! The generator's end of a connection, protocol by protocol.
mod bolt;
mod dubbo;
mod http1;
mod http2;
mod tcp;

use super::LoadOptions;
use super::flight::{InFlight, Outcome, Recorder};
use crate::{Protocol, token};
use std::io;

/// The peer's bytes make no sense: the connection must go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Broken;

/// Whether a connection is of use after a request on it was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// A late reply will be told from others.
    GoOn,
    /// It would not.
    Close,
}

/// What one connection speaks.
pub(super) trait Session {
    /// The connection is new: forgets the one before, and appends what it begins with.
    fn open(&mut self, _out: &mut Vec<u8>) {}

    /// Appends every request that may be sent now.
    fn fill(&mut self, out: &mut Vec<u8>, flight: &mut InFlight, rec: &Recorder, now: u64);

    /// Takes in what is whole of `input`; returns how many bytes it was. What must be answered goes to `out`.
    fn take_in(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        flight: &mut InFlight,
        rec: &mut Recorder,
        now: u64,
    ) -> Result<usize, Broken>;

    /// These requests are given up.
    fn give_up(&mut self, _ids: &[u32], _out: &mut Vec<u8>) -> After {
        After::GoOn
    }

    /// Whether the peer wants the connection to end once nothing is in flight on it.
    fn is_over(&self) -> bool {
        false
    }
}

/// Makes a connection's end; a template is shared by all of them.
pub(super) trait Speaker: Send + Sync {
    fn session(&self) -> Box<dyn Session + '_>;
}

/// What the options ask for.
///
/// # Errors
/// When a name does not fit the protocol.
pub(super) fn speaker(opts: &LoadOptions) -> io::Result<Box<dyn Speaker>> {
    let names = [opts.service(), &opts.method].into_iter();
    let headers = opts.headers.iter().flat_map(|(k, v)| [k.as_str(), v.as_str()]);
    let printable = |text: &str| text.bytes().all(|b| matches!(b, b' '..=b'~'));
    if opts.protocol != Protocol::Bolt && !names.chain(headers).all(printable) {
        return Err(invalid("service, method and headers must be of printable ASCII characters"));
    }
    Ok(match opts.protocol {
        Protocol::Bolt => Box::new(bolt::Speaker::new(opts)?),
        Protocol::Dubbo => Box::new(dubbo::Speaker::new(opts)),
        Protocol::Http => Box::new(http1::Speaker::new(opts)),
        Protocol::Http2 | Protocol::Grpc => Box::new(http2::Speaker::new(opts)),
        Protocol::Tcp => Box::new(tcp::Speaker::new(opts)),
    })
}

fn invalid(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// What a reply's content is checked against.
#[derive(Clone, Copy, Debug)]
struct Expect {
    /// Whether it must be the request's own.
    echo: bool,
    /// How long it must be.
    length: usize,
    /// Bytes of the token that fitted into the request.
    token: usize,
}

impl Expect {
    fn new(opts: &LoadOptions) -> Expect {
        Expect {
            echo: opts.check_echo,
            length: opts.reply_size.unwrap_or(opts.size),
            token: opts.size.min(8),
        }
    }

    /// Judges a content of `length` that begins with `start`; `sent` is the request's token.
    ///
    /// A request that is no longer in flight has none: then it does not matter.
    fn judge(self, length: usize, start: &[u8], sent: Option<u64>) -> Outcome {
        let start = &start[..start.len().min(self.token)];
        let own = length == self.length && sent.is_none_or(|sent| token::begins(start, sent));
        if !self.echo || own { Outcome::Good } else { Outcome::Mismatch }
    }
}

/// A content of `size` bytes: a pattern, so that a proxy that shifts or mixes content is seen in a dump.
fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|i| b'a' + (i % 26) as u8).collect()
}
