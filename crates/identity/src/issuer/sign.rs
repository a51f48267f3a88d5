//! Puts the authority's name into a certificate byte for byte, and signs it.
//!
//! rcgen writes names anew, and loses parts of some (two organisational units, strings of old types). Peers compare
//! names byte for byte (RFC 5280, 7.1, as webpki does it), so the issuer's is copied as it stands in its certificate.
use crate::key::Pair;
use rcgen::{CertificateParams, KeyIdMethod, PublicKeyData, SignatureAlgorithm, SigningKey};
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What of an authority goes into what it signs.
pub(super) struct Signer {
    name: Vec<u8>,
    key_id: Option<Vec<u8>>,
    pair: Pair,
}

impl Signer {
    pub(super) fn new(certificate: &[u8], pair: Pair) -> Result<Signer, String> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|e| e.to_string())?;
        let key_id = parsed.extensions().iter().find_map(|e| match e.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        });
        Ok(Signer { name: parsed.subject().as_raw().to_vec(), key_id, pair })
    }

    pub(super) fn sign(
        &self,
        mut params: CertificateParams,
        key: &impl PublicKeyData,
    ) -> Result<CertificateDer<'static>, String> {
        params.use_authority_key_identifier_extension = self.key_id.is_some();
        let mut issuer = CertificateParams::default();
        if let Some(id) = &self.key_id {
            issuer.key_identifier_method = KeyIdMethod::PreSpecified(id.clone());
        }
        let issuer = rcgen::Issuer::new(issuer, Unsigned(&self.pair));
        let unsigned = params.signed_by(key, &issuer).map_err(|e| e.to_string())?;
        let (tbs, algorithm) =
            rename(unsigned.der(), &self.name).ok_or("the certificate cannot be written")?;
        let signature = self.pair.sign(&tbs).map_err(|e| e.to_string())?;
        let mut bits = vec![0];
        bits.extend(signature);
        Ok(element(0x30, &[&tbs[..], &algorithm, &element(0x03, &bits)].concat()).into())
    }
}

/// Signs nothing yet: the name is not in it.
struct Unsigned<'a>(&'a Pair);

impl PublicKeyData for Unsigned<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for Unsigned<'_> {
    fn sign(&self, _: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(Vec::new())
    }
}

/// The part of a certificate that is signed, with this issuer's name in it, and the signature's algorithm.
fn rename(certificate: &[u8], name: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let outer = First::of(certificate)?;
    let tbs = First::of(outer.content)?;
    let algorithm = First::of(tbs.rest)?.whole.to_vec();
    let mut part = First::of(tbs.content)?;
    // Version, serial number, algorithm; then the issuer, which is left out, and what follows it.
    let mut before = Vec::new();
    for _ in 0..3 {
        before.extend(part.whole);
        part = First::of(part.rest)?;
    }
    Some((element(0x30, &[&before, name, part.rest].concat()), algorithm))
}

/// The DER element in front, and what is behind it.
struct First<'a> {
    whole: &'a [u8],
    content: &'a [u8],
    rest: &'a [u8],
}

impl First<'_> {
    fn of(der: &[u8]) -> Option<First<'_>> {
        let (content, rest) = crate::validity::take(der, *der.first()?)?;
        Some(First { whole: &der[..der.len() - rest.len()], content, rest })
    }
}

/// A DER element.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..0x80 => out.push(short as u8),
        long => {
            let bytes = long.to_be_bytes();
            let zeros = bytes.iter().take_while(|b| **b == 0).count();
            out.push(0x80 | (bytes.len() - zeros) as u8);
            out.extend(&bytes[zeros..]);
        }
    }
    out.extend(content);
    out
}
