//! An [`Identity`] out of PEM: of files, or of what another agent says.
use crate::bundle::TrustBundle;
use crate::error::{IdentityError, Problem};
use crate::key::PrivateKey;
use crate::leaf::Leaf;
use crate::mesh::{BadIdentity, Identity};
use crate::pem;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::Path;
use std::sync::Arc;
use zeroize::Zeroize;

impl Identity {
    /// Reads one from PEM files; its trust domain is that of the certificate's id. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// A file cannot be read or holds something else, or the parts do not belong together.
    pub fn load(cert: &Path, key: &Path, roots: &Path, now: i64) -> Result<Identity, IdentityError> {
        let of = |file: &Path, problem| IdentityError { file: file.to_owned(), problem };
        let chain = pem::chain(&pem::read(cert)?).map_err(|p| of(cert, p))?;
        let leaf = chain.first().and_then(|c| Leaf::read(c)).ok_or_else(|| of(cert, Problem::NoId))?;
        let private = pem::key(&pem::read(key)?).map_err(|p| of(key, p))?;
        let private = take(private).map_err(|_| of(key, Problem::UnusableKey))?;
        let trust = TrustBundle::load(leaf.id.trust_domain(), roots)?;
        Identity::new(chain, Arc::new(private), Arc::new(trust), now).map_err(|e| match e {
            BadIdentity::NoId => of(cert, Problem::NoId),
            BadIdentity::Untrusted(why) => of(cert, Problem::Untrusted(why)),
            BadIdentity::Mismatch => of(key, Problem::Mismatch(cert.to_owned())),
            BadIdentity::Key => of(key, Problem::UnusableKey),
        })
    }

    /// Reads one from PEM text. `now` is in seconds since 1970.
    ///
    /// # Errors
    /// A part is none, or they do not belong together: a sentence.
    pub fn from_pem(chain: &[u8], key: &[u8], roots: &[u8], now: i64) -> Result<Identity, String> {
        let said = |e: &dyn std::fmt::Display| e.to_string();
        let chain = certificates(chain).ok_or("there is no certificate in the chain")?;
        let leaf = chain.first().and_then(|c| Leaf::read(c)).ok_or_else(|| said(&BadIdentity::NoId))?;
        let private = pem::key(key).map_err(|_| "there is no private key that can be read")?;
        let private = take(private).map_err(|e| said(&e))?;
        let trust = TrustBundle::from_pem(leaf.id.trust_domain(), roots).map_err(|e| said(&e))?;
        Identity::new(chain, Arc::new(private), Arc::new(trust), now).map_err(|e| said(&e))
    }
}

fn certificates(text: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
    pem::chain(text).ok()
}

/// Takes a key over; no copy of it stays behind.
fn take(mut private: PrivateKeyDer<'static>) -> Result<PrivateKey, crate::key::KeyError> {
    let key = PrivateKey::from_der(private.secret_der());
    private.zeroize();
    key
}
