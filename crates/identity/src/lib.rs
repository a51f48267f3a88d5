//! Certificates, keys and ids, and TLS on bytes: who is who in the mesh, without sockets.
//!
//! * [`ServerIdentity`] is a certificate and its key from files; [`session`] one connection's TLS as a transformer: bytes
//!   of the wire in, bytes of the application out, and back.
//! * [`SpiffeId`] names members of the mesh; [`Identity`] is what a member has: certificate, key, and whom it trusts
//!   ([`TrustBundle`]). It makes rustls' configurations, which check ids ([`PeerRule`]) instead of host names.
//! * [`Issuer`] signs certificates; [`SealKey`] keeps its key where others can read; [`renewal`] says when to renew.
//!
//! Who reads and writes sockets, and when, is others' business. Private keys live in memory, are wiped when they go, and
//! appear in no error and no debug output.
#![forbid(unsafe_code)]

mod bundle;
pub mod crypto;
mod error;
mod files;
mod issuer;
mod judge;
pub mod jwt;
mod key;
mod leaf;
mod mesh;
mod pem;
pub mod renewal;
mod seal;
mod server;
pub mod session;
mod spiffe;
mod uri;
mod validity;

pub use bundle::{BadBundle, TrustBundle, chain_pem};
pub use error::{IdentityError, Problem};
pub use issuer::{BadRequest, GivenCa, Issuer, IssuerError, MAX_REQUEST, ProvenKey, Signed, read_request};
pub use judge::{Judge, Tickets, Verdict};
pub use key::{KeyError, PrivateKey};
pub use leaf::{DenyList, Leaf, Serial};
pub use mesh::{BadIdentity, Clients, Identity, PeerRule, Refuses, anonymous_client_config, verify_chain};
pub use seal::{SealError, SealKey};
pub use server::{ALPN_H1, ALPN_H2, ServerIdentity};
pub use session::{TlsError, TlsSession};
pub use spiffe::{BadId, MAX_ID, SpiffeId, check_trust_domain};
pub use validity::Validity;
