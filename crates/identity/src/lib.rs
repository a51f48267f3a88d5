//! Certificates, and TLS on bytes: what a terminating listener needs, without sockets.
//!
//! [`ServerIdentity`] is a certificate and its key from files, made into what `rustls` serves with;
//! [`TlsSession`] is one connection's TLS as a transformer: bytes of the wire in, bytes of the application out,
//! and back. Who reads and writes sockets, and when, is the data plane's business. Private keys live in memory,
//! are wiped when they go, and appear in no error and no debug output.
//!
//! Start reading at [`session`].
#![forbid(unsafe_code)]

mod error;
mod leaf;
mod pem;
mod server;
pub mod session;
mod spiffe;
mod validity;

pub use error::{IdentityError, Problem};
pub use leaf::{DenyList, Leaf, Serial};
pub use server::{ALPN_H1, ALPN_H2, ServerIdentity};
pub use session::{TlsError, TlsSession};
pub use spiffe::{BadId, MAX_ID, SpiffeId, check_trust_domain};
pub use validity::Validity;
