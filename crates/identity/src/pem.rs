//! Certificates and keys out of PEM text.
use crate::error::{IdentityError, Problem};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs::File;
use std::io::Read;
use std::path::Path;
use zeroize::Zeroizing;

/// More than any chain or key has; a wrong path must not fill the memory.
const MAX_FILE: u64 = 1024 * 1024;

/// A file's bytes, wiped when dropped: it may hold a key, whatever it was given as.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    let failed = |problem| IdentityError { file: path.to_owned(), problem };
    let file = File::open(path).map_err(|e| failed(Problem::Unreadable(e)))?;
    let size = file.metadata().map_err(|e| failed(Problem::Unreadable(e)))?.len();
    if size > MAX_FILE {
        return Err(failed(Problem::TooLarge(MAX_FILE)));
    }
    // With room for all of it, so that growing leaves no copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(size as usize + 1));
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(|e| failed(Problem::Unreadable(e)))?;
    Ok(bytes)
}

/// The chain, the server's own certificate first.
pub(crate) fn chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let mut chain = Vec::new();
    for cert in CertificateDer::pem_slice_iter(text) {
        chain.push(cert.map_err(|_| Problem::NotPem)?);
    }
    match chain.is_empty() {
        false => Ok(chain),
        true => Err(Problem::NoCertificate(instead(text))),
    }
}

/// A block of PEM (RFC 7468). Of a key it is wiped when it goes.
pub(crate) fn write(label: &str, der: &[u8]) -> Zeroizing<String> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    // With room for all of it, so that growing leaves no copy behind.
    let mut text = Zeroizing::new(String::with_capacity(der.len().div_ceil(3) * 5 + 2 * label.len() + 64));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    for line in der.chunks(48) {
        for three in line.chunks(3) {
            let byte = |i: usize| u32::from(three.get(i).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for i in 0..4 {
                match i <= three.len() {
                    true => text.push(DIGITS[(bits >> (18 - 6 * i)) as usize & 63] as char),
                    false => text.push('='),
                }
            }
        }
        text.push('\n');
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

/// The first private key.
pub(crate) fn key(text: &[u8]) -> Result<PrivateKeyDer<'static>, Problem> {
    if has(text, "-----BEGIN ENCRYPTED PRIVATE KEY-----") || has(text, "Proc-Type: 4,ENCRYPTED") {
        return Err(Problem::EncryptedKey);
    }
    PrivateKeyDer::from_pem_slice(text).map_err(|e| match e {
        rustls::pki_types::pem::Error::NoItemsFound => Problem::NoKey(instead(text)),
        _ => Problem::NotPem,
    })
}

/// What a file holds that is not what was looked for.
fn instead(text: &[u8]) -> Option<&'static str> {
    let known = [
        ("-----BEGIN CERTIFICATE REQUEST-----", "a certificate request"),
        ("-----BEGIN CERTIFICATE-----", "a certificate"),
        ("PRIVATE KEY-----", "a private key"),
        ("-----BEGIN PUBLIC KEY-----", "a public key"),
    ];
    known.iter().find(|(mark, _)| has(text, mark)).map(|(_, what)| *what)
}

fn has(text: &[u8], mark: &str) -> bool {
    text.windows(mark.len()).any(|w| w == mark.as_bytes())
}
