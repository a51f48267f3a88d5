//! Who is denied: ids and serial numbers, one entry each in the store.
use crate::keys::CA;
use raddle_identity::{DenyList, Serial, SpiffeId};
use raddle_store::{Entry, Key};
use serde::{Deserialize, Serialize};

/// Whom a denial is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DenyTarget {
    /// Everybody who is called so, whatever certificate they show.
    Id(SpiffeId),
    /// One certificate.
    Serial(Serial),
}

impl DenyTarget {
    /// Reads an id (`spiffe://...`) or a serial number (hexadecimal).
    pub fn parse(text: &str) -> Option<DenyTarget> {
        match text.parse() {
            Ok(id) => Some(DenyTarget::Id(id)),
            Err(_) => Serial::parse(text).map(DenyTarget::Serial),
        }
    }

    pub(super) fn key(&self) -> Key {
        format!("{CA}denied/{self}").into()
    }
}

impl std::fmt::Display for DenyTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DenyTarget::Id(id) => id.fmt(f),
            DenyTarget::Serial(serial) => serial.fmt(f),
        }
    }
}

/// A denial, as it is told and kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Denial {
    /// Id or serial number.
    pub target: String,
    /// Why, in the words of who did it.
    pub reason: String,
    /// Who did it.
    pub by: String,
    /// When, seconds since 1970.
    pub at: i64,
}

/// The denials among entries of the store.
pub(super) fn read<'a>(entries: impl Iterator<Item = &'a Entry>) -> (DenyList, Vec<Denial>) {
    let (mut list, mut told) = (DenyList::default(), Vec::new());
    let prefix = format!("{CA}denied/");
    for entry in entries {
        let Some(target) = entry.key.strip_prefix(&prefix).and_then(DenyTarget::parse) else { continue };
        // Whom it is about is in the key: a value that cannot be read denies nonetheless.
        told.push(serde_json::from_slice(&entry.value).unwrap_or_else(|_| Denial {
            target: target.to_string(),
            reason: String::new(),
            by: String::new(),
            at: 0,
        }));
        match target {
            DenyTarget::Id(id) => list.ids.insert(id),
            DenyTarget::Serial(serial) => list.serials.insert(serial),
        };
    }
    (list, told)
}
