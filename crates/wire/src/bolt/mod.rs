//! SOFARPC's Bolt protocol, versions 1 and 2.
//!
//! A frame is a fixed part, a class name, a header map, a content and, in one variant, a CRC. [`Head::parse`]
//! reads the fixed part only: a proxy that routes by service needs the header map besides ([`Head::headers`])
//! and never the content, save for a peek at the [`method`] name.
//!
//! Source of the format: SOFABolt 1.6 (`RpcCommandDecoder`, `RpcCommandDecoderV2`), whose behaviour with
//! odd input is followed unless said otherwise.
mod crc;
pub mod encode;
mod head;
mod headers;
mod malformed;
mod method;
mod reply;
mod rewrite;

pub use crc::{crc_mask, patch_id};
pub use head::{Command, Head, Kind, Limits, Parsed, Variant};
pub use headers::{HeaderMap, Headers};
pub use malformed::{Malformed, MalformedKind};
pub use method::{Method, PEEK_MAX, method};
pub use reply::{Form, Reply};
pub use rewrite::{Told, tell};

/// Codec byte: Hessian 2 (SOFA's dialect of it).
pub const CODEC_HESSIAN: u8 = 1;
/// Codec byte: protobuf.
pub const CODEC_PROTOBUF: u8 = 11;
/// Codec byte: JSON.
pub const CODEC_JSON: u8 = 12;

/// Class name of a SOFARPC request.
pub const CLASS_REQUEST: &[u8] = b"com.alipay.sofa.rpc.core.request.SofaRequest";
/// Class name of a SOFARPC response.
pub const CLASS_RESPONSE: &[u8] = b"com.alipay.sofa.rpc.core.response.SofaResponse";

/// Header key of the service: `interface:version`, or `interface:version:uniqueId`.
pub const HEADER_SERVICE: &[u8] = b"service";
/// Header key of the method. Java SOFARPC always sends it; others with protobuf only.
pub const HEADER_METHOD: &[u8] = b"sofa_head_method_name";
/// Header key of responses: `true` says that the result is an exception although the status is success.
pub const HEADER_RESPONSE_ERROR: &[u8] = b"sofa_head_response_error";
/// Header key, on the sidecar's own replies, of the flag of a [`raddle_core::Reason`].
pub const HEADER_REASON: &[u8] = b"raddle-reason";
/// Header key, on the sidecar's own replies, of the rule that caused it.
pub const HEADER_RULE: &[u8] = b"raddle-rule";

/// Status of a response that is a result.
pub const STATUS_SUCCESS: u16 = 0;
/// Status of a response whose content is the exception the server caught.
pub const STATUS_SERVER_EXCEPTION: u16 = 2;
