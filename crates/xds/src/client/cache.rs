//! The file that carries what is known over a restart. It holds no secrets, is written whole or not at all, and
//! anything wrong with it means no more than a start without it.
use super::machine::Stored;
use crate::resource::fnv;
use crate::types::Kind;
use prost::Message;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

/// First bytes of the file; the last is the format's version.
const MAGIC: &[u8; 8] = b"RDLXDS\0\x01";
/// Largest file.
const LARGEST: usize = 64 << 20;

#[derive(Clone, PartialEq, Message)]
struct Content {
    /// Whose it is: another app's resources are of no use.
    #[prost(string, tag = "1")]
    app: String,
    #[prost(string, repeated, tag = "2")]
    names: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    entries: Vec<Entry>,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(string, tag = "3")]
    version: String,
    #[prost(bytes = "bytes", tag = "4")]
    value: bytes::Bytes,
}

/// What a cache holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshot {
    pub(super) names: Vec<Arc<str>>,
    pub(super) stored: Vec<Stored>,
}

/// Puts the file's bytes together.
pub(super) fn encode(app: &str, snapshot: &Snapshot) -> io::Result<Vec<u8>> {
    // The machine gives no secrets; one that did would still not get them onto the disk.
    let kept = snapshot.stored.iter().filter(|stored| stored.kind != Kind::Secret);
    let entry = |stored: &Stored| Entry {
        type_url: stored.kind.type_url().into(),
        name: stored.name.to_string(),
        version: stored.version.to_string(),
        value: stored.value.clone(),
    };
    let content = Content {
        app: app.to_owned(),
        names: snapshot.names.iter().map(ToString::to_string).collect(),
        entries: kept.map(entry).collect(),
    };
    let body = content.encode_to_vec();
    if body.len() + 16 > LARGEST {
        return Err(io::Error::other(format!("would take {} bytes, over {LARGEST}", body.len())));
    }
    let mut out = Vec::with_capacity(body.len() + 16);
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&fnv(&body).to_le_bytes());
    out.extend_from_slice(&body);
    Ok(out)
}

/// Reads a file's bytes, or says why they are of no use.
pub(super) fn decode(app: &str, bytes: &[u8]) -> Result<Snapshot, String> {
    let (magic, rest) = bytes.split_at_checked(8).ok_or("is no cache")?;
    if magic[..7] != MAGIC[..7] {
        return Err("is no cache".into());
    }
    if magic[7] != MAGIC[7] {
        return Err(format!("is of format {}, not {}", magic[7], MAGIC[7]));
    }
    let (sum, body) = rest.split_at_checked(8).ok_or("is cut short")?;
    if fnv(body).to_le_bytes() != sum {
        return Err("is damaged".into());
    }
    let content = Content::decode(body).map_err(|e| format!("is damaged: {e}"))?;
    if content.app != app {
        return Err(format!("belongs to app {:?}", content.app));
    }
    let stored = content.entries.into_iter().filter_map(|entry| {
        Some(Stored {
            // A kind of a later Raddle; the rest is as good as ever.
            kind: Kind::of(&entry.type_url).filter(|kind| *kind != Kind::Secret)?,
            name: entry.name.into(),
            version: entry.version.into(),
            value: entry.value,
        })
    });
    Ok(Snapshot { names: content.names.into_iter().map(Arc::from).collect(), stored: stored.collect() })
}

/// Reads the file; `Ok(None)` = there is none.
pub(super) fn read(path: &Path, app: &str) -> Result<Option<Snapshot>, String> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e.to_string()),
    };
    let mut bytes = Vec::new();
    file.take(LARGEST as u64 + 1).read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    if bytes.len() > LARGEST {
        return Err(format!("is over {LARGEST} bytes long"));
    }
    decode(app, &bytes).map(Some)
}

/// Writes the file: beside it first, for the owner only, then in its place.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().ok_or_else(|| io::Error::other("is no file's path"))?.to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = path.with_file_name(name);
    let written = (|| {
        // What a process of the same id left behind.
        let _ = std::fs::remove_file(&beside);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&beside);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn stored(kind: Kind, name: &str, value: &'static [u8]) -> Stored {
        Stored { kind, name: name.into(), version: "v1".into(), value: value.into() }
    }

    fn snapshot() -> Snapshot {
        Snapshot {
            names: vec!["shop".into(), "pay".into()],
            stored: vec![stored(Kind::Cluster, "shop", b"cluster"), stored(Kind::Rule, "Route/a", b"rule")],
        }
    }

    #[test]
    fn what_was_written_is_read_and_only_the_owner_may() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("xds.cache");
        assert_eq!(read(&path, "shop"), Ok(None));
        write(&path, &encode("shop", &snapshot()).expect("small")).expect("written");
        assert_eq!(read(&path, "shop"), Ok(Some(snapshot())));
        let mode = std::fs::metadata(&path).expect("a file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).expect("a folder").count(), 1, "nothing is left beside");
    }

    #[test]
    fn secrets_never_reach_the_file() {
        let mut snapshot = snapshot();
        snapshot.stored.push(stored(Kind::Secret, "key", b"-----BEGIN PRIVATE KEY-----"));
        let bytes = encode("shop", &snapshot).expect("small");
        let text = String::from_utf8_lossy(&bytes);
        assert!(!text.contains("PRIVATE") && !text.contains("Secret"), "{text}");
    }

    #[test]
    fn damaged_foreign_newer_and_cut_files_are_refused_and_never_panic() {
        let good = encode("shop", &snapshot()).expect("small");
        assert!(decode("other", &good).is_err_and(|e| e.contains("belongs to app")));
        let mut newer = good.clone();
        newer[7] = 9;
        assert!(decode("shop", &newer).is_err_and(|e| e.contains("format 9")));
        for end in 0..good.len() {
            assert!(decode("shop", &good[..end]).is_err(), "cut at {end}");
        }
        for i in 0..good.len() {
            let mut bad = good.clone();
            bad[i] ^= 0x40;
            assert!(decode("shop", &bad).is_err(), "damaged at {i}");
        }
    }
}
