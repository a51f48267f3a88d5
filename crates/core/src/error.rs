//! The error model of the data plane: what failed, on whose side, and whether it may be tried again.
use crate::Reason;
use std::fmt;

/// On whose side an error arose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// The peer that sent the request.
    Caller,
    /// The endpoint the request was sent to.
    Endpoint,
    /// The sidecar itself, or its rules.
    Sidecar,
}

/// A failure on the request path, as one value that logs, metrics and replies are made from.
#[derive(Debug)]
pub struct Error {
    /// The stable code.
    pub reason: Reason,
    /// On whose side.
    pub source: Source,
    /// What exactly, for a person.
    pub detail: String,
}

impl Error {
    /// A new error; its source follows from the reason.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Error {
        let source = match reason {
            Reason::CallerGone | Reason::CallerProtocol | Reason::SlowCaller => Source::Caller,
            Reason::ConnectFailure | Reason::ConnectionLost | Reason::EndpointProtocol | Reason::Timeout => {
                Source::Endpoint
            }
            _ => Source::Sidecar,
        };
        Error { reason, source, detail: detail.into() }
    }

    /// Whether sending the request again is safe whatever it does.
    pub fn retryable(&self) -> bool {
        self.reason.not_processed()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason.describe(), self.detail)
    }
}

impl std::error::Error for Error {}
