//! What a transaction does to the tables.
use super::file::{BOUND, CEILING, ENTRIES, LEASES, META, REVISION, Row, entry};
use crate::types::{Change, Entry, Expect, Key, Op, Revision, Txn};
use bytes::Bytes;
use redb::{Error, ReadableTable, Table, WriteTransaction};

/// The tables, open for writing.
pub(super) struct Tables<'t> {
    meta: Table<'t, &'static str, u64>,
    entries: Table<'t, &'static str, Row<'static>>,
    leases: Table<'t, i64, u64>,
    bound: Table<'t, (i64, &'static str), ()>,
}

/// What became of a transaction.
#[derive(Debug)]
pub(super) enum Applied {
    /// These changes were made; none if there was nothing to change.
    Done(Vec<Change>),
    /// An expectation did not hold. Nothing was changed.
    Conflict(Key, Option<Entry>),
    /// A lease does not live. Nothing was changed.
    NoLease,
}

impl<'t> Tables<'t> {
    pub(super) fn open(write: &'t WriteTransaction) -> Result<Tables<'t>, Error> {
        Ok(Tables {
            meta: write.open_table(META)?,
            entries: write.open_table(ENTRIES)?,
            leases: write.open_table(LEASES)?,
            bound: write.open_table(BOUND)?,
        })
    }

    /// Does a transaction as the commit `revision`.
    pub(super) fn apply(
        &mut self,
        txn: Txn,
        revision: u64,
        lives: impl Fn(i64) -> bool,
    ) -> Result<Applied, Error> {
        for (key, expect) in &txn.expect {
            let found = self.get(key)?;
            let holds = match expect {
                Expect::Absent => found.is_none(),
                Expect::Present => found.is_some(),
                Expect::At(at) => found.as_ref().is_some_and(|e| e.changed == *at),
            };
            if !holds {
                return Ok(Applied::Conflict(key.clone(), found));
            }
        }
        let ended = |op: &Op| matches!(op, Op::Put { lease: Some(lease), .. } if !lives(lease.0));
        if txn.ops.iter().any(ended) {
            return Ok(Applied::NoLease);
        }
        let mut changes = Vec::with_capacity(txn.ops.len());
        for op in txn.ops {
            match op {
                Op::Put { key, value, lease } => {
                    self.put(&key, (revision, lease.map_or(0, |l| l.0), &value))?;
                    // A copy of its own: the caller's may be a small part of a large message, kept alive by the history.
                    let value = Bytes::copy_from_slice(&value);
                    changes.push(Change::Put(Entry { key, value, changed: Revision(revision), lease }));
                }
                Op::Delete { key } if self.delete(&key)? => changes.push(Change::Delete(key)),
                Op::Delete { .. } => {}
            }
        }
        Ok(Applied::Done(changes))
    }

    fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        Ok(self.entries.get(key)?.map(|row| entry(key, row.value())))
    }

    fn put(&mut self, key: &str, row: Row<'_>) -> Result<(), Error> {
        let before = self.entries.insert(key, row)?.map_or(0, |row| row.value().1);
        if before != row.1 {
            if before != 0 {
                self.bound.remove((before, key))?;
            }
            if row.1 != 0 {
                self.bound.insert((row.1, key), ())?;
            }
        }
        Ok(())
    }

    /// False if there is no such key.
    fn delete(&mut self, key: &str) -> Result<bool, Error> {
        let Some(lease) = self.entries.remove(key)?.map(|row| row.value().1) else { return Ok(false) };
        if lease != 0 {
            self.bound.remove((lease, key))?;
        }
        Ok(true)
    }

    /// A lease begins.
    pub(super) fn grant(&mut self, lease: i64, ttl_ms: u64) -> Result<(), Error> {
        self.leases.insert(lease, ttl_ms)?;
        Ok(())
    }

    /// A lease ends, and its keys with it.
    pub(super) fn end(&mut self, lease: i64) -> Result<Vec<Change>, Error> {
        self.leases.remove(lease)?;
        let mut keys: Vec<Key> = Vec::new();
        for row in self.bound.range((lease, "")..(lease + 1, ""))? {
            keys.push(row?.0.value().1.into());
        }
        for key in &keys {
            self.delete(key)?;
        }
        Ok(keys.into_iter().map(Change::Delete).collect())
    }

    /// Notes the last commit.
    pub(super) fn reached(&mut self, revision: u64) -> Result<(), Error> {
        self.meta.insert(REVISION, revision)?;
        Ok(())
    }

    /// Notes a revision that is not reached yet.
    pub(super) fn raise_ceiling(&mut self, ceiling: u64) -> Result<(), Error> {
        self.meta.insert(CEILING, ceiling)?;
        Ok(())
    }
}
