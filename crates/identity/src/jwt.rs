//! Signed tokens of others (JWT, RFC 7519; keys as JWKS, RFC 7517): only what Kubernetes' service-account tokens need.
//!
//! RS256 and ES256, and nothing that a token says of itself chooses more: no other algorithm, no key of its own.
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use std::fmt;

/// Longest token that is looked at.
pub const MAX_TOKEN: usize = 16 * 1024;
/// Most keys of a set.
const MAX_KEYS: usize = 64;
/// Seconds that clocks may differ.
const LEEWAY: i64 = 30;

/// The keys of an issuer.
#[derive(Clone, Debug, Default)]
pub struct Jwks {
    keys: Vec<Key>,
}

#[derive(Clone, Debug)]
struct Key {
    id: Option<String>,
    key: Public,
}

#[derive(Clone, Debug)]
enum Public {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    r#use: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

impl Jwks {
    /// Reads a key set; keys for other purposes or of other kinds are left out.
    ///
    /// # Errors
    /// It is none, or no key is left.
    pub fn parse(json: &[u8]) -> Result<Jwks, JwtError> {
        let set: Set = serde_json::from_slice(json).map_err(|_| JwtError::BadKeys)?;
        let keys: Vec<Key> = set.keys.into_iter().take(MAX_KEYS).filter_map(Jwk::read).collect();
        match keys.is_empty() {
            true => Err(JwtError::BadKeys),
            false => Ok(Jwks { keys }),
        }
    }
}

impl Jwk {
    fn read(self) -> Option<Key> {
        if self.r#use.as_deref().is_some_and(|u| u != "sig") {
            return None;
        }
        let part = |p: &Option<String>| URL_SAFE_NO_PAD.decode(p.as_ref()?.trim_end_matches('=')).ok();
        let key = match (self.kty.as_str(), self.alg.as_deref()) {
            ("RSA", None | Some("RS256")) => {
                let strip = |b: Vec<u8>| b.into_iter().skip_while(|b| *b == 0).collect();
                Public::Rsa { n: strip(part(&self.n)?), e: strip(part(&self.e)?) }
            }
            ("EC", None | Some("ES256")) if self.crv.as_deref() == Some("P-256") => {
                let (x, y) = (part(&self.x)?, part(&self.y)?);
                if x.len() != 32 || y.len() != 32 {
                    return None;
                }
                Public::P256([&[4], &x[..], &y[..]].concat())
            }
            _ => return None,
        };
        Some(Key { id: self.kid, key })
    }
}

/// What a token must say.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// Its issuer; `None` = any whose key it is.
    pub issuer: Option<&'a str>,
    /// For whom it was made.
    pub audience: &'a str,
    /// Seconds since 1970.
    pub now: i64,
}

/// What a token says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Claims {
    /// Whom it is about.
    #[serde(rename = "sub")]
    pub subject: String,
    /// Until when it is good, seconds since 1970.
    #[serde(rename = "exp")]
    pub expires: i64,
    #[serde(default)]
    iss: Option<String>,
    #[serde(default)]
    aud: Audience,
    #[serde(default)]
    nbf: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
enum Audience {
    #[default]
    None,
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    crit: Option<serde_json::Value>,
}

/// Verifies a token.
///
/// # Errors
/// It is not good, and why.
pub fn verify(token: &str, keys: &Jwks, expected: Expected<'_>) -> Result<Claims, JwtError> {
    if token.len() > MAX_TOKEN {
        return Err(JwtError::Unreadable);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(JwtError::Unreadable)?;
    let (header, claims) = message.split_once('.').ok_or(JwtError::Unreadable)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| JwtError::Unreadable);
    let signature = decode(signature)?;
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| JwtError::Unreadable)?;
    if header.crit.is_some() {
        return Err(JwtError::Algorithm);
    }
    check_signature(&header, keys, message.as_bytes(), &signature)?;
    // Nothing of the claims is looked at before they are proven.
    let claims: Claims = serde_json::from_slice(&decode(claims)?).map_err(|_| JwtError::Unreadable)?;
    let meant = match &claims.aud {
        Audience::None => false,
        Audience::One(a) => a == expected.audience,
        Audience::Many(all) => all.iter().any(|a| a == expected.audience),
    };
    if expected.now > claims.expires.saturating_add(LEEWAY) {
        Err(JwtError::Expired)
    } else if claims.nbf.is_some_and(|t| expected.now < t.saturating_sub(LEEWAY)) {
        Err(JwtError::NotYet)
    } else if !meant {
        Err(JwtError::Audience)
    } else if expected.issuer.is_some() && expected.issuer != claims.iss.as_deref() {
        Err(JwtError::Issuer)
    } else {
        Ok(claims)
    }
}

fn check_signature(header: &Header, keys: &Jwks, message: &[u8], signature: &[u8]) -> Result<(), JwtError> {
    let mut tried = false;
    for key in &keys.keys {
        if header.kid.is_some() && key.id.is_some() && header.kid != key.id {
            continue;
        }
        let good = match (&key.key, header.alg.as_str()) {
            (Public::Rsa { n, e }, "RS256") => RsaPublicKeyComponents { n, e }
                .verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                .is_ok(),
            (Public::P256(point), "ES256") => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature).is_ok()
            }
            (_, "RS256" | "ES256") => continue,
            _ => return Err(JwtError::Algorithm),
        };
        if good {
            return Ok(());
        }
        tried = true;
    }
    Err(if tried { JwtError::Signature } else { JwtError::UnknownKey })
}

/// Why a token is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtError {
    /// The key set is none, or has no key that can be used.
    BadKeys,
    /// It is no JWT.
    Unreadable,
    /// It is signed in a way that is not taken (RS256 and ES256 are).
    Algorithm,
    /// It is signed with a key that is not in the set; the set may be old.
    UnknownKey,
    /// The signature is wrong.
    Signature,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYet,
    /// It was made for somebody else.
    Audience,
    /// It was made by somebody else.
    Issuer,
}

impl fmt::Display for JwtError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            JwtError::BadKeys => "the key set has no key that can be used (RSA or EC P-256, for signatures)",
            JwtError::Unreadable => "the token is no JWT",
            JwtError::Algorithm => "the token is signed in a way that is not taken; RS256 and ES256 are",
            JwtError::UnknownKey => "the token is signed with a key that is not in the key set",
            JwtError::Signature => "the token's signature is wrong",
            JwtError::Expired => "the token has expired",
            JwtError::NotYet => "the token is not good yet; check the clocks",
            JwtError::Audience => "the token was made for another audience",
            JwtError::Issuer => "the token was made by another issuer",
        })
    }
}

impl std::error::Error for JwtError {}
