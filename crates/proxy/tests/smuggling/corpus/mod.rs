//! The corpus.
mod bodies;
mod fields;
mod lines;
mod replies;

pub(crate) use replies::{Reply, Told, replies};

/// One request, or several on one connection.
pub(crate) struct Case {
    /// Its name.
    pub(crate) name: String,
    /// Its bytes. What follows a refused message on the connection is added by the test.
    pub(crate) bytes: Vec<u8>,
    /// What becomes of it.
    pub(crate) want: Want,
}

/// What becomes of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Refused with one of these statuses; the connection is closed and nothing passed on.
    Refused(Vec<u16>),
    /// Passed on as these heads and bodies, each answered with 200.
    Passed(Vec<(String, Vec<u8>)>),
    /// Refused like the first or passed on like the second: both are right.
    Either(Vec<u16>, Vec<(String, Vec<u8>)>),
    /// Its head may be passed on; it never becomes whole there, and the connection is closed.
    Cut,
}

impl Want {
    /// For the page.
    pub(crate) fn text(&self) -> String {
        let statuses = |s: &[u16]| s.iter().map(u16::to_string).collect::<Vec<_>>().join(" or ");
        match self {
            Want::Refused(s) => format!("{}, closed", statuses(s)),
            Want::Passed(p) if p.len() > 1 => format!("{} requests in canonical form", p.len()),
            Want::Passed(_) => "canonical form".into(),
            Want::Either(s, _) => format!("canonical form, or {}, closed", statuses(s)),
            Want::Cut => "cut: never whole behind, closed".into(),
        }
    }
}

/// Every request.
pub(crate) fn requests() -> Vec<Case> {
    let mut all = lines::cases();
    all.extend(fields::cases());
    all.extend(bodies::framing());
    all.extend(bodies::chunks());
    all.extend(bodies::pipelines());
    all
}

pub(crate) fn refused(name: &str, bytes: impl AsRef<[u8]>) -> Case {
    refused_as(name, bytes, &[400])
}

pub(crate) fn refused_as(name: &str, bytes: impl AsRef<[u8]>, statuses: &[u16]) -> Case {
    Case { name: name.into(), bytes: bytes.as_ref().to_vec(), want: Want::Refused(statuses.to_vec()) }
}

/// Passed on with these lines (without the empty one) and this body.
pub(crate) fn passed(name: &str, bytes: impl AsRef<[u8]>, head: &str, body: &str) -> Case {
    Case { name: name.into(), bytes: bytes.as_ref().to_vec(), want: Want::Passed(vec![whole(head, body)]) }
}

pub(crate) fn whole(head: &str, body: &str) -> (String, Vec<u8>) {
    (format!("{}\r\n\r\n", head.replace('\n', "\r\n")), body.as_bytes().to_vec())
}

/// A head from lines, with the empty one.
pub(crate) fn lines(text: &str) -> Vec<u8> {
    format!("{}\r\n\r\n", text.replace('\n', "\r\n")).into_bytes()
}
