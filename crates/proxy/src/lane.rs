//! What a pooled upstream connection carries. Requests share a connection only within a lane.
use raddle_core::{Protocol, Reason};
use raddle_wire::bolt::Variant;
use std::fmt;

/// The frames or exchanges that one upstream connection carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Bolt in one variant: a server answers in the version its connection began with.
    Bolt(Variant),
    /// Dubbo 2.
    Dubbo,
    /// HTTP/1.1: one exchange at a time.
    Http1,
    /// HTTP/2, and gRPC over it.
    Http2,
}

impl Lane {
    /// The protocol, as logs and views name it.
    pub const fn protocol(self) -> Protocol {
        match self {
            Lane::Bolt(_) => Protocol::Bolt,
            Lane::Dubbo => Protocol::Dubbo,
            Lane::Http1 => Protocol::Http,
            Lane::Http2 => Protocol::Http2,
        }
    }

    /// The status by which a reply of this lane carries a reason.
    pub const fn status_of(self, reason: Reason) -> u16 {
        match self {
            Lane::Bolt(_) => reason.bolt_status(),
            Lane::Dubbo => reason.dubbo_status() as u16,
            Lane::Http1 | Lane::Http2 => reason.http_status(),
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = self.protocol();
        match self {
            Lane::Bolt(v) => write!(f, "{protocol} {v:?}"),
            Lane::Dubbo | Lane::Http1 | Lane::Http2 => write!(f, "{protocol}"),
        }
    }
}
