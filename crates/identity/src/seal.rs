//! Secrets at rest: sealed with a key from a file.
//!
//! An envelope is `RDLS`, a version (1), the key's id (8 bytes), a nonce (12 bytes), and AES-256-GCM's text and tag.
//! Bound to it is what it is for, so that one cannot be put in another's place.
use crate::crypto;
use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hkdf::{HKDF_SHA256, Salt};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const MAGIC: &[u8; 5] = b"RDLS\x01";
const ID: usize = 8;
/// Fewest bytes of a key file.
const LEAST: usize = 32;
/// Most bytes of a key file that are read.
const MOST: u64 = 64 * 1024;

/// A key that seals.
pub struct SealKey {
    id: [u8; ID],
    key: LessSafeKey,
}

impl SealKey {
    /// Derives it from a secret of at least 32 bytes (HKDF-SHA256, RFC 5869).
    ///
    /// # Errors
    /// The secret is shorter.
    pub fn new(secret: &[u8]) -> Result<SealKey, SealError> {
        if secret.len() < LEAST {
            return Err(SealError::Short(secret.len()));
        }
        let prk = Salt::new(HKDF_SHA256, b"raddle seal v1").extract(secret);
        let derive = |info: &[u8], out: &mut [u8]| -> Result<(), SealError> {
            let info = [info];
            let okm = prk.expand(&info, HKDF_SHA256).map_err(|_| SealError::Damaged)?;
            let mut full = Zeroizing::new([0u8; 32]);
            okm.fill(&mut *full).map_err(|_| SealError::Damaged)?;
            out.copy_from_slice(&full[..out.len()]);
            Ok(())
        };
        let mut id = [0; ID];
        derive(b"id", &mut id)?;
        let mut key = Zeroizing::new([0u8; 32]);
        derive(b"key", &mut *key)?;
        let key = UnboundKey::new(&AES_256_GCM, &*key).map_err(|_| SealError::Damaged)?;
        Ok(SealKey { id, key: LessSafeKey::new(key) })
    }

    /// Derives it from a file.
    ///
    /// # Errors
    /// The file cannot be read, is shorter than 32 bytes, or others may read it.
    pub fn load(file: &Path) -> Result<SealKey, SealError> {
        let failed = |e: std::io::Error| SealError::File(file.to_owned(), e.to_string());
        let opened = File::open(file).map_err(failed)?;
        let mode = opened.metadata().map_err(failed)?.permissions().mode();
        if mode & 0o007 != 0 {
            return Err(SealError::Open(file.to_owned(), mode & 0o777));
        }
        let mut secret = Zeroizing::new(Vec::with_capacity(MOST as usize + 1));
        opened.take(MOST).read_to_end(&mut secret).map_err(failed)?;
        SealKey::new(&secret)
    }

    /// As [`SealKey::load`]; where there is no file, makes one of 32 random bytes, readable by its owner only.
    ///
    /// # Errors
    /// As [`SealKey::load`], or the file cannot be made.
    pub fn load_or_create(file: &Path) -> Result<SealKey, SealError> {
        let failed = |e: std::io::Error| SealError::File(file.to_owned(), e.to_string());
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(file) {
            Ok(mut new) => {
                let secret = Zeroizing::new(crypto::random::<LEAST>());
                new.write_all(&*secret).and_then(|()| new.sync_all()).map_err(failed)?;
            }
            Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
            Err(e) => return Err(failed(e)),
        }
        SealKey::load(file)
    }

    /// Names the key without telling it, 16 hexadecimal digits.
    pub fn id(&self) -> String {
        crypto::hex(&self.id)
    }

    /// Seals a secret for a purpose.
    ///
    /// # Errors
    /// AES refuses (never for secrets shorter than gigabytes).
    pub fn seal(&self, purpose: &str, secret: &[u8]) -> Result<Vec<u8>, SealError> {
        let nonce: [u8; NONCE_LEN] = crypto::random();
        let mut text = Zeroizing::new(Vec::with_capacity(secret.len() + AES_256_GCM.tag_len()));
        text.extend_from_slice(secret);
        let nonce_used = Nonce::assume_unique_for_key(nonce);
        self.key
            .seal_in_place_append_tag(nonce_used, self.aad(purpose), &mut *text)
            .map_err(|_| SealError::Damaged)?;
        Ok([&MAGIC[..], &self.id, &nonce, &text].concat())
    }

    /// Opens an envelope.
    ///
    /// # Errors
    /// It is none, was sealed with another key or for another purpose, or was changed.
    pub fn open(&self, purpose: &str, envelope: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let rest = envelope.strip_prefix(MAGIC).ok_or(SealError::Damaged)?;
        let (id, rest) = rest.split_at_checked(ID).ok_or(SealError::Damaged)?;
        if id != self.id {
            return Err(SealError::OtherKey { sealed: crypto::hex(id), given: self.id() });
        }
        let (nonce, text) = rest.split_at_checked(NONCE_LEN).ok_or(SealError::Damaged)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Damaged)?;
        let mut text = Zeroizing::new(text.to_vec());
        let open = self.key.open_in_place(nonce, self.aad(purpose), &mut text);
        let len = open.map_err(|_| SealError::Damaged)?.len();
        text.truncate(len);
        Ok(text)
    }

    fn aad(&self, purpose: &str) -> Aad<Vec<u8>> {
        Aad::from([&MAGIC[..], &self.id, purpose.as_bytes()].concat())
    }
}

impl fmt::Debug for SealKey {
    /// Nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKey({})", self.id())
    }
}

/// Why something cannot be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealError {
    /// The key file cannot be read or made.
    File(PathBuf, String),
    /// Everybody may read the key file; its mode.
    Open(PathBuf, u32),
    /// The key file has so many bytes only.
    Short(usize),
    /// It was sealed with another key.
    OtherKey {
        /// Id of the key it was sealed with.
        sealed: String,
        /// Id of the key given.
        given: String,
    },
    /// It is no envelope, is for another purpose, or was changed.
    Damaged,
}

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SealError::File(file, why) => write!(f, "the seal key {} cannot be used: {why}", file.display()),
            SealError::Open(file, mode) => write!(
                f,
                "the seal key {} may be read by everybody (mode {mode:o}); make it 0600",
                file.display()
            ),
            SealError::Short(n) => {
                write!(f, "the seal key has {n} bytes; at least {LEAST} are needed (head -c 32 /dev/urandom)")
            }
            SealError::OtherKey { sealed, given } => write!(
                f,
                "what is in the store was sealed with key {sealed}, and the one given is {given}; \
                 give the file that was used when the authority was made"
            ),
            SealError::Damaged => f.write_str("what is sealed in the store is damaged"),
        }
    }
}

impl std::error::Error for SealError {}
