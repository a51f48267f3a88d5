//! Leases.
use crate::{delete, done, hear, keys, promises, put, put_leased, txn, value};
use raddle_store::{Change, Expect, LeaseId, Store, StoreError, Txn};
use std::sync::Arc;
use std::time::{Duration, Instant};

promises!(
    a_lease_that_is_not_kept_takes_its_keys_with_it,
    a_lease_that_is_kept_lives_on,
    a_revoked_lease_takes_its_keys_at_once_in_one_commit,
    a_key_that_was_overwritten_without_the_lease_outlives_it,
    a_key_that_changed_its_lease_goes_with_the_new_one,
    nothing_can_be_bound_to_a_lease_that_has_ended,
);

const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(60);

async fn a_lease_that_is_not_kept_takes_its_keys_with_it(store: Arc<dyn Store>) {
    let lease = store.grant(SHORT).await.expect("granted");
    let granted = Instant::now();
    let at =
        done(&*store, txn([put_leased("l/1", "1", lease), put_leased("l/2", "1", lease), put("stays", "1")]))
            .await;
    assert_eq!(store.get("l/1").await.expect("answered").and_then(|e| e.lease), Some(lease));
    let mut watch = store.watch("", at).await.expect("watched");
    let mut gone = hear(&mut watch, |heard| heard.len() == 2).await;
    assert!(granted.elapsed() >= SHORT, "{:?}", granted.elapsed());
    gone.sort_by_key(|c| format!("{c:?}"));
    assert_eq!(gone, [Change::Delete("l/1".into()), Change::Delete("l/2".into())]);
    assert_eq!(value(&*store, "l/1").await, None);
    assert!(value(&*store, "stays").await.is_some());
    assert_eq!(store.keep_alive(lease).await, Err(StoreError::NoLease));
}

async fn a_lease_that_is_kept_lives_on(store: Arc<dyn Store>) {
    let (kept, left) =
        (store.grant(SHORT).await.expect("granted"), store.grant(SHORT).await.expect("granted"));
    let at = done(&*store, txn([put_leased("kept", "1", kept), put_leased("left", "1", left)])).await;
    let mut watch = store.watch("left", at).await.expect("watched");
    let keeper = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            let mut beat = tokio::time::interval(SHORT / 10);
            loop {
                beat.tick().await;
                store.keep_alive(kept).await.expect("kept");
            }
        }
    });
    hear(&mut watch, |heard| !heard.is_empty()).await;
    assert!(value(&*store, "kept").await.is_some());
    keeper.abort();
}

async fn a_revoked_lease_takes_its_keys_at_once_in_one_commit(store: Arc<dyn Store>) {
    let lease = store.grant(LONG).await.expect("granted");
    let names: Vec<String> = (0..300).map(|i| format!("r/{i:03}")).collect();
    let mut at = Default::default();
    for some in names.chunks(100) {
        at = done(&*store, txn(some.iter().map(|k| put_leased(k, "1", lease)))).await;
    }
    let mut watch = store.watch("r/", at).await.expect("watched");
    store.revoke(lease).await.expect("revoked");
    assert!(store.list("r/").await.expect("listed").entries.is_empty());
    assert!(store.list("r/").await.expect("listed").revision.0 == at.0 + 1);
    assert_eq!(hear(&mut watch, |heard| !heard.is_empty()).await.len(), names.len());
    assert_eq!(store.revoke(lease).await, Err(StoreError::NoLease));
    assert_eq!(store.keep_alive(lease).await, Err(StoreError::NoLease));
}

async fn a_key_that_was_overwritten_without_the_lease_outlives_it(store: Arc<dyn Store>) {
    let lease = store.grant(LONG).await.expect("granted");
    done(
        &*store,
        txn([put_leased("a", "1", lease), put_leased("b", "1", lease), put_leased("c", "1", lease)]),
    )
    .await;
    done(&*store, txn([put("a", "2"), delete("b")])).await;
    done(&*store, txn([put("b", "2")])).await;
    assert_eq!(store.get("a").await.expect("answered").and_then(|e| e.lease), None);
    store.revoke(lease).await.expect("revoked");
    let listed = store.list("").await.expect("listed").entries;
    assert_eq!(listed.iter().map(|e| e.key.as_ref()).collect::<Vec<_>>(), ["a", "b"]);
}

async fn a_key_that_changed_its_lease_goes_with_the_new_one(store: Arc<dyn Store>) {
    let (old, new) = (store.grant(LONG).await.expect("granted"), store.grant(LONG).await.expect("granted"));
    assert_ne!(old, new);
    done(&*store, txn([put_leased("a", "1", old)])).await;
    let at = done(&*store, txn([put_leased("a", "2", new)])).await;
    store.revoke(old).await.expect("revoked");
    assert!(value(&*store, "a").await.is_some());
    let mut watch = store.watch("", at).await.expect("watched");
    store.revoke(new).await.expect("revoked");
    assert_eq!(keys(&hear(&mut watch, |heard| !heard.is_empty()).await), ["a"]);
}

async fn nothing_can_be_bound_to_a_lease_that_has_ended(store: Arc<dyn Store>) {
    let lease = store.grant(LONG).await.expect("granted");
    store.revoke(lease).await.expect("revoked");
    for gone in [lease, LeaseId(lease.0 + 12345)] {
        let refused = store.commit(txn([put("other", "1"), put_leased("a", "1", gone)])).await;
        assert_eq!(refused, Err(StoreError::NoLease));
    }
    assert!(store.list("").await.expect("listed").entries.is_empty());
    // What is expected is looked at first: who lost a race hears of that.
    let expect = vec![("a".into(), Expect::Present)];
    let outcome = store.commit(Txn { expect, ..txn([put_leased("a", "1", lease)]) }).await;
    assert!(matches!(outcome, Ok(raddle_store::Outcome::Conflict(..))), "{outcome:?}");
}
