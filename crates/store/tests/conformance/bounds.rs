//! What is refused, and that it is said why.
use crate::{delete, done, promises, put, txn, value};
use raddle_store::{Expect, MAX_KEY, MAX_OPS, MAX_TXN, MAX_VALUE, Op, Revision, Store, StoreError, Txn};
use std::sync::Arc;
use std::time::Duration;

promises!(
    keys_and_values_up_to_the_bound_are_taken,
    what_is_over_a_bound_is_refused_with_the_bound,
    a_full_transaction_is_taken,
);

async fn keys_and_values_up_to_the_bound_are_taken(store: Arc<dyn Store>) {
    let key = "k".repeat(MAX_KEY);
    done(&*store, txn([put(&key, vec![7; MAX_VALUE])])).await;
    assert_eq!(value(&*store, &key).await.expect("there"), vec![7; MAX_VALUE]);
    for i in 0..12 {
        done(&*store, txn([put(&format!("large/{i}"), vec![7; MAX_VALUE])])).await;
    }
    assert_eq!(store.list("large/").await.expect("listed").entries.len(), 12);
}

async fn what_is_over_a_bound_is_refused_with_the_bound(store: Arc<dyn Store>) {
    let long = "k".repeat(MAX_KEY + 1);
    let many: Vec<Op> = (0..=MAX_OPS).map(|i| put(&format!("{i}"), "")).collect();
    let at_zero = Txn { expect: vec![("a".into(), Expect::At(Revision(0)))], ..txn([]) };
    let half = vec![0; MAX_TXN / 2];
    let refused = [
        (txn([put("", "")]), "empty"),
        (txn([put("/a", "")]), "slash"),
        (txn([put("a\0", "")]), "control"),
        (txn([delete(&long)]), "1024"),
        (txn([put("a", vec![0; MAX_VALUE + 1])]), "1048576"),
        (txn([put("a", half.clone()), put("b", half)]), "1310720"),
        (txn(many), "128"),
        (txn([put("a", ""), delete("a")]), "twice"),
        (at_zero, "revision 0"),
    ];
    for (txn, word) in refused {
        match store.commit(txn).await {
            Err(StoreError::Invalid(why)) => assert!(why.contains(word), "{why:?} should say {word:?}"),
            other => panic!("{word}: {other:?}"),
        }
    }
    assert!(matches!(store.get("").await, Err(StoreError::Invalid(_))));
    assert!(matches!(store.list(&long).await, Err(StoreError::Invalid(_))));
    assert!(matches!(store.watch(&long, Revision(0)).await, Err(StoreError::Invalid(_))));
    assert!(matches!(store.grant(Duration::ZERO).await, Err(StoreError::Invalid(_))));
    assert!(matches!(store.grant(Duration::MAX).await, Err(StoreError::Invalid(_))));
    assert!(store.list("").await.expect("listed").entries.is_empty());
}

async fn a_full_transaction_is_taken(store: Arc<dyn Store>) {
    let expect = (0..MAX_OPS).map(|i| (format!("x/{i}").into(), Expect::Absent)).collect();
    let at =
        done(&*store, Txn { expect, ..txn((0..MAX_OPS).map(|i| put(&format!("x/{i}"), vec![1; 10_000]))) })
            .await;
    let expect = (0..MAX_OPS).map(|i| (format!("x/{i}").into(), Expect::At(at))).collect();
    done(&*store, Txn { expect, ..txn((0..MAX_OPS).map(|i| delete(&format!("x/{i}")))) }).await;
    assert!(store.list("").await.expect("listed").entries.is_empty());
}
