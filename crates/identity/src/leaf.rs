//! What a certificate says of its holder.
use crate::spiffe::SpiffeId;
use crate::uri::uri_of;
use std::fmt;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The part of a certificate that says who somebody is. Not a proof: that is the chain's business.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Its one SPIFFE id.
    pub id: SpiffeId,
    /// Serial number.
    pub serial: Serial,
    /// From when it is valid, seconds since 1970.
    pub not_before: i64,
    /// Until when it is valid, seconds since 1970.
    pub not_after: i64,
}

impl Leaf {
    /// Reads a certificate. `None` if it is none, is a CA's, or has not exactly one URI that is an id (X509-SVID,
    /// sections 2 and 4).
    pub fn read(der: &[u8]) -> Option<Leaf> {
        let (rest, certificate) = X509Certificate::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        Some(Leaf {
            id: uri_of(&certificate)?.parse().ok()?,
            serial: Serial::of(certificate.raw_serial()),
            not_before: certificate.validity().not_before.timestamp(),
            not_after: certificate.validity().not_after.timestamp(),
        })
    }
}

/// A certificate's serial number.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(Box<[u8]>);

impl Serial {
    /// Of the bytes of the DER integer; leading zeros mean nothing.
    pub fn of(bytes: &[u8]) -> Serial {
        let zeros = bytes.iter().take_while(|b| **b == 0).count();
        Serial(bytes[zeros..].into())
    }

    /// Reads what [`fmt::Display`] writes; colons between the bytes, as other tools write them, are taken too.
    pub fn parse(text: &str) -> Option<Serial> {
        let digits: Vec<u8> = text.bytes().filter(|b| *b != b':').collect();
        if digits.is_empty() || digits.len() > 40 || !digits.len().is_multiple_of(2) {
            return None;
        }
        let hex = |b: u8| (b as char).to_digit(16).map(|d| d as u8);
        let bytes: Option<Vec<u8>> = digits.chunks(2).map(|p| Some(hex(p[0])? << 4 | hex(p[1])?)).collect();
        Some(Serial::of(&bytes?))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|b| write!(f, "{b:02x}"))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Who and what is not to be trusted any more, although its certificate says it is valid.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DenyList {
    /// Denied whatever certificate they show.
    pub ids: std::collections::BTreeSet<SpiffeId>,
    /// Denied certificates.
    pub serials: std::collections::BTreeSet<Serial>,
}

impl DenyList {
    /// Whether this certificate is denied.
    pub fn denies(&self, leaf: &Leaf) -> bool {
        self.ids.contains(&leaf.id) || self.serials.contains(&leaf.serial)
    }
}
