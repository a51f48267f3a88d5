use super::*;
use crate::election::Replica;
use raddle_model::Source;
use raddle_policy::rollout::{Cohorts, State};
use raddle_store::{Embedded, Store};
use raddle_xds::proto::Node;
use std::sync::Mutex;
use std::time::{Duration, Instant};

fn store() -> Arc<dyn Store> {
    Arc::new(Embedded::in_memory().expect("a store in memory"))
}

fn rules(store: &Arc<dyn Store>) -> Arc<Rules> {
    let known = || Known { services: ["shop.Orders:1.0".into()].into(), ..Known::default() };
    Rules::start(store.clone(), known, crate::events::Events::start(store.clone(), "test"))
}

fn policy(seconds: u32, rollout: &str) -> Vec<Source> {
    let text = format!(
        "apiVersion: raddle.io/v1\nkind: TrafficPolicy\nmetadata: {{name: slow}}\nspec:\n  \
         to: {{services: [\"shop.Orders:1.0\"]}}\n  timeouts: {{request: {seconds}s}}\n{rollout}"
    );
    vec![Source { name: "slow.yaml".into(), text }]
}

const STAGED: &str =
    "  rollout:\n    stages: [{percent: 30, hold: 1m}, {percent: 100}]\n    guard: {errorRate: 0.05}\n";
const ID: &str = "TrafficPolicy/slow";

fn by(author: &str) -> Change {
    Change { author: author.into(), ..Change::default() }
}

fn node(n: usize) -> Node {
    Node { id: format!("shop-{n}"), app: "shop".into(), ..Node::default() }
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < deadline, "waited for {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Revisions that a hundred sidecars are to have.
fn selected(rules: &Rules) -> Vec<Option<Arc<str>>> {
    let book = rules.book().borrow().clone();
    let entry = book.rules.get(ID);
    let of = |n| entry.and_then(|e| book.select(e, &node(n))).map(|r| r.hash.clone());
    (0..100).map(of).collect()
}

#[tokio::test]
async fn a_rule_is_applied_changed_rolled_back_and_removed_and_its_history_stays() {
    let store = store();
    let rules = rules(&store);
    let first = rules.apply(&policy(1, ""), &by("ann")).await.expect("applied");
    assert!(first.applied[0].changed && first.warnings.is_empty(), "{first:?}");
    assert!(!rules.apply(&policy(1, ""), &by("bob")).await.expect("applied").applied[0].changed);
    let second = rules.apply(&policy(2, ""), &by("bob")).await.expect("applied");
    assert!(
        second.applied[0].diff.contains("-    request: \"1s\"\n+    request: \"2s\""),
        "{}",
        second.applied[0].diff
    );
    let wrong = Change { expect: Some("0000".into()), ..by("eve") };
    assert!(matches!(rules.apply(&policy(3, ""), &wrong).await, Err(RuleError::Conflict { .. })));
    let back = rules.rollback(ID, &Which::Previous, &by("ann")).await.expect("rolled back");
    assert_eq!((back.after, back.number), (first.applied[0].after.clone(), 3));
    rules.delete(ID, &by("ann")).await.expect("deleted");
    assert!(rules.get(ID).await.expect("read").is_none() && rules.list(None).await.expect("read").is_empty());
    assert!(matches!(rules.delete(ID, &by("ann")).await, Err(RuleError::Absent(_))));
    rules.apply(&policy(4, ""), &by("ann")).await.expect("applied");
    let history = rules.history(ID).await.expect("history");
    let told: Vec<_> = history.iter().map(|r| (r.number, &*r.author, r.document.is_some())).collect();
    assert_eq!(
        told,
        [(1, "ann", true), (2, "bob", true), (3, "ann", true), (4, "ann", false), (5, "ann", true)]
    );
}

#[tokio::test]
async fn the_way_back_skips_a_first_try_of_what_is_in_force() {
    let store = store();
    let rules = rules(&store);
    let first = rules.apply(&policy(1, ""), &by("ann")).await.expect("applied");
    rules.apply(&policy(2, STAGED), &by("ann")).await.expect("applied");
    rules.undo(ID, "ann", "too early").await.expect("undone");
    rules.apply(&policy(2, STAGED), &by("ann")).await.expect("applied");
    rules.promote(ID, "ann", raddle_policy::rollout::Promote::All).await.expect("promoted");
    let back = rules.rollback(ID, &Which::Previous, &by("ann")).await.expect("rolled back");
    assert_eq!(back.after, first.applied[0].after);
}

#[tokio::test]
async fn every_mistake_of_every_document_is_told_and_nothing_is_taken() {
    let store = store();
    let rules = rules(&store);
    let mut sources = policy(1, "");
    sources.push(Source {
        name: "bad.yaml".into(),
        text: "apiVersion: raddle.io/v1\nkind: Route\nmetadata: {name: r}\nspec:\n  to: {app: 7}\n  rulez: []\n---\n\
               apiVersion: raddle.io/v1\nkind: Service\nmetadata: {name: s}\nspec: {app: x, endpoints: []}\n"
            .into(),
    });
    let Err(RuleError::Admission(report)) = rules.apply(&sources, &by("ann")).await else {
        panic!("bad documents were admitted");
    };
    let told = report.to_string();
    assert!(report.mistakes.len() >= 2, "{told}");
    assert!(told.contains("rulez") && told.contains("Service is not a rule"), "{told}");
    assert!(rules.list(None).await.expect("read").is_empty());
}

#[tokio::test]
async fn writers_at_once_lose_nothing() {
    let store = store();
    let rules = rules(&store);
    let text = |n: u32| {
        let spec = format!("{{to: {{services: [\"s{n}\"]}}, timeouts: {{request: 1s}}}}");
        let text = format!(
            "apiVersion: raddle.io/v1\nkind: TrafficPolicy\nmetadata: {{name: p{n}}}\nspec: {spec}\n"
        );
        vec![Source { name: "x.yaml".into(), text }]
    };
    let tasks: Vec<_> = (0..6)
        .map(|n| {
            let rules = rules.clone();
            tokio::spawn(async move { rules.apply(&text(n), &by("x")).await.map(|_| ()) })
        })
        .collect();
    for task in tasks {
        task.await.expect("no panic").expect("applied");
    }
    assert_eq!(rules.list(Some("TrafficPolicy")).await.expect("read").len(), 6);
}

#[tokio::test]
async fn a_staged_change_reaches_its_share_and_can_be_paused_promoted_and_undone() {
    let store = store();
    let rules = rules(&store);
    let stable = rules.apply(&policy(1, ""), &by("ann")).await.expect("applied").applied[0].after.clone();
    let change = rules.apply(&policy(2, STAGED), &by("ann")).await.expect("applied").applied.remove(0);
    until("the book", async || selected(&rules).contains(&change.after)).await;
    let have = selected(&rules).iter().filter(|r| **r == change.after).count();
    let old = selected(&rules).iter().filter(|r| **r == stable).count();
    assert!(
        (15..=45).contains(&have) && have + old == 100,
        "{have} of 100 have the candidate, {old} the stable one"
    );
    let busy = rules.apply(&policy(3, ""), &by("bob")).await;
    assert!(matches!(busy, Err(RuleError::Busy { .. })), "{busy:?}");
    assert!(matches!(rules.pause(ID, "ann", "lunch").await.expect("paused").state, State::Paused { .. }));
    assert!(rules.pause(ID, "ann", "again").await.is_err());
    rules.resume(ID, "ann").await.expect("resumed");
    let undone = rules.undo(ID, "bob", "no good").await.expect("undone");
    assert!(matches!(undone.state, State::RolledBack { .. }));
    until("everyone to have the stable one", async || selected(&rules).iter().all(|r| *r == stable)).await;
    assert!(matches!(rules.rollout(ID).await.expect("the last one").state, State::RolledBack { .. }));
    rules.apply(&policy(2, STAGED), &by("ann")).await.expect("applied");
    rules.promote(ID, "ann", raddle_policy::rollout::Promote::All).await.expect("promoted");
    until("everyone to have the new one", async || selected(&rules).iter().all(|r| *r == change.after)).await;
}

/// Sees what it was told to see.
#[derive(Default)]
struct Eye(Mutex<Cohorts>);

impl Observer for Eye {
    fn observe(&self, _: &str, _: &Cohort, _: Option<&str>) -> Observed {
        let new = self.0.lock().expect("no test panics while it holds it").clone();
        Observed { new, spread: Spread { wanted: 30, running: 30, refused: 0 } }
    }
}

#[tokio::test]
async fn harm_is_rolled_back_unattended_within_seconds_and_never_widens() {
    let store = store();
    let rules = rules(&store);
    let stable = rules.apply(&policy(1, ""), &by("ann")).await.expect("applied").applied[0].after.clone();
    let change = rules.apply(&policy(2, STAGED), &by("ann")).await.expect("applied").applied.remove(0);
    until("the book", async || selected(&rules).contains(&change.after)).await;
    let eye = Arc::new(Eye::default());
    {
        let mut seen = eye.0.lock().expect("nobody else holds it");
        (seen.candidate.requests, seen.candidate.failures) = (40, 20);
        (seen.rest.requests, seen.rest.failures) = (100, 1);
    }
    let began = Instant::now();
    let replica = Replica::join(store.clone(), "one", Vec::new());
    rules.lead(&replica, eye);
    let most = Mutex::new(0);
    until("everyone to be back", async || {
        let have = selected(&rules);
        let now = have.iter().filter(|r| **r == change.after).count();
        let mut most = most.lock().expect("nobody else holds it");
        *most = now.max(*most);
        have.iter().all(|r| *r == stable)
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(*most.lock().expect("nobody else holds it") <= 45);
    let view = rules.rollout(ID).await.expect("the last one");
    assert!(matches!(&view.state, State::RolledBack { by, .. } if by == "guard"), "{view:?}");
}
