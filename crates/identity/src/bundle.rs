//! Whom a trust domain trusts: its roots.
use crate::error::{IdentityError, Problem};
use crate::pem;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The roots of a trust domain: one, or several while they overlap.
#[derive(Clone)]
pub struct TrustBundle {
    trust_domain: Arc<str>,
    roots: Vec<CertificateDer<'static>>,
    store: Arc<RootCertStore>,
}

impl TrustBundle {
    /// Of certificates. Doubles are left out.
    ///
    /// # Errors
    /// There is none, or one cannot be a root: the n-th, from 1.
    pub fn new(
        trust_domain: &str,
        roots: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<TrustBundle, BadBundle> {
        let mut kept: Vec<CertificateDer<'static>> = Vec::new();
        let mut store = RootCertStore::empty();
        for (i, root) in roots.into_iter().enumerate() {
            if !kept.contains(&root) {
                store.add(root.clone()).map_err(|_| BadBundle::Certificate(i + 1))?;
                kept.push(root);
            }
        }
        if kept.is_empty() {
            return Err(BadBundle::Empty);
        }
        Ok(TrustBundle { trust_domain: trust_domain.into(), roots: kept, store: Arc::new(store) })
    }

    /// Of PEM text.
    ///
    /// # Errors
    /// There is no certificate in it, or one cannot be a root.
    pub fn from_pem(trust_domain: &str, text: &[u8]) -> Result<TrustBundle, BadBundle> {
        let roots = pem::chain(text).map_err(|_| BadBundle::Empty)?;
        TrustBundle::new(trust_domain, roots)
    }

    /// Of a PEM file.
    ///
    /// # Errors
    /// It cannot be read, or is no file of roots.
    pub fn load(trust_domain: &str, file: &Path) -> Result<TrustBundle, IdentityError> {
        let failed = |problem| IdentityError { file: file.to_owned(), problem };
        let roots = pem::chain(&pem::read(file)?).map_err(failed)?;
        TrustBundle::new(trust_domain, roots).map_err(|e| match e {
            BadBundle::Certificate(n) => failed(Problem::BadCertificate(n)),
            BadBundle::Empty => failed(Problem::NoCertificate(None)),
        })
    }

    /// The trust domain whose ids the roots vouch for.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The roots.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// The roots as PEM.
    pub fn pem(&self) -> String {
        self.roots.iter().map(|r| pem::write("CERTIFICATE", r).to_string()).collect()
    }

    pub(crate) fn store(&self) -> &Arc<RootCertStore> {
        &self.store
    }
}

/// A chain as PEM, in its order.
pub fn chain_pem(chain: &[CertificateDer<'_>]) -> String {
    chain.iter().map(|c| pem::write("CERTIFICATE", c).to_string()).collect()
}

impl PartialEq for TrustBundle {
    fn eq(&self, other: &TrustBundle) -> bool {
        self.trust_domain == other.trust_domain && self.roots == other.roots
    }
}

impl fmt::Debug for TrustBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrustBundle({}, {} roots)", self.trust_domain, self.roots.len())
    }
}

/// What cannot be a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadBundle {
    /// There is no certificate.
    Empty,
    /// The n-th certificate, from 1, cannot be read.
    Certificate(usize),
}

impl fmt::Display for BadBundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadBundle::Empty => f.write_str("there is no root certificate"),
            BadBundle::Certificate(n) => write!(f, "root certificate {n} cannot be read"),
        }
    }
}

impl std::error::Error for BadBundle {}
