//! Says why a caller's TLS connection came to nothing. The caller itself gets an alert, which few programs show.
use crate::conn::Role;
use crate::worker::Worker;
use raddle_identity::TlsError;
use raddle_net::Key;
use rustls::{CertificateError, Error};

impl Worker {
    /// The handshake of a connection that was accepted failed: an event, one a second for an address.
    pub(crate) fn tell_refused(&self, key: Key, e: &TlsError) {
        let Some(conn) = self.conns.get(key) else { return };
        let (Role::New(a), Some(tls)) = (&conn.role, &conn.tls) else { return };
        // Later it is no handshake that failed. Records are opened after `settled`, not before.
        if let (false, Some(peer)) = (tls.settled, a.peer) {
            let text = format!("a caller's TLS connection is refused: {}", words(e));
            self.shared.warn("caller_refused", peer.ip().to_string(), text);
        }
    }
}

/// What is wrong with what the caller showed, as a sentence's end.
fn words(e: &TlsError) -> String {
    let TlsError::Tls(e) = e else { return e.to_string() };
    let what = match e {
        Error::NoCertificatesPresented => "it sent no certificate",
        Error::PeerIncompatible(_) => "it speaks no version or form of TLS that is taken; 1.2 and 1.3 are",
        Error::AlertReceived(_) => "it ended the handshake itself",
        Error::InvalidCertificate(c) => match c {
            CertificateError::UnknownIssuer => "its certificate leads to no root of this mesh",
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet"
            }
            CertificateError::BadEncoding => "its certificate has not exactly one SPIFFE id",
            CertificateError::ApplicationVerificationFailure => {
                "its SPIFFE id is of another trust domain, or of no app"
            }
            CertificateError::Revoked => "its identity is denied",
            _ => "its certificate is no good",
        },
        _ => return e.to_string(),
    };
    format!("{what} ({e})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_sentences_with_the_librarys_word_behind() {
        let said = words(&TlsError::Tls(Error::InvalidCertificate(CertificateError::UnknownIssuer)));
        assert!(said.starts_with("its certificate leads to no root of this mesh ("), "{said}");
        assert!(said.contains("UnknownIssuer"), "{said}");
        assert!(words(&TlsError::Tls(Error::NoCertificatesPresented)).starts_with("it sent no certificate"));
        assert_eq!(words(&TlsError::NotReady), TlsError::NotReady.to_string());
    }
}
