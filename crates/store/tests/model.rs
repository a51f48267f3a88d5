//! Random sequences of operations do to the embedded engine what they do to a plain map.
use bytes::Bytes;
use proptest::prelude::*;
use raddle_store::{
    Change, Embedded, EmbeddedOptions, Entry, Expect, Key, LeaseId, Op, Outcome, Revision, Store, StoreError,
    Told, Txn,
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Long enough that none ends by its time.
const TTL: Duration = Duration::from_secs(3600);

/// What a test does.
#[derive(Clone, Debug)]
enum Act {
    /// Expectations and changes; revisions and leases by how far back they are.
    Commit {
        expect: Vec<(u8, Hope)>,
        ops: BTreeMap<u8, Option<(u8, Option<u8>)>>,
        relaxed: bool,
    },
    Grant,
    Revoke(u8),
    KeepAlive(u8),
    Restart,
}

#[derive(Clone, Debug)]
enum Hope {
    Absent,
    Present,
    AsItIs,
    AsItWas(u8),
}

fn act() -> impl Strategy<Value = Act> {
    let hope = prop_oneof![
        2 => Just(Hope::Absent),
        2 => Just(Hope::Present),
        4 => Just(Hope::AsItIs),
        1 => (1..9_u8).prop_map(Hope::AsItWas),
    ];
    let expect = prop::collection::vec((0..8_u8, hope), 0..3);
    let change = prop::option::weighted(0.7, (any::<u8>(), prop::option::weighted(0.3, any::<u8>())));
    let ops = prop::collection::btree_map(0..8_u8, change, 0..5);
    prop_oneof![
        12 => (expect, ops, any::<bool>()).prop_map(|(expect, ops, relaxed)| Act::Commit { expect, ops, relaxed }),
        2 => Just(Act::Grant),
        1 => any::<u8>().prop_map(Act::Revoke),
        1 => any::<u8>().prop_map(Act::KeepAlive),
        1 => Just(Act::Restart),
    ]
}

/// The store as a map.
#[derive(Default)]
struct Model {
    entries: BTreeMap<Key, Entry>,
    revision: u64,
    living: BTreeSet<i64>,
    granted: Vec<LeaseId>,
    told: Vec<Change>,
}

impl Model {
    fn lease(&self, pick: u8) -> LeaseId {
        match self.granted.len() {
            0 => LeaseId(99),
            n => self.granted[usize::from(pick) % n],
        }
    }

    fn key(pick: u8) -> Key {
        // Some are prefixes of others.
        ["a", "a/1", "a/2", "b", "b/", "b/ä", "c", "c/1"][usize::from(pick)].into()
    }

    fn txn(&self, expect: &[(u8, Hope)], ops: &BTreeMap<u8, Option<(u8, Option<u8>)>>, relaxed: bool) -> Txn {
        let expect = expect.iter().map(|(key, hope)| {
            let key = Model::key(*key);
            let now = self.entries.get(&key).map(|e| e.changed);
            let expect = match hope {
                Hope::Absent => Expect::Absent,
                Hope::Present => Expect::Present,
                Hope::AsItIs => now.map_or(Expect::Absent, Expect::At),
                Hope::AsItWas(back) => {
                    Expect::At(Revision(self.revision.saturating_sub(u64::from(*back)).max(1)))
                }
            };
            (key, expect)
        });
        let ops = ops.iter().map(|(key, change)| match change {
            Some((value, lease)) => Op::Put {
                key: Model::key(*key),
                value: Bytes::from(vec![*value; usize::from(*value)]),
                lease: lease.map(|l| self.lease(l)),
            },
            None => Op::Delete { key: Model::key(*key) },
        });
        Txn { expect: expect.collect(), ops: ops.collect(), relaxed }
    }

    fn commit(&mut self, txn: &Txn) -> Result<Outcome, StoreError> {
        for (key, expect) in &txn.expect {
            let found = self.entries.get(key);
            let holds = match expect {
                Expect::Absent => found.is_none(),
                Expect::Present => found.is_some(),
                Expect::At(at) => found.is_some_and(|e| e.changed == *at),
            };
            if !holds {
                return Ok(Outcome::Conflict(key.clone(), found.cloned()));
            }
        }
        let ended = |op: &Op| matches!(op, Op::Put { lease: Some(l), .. } if !self.living.contains(&l.0));
        if txn.ops.iter().any(ended) {
            return Err(StoreError::NoLease);
        }
        let next = Revision(self.revision + 1);
        let mut changes = Vec::new();
        for op in &txn.ops {
            match op {
                Op::Put { key, value, lease } => {
                    let entry =
                        Entry { key: key.clone(), value: value.clone(), changed: next, lease: *lease };
                    self.entries.insert(key.clone(), entry.clone());
                    changes.push(Change::Put(entry));
                }
                Op::Delete { key } if self.entries.remove(key).is_some() => {
                    changes.push(Change::Delete(key.clone()));
                }
                Op::Delete { .. } => {}
            }
        }
        self.committed(changes);
        Ok(Outcome::Done(Revision(self.revision)))
    }

    fn committed(&mut self, changes: Vec<Change>) {
        self.revision += u64::from(!changes.is_empty());
        self.told.extend(changes);
    }

    fn revoke(&mut self, lease: LeaseId) -> Result<(), StoreError> {
        if !self.living.remove(&lease.0) {
            return Err(StoreError::NoLease);
        }
        let bound: Vec<Key> =
            self.entries.values().filter(|e| e.lease == Some(lease)).map(|e| e.key.clone()).collect();
        for key in &bound {
            self.entries.remove(key);
        }
        self.committed(bound.into_iter().map(Change::Delete).collect());
        Ok(())
    }
}

async fn play(acts: Vec<Act>) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || Embedded::open(folder.path().join("store"), EmbeddedOptions::default()).expect("opened");
    let mut store = open();
    let mut model = Model::default();
    let mut watch = store.watch("", Revision(0)).await.expect("watched");
    for act in acts {
        match act {
            Act::Commit { expect, ops, relaxed } => {
                let txn = model.txn(&expect, &ops, relaxed);
                prop_assert_eq!(model.commit(&txn), store.commit(txn).await);
            }
            Act::Grant => {
                let lease = store.grant(TTL).await.expect("granted");
                prop_assert!(model.living.insert(lease.0), "an id came twice");
                model.granted.push(lease);
            }
            Act::Revoke(pick) => {
                let lease = model.lease(pick);
                prop_assert_eq!(model.revoke(lease), store.revoke(lease).await);
            }
            Act::KeepAlive(pick) => {
                let lease = model.lease(pick);
                let lives = model.living.contains(&lease.0);
                prop_assert_eq!(store.keep_alive(lease).await.is_ok(), lives);
            }
            Act::Restart => {
                drop(store);
                let mut told = Vec::new();
                while let Some(Told::Changes(_, changes)) = watch.recv().await {
                    told.extend(changes);
                }
                prop_assert_eq!(&told, &model.told);
                model.told.clear();
                store = open();
                watch = store.watch("", Revision(model.revision)).await.expect("watched");
            }
        }
        for prefix in ["", "a", "b/"] {
            let listing = store.list(prefix).await.expect("listed");
            let expected: Vec<Entry> =
                model.entries.values().filter(|e| e.key.starts_with(prefix)).cloned().collect();
            prop_assert_eq!(&listing.entries, &expected);
            prop_assert_eq!(listing.revision.0, model.revision);
        }
        for pick in 0..8 {
            let key = Model::key(pick);
            let found = store.get(&key).await.expect("answered");
            prop_assert_eq!(found.as_ref(), model.entries.get(&key));
        }
    }
    drop(store);
    let mut told = Vec::new();
    while let Some(Told::Changes(_, changes)) = watch.recv().await {
        told.extend(changes);
    }
    prop_assert_eq!(&told, &model.told);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_embedded_engine_does_what_a_plain_map_does(acts in prop::collection::vec(act(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(play(acts))?;
    }
}
