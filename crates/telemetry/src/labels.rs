//! The closed lists of label values metrics are told apart by.
use crate::cell::Label;
use raddle_core::{Protocol, Reason};
use std::io;

/// Declares an enum as a metric label: `Variant = "value", "what it means";`.
macro_rules! label {
    ($(#[$meta:meta])* $name:ident($key:literal) { $($variant:ident = $text:literal, $doc:literal;)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { $( #[doc = $doc] $variant, )* }

        impl $name {
            /// Every value, in declaration order.
            pub const ALL: &'static [$name] = &[$($name::$variant),*];
            /// The number of values.
            pub const COUNT: usize = Self::ALL.len();

            /// The label's text.
            pub const fn name(self) -> &'static str {
                match self { $( $name::$variant => $text, )* }
            }

            /// What the value means, for the reference.
            pub const fn describe(self) -> &'static str {
                match self { $( $name::$variant => $doc, )* }
            }
        }

        impl Label for $name {
            const KEY: &'static str = $key;
            fn all() -> &'static [$name] { Self::ALL }
            fn index(self) -> usize { self as usize }
            fn name(self) -> &'static str { $name::name(self) }
        }
    };
}

label! {
    /// Which way a request goes, seen from the app beside the sidecar.
    Direction("direction") {
        Inbound = "inbound", "To the app beside the sidecar.";
        Outbound = "outbound", "From the app beside the sidecar.";
    }
}

label! {
    /// What was wrong with bytes that are not their protocol.
    Malformed("reason") {
        UnknownProtocol = "unknown_protocol", "The first bytes are of no protocol the listener speaks.";
        BadMagic = "bad_magic", "A frame does not start as its protocol's frames do.";
        BadVersion = "bad_version", "A version number the protocol does not have.";
        BadType = "bad_type", "A frame type or command the protocol does not have, or not in this place.";
        BadLength = "bad_length", "Lengths that contradict each other, or a negative one.";
        TooLarge = "too_large", "A frame over the frame cap.";
        HeaderTooLarge = "header_too_large", "A frame's header part over the header cap.";
        BadHeader = "bad_header", "A header map or attachments that do not parse.";
        BadBody = "bad_body", "A body that does not parse where it has to be read.";
        BadChecksum = "bad_checksum", "The frame's checksum is not that of its bytes.";
        Truncated = "truncated", "The connection ended inside a frame.";
        SlowFrame = "slow_frame", "A frame that did not come whole in time.";
        DuplicateId = "duplicate_id", "A request id that is in use on the same connection.";
        Other = "other", "Anything else.";
    }
}

label! {
    /// Why `accept` failed.
    AcceptError("kind") {
        Emfile = "emfile", "The process has no file descriptor left.";
        Enfile = "enfile", "The system has no file descriptor left.";
        NoMemory = "no_memory", "The kernel has no memory for another socket.";
        Aborted = "aborted", "The caller went away before the connection was accepted.";
        OverLimit = "over_limit", "The listener's own bound on connections is reached.";
        Other = "other", "Anything else.";
    }
}

impl AcceptError {
    /// The kind of an error `accept` returned (accept(2)).
    pub fn of(error: &io::Error) -> AcceptError {
        match error.raw_os_error() {
            Some(24) => AcceptError::Emfile,
            Some(23) => AcceptError::Enfile,
            Some(12 | 105) => AcceptError::NoMemory,
            Some(71 | 103) => AcceptError::Aborted,
            _ => AcceptError::Other,
        }
    }
}

label! {
    /// Why no connection to an endpoint could be made.
    ConnectError("kind") {
        Refused = "refused", "Nothing listens on the endpoint's port.";
        TimedOut = "timed_out", "No answer within the connect timeout.";
        Unreachable = "unreachable", "The network or host cannot be reached.";
        NoResources = "no_resources", "No descriptor, memory or local port is left on this machine.";
        Handshake = "handshake", "The TLS handshake failed.";
        Other = "other", "Anything else.";
    }
}

impl ConnectError {
    /// The kind of an error `connect` returned (connect(2)).
    pub fn of(error: &io::Error) -> ConnectError {
        match error.raw_os_error() {
            Some(111) => ConnectError::Refused,
            Some(110) => ConnectError::TimedOut,
            Some(100 | 101 | 112 | 113) => ConnectError::Unreachable,
            Some(11 | 12 | 23 | 24 | 99 | 105) => ConnectError::NoResources,
            _ if error.kind() == io::ErrorKind::TimedOut => ConnectError::TimedOut,
            _ if error.kind() == io::ErrorKind::ConnectionRefused => ConnectError::Refused,
            _ => ConnectError::Other,
        }
    }
}

label! {
    /// Why a link to an endpoint could not be encrypted.
    LinkFailure("cause") {
        NoIdentity = "no_identity", "The sidecar has no certificate of its own.";
        Refused = "refused", "The other end refused the handshake, or closed in the middle of it.";
        Untrusted = "untrusted", "The other end's certificate does not lead to the roots in force.";
        Expired = "expired", "The other end's certificate is not valid at this time.";
        WrongPeer = "wrong_peer", "The other end's certificate is good and somebody else's.";
        NotTls = "not_tls", "The other end does not speak TLS.";
        Timeout = "timeout", "The handshake was not over in time.";
        Other = "other", "Anything else.";
    }
}

label! {
    /// Why an access-log line was lost.
    DropCause("cause") {
        Backlog = "backlog", "The writer could not keep up with the worker.";
        Stopped = "stopped", "The log was stopped before the line was handed over.";
        WriteError = "write_error", "The target failed, or is being left alone after it failed.";
    }
}

label! {
    /// How writing the access log failed.
    WriteError("kind") {
        Enospc = "enospc", "No space is left on the device, or the quota is used up.";
        Eio = "eio", "The device failed.";
        Epipe = "epipe", "Nobody reads the pipe any more.";
        Open = "open", "The file could not be opened.";
        Other = "other", "Anything else.";
    }
}

impl WriteError {
    /// The kind of an error `write` returned (write(2)).
    pub fn of(error: &io::Error) -> WriteError {
        match error.raw_os_error() {
            Some(28 | 122) => WriteError::Enospc,
            Some(5) => WriteError::Eio,
            Some(32) => WriteError::Epipe,
            _ => WriteError::Other,
        }
    }
}

impl Label for Reason {
    const KEY: &'static str = "reason";
    /// A service rejects for a few reasons in its life; the others would be most of a scrape.
    const SPARSE: bool = true;

    fn all() -> &'static [Reason] {
        &Reason::ALL
    }

    fn index(self) -> usize {
        self as usize
    }

    fn name(self) -> &'static str {
        self.flag()
    }
}

impl Label for Protocol {
    const KEY: &'static str = "protocol";

    fn all() -> &'static [Protocol] {
        &Protocol::ALL
    }

    fn index(self) -> usize {
        self as usize
    }

    fn name(self) -> &'static str {
        Protocol::name(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consistent<K: Label>() {
        for (i, value) in K::all().iter().enumerate() {
            assert_eq!(value.index(), i);
        }
        let mut names: Vec<_> = K::all().iter().map(|v| v.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), K::all().len(), "{} has a value twice", K::KEY);
    }

    #[test]
    fn every_label_has_distinct_values_in_index_order() {
        consistent::<Direction>();
        consistent::<Malformed>();
        consistent::<AcceptError>();
        consistent::<ConnectError>();
        consistent::<DropCause>();
        consistent::<WriteError>();
        consistent::<Reason>();
        consistent::<Protocol>();
    }

    #[test]
    fn kernel_errors_are_told_apart() {
        assert_eq!(AcceptError::of(&io::Error::from_raw_os_error(24)), AcceptError::Emfile);
        assert_eq!(ConnectError::of(&io::Error::from_raw_os_error(111)), ConnectError::Refused);
        assert_eq!(WriteError::of(&io::Error::from_raw_os_error(28)), WriteError::Enospc);
    }
}
