//! Keys, values, transactions.
use crate::{delete, done, promises, put, txn, value};
use bytes::Bytes;
use raddle_store::{Expect, Op, Outcome, Revision, Store, Txn};
use std::sync::Arc;

promises!(
    a_value_is_read_as_it_was_written,
    a_listing_is_in_the_keys_order_and_of_its_prefix_only,
    an_expectation_that_does_not_hold_changes_nothing_and_says_what_is_there,
    eight_writers_counting_by_compare_and_swap_lose_no_update,
    a_transaction_is_done_whole_or_not_at_all,
    a_commit_without_a_change_makes_no_revision,
    ten_thousand_keys_are_listed_at_one_revision,
);

async fn a_value_is_read_as_it_was_written(store: Arc<dyn Store>) {
    assert_eq!(store.get("a/key").await.expect("answered"), None);
    let first = done(&*store, txn([put("a/key", &b"\x00\xff bytes"[..])])).await;
    let entry = store.get("a/key").await.expect("answered").expect("there");
    assert_eq!((&*entry.key, &*entry.value), ("a/key", &b"\x00\xff bytes"[..]));
    assert_eq!((entry.changed, entry.lease), (first, None));
    let second = done(&*store, txn([put("a/key", Bytes::new())])).await;
    assert!(second > first, "{second:?} after {first:?}");
    assert_eq!(value(&*store, "a/key").await, Some(Bytes::new()));
    let third = done(&*store, txn([delete("a/key")])).await;
    assert!(third > second, "{third:?} after {second:?}");
    assert_eq!(value(&*store, "a/key").await, None);
}

async fn a_listing_is_in_the_keys_order_and_of_its_prefix_only(store: Arc<dyn Store>) {
    let written = ["b/2", "b/10", "b", "b/", "a/z", "b0", "c", "b/ä", "b/~"];
    let last = done(&*store, txn(written.map(|k| put(k, k.to_owned())))).await;
    let listing = store.list("b/").await.expect("listed");
    let keys: Vec<&str> = listing.entries.iter().map(|e| e.key.as_ref()).collect();
    assert_eq!(keys, ["b/", "b/10", "b/2", "b/~", "b/ä"]);
    assert_eq!(listing.revision, last);
    assert!(listing.entries.iter().all(|e| *e.value == *e.key.as_bytes() && e.changed == last));
    assert_eq!(store.list("").await.expect("listed").entries.len(), written.len());
    assert!(store.list("nothing").await.expect("listed").entries.is_empty());
}

async fn an_expectation_that_does_not_hold_changes_nothing_and_says_what_is_there(store: Arc<dyn Store>) {
    let at = done(&*store, txn([put("there", "1")])).await;
    let holds = [("there", Expect::Present), ("there", Expect::At(at)), ("not", Expect::Absent)];
    let fails =
        [("there", Expect::Absent), ("there", Expect::At(Revision(at.0 + 1))), ("not", Expect::Present)];
    for (key, expect) in fails {
        let mut all: Vec<_> = holds.iter().map(|(k, e)| ((*k).into(), e.clone())).collect();
        all.push((key.into(), expect.clone()));
        let outcome = store.commit(Txn { expect: all, ..txn([put("there", "2"), put("new", "2")]) }).await;
        let Outcome::Conflict(named, found) = outcome.expect("answered") else { panic!("{expect:?} held") };
        assert_eq!(&*named, key);
        assert_eq!(found.map(|e| e.value), value(&*store, key).await, "{expect:?}");
    }
    assert_eq!(value(&*store, "there").await, Some("1".into()));
    assert_eq!(value(&*store, "new").await, None);
    let expect = holds.iter().map(|(k, e)| ((*k).into(), e.clone())).collect();
    done(&*store, Txn { expect, ..txn([put("there", "2")]) }).await;
    let overtaken = store.commit(Txn { expect: vec![("there".into(), Expect::At(at))], ..txn([]) }).await;
    assert!(matches!(overtaken, Ok(Outcome::Conflict(..))), "{overtaken:?}");
}

async fn eight_writers_counting_by_compare_and_swap_lose_no_update(store: Arc<dyn Store>) {
    const EACH: u64 = 25;
    done(&*store, txn([put("count", "0")])).await;
    let writers = (0..8).map(|_| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            let mut counted = 0;
            while counted < EACH {
                let entry = store.get("count").await.expect("answered").expect("there");
                let count: u64 = std::str::from_utf8(&entry.value).expect("text").parse().expect("a number");
                let expect = vec![("count".into(), Expect::At(entry.changed))];
                let step = Txn { expect, ..txn([put("count", (count + 1).to_string())]) };
                if let Outcome::Done(_) = store.commit(step).await.expect("answered") {
                    counted += 1;
                }
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("no panic");
    }
    assert_eq!(value(&*store, "count").await, Some((8 * EACH).to_string().into()));
}

async fn a_transaction_is_done_whole_or_not_at_all(store: Arc<dyn Store>) {
    const KEYS: usize = 20;
    let write = |round: usize| -> Vec<Op> {
        (0..KEYS).map(|i| put(&format!("t/{i:02}"), round.to_string())).collect()
    };
    done(&*store, txn(write(0))).await;
    let writer = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for round in 1..100 {
                done(&*store, txn(write(round))).await;
            }
        }
    });
    let mut last = Revision(0);
    while !writer.is_finished() {
        let listing = store.list("t/").await.expect("listed");
        assert_eq!(listing.entries.len(), KEYS);
        let one = &listing.entries[0];
        assert!(listing.entries.iter().all(|e| e.value == one.value && e.changed == one.changed));
        assert!(listing.revision >= last && listing.revision >= one.changed);
        last = listing.revision;
    }
    writer.await.expect("no panic");
}

async fn a_commit_without_a_change_makes_no_revision(store: Arc<dyn Store>) {
    let before = done(&*store, txn([put("a", "1")])).await;
    assert_eq!(done(&*store, txn([])).await, before);
    assert_eq!(done(&*store, txn([delete("not there")])).await, before);
    assert_eq!(store.list("").await.expect("listed").revision, before);
}

async fn ten_thousand_keys_are_listed_at_one_revision(store: Arc<dyn Store>) {
    let mut keys: Vec<String> = (0..10_000).map(|i| format!("many/{:05}", i * 7 % 10_000)).collect();
    for some in keys.chunks(100) {
        done(&*store, Txn { relaxed: true, ..txn(some.iter().map(|k| put(k, vec![b'v'; 200]))) }).await;
    }
    let writing = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for i in 0..20 {
                done(
                    &*store,
                    txn([put(&format!("many/{i:05}"), "new"), delete(&format!("many/{:05}", 9_999 - i))]),
                )
                .await;
            }
        }
    });
    let listing = store.list("many/").await.expect("listed");
    let new = listing.entries.iter().filter(|e| *e.value == b"new"[..]).count();
    assert_eq!(listing.entries.len(), 10_000 - new, "as many are new as are gone, at any one revision");
    writing.await.expect("no panic");
    let listing = store.list("many/").await.expect("listed");
    keys.sort();
    let listed: Vec<&str> = listing.entries.iter().map(|e| e.key.as_ref()).collect();
    assert_eq!(listed, keys[..9_980]);
}
