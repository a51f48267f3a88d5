//! Requests for certificates (PKCS#10, RFC 2986): of one, only its public key and the proof that the sender has the
//! private one are taken. Everything it says of names and uses is ignored.
use rustls::crypto::aws_lc_rs;
use std::fmt;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

/// Longest request that is looked at; one with an RSA key of 8192 bits is shorter.
pub const MAX_REQUEST: usize = 16 * 1024;

/// A public key whose holder has proven to have the private one.
pub struct ProvenKey {
    pub(crate) info: rcgen::SubjectPublicKeyInfo,
    pub(crate) rsa: bool,
    der: Vec<u8>,
}

impl ProvenKey {
    /// The `SubjectPublicKeyInfo`, DER.
    pub fn der(&self) -> &[u8] {
        &self.der
    }
}

impl fmt::Debug for ProvenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.rsa { "ProvenKey(RSA)" } else { "ProvenKey(EC)" })
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadRequest {
    /// Longer than [`MAX_REQUEST`].
    TooLarge,
    /// It is no PKCS#10 request.
    Unreadable,
    /// A kind of key or signature that is not taken.
    Unsupported,
    /// RSA of fewer than 2048 or more than 8192 bits.
    Weak,
    /// It is not signed with the key it is about.
    NotProven,
}

impl fmt::Display for BadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BadRequest::TooLarge => "the certificate request is longer than 16 KiB",
            BadRequest::Unreadable => "the certificate request is no PKCS#10 in DER",
            BadRequest::Unsupported => {
                "the key of the certificate request is of a kind that is not taken; \
                 ECDSA P-256 or P-384, Ed25519 and RSA are"
            }
            BadRequest::Weak => "the RSA key of the certificate request has not between 2048 and 8192 bits",
            BadRequest::NotProven => "the certificate request is not signed with its own key",
        })
    }
}

impl std::error::Error for BadRequest {}

/// Reads a request and checks its proof.
///
/// # Errors
/// It is refused.
pub fn read_request(der: &[u8]) -> Result<ProvenKey, BadRequest> {
    if der.len() > MAX_REQUEST {
        return Err(BadRequest::TooLarge);
    }
    let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| BadRequest::Unreadable)?;
    if !rest.is_empty() {
        return Err(BadRequest::Unreadable);
    }
    let subject = &request.certification_request_info.subject_pki;
    if subject.subject_public_key.unused_bits != 0 || request.signature_value.unused_bits != 0 {
        return Err(BadRequest::Unreadable);
    }
    let rsa = match subject.parsed().map_err(|_| BadRequest::Unsupported)? {
        PublicKey::RSA(key) if !(2048..=8192).contains(&key.key_size()) => return Err(BadRequest::Weak),
        PublicKey::RSA(_) => true,
        _ => false,
    };
    let info = rcgen::SubjectPublicKeyInfo::from_der(subject.raw).map_err(|_| BadRequest::Unsupported)?;
    let key_alg = algorithm(subject.raw).ok_or(BadRequest::Unreadable)?;
    let rest = after(request.as_raw()).ok_or(BadRequest::Unreadable)?;
    let known = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let mut candidates = known
        .iter()
        .filter(|a| a.public_key_alg_id().as_ref() == key_alg && a.signature_alg_id().as_ref() == rest)
        .peekable();
    if candidates.peek().is_none() {
        return Err(BadRequest::Unsupported);
    }
    let key = &subject.subject_public_key.data;
    let (message, signature) = (request.certification_request_info.raw, &request.signature_value.data);
    if !candidates.any(|a| a.verify_signature(key, message, signature).is_ok()) {
        return Err(BadRequest::NotProven);
    }
    Ok(ProvenKey { info, rsa, der: subject.raw.to_vec() })
}

/// The content of the first element within a sequence: a key's algorithm.
fn algorithm(der: &[u8]) -> Option<&[u8]> {
    let (content, _) = crate::validity::take(der, 0x30)?;
    Some(crate::validity::take(content, 0x30)?.0)
}

/// The content of the second element within a sequence: a request's signature algorithm.
fn after(der: &[u8]) -> Option<&[u8]> {
    let (content, _) = crate::validity::take(der, 0x30)?;
    let (_, rest) = crate::validity::take(content, 0x30)?;
    Some(crate::validity::take(rest, 0x30)?.0)
}
