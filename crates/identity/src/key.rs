//! Private keys: made in memory, wiped when they go, shown to nobody.
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::SigningKey;
use std::fmt;
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

/// A private key.
pub struct PrivateKey {
    der: Zeroizing<Vec<u8>>,
}

impl PrivateKey {
    /// A new one, ECDSA P-256.
    ///
    /// # Errors
    /// The machine gives no randomness.
    pub fn generate() -> Result<PrivateKey, KeyError> {
        let mut pair = rcgen::KeyPair::generate().map_err(|_| KeyError)?;
        let der = Zeroizing::new(pair.serialized_der().to_vec());
        pair.zeroize();
        Ok(PrivateKey { der })
    }

    /// Takes a key: PKCS#8, PKCS#1 or SEC 1, DER.
    ///
    /// # Errors
    /// It is none, or of a kind that cannot be used.
    pub fn from_der(der: &[u8]) -> Result<PrivateKey, KeyError> {
        let key = PrivateKey { der: Zeroizing::new(der.to_vec()) };
        key.signing_key()?;
        Ok(key)
    }

    /// A request for a certificate over it: PKCS#10, DER. It names nobody: names are given by who signs.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn request(&self) -> Result<Vec<u8>, KeyError> {
        let pair = self.pair()?;
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let request = params.serialize_request(&pair).map_err(|_| KeyError)?;
        Ok(request.der().to_vec())
    }

    /// As PEM, for those who take it so over a local socket.
    pub fn pem(&self) -> Zeroizing<String> {
        let label = match PrivateKeyDer::try_from(&self.der[..]) {
            Ok(PrivateKeyDer::Pkcs1(_)) => "RSA PRIVATE KEY",
            Ok(PrivateKeyDer::Sec1(_)) => "EC PRIVATE KEY",
            _ => "PRIVATE KEY",
        };
        crate::pem::write(label, &self.der)
    }

    /// What rustls signs with.
    ///
    /// # Errors
    /// The key is of a kind that rustls does not use.
    pub fn signing_key(&self) -> Result<Arc<dyn SigningKey>, KeyError> {
        let der = PrivateKeyDer::try_from(&self.der[..]).map_err(|_| KeyError)?;
        rustls::crypto::aws_lc_rs::sign::any_supported_type(&der).map_err(|_| KeyError)
    }

    /// Its bytes, to be sealed.
    pub fn der(&self) -> &[u8] {
        &self.der
    }

    pub(crate) fn pair(&self) -> Result<Pair, KeyError> {
        let der = match PrivateKeyDer::try_from(&self.der[..]) {
            Ok(der) => der,
            Err(_) => PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(&self.der[..])),
        };
        rcgen::KeyPair::try_from(&der).map(Pair).map_err(|_| KeyError)
    }
}

impl fmt::Debug for PrivateKey {
    /// Nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(..)")
    }
}

/// A key that cannot be made or used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyError;

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the private key cannot be used; ECDSA P-256, P-384 or P-521, Ed25519, or RSA of 2048 bits or more can",
        )
    }
}

impl std::error::Error for KeyError {}

/// rcgen's key, wiped when it goes.
pub(crate) struct Pair(rcgen::KeyPair);

impl Drop for Pair {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl rcgen::PublicKeyData for Pair {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        rcgen::PublicKeyData::algorithm(&self.0)
    }
}

impl rcgen::SigningKey for Pair {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}
