//! Who gets in with which token.
use raddle_control::tokens::{Denied, Grant, Kind, NewToken, Role, TokenError, Tokens};
use raddle_store::{Embedded, Store};
use std::future::Future;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

fn store() -> Arc<dyn Store> {
    Arc::new(Embedded::in_memory().unwrap())
}

fn api(role: Role) -> NewToken {
    NewToken { name: "ci".into(), kind: Kind::Api { role }, lifetime: None, by: "test".into() }
}

fn bootstrap(once: bool) -> NewToken {
    let kind = Kind::Bootstrap { app: "pay".into(), unit: None, instance: Some("pay-1".into()), once };
    NewToken { name: "pay".into(), kind, lifetime: Some(Duration::from_secs(3600)), by: "test".into() }
}

/// Waits until it is so, for at most ten seconds.
async fn until<F: Future<Output = bool>>(what: &str, mut so: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !so().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_token_lets_in_until_it_is_revoked_on_every_replica() {
    let store = store();
    let (one, other) =
        (Tokens::open(store.clone(), None).await.unwrap(), Tokens::open(store, None).await.unwrap());
    let (info, text) = one.create(api(Role::Operate)).await.unwrap();
    let granted = Grant::Api { id: info.id.clone(), name: "ci".into(), role: Role::Operate };
    assert_eq!(one.authenticate(&text), Ok(granted.clone()));
    until("the other replica knows it", async || other.authenticate(&text) == Ok(granted.clone())).await;
    assert_eq!(other.list(), std::slice::from_ref(&info));
    other.revoke(&info.id).await.unwrap();
    assert_eq!(other.authenticate(&text), Err(Denied::Unknown));
    until("the first replica has lost it", async || one.authenticate(&text) == Err(Denied::Unknown)).await;
    assert_eq!(one.revoke(&info.id).await, Err(TokenError::None));
}

#[tokio::test]
async fn what_is_nearly_a_token_is_none() {
    let tokens = Tokens::open(store(), None).await.unwrap();
    let (info, text) = tokens.create(api(Role::Admin)).await.unwrap();
    let mut other = text.as_bytes().to_vec();
    *other.last_mut().unwrap() ^= 1;
    let other = String::from_utf8(other).unwrap();
    let upper = text.to_uppercase();
    let long = "a".repeat(100_000);
    let cut = &text[..text.len() - 1];
    let more = format!("{}0", *text);
    let unknown = format!("rdl_{}_{}", "0".repeat(16), &text[text.len() - 64..]);
    for bad in ["", "rdl_", "rdl__", &other, &upper, &long, cut, &more, &unknown, &info.id, "rdl_é_é"] {
        assert_eq!(tokens.authenticate(bad), Err(Denied::Unknown), "{bad}");
    }
    assert!(tokens.authenticate(&text).is_ok());
}

#[tokio::test]
async fn a_token_is_good_for_its_time() {
    let tokens = Tokens::open(store(), None).await.unwrap();
    let short = NewToken { lifetime: Some(Duration::ZERO), ..api(Role::Read) };
    let (_, text) = tokens.create(short).await.unwrap();
    until("it has expired", async || tokens.authenticate(&text) == Err(Denied::Expired)).await;
}

#[tokio::test]
async fn the_store_and_the_list_hold_no_secret() {
    let store = store();
    let tokens = Tokens::open(store.clone(), None).await.unwrap();
    let (_, text) = tokens.create(api(Role::Admin)).await.unwrap();
    let secret = text.rsplit('_').next().unwrap();
    let kept = format!("{:?}", store.list("").await.unwrap());
    let shown = format!("{tokens:?} {}", serde_json::to_string(&tokens.list()).unwrap());
    assert!(!kept.contains(secret) && !shown.contains(secret));
    assert!(!shown.contains("hash"));
}

#[tokio::test]
async fn the_first_admin_token_is_made_once_and_only_its_owner_reads_it() {
    let (store, dir) = (store(), tempfile::tempdir().unwrap());
    let file = dir.path().join("admin.token");
    let (a, b) =
        tokio::join!(Tokens::open(store.clone(), Some(&file)), Tokens::open(store.clone(), Some(&file)));
    let (a, _b) = (a.unwrap(), b.unwrap());
    let text = std::fs::read_to_string(&file).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
    let again = Tokens::open(store.clone(), Some(&file)).await.unwrap();
    let grant = again.authenticate(text.trim()).unwrap();
    assert!(matches!(grant, Grant::Api { role: Role::Admin, .. }));
    // Revoked it stays so, and no restart makes another.
    again.revoke("first").await.unwrap();
    std::fs::remove_file(&file).unwrap();
    let later = Tokens::open(store, Some(&file)).await.unwrap();
    assert_eq!(later.authenticate(text.trim()), Err(Denied::Revoked));
    assert!(!file.exists());
    until("every replica refuses it", async || a.authenticate(text.trim()) == Err(Denied::Revoked)).await;
}

#[tokio::test]
async fn a_one_time_token_is_claimed_once_however_many_try() {
    let store = store();
    let (one, other) =
        (Tokens::open(store.clone(), None).await.unwrap(), Tokens::open(store.clone(), None).await.unwrap());
    let (_, text) = one.create(bootstrap(true)).await.unwrap();
    until("the other replica knows it", async || other.authenticate(&text).is_ok()).await;
    let Ok(Grant::Bootstrap(grant)) = one.authenticate(&text) else { panic!("no bootstrap token") };
    assert_eq!((grant.app.as_str(), grant.instance.as_deref()), ("pay", Some("pay-1")));
    // Both replicas find it unused; the store decides.
    let (a, b) = (one.claim(&grant, "k1", "pay-1").unwrap(), other.claim(&grant, "k2", "pay-1").unwrap());
    let (a, b) = (store.commit(a).await.unwrap(), store.commit(b).await.unwrap());
    assert!(matches!(a, raddle_store::Outcome::Done(_)) && matches!(b, raddle_store::Outcome::Conflict(..)));
    other.refresh(&grant.id).await.unwrap();
    assert_eq!(other.claim(&grant, "k2", "pay-1").unwrap_err(), Denied::Used);
    // The answer may have been lost: the same key may ask again.
    assert!(other.claim(&grant, "k1", "pay-1").unwrap().ops.is_empty());
}

#[tokio::test]
async fn tokens_for_names_that_no_certificate_can_have_are_refused() {
    let tokens = Tokens::open(store(), None).await.unwrap();
    for (app, unit, instance) in [
        ("", None, None),
        ("a/b", None, None),
        ("..", None, None),
        ("pay", Some(""), None),
        ("pay", Some("u/1"), None),
        ("pay", None, Some("")),
    ] {
        let text = |t: Option<&str>| t.map(str::to_owned);
        let kind =
            Kind::Bootstrap { app: app.into(), unit: text(unit), instance: text(instance), once: false };
        let made = tokens.create(NewToken { kind, ..bootstrap(false) }).await;
        assert!(matches!(made, Err(TokenError::Invalid(_))), "{app} {unit:?} {instance:?}");
    }
}
