//! Tokens: who may speak to the control plane.
//!
//! **API tokens** carry a role. **Bootstrap tokens** prove to the authority that a sidecar is of an app, until it has a
//! certificate. Both are `rdl_ID_SECRET`, the secret 256 random bits; the store has its SHA-256 only. What is in the
//! store is followed in memory, so that asking costs no round trip.
mod record;

pub use crate::api::Role;
pub use record::{Kind, TokenInfo, Used};

use crate::keys::TOKENS;
use raddle_identity::crypto;
use raddle_store::{Change, Expect, Follow, Key, Mirror, Op, Outcome, Revision, Store, StoreError, Txn};
use record::Record;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use zeroize::Zeroizing;

/// Id of the token that is made at the first start.
const FIRST: &str = "first";
/// Most tokens there are; more are a mistake, or an attack.
const MOST: usize = 100_000;
/// For how long a one-time token does again what it did: for the same key, since an answer may get lost.
const AGAIN: i64 = 600;

/// What one may do who has shown a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Ask the API.
    Api {
        /// The token's id.
        id: Arc<str>,
        /// Its name, for the audit.
        name: Arc<str>,
        /// What may be asked.
        role: Role,
    },
    /// Get a certificate.
    Bootstrap(Bootstrap),
}

/// What a bootstrap token is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// The token's id.
    pub id: Arc<str>,
    /// The app whose name it is good for.
    pub app: String,
    /// The unit; `None` = any.
    pub unit: Option<String>,
    /// The instance; `None` = any.
    pub instance: Option<String>,
    /// Good for one certificate.
    pub once: bool,
}

/// Why a token is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// It is no token, there is none of that id, or the secret is another.
    Unknown,
    /// Its time is over.
    Expired,
    /// Somebody revoked it.
    Revoked,
    /// It was good for one certificate, and has been used.
    Used,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Denied::Unknown => "the token is not known",
            Denied::Expired => "the token has expired",
            Denied::Revoked => "the token has been revoked",
            Denied::Used => "the token was good for one certificate and has been used",
        })
    }
}

impl std::error::Error for Denied {}

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// For people.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// For how long it is good; `None` = until it is revoked.
    pub lifetime: Option<Duration>,
    /// Who makes it, for the list.
    pub by: String,
}

/// Why something was not done with tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenError {
    /// What was asked for is wrong.
    Invalid(String),
    /// There is no such token.
    None,
    /// The store did not do it.
    Store(StoreError),
    /// The file for the first token cannot be written.
    File(PathBuf, String),
}

impl From<StoreError> for TokenError {
    fn from(e: StoreError) -> TokenError {
        TokenError::Store(e)
    }
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::Invalid(why) => f.write_str(why),
            TokenError::None => f.write_str("there is no such token"),
            TokenError::Store(e) => e.fmt(f),
            TokenError::File(file, why) => {
                write!(f, "the first admin token cannot be written to {}: {why}", file.display())
            }
        }
    }
}

impl std::error::Error for TokenError {}

/// All tokens.
pub struct Tokens {
    store: Arc<dyn Store>,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    records: HashMap<Arc<str>, (Revision, Arc<Record>)>,
    /// Revoked here, and not yet seen to be gone.
    gone: HashSet<Arc<str>>,
}

impl Tokens {
    /// Reads what is in the store, and follows it in a task of the running runtime. If `first` is given and there has
    /// never been one, makes a token for administrators and writes it to that file, readable by its owner only.
    ///
    /// # Errors
    /// The store or the file does not do it.
    pub async fn open(store: Arc<dyn Store>, first: Option<&Path>) -> Result<Arc<Tokens>, TokenError> {
        let tokens = Arc::new(Tokens { store: store.clone(), known: RwLock::default() });
        for entry in store.list(TOKENS).await?.entries {
            tokens.take(&Change::Put(entry));
        }
        if let Some(file) = first {
            tokens.make_first(file).await?;
        }
        tokio::spawn(follow(store, Arc::downgrade(&tokens)));
        Ok(tokens)
    }

    /// Makes a token. Its text is not kept anywhere: whoever asked for it must keep it.
    ///
    /// # Errors
    /// What is asked for is wrong, or the store does not do it.
    pub async fn create(&self, new: NewToken) -> Result<(TokenInfo, Zeroizing<String>), TokenError> {
        if self.read().records.len() >= MOST {
            return Err(TokenError::Invalid(format!("there are {MOST} tokens; revoke some")));
        }
        let id: Arc<str> = crypto::hex(&crypto::random::<8>()).into();
        let (record, text) = Record::make(&id, new, now())?;
        match self.write(&id, &record, Expect::Absent).await? {
            true => Ok((record.info(&id), text)),
            false => Err(TokenError::Invalid("the id is taken; try again".into())),
        }
    }

    /// All tokens, by id; never their secrets.
    pub fn list(&self) -> Vec<TokenInfo> {
        let known = self.read();
        let mut all: Vec<TokenInfo> = known.records.iter().map(|(id, (_, r))| r.info(id)).collect();
        all.sort_by(|a, b| a.id.cmp(&b.id));
        all
    }

    /// Revokes a token: here at once, on other replicas within moments.
    ///
    /// # Errors
    /// There is none of that id, or the store does not do it.
    pub async fn revoke(&self, id: &str) -> Result<(), TokenError> {
        let (revision, record) = self.read().records.get(id).cloned().ok_or(TokenError::None)?;
        if id == FIRST {
            // Stays as a mark, so that a restart makes no other.
            let record = record.revoked();
            return match self.write(&id.into(), &record, Expect::At(revision)).await? {
                true => Ok(()),
                false => {
                    Err(StoreError::Unavailable("the token was changed meanwhile; try again".into()).into())
                }
            };
        }
        let ops = vec![Op::Delete { key: key(id) }];
        self.store.commit(Txn { ops, ..Txn::default() }).await?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some((id, _)) = known.records.remove_entry(id) {
            known.gone.insert(id);
        }
        Ok(())
    }

    /// Whose token it is.
    ///
    /// # Errors
    /// It is not good, and why.
    pub fn authenticate(&self, token: &str) -> Result<Grant, Denied> {
        let (id, secret) = record::parse(token).ok_or(Denied::Unknown)?;
        let known = self.read();
        let (id, (_, record)) = known.records.get_key_value(id).ok_or(Denied::Unknown)?;
        if !record.is_of(secret) {
            return Err(Denied::Unknown);
        }
        // Only who knows the secret learns more.
        if record.revoked {
            return Err(Denied::Revoked);
        }
        if record.not_after.is_some_and(|end| now() > end) {
            return Err(Denied::Expired);
        }
        Ok(record.grant(id))
    }

    /// What must be in the transaction that uses a bootstrap token for a key: of a one-time token that it has not been
    /// used, and that it is now. `key` names the public key.
    ///
    /// # Errors
    /// It has been used for another key, or longer ago than an answer can be late; or it is gone.
    pub fn claim(&self, token: &Bootstrap, key_hash: &str, instance: &str) -> Result<Txn, Denied> {
        let known = self.read();
        let (revision, record) = known.records.get(&token.id).ok_or(Denied::Revoked)?;
        let mut txn = Txn::default();
        if !token.once {
            return Ok(txn);
        }
        match &record.used {
            Some(used) if used.key == key_hash && now() - used.at < AGAIN => {}
            Some(_) => return Err(Denied::Used),
            None => {
                let used = Used { key: key_hash.into(), at: now(), instance: instance.into() };
                let record = record.used(used);
                txn.expect.push((key(&token.id), Expect::At(*revision)));
                txn.ops.push(Op::Put { key: key(&token.id), value: record.bytes(), lease: None });
            }
        }
        Ok(txn)
    }

    /// Reads a token anew: another replica may have changed it.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn refresh(&self, id: &str) -> Result<(), StoreError> {
        match self.store.get(&key(id)).await? {
            Some(entry) => self.take(&Change::Put(entry)),
            None => self.take(&Change::Delete(key(id))),
        }
        Ok(())
    }

    async fn make_first(&self, file: &Path) -> Result<(), TokenError> {
        if self.read().records.contains_key(FIRST) {
            return Ok(());
        }
        let kind = Kind::Api { role: Role::Admin };
        let new = NewToken { name: "first admin".into(), kind, lifetime: None, by: "control plane".into() };
        let (record, text) = Record::make(FIRST, new, now())?;
        // Written before it counts: a token that counts and that nobody has would lock everybody out.
        let draft = file.with_extension(format!("{}.new", crypto::hex(&crypto::random::<4>())));
        let failed = |e: std::io::Error| TokenError::File(file.to_owned(), e.to_string());
        let mut out = std::fs::OpenOptions::new();
        let mut out = out.write(true).create_new(true).mode(0o600).open(&draft).map_err(failed)?;
        out.write_all(text.as_bytes()).and_then(|()| out.write_all(b"\n")).map_err(failed)?;
        out.sync_all().map_err(failed)?;
        match self.write(&FIRST.into(), &record, Expect::Absent).await {
            Ok(true) => {
                tracing::info!("the first admin token is in {}", file.display());
                std::fs::rename(&draft, file).map_err(failed)
            }
            other => {
                let _ = std::fs::remove_file(&draft);
                other.map(|_| ())
            }
        }
    }

    /// Whether the expectation held.
    async fn write(&self, id: &Arc<str>, record: &Record, expect: Expect) -> Result<bool, TokenError> {
        let txn = Txn {
            expect: vec![(key(id), expect)],
            ops: vec![Op::Put { key: key(id), value: record.bytes(), lease: None }],
            ..Txn::default()
        };
        match self.store.commit(txn).await? {
            Outcome::Done(revision) => {
                self.put(id.clone(), revision, Arc::new(record.clone()));
                Ok(true)
            }
            Outcome::Conflict(..) => Ok(false),
        }
    }

    /// Takes in what the store tells. What cannot be read lets nobody in.
    fn take(&self, change: &Change) {
        match change {
            Change::Put(entry) => {
                let Some(id) = entry.key.strip_prefix(TOKENS) else { return };
                match Record::read(&entry.value) {
                    Some(record) => self.put(id.into(), entry.changed, Arc::new(record)),
                    None => tracing::warn!("token {id} in the store cannot be read"),
                }
            }
            Change::Delete(key) => {
                let Some(id) = key.strip_prefix(TOKENS) else { return };
                let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
                known.records.remove(id);
                known.gone.remove(id);
            }
        }
    }

    /// What is told late must not undo what was done here.
    fn put(&self, id: Arc<str>, revision: Revision, record: Arc<Record>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let newer = known.records.get(&id).is_none_or(|(have, _)| *have < revision);
        if newer && !known.gone.contains(&id) {
            known.records.insert(id, (revision, record));
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tokens({})", self.read().records.len())
    }
}

async fn follow(store: Arc<dyn Store>, tokens: Weak<Tokens>) {
    let mut steps = Follow::start(store, TOKENS);
    let mut mirror = Mirror::default();
    while let Some(step) = steps.recv().await {
        let Some(tokens) = tokens.upgrade() else { return };
        for change in mirror.apply(step) {
            tokens.take(&change);
        }
    }
}

fn key(id: &str) -> Key {
    format!("{TOKENS}{id}").into()
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs() as i64)
}
