//! All cases.
mod connection;
mod frames;
mod generic;
mod hpack;
mod messages;
mod more;
mod streams;

use crate::case::Case;

/// Every case, in h2spec's order.
pub(crate) fn all() -> impl Iterator<Item = Case> {
    generic::cases()
        .into_iter()
        .chain(connection::cases())
        .chain(streams::cases())
        .chain(frames::cases())
        .chain(messages::cases())
        .chain(hpack::cases())
        .chain(more::cases())
}

/// A case on a connection that is set up.
fn case(
    name: &'static str,
    what: &'static str,
    want: crate::case::Want,
    send: fn(&mut crate::Ctx) -> Result<(), String>,
) -> Case {
    Case { name, what, want, greet: true, send }
}

/// A case on a connection on which nothing was said.
fn bare(
    name: &'static str,
    what: &'static str,
    want: crate::case::Want,
    send: fn(&mut crate::Ctx) -> Result<(), String>,
) -> Case {
    Case { name, what, want, greet: false, send }
}

/// Nothing went wrong while sending; what failed to be written is judged by what comes back.
const SENT: Result<(), String> = Ok(());
