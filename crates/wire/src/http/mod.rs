//! HTTP without I/O: message heads, HTTP/1.1 framing, and what gRPC adds in headers.
//!
//! * [`Fields`]: header fields as they came, in order and case.
//! * [`Request`], [`Response`]: heads, the same for HTTP/1.1 and HTTP/2.
//! * [`h1`]: HTTP/1.x heads and bodies, parsed strictly and written canonically (RFC 9112).
//! * [`grpc`]: `grpc-timeout`, paths and messages.
//!
//! What is read is checked once, here, so that whatever is held can be written to either version of HTTP
//! without meaning something else there: no name or value holds a byte that ends a line, and a body has one
//! length. Bytes that two readers could take for different messages (RFC 9112, section 11.2) are refused.
pub mod fields;
pub mod grpc;
pub mod h1;
mod head;

pub use fields::Fields;
pub use head::{Request, Response};
