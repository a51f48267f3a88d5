//! Codecs without I/O: bytes in, facts out, and bytes made from facts.
//!
//! * [`bolt`]: SOFARPC's Bolt, versions 1 and 2: the head of a frame, its header map, rewriting its id,
//!   and making whole frames (heartbeats, replies of the sidecar's own).
//! * [`dubbo`]: Dubbo 2: the same, and a bounded peek at a request's service, method and attachments.
//! * [`caller`]: the names under which an app is told who calls; both protocols' frames are rewritten for it
//!   ([`bolt::tell`], [`dubbo::tell`]).
//! * [`hessian`]: a bounded peek into Hessian bodies, in both dialects met in the wild, and the little
//!   writer that replies need. It is no general (de)serialiser.
//! * [`http`]: message heads, HTTP/1.1 framing, gRPC's headers.
//! * [`sniff`]: which protocol a connection speaks, from its first bytes.
//!
//! Nothing here reads a clock, a socket or a file; nothing panics or allocates because of what a peer sent.
//! Numbers that a peer wrote are checked once, where they are parsed: holding a [`bolt::Head`] means that
//! its lengths are within the limits it was parsed with.
//!
//! Start reading at [`bolt::Head::parse`].
#![forbid(unsafe_code)]

pub mod bolt;
pub mod caller;
pub mod dubbo;
pub mod hessian;
pub mod http;
pub mod sniff;
