//! What a terminating listener serves with: a certificate, its key, and the choices that follow.
use crate::error::{IdentityError, Problem};
use crate::pem;
use crate::validity::{Validity, Warning};
use rustls::crypto::aws_lc_rs;
use rustls::server::NoServerSessionStorage;
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, ServerConfig};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The name HTTP/2 has in ALPN (RFC 9113, 3.2).
pub const ALPN_H2: &[u8] = b"h2";
/// The name HTTP/1.1 has in ALPN (RFC 7301, 6).
pub const ALPN_H1: &[u8] = b"http/1.1";

/// A certificate chain and its key, ready to serve.
#[derive(Clone)]
pub struct ServerIdentity {
    config: Arc<ServerConfig>,
    validity: Validity,
}

impl ServerIdentity {
    /// Reads them from PEM files; both may be in one. An expired certificate is no error: see
    /// [`ServerIdentity::warning`].
    ///
    /// # Errors
    /// A file cannot be read, holds something else, or the two do not belong together.
    pub fn load(cert: &Path, key: &Path) -> Result<ServerIdentity, IdentityError> {
        let cert_error = |problem| IdentityError { file: cert.to_owned(), problem };
        let key_error = |problem| IdentityError { file: key.to_owned(), problem };
        let chain = pem::chain(&pem::read(cert)?).map_err(cert_error)?;
        let mut validity = None;
        for (i, c) in chain.iter().enumerate() {
            let v = Validity::of(c).ok_or_else(|| cert_error(Problem::BadCertificate(i + 1)))?;
            validity.get_or_insert(v);
        }
        // An empty chain is refused above.
        let validity = validity.ok_or_else(|| cert_error(Problem::NoCertificate(None)))?;
        let private = pem::key(&pem::read(key)?).map_err(key_error)?;
        let provider = aws_lc_rs::default_provider();
        let signing =
            provider.key_provider.load_private_key(private).map_err(|_| key_error(Problem::UnusableKey))?;
        let certified = CertifiedKey::new(chain, signing);
        match certified.keys_match() {
            Ok(()) => {}
            Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
                return Err(key_error(Problem::Mismatch(cert.to_owned())));
            }
            Err(Error::InvalidCertificate(_)) => return Err(cert_error(Problem::BadCertificate(1))),
            Err(e) => return Err(key_error(Problem::Refused(e.to_string()))),
        }
        let config = serve(certified).map_err(|e| cert_error(Problem::Refused(e.to_string())))?;
        Ok(ServerIdentity { config: Arc::new(config), validity })
    }

    /// What sessions are made with. TLS 1.2 and 1.3, ALPN `h2` and `http/1.1`; a client that offers only other
    /// names is refused, one that offers none is not.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// When the server's certificate is valid.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// What a person should know about the certificate at this time (seconds since 1970), if anything.
    pub fn warning(&self, now: i64) -> Option<Warning> {
        self.validity.warning(now)
    }
}

/// The choices: resumption by tickets, under keys that are only in memory, change every six hours and are not
/// shared with the next configuration, so that a new certificate means new handshakes.
fn serve(certified: CertifiedKey) -> Result<ServerConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(certified));
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_H1.to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    // The second of rustls' two is for clients that open connections in parallel; long ones are rare here.
    config.send_tls13_tickets = 1;
    Ok(config)
}

impl fmt::Debug for ServerIdentity {
    /// Nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerIdentity").field("validity", &self.validity).finish_non_exhaustive()
    }
}
