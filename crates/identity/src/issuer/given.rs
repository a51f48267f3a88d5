//! Authorities that users give: read from files, checked, and what is wrong said in words.
use super::{BadRequest, Issuer};
use crate::bundle::TrustBundle;
use crate::error::IdentityError;
use crate::key::PrivateKey;
use crate::mesh::verify_chain;
use crate::pem;
use crate::spiffe::SpiffeId;
use crate::validity::Validity;
use rustls::pki_types::CertificateDer;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Where a given authority is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GivenCa {
    /// Its certificate, and those that vouch for it after it.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// The rest of the chain, if it is not in `cert`.
    pub chain: Option<PathBuf>,
    /// The roots; `None` = the last certificate of the chain.
    pub roots: Option<PathBuf>,
}

impl GivenCa {
    /// The layout of Istio's `cacerts`: `ca-cert.pem`, `ca-key.pem`, `root-cert.pem`, `cert-chain.pem`.
    pub fn directory(dir: &Path) -> GivenCa {
        GivenCa {
            cert: dir.join("ca-cert.pem"),
            key: dir.join("ca-key.pem"),
            chain: Some(dir.join("cert-chain.pem")).filter(|f| f.exists()),
            roots: Some(dir.join("root-cert.pem")),
        }
    }

    /// Reads and checks it.
    ///
    /// # Errors
    /// A file cannot be read, or the authority cannot be one.
    pub fn load(&self, now: i64) -> Result<Issuer, IssuerError> {
        let read = |file: &Path| {
            let problem = |problem| IssuerError::File(IdentityError { file: file.to_owned(), problem });
            pem::chain(&pem::read(file).map_err(IssuerError::File)?).map_err(problem)
        };
        let mut chain = read(&self.cert)?;
        if let Some(more) = &self.chain {
            // Istio's cert-chain.pem begins with ca-cert.pem again.
            for certificate in read(more)? {
                if !chain.contains(&certificate) {
                    chain.push(certificate);
                }
            }
        }
        let roots = match &self.roots {
            Some(file) => read(file)?,
            None => chain.last().cloned().into_iter().collect(),
        };
        let failed = |problem| IssuerError::File(IdentityError { file: self.key.clone(), problem });
        let mut key = pem::key(&pem::read(&self.key).map_err(IssuerError::File)?).map_err(failed)?;
        let private = PrivateKey::from_der(key.secret_der());
        zeroize::Zeroize::zeroize(&mut key);
        Issuer::assemble(chain, roots, private.map_err(|_| IssuerError::UnusableKey)?, now)
    }
}

/// Checks what can be said in words, before it fails somewhere deep.
pub(super) fn check(
    chain: &[CertificateDer<'static>],
    roots: &[CertificateDer<'static>],
    key: &PrivateKey,
    now: i64,
) -> Result<Validity, IssuerError> {
    if roots.is_empty() {
        return Err(IssuerError::NoCertificate);
    }
    let mut end = i64::MAX;
    for (depth, der) in chain.iter().enumerate() {
        let (_, certificate) =
            X509Certificate::from_der(der).map_err(|_| IssuerError::Unreadable(depth + 1))?;
        let constraints = certificate.basic_constraints().ok().flatten();
        if !constraints.as_ref().is_some_and(|c| c.value.ca) {
            return Err(IssuerError::NotCa(depth + 1));
        }
        // What stands below: `depth` authorities that are not the leaf.
        if let Some(most) = constraints.and_then(|c| c.value.path_len_constraint)
            && (most as usize) < depth
        {
            return Err(IssuerError::PathLength(depth + 1));
        }
        if certificate.key_usage().ok().flatten().is_some_and(|u| !u.value.key_cert_sign()) {
            return Err(IssuerError::MayNotSign(depth + 1));
        }
        let validity = certificate.validity();
        if now > validity.not_after.timestamp() {
            return Err(IssuerError::Expired(now - validity.not_after.timestamp()));
        }
        if now < validity.not_before.timestamp() {
            return Err(IssuerError::NotYet(validity.not_before.timestamp() - now));
        }
        end = end.min(validity.not_after.timestamp());
    }
    let first = chain.first().ok_or(IssuerError::NoCertificate)?;
    let signing = key.signing_key().map_err(|_| IssuerError::UnusableKey)?;
    let certified = rustls::sign::CertifiedKey::new(vec![first.clone()], signing);
    certified.keys_match().map_err(|_| IssuerError::Mismatch)?;
    let not_before = Validity::of(first).ok_or(IssuerError::Unreadable(1))?.not_before;
    Ok(Validity { not_before, not_after: end })
}

/// Signs a certificate and verifies it as a peer would: what does not show in the checks shows here (a chain that does
/// not lead to the roots, names that do not come out as they were).
pub(super) fn prove(issuer: &Issuer, now: i64) -> Result<(), IssuerError> {
    let broken = |e: &dyn fmt::Display| IssuerError::BrokenChain(e.to_string());
    let id = SpiffeId::app("proof", "", "proof").map_err(|e| broken(&e))?;
    let key = PrivateKey::generate().map_err(|e| broken(&e))?;
    let request = key.request().map_err(|e| broken(&e))?;
    let signed = issuer.sign_request(&request, &id, Duration::from_secs(3600), now)?;
    for root in issuer.roots() {
        let (_, certificate) = X509Certificate::from_der(root).map_err(|e| broken(&e))?;
        if now > certificate.validity().not_after.timestamp() {
            return Err(IssuerError::Expired(now - certificate.validity().not_after.timestamp()));
        }
    }
    let bundle = TrustBundle::new("proof", issuer.roots().iter().cloned()).map_err(|e| broken(&e))?;
    verify_chain(&signed.chain, &bundle, now).map_err(|e| broken(&e))
}

/// Why an authority cannot be one, or does not sign.
#[derive(Debug)]
#[non_exhaustive]
pub enum IssuerError {
    /// A file is wrong.
    File(IdentityError),
    /// There is no certificate.
    NoCertificate,
    /// The n-th certificate of the chain, from 1, cannot be read.
    Unreadable(usize),
    /// The n-th certificate of the chain, from 1, is not an authority's.
    NotCa(usize),
    /// The n-th certificate of the chain, from 1, allows fewer authorities below it than there are.
    PathLength(usize),
    /// The n-th certificate of the chain, from 1, has a key usage without certificate signing.
    MayNotSign(usize),
    /// It expired so many seconds ago.
    Expired(i64),
    /// It becomes valid in so many seconds.
    NotYet(i64),
    /// The key is not that of the certificate.
    Mismatch,
    /// The key is damaged or of a kind that is not supported.
    UnusableKey,
    /// What it signs does not verify against its roots.
    BrokenChain(String),
    /// A host name is none.
    BadHost(String),
    /// A request is refused.
    Request(BadRequest),
    /// Signing failed.
    CannotSign(String),
}

impl fmt::Display for IssuerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IssuerError::File(e) => e.fmt(f),
            IssuerError::NoCertificate => f.write_str("there is no certificate of the authority or its root"),
            IssuerError::Unreadable(n) => write!(f, "certificate {n} of the authority's chain is no X.509"),
            IssuerError::NotCa(n) => write!(
                f,
                "certificate {n} of the chain is not an authority's (basic constraints without CA:TRUE); \
                 give one that may sign others"
            ),
            IssuerError::PathLength(n) => write!(
                f,
                "certificate {n} of the chain allows fewer authorities below it than there are (path length)"
            ),
            IssuerError::MayNotSign(n) => {
                write!(f, "certificate {n} of the chain may not sign certificates (key usage)")
            }
            IssuerError::Expired(s) => write!(f, "the authority expired {} ago", Days(*s)),
            IssuerError::NotYet(s) => {
                write!(f, "the authority becomes valid in {}; check the clock", Days(*s))
            }
            IssuerError::Mismatch => f.write_str("the key is not that of the authority's certificate"),
            IssuerError::UnusableKey => crate::key::KeyError.fmt(f),
            IssuerError::BrokenChain(why) => {
                write!(f, "what the authority signs does not verify against its roots: {why}")
            }
            IssuerError::BadHost(name) => write!(f, "`{name}` is neither a host name nor an address"),
            IssuerError::Request(e) => e.fmt(f),
            IssuerError::CannotSign(why) => write!(f, "the certificate cannot be signed: {why}"),
        }
    }
}

impl std::error::Error for IssuerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            IssuerError::File(e) => Some(e),
            IssuerError::Request(e) => Some(e),
            _ => None,
        }
    }
}

struct Days(i64);

impl fmt::Display for Days {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 / 86400 {
            0 => write!(f, "{} s", self.0),
            days => write!(f, "{days} days"),
        }
    }
}
