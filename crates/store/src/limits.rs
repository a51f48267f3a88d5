//! What every engine refuses, so that what one takes the other takes too.
use crate::types::{Expect, Key, Op, StoreError, Txn};
use std::collections::HashSet;
use std::time::Duration;

/// Longest key, in bytes.
pub const MAX_KEY: usize = 1024;
/// Largest value, in bytes.
pub const MAX_VALUE: usize = 1 << 20;
/// Most changes, and most expectations, of one transaction (etcd's default bound).
pub const MAX_OPS: usize = 128;
/// Most bytes of keys and values in one transaction: etcd's default request bound is 1.5 MiB with framing.
pub const MAX_TXN: usize = 1_310_720;
/// Shortest life of a lease. etcd counts in seconds and rounds up; its own floor is about 2 s.
pub const MIN_TTL: Duration = Duration::from_millis(100);
/// Longest life of a lease.
pub const MAX_TTL: Duration = Duration::from_hours(30 * 24);

/// Whether a key may be used.
///
/// # Errors
/// [`StoreError::Invalid`] with what is wrong with it.
pub fn check_key(key: &str) -> Result<(), StoreError> {
    if key.is_empty() {
        return refuse("a key is empty");
    }
    if key.starts_with('/') {
        return refuse(format!("key {key:?} begins with a slash"));
    }
    check_prefix(key)
}

/// Whether a prefix may be listed or watched; an empty one is all keys.
///
/// # Errors
/// [`StoreError::Invalid`] with what is wrong with it.
pub fn check_prefix(prefix: &str) -> Result<(), StoreError> {
    if prefix.len() > MAX_KEY {
        let begin: String = prefix.chars().take(40).collect();
        return refuse(format!("key {begin:?}... has {} bytes, over {MAX_KEY}", prefix.len()));
    }
    if prefix.chars().any(char::is_control) {
        return refuse(format!("key {prefix:?} has a control character"));
    }
    Ok(())
}

/// Whether a lease may live so long.
///
/// # Errors
/// [`StoreError::Invalid`] with the bounds.
pub fn check_ttl(ttl: Duration) -> Result<(), StoreError> {
    if (MIN_TTL..=MAX_TTL).contains(&ttl) {
        return Ok(());
    }
    refuse(format!("a lease of {ttl:?} is not within {MIN_TTL:?} and {} days", MAX_TTL.as_secs() / 86_400))
}

/// Whether a transaction may be tried; the bytes of its keys and values.
///
/// # Errors
/// [`StoreError::Invalid`] with the first thing that is wrong with it.
pub fn check_txn(txn: &Txn) -> Result<usize, StoreError> {
    for (count, what) in [(txn.ops.len(), "changes"), (txn.expect.len(), "expectations")] {
        if count > MAX_OPS {
            return refuse(format!("a transaction has {count} {what}, over {MAX_OPS}"));
        }
    }
    let mut bytes = 0;
    for (key, expect) in &txn.expect {
        check_key(key)?;
        bytes += key.len();
        if matches!(expect, Expect::At(revision) if revision.0 == 0) {
            return refuse(format!("{key:?} is expected at revision 0, which wrote nothing"));
        }
    }
    let mut seen: HashSet<&Key> = HashSet::with_capacity(txn.ops.len());
    for op in &txn.ops {
        let (key, size) = match op {
            Op::Put { key, value, .. } => (key, value.len()),
            Op::Delete { key } => (key, 0),
        };
        check_key(key)?;
        if size > MAX_VALUE {
            return refuse(format!("the value of {key:?} has {size} bytes, over {MAX_VALUE}"));
        }
        if !seen.insert(key) {
            return refuse(format!("a transaction changes {key:?} twice"));
        }
        bytes += key.len() + size;
    }
    if bytes > MAX_TXN {
        return refuse(format!("a transaction has {bytes} bytes of keys and values, over {MAX_TXN}"));
    }
    Ok(bytes)
}

fn refuse<T>(why: impl Into<String>) -> Result<T, StoreError> {
    Err(StoreError::Invalid(why.into()))
}
