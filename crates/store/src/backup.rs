//! A store as one file, and back.
//!
//! ```text
//! raddle-store-backup 1        format
//! schema: 1                    how keys and values are laid out in a store
//! revision: 4711               the one point in history that it is of
//! entries: 2                   how many follow
//!                              an empty line, then for each entry, in the keys' order:
//! LENGTH KEY LENGTH VALUE      lengths as 32 bits, high byte first
//! CRC                          CRC-32 of everything before it
//! ```
//!
//! Keys under a lease are left out: they are of who holds the lease, and come again by themselves.
use crate::limits::{MAX_OPS, MAX_TXN, MAX_VALUE, check_key};
use crate::types::{Entry, Expect, Key, Op, Outcome, Revision, Store, StoreError, Txn};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};

const MAGIC: &str = "raddle-store-backup";
const FORMAT: u64 = 1;
const SCHEMA: u64 = 1;
/// Longest line of the header.
const MAX_LINE: u64 = 256;

/// What to do with what is in the store already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restore {
    /// Nothing: it must have no entries (those under leases aside).
    IfEmpty,
    /// The store holds what the backup holds, and nothing else (entries under leases aside).
    Overwrite,
}

/// What was exported or imported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// The point in history that the backup is of.
    pub revision: Revision,
    /// Entries in the backup.
    pub entries: usize,
    /// Entries under leases, left out. Only of an export.
    pub leased: usize,
    /// Entries that were written, because the store had them not or otherwise. Only of an import.
    pub written: usize,
    /// Entries that were removed, because the backup has them not. Only of an import.
    pub removed: usize,
}

/// Why a backup was not made or not taken.
#[derive(Debug)]
pub enum BackupError {
    /// The backup cannot be read or written.
    Io(io::Error),
    /// The backup is no backup, or a damaged one; where and how.
    Damaged(String),
    /// A newer version made it.
    Newer(String),
    /// The store has entries, and none may be overwritten: how many, and the first.
    NotEmpty(usize, Key),
    /// Somebody else wrote to the store meanwhile; here.
    Busy(Key),
    /// The store failed.
    Store(StoreError),
}

impl fmt::Display for BackupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BackupError::Io(why) => write!(f, "the backup cannot be read or written: {why}"),
            BackupError::Damaged(why) => write!(f, "the backup is damaged, nothing was changed: {why}"),
            BackupError::Newer(why) => {
                write!(f, "the backup is of a newer raddle, nothing was changed: {why}")
            }
            BackupError::NotEmpty(count, key) => {
                write!(
                    f,
                    "the store is not empty, nothing was changed: it has {count} entries, the first is {key}"
                )
            }
            BackupError::Busy(key) => {
                write!(
                    f,
                    "{key} was written by somebody else meanwhile; stop the control plane, and restore again"
                )
            }
            BackupError::Store(why) => write!(f, "{why}"),
        }
    }
}

impl std::error::Error for BackupError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            BackupError::Io(why) => Some(why),
            BackupError::Store(why) => Some(why),
            _ => None,
        }
    }
}

impl From<io::Error> for BackupError {
    fn from(why: io::Error) -> BackupError {
        BackupError::Io(why)
    }
}

impl From<StoreError> for BackupError {
    fn from(why: StoreError) -> BackupError {
        BackupError::Store(why)
    }
}

/// Writes everything that is in a store, at one revision, while others may go on writing to it. The listing is held in
/// memory; writing blocks as `to` does.
///
/// # Errors
/// If the store cannot be listed, or `to` not be written.
pub async fn export(store: &dyn Store, to: impl Write + Send) -> Result<Summary, BackupError> {
    let listing = store.list("").await?;
    let all = listing.entries.len();
    let entries: Vec<Entry> = listing.entries.into_iter().filter(|e| e.lease.is_none()).collect();
    let summary = Summary {
        revision: listing.revision,
        entries: entries.len(),
        leased: all - entries.len(),
        ..Summary::default()
    };
    let mut to = Sum { inner: to, crc: crc32fast::Hasher::new() };
    write!(to, "{MAGIC} {FORMAT}\nschema: {SCHEMA}\nrevision: {}\n", listing.revision.0)?;
    write!(to, "entries: {}\n\n", entries.len())?;
    for entry in entries {
        for part in [entry.key.as_bytes(), &entry.value[..]] {
            to.write_all(&(part.len() as u32).to_be_bytes())?;
            to.write_all(part)?;
        }
    }
    let crc = to.crc.clone().finalize();
    to.inner.write_all(&crc.to_be_bytes())?;
    to.inner.flush()?;
    Ok(summary)
}

/// Puts a backup into a store: first all of it is read and checked, then the store is changed, in transactions of
/// up to 128 entries. If that ends half-way (the store went away), importing again with [`Restore::Overwrite`]
/// finishes it.
///
/// # Errors
/// See [`BackupError`]; unless it says otherwise nothing was changed.
pub async fn import(store: &dyn Store, from: impl Read + Send, how: Restore) -> Result<Summary, BackupError> {
    let (revision, entries) = read(from)?;
    let mut summary = Summary { revision, entries: entries.len(), ..Summary::default() };
    let present = store.list("").await?.entries;
    let present: BTreeMap<Key, Entry> = present.into_iter().map(|e| (e.key.clone(), e)).collect();
    let mut standing = present.values().filter(|e| e.lease.is_none());
    if how == Restore::IfEmpty
        && let Some(first) = standing.next()
    {
        return Err(BackupError::NotEmpty(1 + standing.count(), first.key.clone()));
    }
    let kept: BTreeSet<&Key> = entries.iter().map(|(key, _)| key).collect();
    let gone: Vec<Key> = standing.filter(|e| !kept.contains(&e.key)).map(|e| e.key.clone()).collect();
    let same =
        |key: &Key, value: &Bytes| present.get(key).is_some_and(|e| e.value == *value && e.lease.is_none());
    let puts = entries.iter().filter(|(key, value)| !same(key, value));
    let puts = puts.map(|(key, value)| Op::Put { key: key.clone(), value: value.clone(), lease: None });
    let puts: Vec<Op> = puts.collect();
    (summary.written, summary.removed) = (puts.len(), gone.len());
    let mut batch = Batch { store, present: &present, txn: Txn::default(), bytes: 0 };
    for op in puts.into_iter().chain(gone.into_iter().map(|key| Op::Delete { key })) {
        batch.add(op).await?;
    }
    batch.commit().await?;
    Ok(summary)
}

/// Changes that are done together, each only if nobody was faster.
struct Batch<'a> {
    store: &'a dyn Store,
    present: &'a BTreeMap<Key, Entry>,
    txn: Txn,
    bytes: usize,
}

impl Batch<'_> {
    async fn add(&mut self, op: Op) -> Result<(), BackupError> {
        let (key, size) = match &op {
            Op::Put { key, value, .. } => (key.clone(), value.len()),
            Op::Delete { key } => (key.clone(), 0),
        };
        // Each key is counted twice: it is expected and changed.
        let bytes = 2 * key.len() + size;
        if self.txn.ops.len() == MAX_OPS || self.bytes + bytes > MAX_TXN {
            self.commit().await?;
        }
        self.bytes += bytes;
        let expect = self.present.get(&key).map_or(Expect::Absent, |e| Expect::At(e.changed));
        self.txn.expect.push((key, expect));
        self.txn.ops.push(op);
        Ok(())
    }

    async fn commit(&mut self) -> Result<(), BackupError> {
        let txn = std::mem::take(&mut self.txn);
        self.bytes = 0;
        if txn.ops.is_empty() {
            return Ok(());
        }
        match self.store.commit(txn).await? {
            Outcome::Done(_) => Ok(()),
            Outcome::Conflict(key, _) => Err(BackupError::Busy(key)),
        }
    }
}

/// Reads and checks a whole backup.
fn read(from: impl Read) -> Result<(Revision, Vec<(Key, Bytes)>), BackupError> {
    let mut from = BufReader::new(from);
    let mut crc = crc32fast::Hasher::new();
    let format = field(&mut from, &mut crc, &format!("{MAGIC} "))?;
    if format > FORMAT {
        return Err(BackupError::Newer(format!("format {format}, this raddle knows up to {FORMAT}")));
    }
    let schema = field(&mut from, &mut crc, "schema: ")?;
    if schema > SCHEMA {
        return Err(BackupError::Newer(format!("schema {schema}, this raddle knows up to {SCHEMA}")));
    }
    let revision = Revision(field(&mut from, &mut crc, "revision: ")?);
    let count = field(&mut from, &mut crc, "entries: ")?;
    if !line(&mut from, &mut crc)?.is_empty() {
        return Err(BackupError::Damaged("its header does not end where it should".into()));
    }
    let mut entries: Vec<(Key, Bytes)> = Vec::new();
    for number in 1..=count {
        let wrong = |why: String| BackupError::Damaged(format!("entry {number} of {count}: {why}"));
        let key = part(&mut from, &mut crc, crate::limits::MAX_KEY).map_err(&wrong)?;
        let key = std::str::from_utf8(&key).map_err(|e| wrong(format!("its key is no text: {e}")))?;
        check_key(key).map_err(|e| wrong(e.to_string()))?;
        if entries.last().is_some_and(|(last, _)| **last >= *key) {
            return Err(wrong(format!("{key} is out of order")));
        }
        let value = part(&mut from, &mut crc, MAX_VALUE).map_err(&wrong)?;
        entries.push((key.into(), value.into()));
    }
    let mut said = [0; 4];
    from.read_exact(&mut said).map_err(|e| BackupError::Damaged(format!("its checksum is missing: {e}")))?;
    if u32::from_be_bytes(said) != crc.finalize() {
        return Err(BackupError::Damaged("its checksum does not match".into()));
    }
    if from.read(&mut [0])? != 0 {
        return Err(BackupError::Damaged("there is something after its end".into()));
    }
    Ok((revision, entries))
}

fn line(from: &mut impl BufRead, crc: &mut crc32fast::Hasher) -> Result<String, BackupError> {
    let mut bytes = Vec::new();
    from.take(MAX_LINE).read_until(b'\n', &mut bytes)?;
    crc.update(&bytes);
    match bytes.pop() {
        Some(b'\n') => {}
        _ => return Err(BackupError::Damaged(format!("it does not begin with {MAGIC:?} and a header"))),
    }
    String::from_utf8(bytes).map_err(|_| BackupError::Damaged("its header is no text".into()))
}

/// The number of a line of the header.
fn field(from: &mut impl BufRead, crc: &mut crc32fast::Hasher, name: &str) -> Result<u64, BackupError> {
    let line = line(from, crc)?;
    let number = line.strip_prefix(name).and_then(|number| number.parse().ok());
    number.ok_or_else(|| BackupError::Damaged(format!("{line:?} should be {name:?} and a number")))
}

fn part(from: &mut impl Read, crc: &mut crc32fast::Hasher, most: usize) -> Result<Vec<u8>, String> {
    let mut length = [0; 4];
    from.read_exact(&mut length).map_err(|e| e.to_string())?;
    crc.update(&length);
    let length = u32::from_be_bytes(length) as usize;
    if length > most {
        return Err(format!("a part of {length} bytes, over {most}"));
    }
    let mut part = vec![0; length];
    from.read_exact(&mut part).map_err(|e| e.to_string())?;
    crc.update(&part);
    Ok(part)
}

/// Sums what passes.
struct Sum<T> {
    inner: T,
    crc: crc32fast::Hasher,
}

impl<T: Write> Write for Sum<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.crc.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
