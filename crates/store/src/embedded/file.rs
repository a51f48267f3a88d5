//! The file: its tables, how it is opened, and what of it is read.
//!
//! | table | key | value |
//! |---|---|---|
//! | `meta` | name | number: [`SCHEMA`], [`REVISION`], [`CEILING`], [`EPOCH`], [`CLEAN`] |
//! | `entries` | key | commit that wrote it, lease (0 = none), value |
//! | `leases` | id | time to live in milliseconds |
//! | `bound` | lease, key | |
//!
//! Relaxed commits reach the disk with the next flush, so a crash may lose some. Revisions must not go back even then:
//! `ceiling` is a revision that none has reached yet, on the disk before any could, and after a crash counting goes on
//! from there.
use crate::types::{Entry, LeaseId, Revision, StoreError};
use bytes::Bytes;
use redb::{Database, DatabaseError, Durability, Error, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::Path;
use std::time::Duration;

pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
pub(super) const ENTRIES: TableDefinition<'_, &str, Row<'_>> = TableDefinition::new("entries");
pub(super) const LEASES: TableDefinition<'_, i64, u64> = TableDefinition::new("leases");
pub(super) const BOUND: TableDefinition<'_, (i64, &str), ()> = TableDefinition::new("bound");

/// Commit that wrote it, lease (0 = none), value.
pub(super) type Row<'a> = (u64, i64, &'a [u8]);

/// The tables' layout.
pub(super) const SCHEMA: &str = "schema";
/// The layout that this version writes, and the only one it reads.
pub(super) const SCHEMA_VERSION: u64 = 1;
/// The last commit.
pub(super) const REVISION: &str = "revision";
/// A revision that was not reached yet.
pub(super) const CEILING: &str = "ceiling";
/// How often the file was opened: no lease id comes twice.
pub(super) const EPOCH: &str = "epoch";
/// 1 if the file was closed in order.
pub(super) const CLEAN: &str = "clean";

/// How far ahead the ceiling is set.
pub(super) const CEILING_STEP: u64 = 1 << 16;

/// What an opened file was found to hold.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) db: Database,
    pub(super) revision: u64,
    pub(super) ceiling: u64,
    pub(super) epoch: u64,
    pub(super) leases: Vec<(i64, Duration)>,
}

/// Opens or makes the file; a large one with little in it is compacted.
pub(super) fn open(path: &Path, cache_bytes: usize, compact_over: u64) -> Result<Opened, StoreError> {
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty())
        && !parent.is_dir()
    {
        let why = format!("{}: its directory {} does not exist", path.display(), parent.display());
        return Err(StoreError::Unavailable(why));
    }
    let mut builder = Database::builder();
    builder.set_cache_size(cache_bytes).set_check_integrity_on_open(true);
    let db = builder.create(path).map_err(|e| not_opened(path, e))?;
    let mut opened = begin(db).map_err(|e| located(path, e))?;
    let size = std::fs::metadata(path).map_or(0, |m| m.len());
    if size > compact_over && used(&opened.db).map_err(|e| located(path, fault(&e)))? < size / 4 {
        // A crash meanwhile leaves the file as it was or compacted.
        opened.db.compact().map_err(|e| located(path, fault(&e.into())))?;
    }
    Ok(opened)
}

/// Bytes of the file that hold something.
fn used(db: &Database) -> Result<u64, Error> {
    let write = db.begin_write()?;
    let stats = write.stats()?;
    write.abort()?;
    Ok(stats.stored_bytes() + stats.metadata_bytes())
}

/// A store on something else than a file.
pub(super) fn open_on(backend: impl redb::StorageBackend) -> Result<Opened, StoreError> {
    let db = Database::builder().create_with_backend(backend).map_err(|e| fault(&e.into()))?;
    begin(db)
}

fn not_opened(file: &Path, error: DatabaseError) -> StoreError {
    let path = file.display();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => StoreError::Unavailable(
            format!("{path} is open in another process; stop that one, or name another file"),
        ),
        DatabaseError::UpgradeRequired(found) => {
            StoreError::Invalid(format!("{path} has file format {found}, which this version does not read"))
        }
        DatabaseError::Storage(redb::StorageError::Io(e)) if e.kind() == std::io::ErrorKind::InvalidData => {
            StoreError::Corrupt(format!("{path} is not a store of Raddle's: {e}"))
        }
        other => located(file, fault(&other.into())),
    }
}

/// Names the file in an error.
fn located(path: &Path, error: StoreError) -> StoreError {
    let path = path.display();
    match error {
        StoreError::Unavailable(why) => StoreError::Unavailable(format!("{path}: {why}")),
        StoreError::Invalid(why) => StoreError::Invalid(format!("{path}: {why}")),
        StoreError::Corrupt(why) => StoreError::Corrupt(format!("{path}: {why}")),
        StoreError::NoLease => StoreError::NoLease,
    }
}

/// What an error of redb's means to a user of the store.
pub(super) fn fault(error: &Error) -> StoreError {
    match error {
        Error::Corrupted(why) => StoreError::Corrupt(why.clone()),
        Error::TableTypeMismatch { table, .. } => {
            StoreError::Corrupt(format!("table {table} is not of this version's layout"))
        }
        Error::TableDoesNotExist(table) => StoreError::Corrupt(format!("table {table} is missing")),
        other => StoreError::Unavailable(other.to_string()),
    }
}

/// Checks the layout, notes on the disk that the file is in use, and reads what must be known at once.
fn begin(db: Database) -> Result<Opened, StoreError> {
    let fail = |e: Error| fault(&e);
    let mut write = db.begin_write().map_err(|e| fail(e.into()))?;
    write.set_durability(Durability::Immediate).map_err(|e| fail(e.into()))?;
    let tables = write.list_tables().map_err(|e| fail(e.into()))?.count();
    let (revision, ceiling, epoch, leases);
    {
        let mut meta = write.open_table(META).map_err(|e| fail(e.into()))?;
        let read = |name: &str| meta.get(name).map(|v| v.map(|v| v.value())).map_err(|e| fail(e.into()));
        match read(SCHEMA)? {
            None if tables == 0 => {}
            None => return Err(StoreError::Corrupt("it is a redb file, but not a store of Raddle's".into())),
            Some(SCHEMA_VERSION) => {}
            Some(newer) if newer > SCHEMA_VERSION => {
                return Err(StoreError::Invalid(format!(
                    "it has schema {newer} of a newer raddle, this one knows up to {SCHEMA_VERSION}; use that raddle"
                )));
            }
            Some(older) => return Err(StoreError::Corrupt(format!("schema {older} was never written"))),
        }
        let (last, reached) = (read(REVISION)?.unwrap_or(0), read(CEILING)?.unwrap_or(0));
        revision = if read(CLEAN)? == Some(1) { last } else { last.max(reached) };
        ceiling = revision + CEILING_STEP;
        epoch = read(EPOCH)?.unwrap_or(0) + 1;
        for (name, value) in
            [(SCHEMA, SCHEMA_VERSION), (REVISION, revision), (CEILING, ceiling), (EPOCH, epoch), (CLEAN, 0)]
        {
            meta.insert(name, value).map_err(|e| fail(e.into()))?;
        }
        write.open_table(ENTRIES).map_err(|e| fail(e.into()))?;
        write.open_table(BOUND).map_err(|e| fail(e.into()))?;
        let table = write.open_table(LEASES).map_err(|e| fail(e.into()))?;
        let mut found = Vec::new();
        for row in table.iter().map_err(|e| fail(e.into()))? {
            let (id, ttl) = row.map_err(|e| fail(e.into()))?;
            found.push((id.value(), Duration::from_millis(ttl.value())));
        }
        leases = found;
    }
    write.commit().map_err(|e| fail(e.into()))?;
    Ok(Opened { db, revision, ceiling, epoch, leases })
}

/// An entry as it is in its table.
pub(super) fn entry(key: &str, (changed, lease, value): Row<'_>) -> Entry {
    Entry {
        key: key.into(),
        value: Bytes::copy_from_slice(value),
        changed: Revision(changed),
        lease: (lease != 0).then_some(LeaseId(lease)),
    }
}

/// The entry of a key.
pub(super) fn get(db: &Database, key: &str) -> Result<Option<Entry>, Error> {
    let table = db.begin_read()?.open_table(ENTRIES)?;
    Ok(table.get(key)?.map(|row| entry(key, row.value())))
}

/// All entries under a prefix and the last commit they are of.
pub(super) fn list(db: &Database, prefix: &str) -> Result<(Vec<Entry>, u64), Error> {
    let read = db.begin_read()?;
    let revision = read.open_table(META)?.get(REVISION)?.map_or(0, |v| v.value());
    let table = read.open_table(ENTRIES)?;
    let mut entries = Vec::new();
    for row in table.range(prefix..)? {
        let (key, row) = row?;
        if !key.value().starts_with(prefix) {
            break;
        }
        entries.push(entry(key.value(), row.value()));
    }
    Ok((entries, revision))
}
