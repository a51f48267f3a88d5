//! Dubbo 2 (`dubbo://`).
//!
//! A frame is sixteen fixed bytes and a body in one of some twenty serialisations. [`Head::parse`] reads the
//! fixed bytes, which is all that forwarding takes. Routing takes the service and method, which lie at the
//! beginning of the body ([`peek`]), and for rules on headers the attachments, which lie at its end
//! ([`Request::attachments`]).
//!
//! Source of the format: Apache Dubbo 2.7 and 3.x (`ExchangeCodec`, `DubboCodec`, `DecodeableRpcInvocation`,
//! `DecodeableRpcResult`), whose behaviour with odd input is followed unless said otherwise.
//!
//! ```
//! use raddle_wire::dubbo::{Head, Kind, Limits, Parsed};
//! let frame = b"\xDA\xBB\xE2\0\0\0\0\0\0\0\0\x07\0\0\0\x01N";
//! let Ok(Parsed::Head(head)) = Head::parse(frame, &Limits::default()) else { panic!() };
//! assert!(head.is_heartbeat() && head.wants_reply());
//! assert_eq!((head.kind, head.id, head.frame_len()), (Kind::Request, 7, frame.len()));
//! ```
mod attachments;
pub mod encode;
mod head;
mod json;
mod jsonb;
mod malformed;
mod names;
mod reply;
mod request;
mod response;
mod rewrite;

pub use crate::bolt::Limits;
pub use crate::hessian::v2::Value;
pub use attachments::Attachments;
pub use head::{Head, Kind, Parsed, patch_id};
pub use malformed::{Malformed, MalformedKind};
pub use reply::{Form, Reply, reason_of};
pub use request::{ATTACHMENTS_MAX, PEEK_MAX, Peek, Request, ServiceName, peek};
pub use response::{ResponseKind, is_readonly, response_attachments, response_kind};
pub use rewrite::{Told, tell};

/// The two bytes every frame begins with.
pub const MAGIC: [u8; 2] = [0xDA, 0xBB];

/// The flag bits that name the serialiser.
const SERIALIZER_MASK: u8 = 0x1F;
/// Serialiser: Hessian 2.0, the default of Dubbo 2.7 and of most clients in other languages.
pub const SERIALIZER_HESSIAN2: u8 = 2;
/// Serialiser: fastjson, one JSON value a line.
pub const SERIALIZER_FASTJSON: u8 = 6;
/// Serialiser: fastjson2, which Dubbo for Java prefers from 3.2 on where provider and consumer both have it.
pub const SERIALIZER_FASTJSON2: u8 = 23;

/// Status of a response that is a result, be it an exception of the application's.
pub const STATUS_OK: u8 = 20;
