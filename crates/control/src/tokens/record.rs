//! A token as it is kept, and its text.
use super::{Bootstrap, Grant, NewToken, Role, TokenError};
use bytes::Bytes;
use raddle_identity::{SpiffeId, crypto};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use zeroize::Zeroizing;

/// Digits of a secret.
const DIGITS: usize = 64;
const LONGEST_NAME: usize = 253;

/// What a token is for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "kind")]
pub enum Kind {
    /// To ask the API.
    Api {
        /// What may be asked.
        role: Role,
    },
    /// To get a certificate of an app.
    Bootstrap {
        /// The app.
        app: String,
        /// The unit; absent = any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unit: Option<String>,
        /// The instance; absent = any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        instance: Option<String>,
        /// Good for one certificate.
        #[serde(default)]
        once: bool,
    },
}

/// That a one-time token was used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Used {
    /// SHA-256 of the public key, hexadecimal.
    pub key: String,
    /// Seconds since 1970.
    pub at: i64,
    /// The instance that did.
    pub instance: String,
}

/// What may be told of a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TokenInfo {
    /// Its id: the part of its text that is no secret.
    pub id: Arc<str>,
    /// Its name.
    pub name: String,
    /// What it is for.
    #[serde(flatten)]
    pub kind: Kind,
    /// When it was made, seconds since 1970.
    pub created: i64,
    /// Who made it.
    pub by: String,
    /// Until when it is good, seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<i64>,
    /// Revoked; others disappear when they are.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub revoked: bool,
    /// What became of a one-time token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub used: Option<Used>,
}

/// A token as it is in the store.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    name: String,
    #[serde(flatten)]
    kind: Kind,
    /// SHA-256 of the secret, hexadecimal. A secret of 256 random bits needs no slower hash.
    hash: String,
    created: i64,
    by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) not_after: Option<i64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) revoked: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) used: Option<Used>,
}

impl Record {
    /// A new token and its text.
    pub(super) fn make(id: &str, new: NewToken, now: i64) -> Result<(Record, Zeroizing<String>), TokenError> {
        check(&new)?;
        let bytes = Zeroizing::new(crypto::random::<{ DIGITS / 2 }>());
        let secret = Zeroizing::new(crypto::hex(&*bytes));
        let record = Record {
            name: new.name,
            kind: new.kind,
            hash: hash(&secret),
            created: now,
            by: new.by,
            not_after: new.lifetime.map(|l| now.saturating_add(l.as_secs().min(i64::MAX as u64) as i64)),
            revoked: false,
            used: None,
        };
        Ok((record, Zeroizing::new(format!("rdl_{id}_{}", *secret))))
    }

    pub(super) fn revoked(&self) -> Record {
        Record { revoked: true, ..self.clone() }
    }

    pub(super) fn used(&self, used: Used) -> Record {
        Record { used: Some(used), ..self.clone() }
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Record> {
        serde_json::from_slice(bytes).ok()
    }

    pub(super) fn bytes(&self) -> Bytes {
        // Strings and numbers always can be written.
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// Whether the secret is this token's, in a time that does not tell.
    pub(super) fn is_of(&self, secret: &str) -> bool {
        crypto::same(hash(secret).as_bytes(), self.hash.as_bytes())
    }

    pub(super) fn grant(&self, id: &Arc<str>) -> Grant {
        match self.kind.clone() {
            Kind::Api { role } => Grant::Api { id: id.clone(), name: self.name.as_str().into(), role },
            Kind::Bootstrap { app, unit, instance, once } => {
                Grant::Bootstrap(Bootstrap { id: id.clone(), app, unit, instance, once })
            }
        }
    }

    pub(super) fn info(&self, id: &Arc<str>) -> TokenInfo {
        TokenInfo {
            id: id.clone(),
            name: self.name.clone(),
            kind: self.kind.clone(),
            created: self.created,
            by: self.by.clone(),
            not_after: self.not_after,
            revoked: self.revoked,
            used: self.used.clone(),
        }
    }
}

/// The id and secret of a token's text.
pub(super) fn parse(text: &str) -> Option<(&str, &str)> {
    let (id, secret) = text.strip_prefix("rdl_")?.split_once('_')?;
    let good = secret.len() == DIGITS && secret.bytes().all(|b| b.is_ascii_hexdigit());
    good.then_some((id, secret))
}

fn hash(secret: &str) -> String {
    crypto::hex(&crypto::sha256(secret.as_bytes()))
}

fn check(new: &NewToken) -> Result<(), TokenError> {
    let wrong = |why: String| Err(TokenError::Invalid(why));
    if new.name.len() > LONGEST_NAME || new.name.chars().any(char::is_control) {
        return wrong("the token's name is longer than 253 bytes or has control characters".into());
    }
    if let Kind::Bootstrap { app, unit, instance, .. } = &new.kind {
        if let Err(e) = SpiffeId::app("mesh", unit.as_deref().unwrap_or(""), app) {
            return wrong(format!("there can be no certificate of that name: {e}"));
        }
        if unit.as_deref() == Some("") {
            return wrong("the unit is empty; leave it out for any".into());
        }
        if let Some(i) = instance
            && (i.is_empty() || i.len() > LONGEST_NAME || i.chars().any(char::is_control))
        {
            return wrong("the instance is empty, longer than 253 bytes or has control characters".into());
        }
    }
    Ok(())
}
