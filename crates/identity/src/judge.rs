//! Callers' certificates, judged after the handshake: again when trust changes, and of sessions that were resumed, whose
//! certificates TLS itself looks at no more.
use crate::leaf::Leaf;
use crate::mesh::{Clients, Identity, PeerRule, Refuses, client_verifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ProducesTickets;
use rustls::server::danger::ClientCertVerifier;
use rustls::{CertificateError, Error, ServerConfig};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What a certificate is worth now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is good.
    Good,
    /// Its time is over.
    Expired,
    /// It does not lead to the roots, or is of somebody who is not expected.
    Untrusted,
    /// It is good otherwise, and denied.
    Denied,
}

/// Judges callers' certificates as a server with the same rule does in its handshakes.
#[derive(Clone)]
pub struct Judge(Arc<dyn ClientCertVerifier>);

impl Judge {
    /// By whom this identity trusts; `refuses` as for [`Identity::server_config`].
    ///
    /// # Errors
    /// rustls refuses the roots.
    pub fn new(identity: &Identity, expected: PeerRule, refuses: Option<Refuses>) -> Result<Judge, Error> {
        client_verifier(identity.trust(), expected, Clients::Required, refuses).map(Judge)
    }

    /// Of a chain, the caller's own certificate first, at this time (seconds since 1970).
    pub fn judge(&self, chain: &[CertificateDer<'_>], now: i64) -> Verdict {
        let Some((first, rest)) = chain.split_first() else { return Verdict::Untrusted };
        if Leaf::read(first).is_some_and(|leaf| now > leaf.not_after) {
            return Verdict::Expired;
        }
        let at = UnixTime::since_unix_epoch(Duration::from_secs(now.max(0) as u64));
        match self.0.verify_client_cert(first, rest, at) {
            Ok(_) => Verdict::Good,
            Err(Error::InvalidCertificate(CertificateError::Revoked)) => Verdict::Denied,
            Err(Error::InvalidCertificate(
                CertificateError::Expired | CertificateError::ExpiredContext { .. },
            )) => Verdict::Expired,
            Err(_) => Verdict::Untrusted,
        }
    }
}

impl fmt::Debug for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Judge({:?})", self.0)
    }
}

/// Keys by which callers resume sessions: in memory only, changed every six hours, shared by configurations with the
/// same trust. Who uses them must [`Judge`] the certificates of resumed sessions.
#[derive(Clone)]
pub struct Tickets(Arc<dyn ProducesTickets>);

impl Tickets {
    /// New ones: nothing can be resumed with them yet.
    ///
    /// # Errors
    /// The machine gives no randomness.
    pub fn new() -> Result<Tickets, Error> {
        aws_lc_rs::Ticketer::new().map(Tickets)
    }

    /// Has a server give them out, and take them.
    pub fn issue(&self, config: &mut ServerConfig) {
        config.ticketer = self.0.clone();
        // The second of rustls' two is for clients that open connections in parallel; long ones are rare here.
        config.send_tls13_tickets = 1;
    }
}

impl fmt::Debug for Tickets {
    /// Nothing of the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets(..)")
    }
}
