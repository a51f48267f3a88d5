//! Requests that did not end well, by kind.
use serde::Serialize;
use std::collections::BTreeMap;

/// Failures of a run. All but the last four count requests; those count events.
///
/// A status is that of the protocol: Bolt's or Dubbo's number, or that of HTTP. For gRPC it is `grpc-status`,
/// or that of HTTP (from 100 up) if it was not 200.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Failures {
    /// Replies with a status other than success, by number.
    pub status: BTreeMap<u16, u64>,
    /// Replies that carry an exception of the callee (Dubbo).
    pub exception: u64,
    /// Streams the peer reset, or did not look at before it said goodbye (HTTP/2, gRPC).
    pub reset: u64,
    /// In flight on a connection that was lost.
    pub connection_lost: u64,
    /// Not answered in time.
    pub timeout: u64,
    /// Answered with a content that is not the request's own, or has a wrong length.
    pub mismatch: u64,
    /// Due, but never sent before the end (open loop).
    pub unsent: u64,
    /// Replies to no request in flight.
    pub wrong_id: u64,
    /// Replies that came after their request had timed out.
    pub late: u64,
    /// Times the peer sent bytes that are not the protocol; the connection is closed then.
    pub malformed: u64,
    /// Times a connection could not be made, or was lost and made again.
    pub reconnects: u64,
}

impl Failures {
    /// Failed requests, and replies that answer nothing.
    pub fn total(&self) -> u64 {
        self.status.values().sum::<u64>()
            + self.exception
            + self.reset
            + self.connection_lost
            + self.timeout
            + self.mismatch
            + self.unsent
            + self.wrong_id
    }

    /// Adds another thread's failures.
    pub(super) fn add(&mut self, other: &Failures) {
        for (status, n) in &other.status {
            *self.status.entry(*status).or_default() += n;
        }
        self.exception += other.exception;
        self.reset += other.reset;
        self.connection_lost += other.connection_lost;
        self.timeout += other.timeout;
        self.mismatch += other.mismatch;
        self.unsent += other.unsent;
        self.wrong_id += other.wrong_id;
        self.late += other.late;
        self.malformed += other.malformed;
        self.reconnects += other.reconnects;
    }

    /// The kinds that happened, as `(name, count)`.
    pub fn kinds(&self) -> Vec<(String, u64)> {
        let status = self.status.iter().map(|(s, n)| (format!("status {s}"), *n));
        let rest = [
            ("exception", self.exception),
            ("reset", self.reset),
            ("connection lost", self.connection_lost),
            ("timeout", self.timeout),
            ("mismatch", self.mismatch),
            ("unsent", self.unsent),
            ("wrong id", self.wrong_id),
            ("late reply", self.late),
            ("malformed", self.malformed),
            ("reconnect", self.reconnects),
        ];
        status.chain(rest.map(|(k, n)| (k.to_owned(), n))).filter(|(_, n)| *n > 0).collect()
    }
}
