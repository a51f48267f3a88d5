//! A part of the store, followed: listed once, then told changes; listed again when the watch lost some.
use crate::types::{Change, Entry, Key, Listing, Revision, Store, StoreError, Told, Watch};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Steps that wait in the follower's channel.
const CHANNEL: usize = 8;
/// The first pause before another try; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a follower is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Following {
    /// All there is, in the keys' order. It is the first thing told; when it comes again (changes were missed), it
    /// stands for everything told before: what is not in it is gone. [`Mirror`] finds the differences.
    State(Vec<Entry>),
    /// What changed, in order, whole commits only.
    Changes(Vec<Change>),
}

/// Follows a part of a store.
#[derive(Debug)]
pub struct Follow;

impl Follow {
    /// Follows all keys under a prefix, in a task of the caller's runtime. It never gives up: while the store is not
    /// there nothing is told, afterwards the state again. It ends when the receiver is dropped.
    pub fn start(store: Arc<dyn Store>, prefix: impl Into<Key>) -> mpsc::Receiver<Following> {
        let (tell, told) = mpsc::channel(CHANNEL);
        tokio::spawn(follow(store, prefix.into(), tell));
        told
    }
}

async fn follow(store: Arc<dyn Store>, prefix: Key, tell: mpsc::Sender<Following>) {
    let mut pause = FIRST_PAUSE;
    loop {
        match begin(store.as_ref(), &prefix).await {
            Ok((listing, watch)) => {
                pause = FIRST_PAUSE;
                if tell.send(Following::State(listing.entries)).await.is_err() {
                    return;
                }
                match pass_on(watch, &tell).await {
                    Some(why) => tracing::debug!("{}: {prefix}: listed again: {why}", store.name()),
                    None => return,
                }
            }
            Err(why) => tracing::warn!("{}: {prefix} cannot be followed: {why}", store.name()),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            () = tell.closed() => return,
        }
    }
}

async fn begin(store: &dyn Store, prefix: &str) -> Result<(Listing, Watch), StoreError> {
    let listing = store.list(prefix).await?;
    let watch = store.watch(prefix, listing.revision).await?;
    Ok((listing, watch))
}

/// Passes changes on until the watch ends (why), or nobody listens (nothing).
async fn pass_on(mut watch: Watch, tell: &mpsc::Sender<Following>) -> Option<String> {
    loop {
        let told = tokio::select! {
            told = watch.recv() => told,
            () = tell.closed() => return None,
        };
        match told {
            Some(Told::Changes(_, changes)) => tell.send(Following::Changes(changes)).await.ok()?,
            Some(Told::Lost(why)) => return Some(why),
            None => return Some("the watch has ended".into()),
        }
    }
}

/// The followed part as it is, made of what was told.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    entries: BTreeMap<Key, Entry>,
}

impl Mirror {
    /// Takes a step in; the changes it really made. Of a state that came again these are the differences.
    pub fn apply(&mut self, step: Following) -> Vec<Change> {
        match step {
            Following::Changes(changes) => changes.into_iter().filter(|c| self.change(c)).collect(),
            Following::State(entries) => {
                let now: BTreeMap<Key, Entry> = entries.into_iter().map(|e| (e.key.clone(), e)).collect();
                let gone = self.entries.keys().filter(|key| !now.contains_key(*key));
                let mut changes: Vec<Change> = gone.cloned().map(Change::Delete).collect();
                let new = now.values().filter(|e| self.entries.get(&e.key) != Some(*e));
                changes.extend(new.cloned().map(Change::Put));
                self.entries = now;
                changes
            }
        }
    }

    fn change(&mut self, change: &Change) -> bool {
        match change {
            Change::Put(entry) => {
                self.entries.insert(entry.key.clone(), entry.clone()).as_ref() != Some(entry)
            }
            Change::Delete(key) => self.entries.remove(key).is_some(),
        }
    }

    /// All entries by key.
    pub fn entries(&self) -> &BTreeMap<Key, Entry> {
        &self.entries
    }

    /// The latest commit that any entry is of.
    pub fn latest(&self) -> Revision {
        self.entries.values().map(|e| e.changed).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(key: &str, changed: u64) -> Entry {
        Entry { key: key.into(), value: bytes::Bytes::new(), changed: Revision(changed), lease: None }
    }

    #[test]
    fn a_state_that_comes_again_yields_only_the_differences() {
        let mut mirror = Mirror::default();
        let first = vec![entry("a", 1), entry("b", 2), entry("c", 3)];
        assert_eq!(mirror.apply(Following::State(first)).len(), 3);
        let changes = mirror.apply(Following::State(vec![entry("a", 1), entry("b", 4), entry("d", 5)]));
        let expected = [Change::Delete("c".into()), Change::Put(entry("b", 4)), Change::Put(entry("d", 5))];
        assert_eq!(changes, expected);
        assert_eq!(mirror.latest(), Revision(5));
    }

    #[test]
    fn a_change_that_is_known_already_is_no_change() {
        let mut mirror = Mirror::default();
        mirror.apply(Following::State(vec![entry("a", 1)]));
        let step = Following::Changes(vec![Change::Put(entry("a", 1)), Change::Delete("x".into())]);
        assert_eq!(mirror.apply(step), []);
    }
}
