//! Watches.
use crate::{PATIENCE, delete, done, hear, key_of, keys, promises, put, txn};
use raddle_store::{Change, Follow, Following, Mirror, Revision, Store, Told};
use std::sync::Arc;

promises!(
    a_watch_tells_every_change_in_order,
    a_watch_from_an_old_revision_tells_what_came_after_it,
    a_watch_tells_its_prefix_only,
    commits_are_told_whole,
    a_watch_from_before_compaction_is_lost,
    many_watches_hear_the_same,
    a_follower_sees_what_is_there,
);

async fn a_watch_tells_every_change_in_order(store: Arc<dyn Store>) {
    const WRITERS: usize = 4;
    const EACH: usize = 100;
    let start = store.list("w/").await.expect("listed").revision;
    let mut watch = store.watch("w/", start).await.expect("watched");
    let writers = (0..WRITERS).map(|w| {
        let store = Arc::clone(&store);
        tokio::spawn(async move {
            for i in 0..EACH {
                done(&*store, txn([put(&format!("w/{w}"), i.to_string())])).await;
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let heard = hear(&mut watch, |heard| heard.len() == WRITERS * EACH).await;
    for writer in writers {
        writer.await.expect("no panic");
    }
    let mut last = Revision(0);
    let mut next = [0; WRITERS];
    for change in &heard {
        let Change::Put(entry) = change else { panic!("{change:?}") };
        assert!(entry.changed > last, "{entry:?} after {last:?}");
        last = entry.changed;
        let writer: usize = entry.key[2..].parse().expect("a number");
        assert_eq!(entry.value, next[writer].to_string());
        next[writer] += 1;
    }
}

async fn a_watch_from_an_old_revision_tells_what_came_after_it(store: Arc<dyn Store>) {
    done(&*store, txn([put("a", "1")])).await;
    let from = done(&*store, txn([put("b", "1")])).await;
    done(&*store, txn([put("c", "1")])).await;
    done(&*store, txn([delete("a")])).await;
    let mut watch = store.watch("", from).await.expect("watched");
    let heard = hear(&mut watch, |heard| heard.len() == 2).await;
    assert_eq!(keys(&heard), ["c", "a"]);
    assert!(matches!(heard[1], Change::Delete(_)));
    done(&*store, txn([put("d", "1")])).await;
    assert_eq!(keys(&hear(&mut watch, |heard| !heard.is_empty()).await), ["d"]);
}

async fn a_watch_tells_its_prefix_only(store: Arc<dyn Store>) {
    let start = done(&*store, txn([put("z", "1")])).await;
    let mut watch = store.watch("p/", start).await.expect("watched");
    done(&*store, txn([put("p", "1"), put("p/1", "1"), put("p0", "1"), put("q/p/", "1")])).await;
    done(&*store, txn([put("q", "1")])).await;
    done(&*store, txn([put("p/2", "1")])).await;
    assert_eq!(keys(&hear(&mut watch, |heard| heard.len() >= 2).await), ["p/1", "p/2"]);
}

async fn commits_are_told_whole(store: Arc<dyn Store>) {
    let start = done(&*store, txn([put("begin", "1")])).await;
    let mut watch = store.watch("k/", start).await.expect("watched");
    let writer = tokio::spawn({
        let store = Arc::clone(&store);
        async move {
            for round in 0..30 {
                done(&*store, txn((0..40).map(|i| put(&format!("k/{i}"), format!("{round}{:>9999}", "")))))
                    .await;
            }
        }
    });
    let mut heard = 0;
    while heard < 30 * 40 {
        let told = tokio::time::timeout(PATIENCE, watch.recv()).await.expect("in time").expect("living");
        let Told::Changes(upto, changes) = told else { panic!("{told:?}") };
        assert_eq!(changes.len() % 40, 0, "parts of a commit");
        let last = changes.last().expect("some");
        assert!(matches!(last, Change::Put(entry) if entry.changed == upto), "{upto:?}, {}", key_of(last));
        heard += changes.len();
    }
    writer.await.expect("no panic");
}

async fn a_watch_from_before_compaction_is_lost(store: Arc<dyn Store>) {
    let old = done(&*store, txn([put("a", "1")])).await;
    done(&*store, txn([put("a", "2")])).await;
    let last = done(&*store, txn([put("a", "3")])).await;
    store.compact(last).await.expect("compacted");
    store.compact(last).await.expect("once more is no mistake");
    let mut watch = store.watch("", old).await.expect("watched");
    let told = tokio::time::timeout(PATIENCE, watch.recv()).await.expect("in time");
    assert!(matches!(&told, Some(Told::Lost(why)) if !why.is_empty()), "{told:?}");
    let listing = store.list("").await.expect("listed");
    assert_eq!((listing.entries.len(), listing.revision), (1, last));
    let mut watch = store.watch("", last).await.expect("watched");
    done(&*store, txn([put("b", "1")])).await;
    assert_eq!(keys(&hear(&mut watch, |heard| !heard.is_empty()).await), ["b"]);
}

async fn many_watches_hear_the_same(store: Arc<dyn Store>) {
    let start = done(&*store, txn([put("begin", "1")])).await;
    let mut watches = Vec::new();
    for _ in 0..20 {
        watches.push(store.watch("m/", start).await.expect("watched"));
    }
    for i in 0..50 {
        done(&*store, txn([put(&format!("m/{}", i % 5), i.to_string())])).await;
    }
    let first = hear(&mut watches[0], |heard| heard.len() == 50).await;
    for watch in &mut watches[1..] {
        assert_eq!(hear(watch, |heard| heard.len() == 50).await, first);
    }
}

async fn a_follower_sees_what_is_there(store: Arc<dyn Store>) {
    done(&*store, txn([put("f/1", "1"), put("f/2", "1"), put("g", "1")])).await;
    let mut follow = Follow::start(Arc::clone(&store), "f/");
    let mut mirror = Mirror::default();
    let first = follow.recv().await.expect("told");
    assert!(matches!(&first, Following::State(entries) if entries.len() == 2), "{first:?}");
    mirror.apply(first);
    done(&*store, txn([put("f/3", "1"), delete("f/1")])).await;
    let last = done(&*store, txn([put("f/2", "2")])).await;
    while mirror.latest() < last {
        mirror.apply(follow.recv().await.expect("told"));
    }
    let listed = store.list("f/").await.expect("listed").entries;
    assert_eq!(mirror.entries().values().cloned().collect::<Vec<_>>(), listed);
}
