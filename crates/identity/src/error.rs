//! What can be wrong with a certificate or key, said so that it can be put right.
use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a certificate and key cannot be served with.
#[derive(Debug)]
pub struct IdentityError {
    /// The file it is about.
    pub file: PathBuf,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a file.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// It cannot be read.
    Unreadable(io::Error),
    /// It is larger than any chain or key; bytes allowed.
    TooLarge(u64),
    /// It is no PEM: a block is cut short or holds no base64.
    NotPem,
    /// There is no certificate in it; what there is instead, if anything is known.
    NoCertificate(Option<&'static str>),
    /// A certificate in it cannot be read, the n-th from 1.
    BadCertificate(usize),
    /// There is no private key in it; what there is instead, if anything is known.
    NoKey(Option<&'static str>),
    /// The key is encrypted with a pass phrase.
    EncryptedKey,
    /// The key cannot be used: its kind is not supported or it is damaged.
    UnusableKey,
    /// The key belongs to another certificate than the first of this file.
    Mismatch(PathBuf),
    /// The certificate names nobody: it has not exactly one SPIFFE id.
    NoId,
    /// The certificate does not lead to the roots, or is not valid now.
    Untrusted(String),
    /// `rustls` refuses it for another cause.
    Refused(String),
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        match &self.problem {
            Problem::Unreadable(e) => write!(f, "{file} cannot be read: {e}"),
            Problem::TooLarge(most) => {
                write!(f, "{file} is larger than {most} bytes; give a PEM file with one chain or one key")
            }
            Problem::NotPem => write!(
                f,
                "{file} is no PEM; give text with -----BEGIN ...----- and -----END ...----- lines around base64"
            ),
            Problem::NoCertificate(other) => {
                write!(f, "{file} holds no certificate{}; give a PEM file with ", Instead(*other))?;
                f.write_str("the server's certificate first, then those that signed it")
            }
            Problem::BadCertificate(n) => {
                write!(f, "{file}: certificate {n} cannot be read as X.509; make the file anew")
            }
            Problem::NoKey(other) => write!(
                f,
                "{file} holds no private key{}; give a PEM file with one (PKCS#8, PKCS#1 or SEC 1)",
                Instead(*other)
            ),
            Problem::EncryptedKey => write!(
                f,
                "{file}: the private key is encrypted, and there is nobody to ask for its pass phrase; \
                 give it in clear (openssl pkey -in {file} -out NEW)"
            ),
            Problem::UnusableKey => write!(
                f,
                "{file}: the private key cannot be used; give ECDSA P-256, P-384 or P-521, Ed25519, \
                 or RSA of 2048 bits or more"
            ),
            Problem::Mismatch(cert) => write!(
                f,
                "{file}: the private key is not that of the first certificate in {}; \
                 give the key the certificate was made for, and the server's certificate first",
                cert.display()
            ),
            Problem::NoId => write!(
                f,
                "{file}: the certificate has not exactly one SPIFFE id of the form \
                 spiffe://DOMAIN/unit/UNIT/app/APP; have one made with it as its only URI"
            ),
            Problem::Untrusted(why) => write!(
                f,
                "{file}: the certificate is not vouched for by the roots, or is not valid now: {why}"
            ),
            Problem::Refused(why) => write!(f, "{file} cannot be served with: {why}"),
        }
    }
}

impl std::error::Error for IdentityError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.problem {
            Problem::Unreadable(e) => Some(e),
            _ => None,
        }
    }
}

/// ", but a certificate", or nothing.
struct Instead(Option<&'static str>);

impl fmt::Display for Instead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(what) => write!(f, ", but {what}"),
            None => Ok(()),
        }
    }
}
