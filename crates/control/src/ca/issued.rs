//! What was signed: one entry each in the store, by the day on which it ends, so that old ones are found without
//! reading all.
use crate::keys::CA;
use raddle_store::{Expect, Key, Op, Store, StoreError, Txn};
use serde::{Deserialize, Serialize};
use std::ops::Range;

const DAY: i64 = 86400;
/// Days for which ended certificates are remembered.
const KEPT_DAYS: i64 = 30;
/// Days before these at which is looked for what to remove: after an outage.
const LOOK_BACK: i64 = 60;
/// Removed in one transaction.
const BATCH: usize = 100;

/// A certificate that was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Issued {
    /// Its serial number, hexadecimal.
    pub serial: String,
    /// Whose it is.
    pub id: String,
    /// The instance that asked, as it calls itself.
    pub instance: String,
    /// What it proved itself with: `token ID`, `kubernetes NS/ACCOUNT`, `certificate SERIAL`, `self`.
    pub proof: String,
    /// From where it asked.
    pub from: String,
    /// Which authority signed.
    pub authority: String,
    /// When it was signed, seconds since 1970.
    pub at: i64,
    /// Until when it is valid, seconds since 1970.
    pub not_after: i64,
}

impl Issued {
    pub(super) fn put(&self) -> Op {
        let day = self.not_after.div_euclid(DAY);
        let key: Key = format!("{CA}issued/{day:06}/{:012}-{}", self.not_after, self.serial).into();
        // Strings and numbers always can be written.
        let value = serde_json::to_vec(self).unwrap_or_default().into();
        Op::Put { key, value, lease: None }
    }
}

/// What was signed and ends in these days from now, sooner first; at most `most`.
pub(super) async fn list(store: &dyn Store, most: usize) -> Result<Vec<Issued>, StoreError> {
    let entries = store.list(&format!("{CA}issued/")).await?.entries;
    // The last to end are the last that were signed.
    let skip = entries.len().saturating_sub(most);
    Ok(entries.iter().skip(skip).filter_map(|e| serde_json::from_slice(&e.value).ok()).collect())
}

/// Removes what ended long ago; how many.
pub(super) async fn prune(store: &dyn Store, now: i64) -> Result<usize, StoreError> {
    let mut removed = 0;
    for day in old_days(now) {
        let entries = store.list(&format!("{CA}issued/{day:06}/")).await?.entries;
        for batch in entries.chunks(BATCH) {
            let txn = Txn {
                expect: batch.iter().map(|e| (e.key.clone(), Expect::Present)).collect(),
                ops: batch.iter().map(|e| Op::Delete { key: e.key.clone() }).collect(),
                relaxed: true,
            };
            // A conflict means that another replica is at it.
            store.commit(txn).await?;
            removed += batch.len();
        }
    }
    Ok(removed)
}

fn old_days(now: i64) -> Range<i64> {
    let end = (now.div_euclid(DAY) - KEPT_DAYS).max(0);
    (end - LOOK_BACK).max(0)..end
}
