//! A certificate authority: a key that signs, the chain that vouches for it, and what it signs.
//!
//! Names are always the caller's decision; of a request only the public key is taken ([`read_request`]).
mod given;
mod request;
mod sign;

pub use given::{GivenCa, IssuerError};
pub use request::{BadRequest, MAX_REQUEST, ProvenKey, read_request};

use crate::crypto;
use crate::key::PrivateKey;
use crate::leaf::Serial;
use crate::spiffe::SpiffeId;
use crate::validity::Validity;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;
use time::OffsetDateTime;

/// How far back certificates are dated, for peers whose clocks are behind.
const BACKDATE: i64 = 60;

/// A certificate authority.
pub struct Issuer {
    id: String,
    chain: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
    validity: Validity,
    key: PrivateKey,
    signer: sign::Signer,
}

/// A certificate as it was signed.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The certificate first, then what vouches for it, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its serial number.
    pub serial: Serial,
    /// From when it is valid, seconds since 1970.
    pub not_before: i64,
    /// Until when it is valid, seconds since 1970.
    pub not_after: i64,
}

impl Issuer {
    /// Makes a root of its own: ECDSA P-256.
    ///
    /// # Errors
    /// The machine gives no randomness.
    pub fn generate(trust_domain: &str, lifetime: Duration, now: i64) -> Result<Issuer, IssuerError> {
        let key = PrivateKey::generate().map_err(|_| IssuerError::UnusableKey)?;
        let serial = new_serial();
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        // X.520's bound on both is 64 characters.
        params
            .distinguished_name
            .push(DnType::OrganizationName, trust_domain.get(..64).unwrap_or(trust_domain));
        // Old and new roots have names of their own, so that other tools tell them apart.
        let mark = crypto::hex(&serial.to_bytes()[..4]);
        params.distinguished_name.push(DnType::CommonName, format!("Raddle root {mark}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.serial_number = Some(serial);
        params.not_before = date(now - BACKDATE)?;
        params.not_after = date(now.saturating_add(lifetime.as_secs().min(MAX_LIFETIME) as i64))?;
        let pair = key.pair().map_err(|_| IssuerError::UnusableKey)?;
        let root =
            params.self_signed(&pair).map_err(|e| IssuerError::CannotSign(e.to_string()))?.der().clone();
        Issuer::assemble(vec![root.clone()], vec![root], key, now)
    }

    /// Puts one together from what [`Issuer::chain`], [`Issuer::roots`] and [`Issuer::key`] gave, with all checks.
    ///
    /// # Errors
    /// The parts do not fit, or cannot sign what verifies.
    pub fn restore(
        chain: Vec<CertificateDer<'static>>,
        roots: Vec<CertificateDer<'static>>,
        key: &[u8],
        now: i64,
    ) -> Result<Issuer, IssuerError> {
        let key = PrivateKey::from_der(key).map_err(|_| IssuerError::UnusableKey)?;
        Issuer::assemble(chain, roots, key, now)
    }

    fn assemble(
        chain: Vec<CertificateDer<'static>>,
        roots: Vec<CertificateDer<'static>>,
        key: PrivateKey,
        now: i64,
    ) -> Result<Issuer, IssuerError> {
        let first = chain.first().ok_or(IssuerError::NoCertificate)?;
        let validity = given::check(&chain, &roots, &key, now)?;
        let pair = key.pair().map_err(|_| IssuerError::UnusableKey)?;
        let signer = sign::Signer::new(first, pair).map_err(IssuerError::CannotSign)?;
        let id = crypto::hex(&crypto::sha256(first)[..8]);
        let issuer = Issuer { id, chain, roots, validity, key, signer };
        given::prove(&issuer, now)?;
        Ok(issuer)
    }

    /// Names it: the beginning of the SHA-256 of its certificate, 16 hexadecimal digits.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Its certificate, then those that vouch for it; of a root of its own only that.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The roots that vouch for it.
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// When it is valid.
    pub fn validity(&self) -> Validity {
        self.validity
    }

    /// Its key, to be sealed.
    pub fn key(&self) -> &PrivateKey {
        &self.key
    }

    /// Signs a certificate for a proven key: this id and nothing else, for TLS in both directions.
    ///
    /// # Errors
    /// The authority is expired, or cannot sign.
    pub fn sign(
        &self,
        key: &ProvenKey,
        id: &SpiffeId,
        lifetime: Duration,
        now: i64,
    ) -> Result<Signed, IssuerError> {
        self.leaf(&key.info, key.rsa, uri(id)?, lifetime, now)
    }

    /// Reads a request and signs for its key: [`read_request`], then [`Issuer::sign`].
    ///
    /// # Errors
    /// The request is refused, or the authority cannot sign.
    pub fn sign_request(
        &self,
        request: &[u8],
        id: &SpiffeId,
        lifetime: Duration,
        now: i64,
    ) -> Result<Signed, IssuerError> {
        let key = read_request(request).map_err(IssuerError::Request)?;
        self.sign(&key, id, lifetime, now)
    }

    /// Signs a server's certificate: this id, and the host names and addresses by which it is called.
    ///
    /// # Errors
    /// A name is none, or the authority is expired.
    pub fn sign_server(
        &self,
        key: &PrivateKey,
        id: &SpiffeId,
        hosts: &[String],
        lifetime: Duration,
        now: i64,
    ) -> Result<Signed, IssuerError> {
        let mut names = uri(id)?;
        for host in hosts {
            names.push(match host.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => {
                    let name = rustls::pki_types::DnsName::try_from(host.as_str());
                    let name = name.map_err(|_| IssuerError::BadHost(host.clone()))?;
                    let name = name.as_ref().try_into().map_err(|_| IssuerError::BadHost(host.clone()))?;
                    SanType::DnsName(name)
                }
            });
        }
        let pair = key.pair().map_err(|_| IssuerError::UnusableKey)?;
        self.leaf(&pair, false, names, lifetime, now)
    }

    fn leaf(
        &self,
        key: &impl PublicKeyData,
        rsa: bool,
        names: Vec<SanType>,
        lifetime: Duration,
        now: i64,
    ) -> Result<Signed, IssuerError> {
        if now > self.validity.not_after {
            return Err(IssuerError::Expired(now - self.validity.not_after));
        }
        // Of a short life no more than a tenth: it is renewed at half of it, and that must not be over yet.
        let back = BACKDATE.min(i64::try_from(lifetime.as_secs() / 10).unwrap_or(BACKDATE));
        let not_before = (now - back).max(self.validity.not_before);
        let end = now.saturating_add(lifetime.as_secs().min(MAX_LIFETIME) as i64);
        let not_after = end.min(self.validity.not_after);
        let serial = new_serial();
        let mut params = CertificateParams::default();
        // No subject: the alternative names say who it is, and are critical then (RFC 5280, 4.2.1.6).
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = names;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if rsa {
            params.key_usages.push(KeyUsagePurpose::KeyEncipherment);
        }
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.not_before = date(not_before)?;
        params.not_after = date(not_after)?;
        params.serial_number = Some(serial.clone());
        let signed = self.signer.sign(params, key).map_err(IssuerError::CannotSign)?;
        let mut chain = vec![signed];
        chain.extend(self.chain.iter().filter(|c| !self.roots.contains(c)).cloned());
        Ok(Signed { chain, serial: Serial::of(&serial.to_bytes()), not_before, not_after })
    }
}

impl fmt::Debug for Issuer {
    /// Nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer")
            .field("id", &self.id)
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

/// A hundred years: keeps dates within what certificates can say.
const MAX_LIFETIME: u64 = 100 * 366 * 86400;

fn date(seconds: i64) -> Result<OffsetDateTime, IssuerError> {
    OffsetDateTime::from_unix_timestamp(seconds)
        .map_err(|_| IssuerError::CannotSign("the clock is wrong".into()))
}

/// 16 random bytes, positive and of full length (RFC 5280, 4.1.2.2 allows 20).
fn new_serial() -> SerialNumber {
    let mut bytes: [u8; 16] = crypto::random();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    SerialNumber::from_slice(&bytes)
}

fn uri(id: &SpiffeId) -> Result<Vec<SanType>, IssuerError> {
    let text = id.to_string();
    let name = text.as_str().try_into().map_err(|_| IssuerError::BadHost(text.clone()))?;
    Ok(vec![SanType::URI(name)])
}
