//! The authority in the store: made or found there, and followed.
use super::{Authority, Ca, CaError, CaOptions, CaState, Current, TICK};
use crate::keys::CA;
use raddle_identity::{Issuer, SealKey, TrustBundle};
use raddle_store::{Change, Entry, Expect, Follow, Following, Mirror, Op, Outcome, Revision, Store, Txn};
use std::sync::{Arc, Weak};

/// The state and the key that opens it, from the store or made now.
pub(super) async fn begin(
    store: &dyn Store,
    options: &CaOptions,
    now: i64,
) -> Result<(SealKey, Current), CaError> {
    let mut entry = store.get(&state_key()).await?;
    let seal = match (&entry, options.create_seal_key) {
        (None, true) => SealKey::load_or_create(&options.seal_key),
        // Another key would open nothing: it is not made.
        _ => SealKey::load(&options.seal_key),
    }
    .map_err(CaError::Seal)?;
    if entry.is_none() {
        let issuer = match &options.given {
            Some(files) => files.load(now)?,
            None => Issuer::generate(&options.trust_domain, options.root_lifetime, now)?,
        };
        let authority = Authority::seal(&issuer, &seal, options.given.is_some())?;
        let state = CaState::new(&options.trust_domain, authority);
        entry = match store.commit(put_state(&state, Expect::Absent)).await? {
            Outcome::Done(revision) => {
                let current = assemble(revision, &state, &seal, Some(Arc::new(issuer)), now)?;
                return Ok((seal, current));
            }
            // Another replica was faster: its authority is everybody's.
            Outcome::Conflict(..) => store.get(&state_key()).await?,
        };
    }
    let entry = entry.ok_or(CaError::Gone)?;
    let state = CaState::read(&entry.value).map_err(CaError::State)?;
    if state.trust_domain != options.trust_domain {
        return Err(CaError::Option(format!(
            "the authority in the store is of trust domain `{}`, not `{}`; a mesh keeps its trust domain",
            state.trust_domain, options.trust_domain
        )));
    }
    let current = assemble(entry.changed, &state, &seal, None, now)?;
    Ok((seal, current))
}

pub(super) fn assemble(
    revision: Revision,
    state: &CaState,
    seal: &SealKey,
    known: Option<Arc<Issuer>>,
    now: i64,
) -> Result<Current, CaError> {
    let damaged = || CaError::State("the authority's state in the store is damaged".into());
    let signing = state.authority(&state.signing).ok_or_else(damaged)?;
    let issuer = match known {
        Some(issuer) => issuer,
        None => Arc::new(signing.open(seal, now).map_err(CaError::State)?),
    };
    let mut roots = Vec::new();
    for authority in &state.authorities {
        roots.extend(authority.roots().ok_or_else(damaged)?);
    }
    let trust = TrustBundle::new(&state.trust_domain, roots).map_err(|_| damaged())?;
    Ok(Current { revision, state: Arc::new(state.clone()), issuer, trust: Arc::new(trust) })
}

pub(super) fn state_key() -> String {
    format!("{CA}state")
}

pub(super) fn denied_prefix() -> String {
    format!("{CA}denied/")
}

pub(super) fn put_state(state: &CaState, expect: Expect) -> Txn {
    let key: raddle_store::Key = state_key().into();
    let op = Op::Put { key: key.clone(), value: state.bytes().into(), lease: None };
    Txn { expect: vec![(key, expect)], ops: vec![op], ..Txn::default() }
}

pub(super) async fn follow_state(ca: Weak<Ca>, store: Arc<dyn Store>) {
    let mut steps = Follow::start(store, state_key());
    while let Some(step) = steps.recv().await {
        let Some(ca) = ca.upgrade() else { return };
        let entries: Vec<Entry> = match step {
            Following::State(entries) => entries,
            Following::Changes(changes) => changes.into_iter().filter_map(put).collect(),
        };
        for entry in entries.iter().filter(|e| *e.key == *state_key()) {
            let taken = CaState::read(&entry.value).map_err(CaError::State);
            if let Err(e) = taken.and_then(|state| ca.install(entry.changed, &state)) {
                tracing::error!("the authority goes on as it was: {e}");
            }
        }
    }
}

fn put(change: Change) -> Option<Entry> {
    match change {
        Change::Put(entry) => Some(entry),
        Change::Delete(_) => None,
    }
}

pub(super) async fn follow_denials(ca: Weak<Ca>, store: Arc<dyn Store>) {
    let mut steps = Follow::start(store, denied_prefix());
    let mut mirror = Mirror::default();
    while let Some(step) = steps.recv().await {
        mirror.apply(step);
        let Some(ca) = ca.upgrade() else { return };
        ca.take_denials(mirror.entries().values());
    }
}

pub(super) async fn tick(ca: Weak<Ca>) {
    loop {
        tokio::time::sleep(TICK).await;
        let Some(ca) = ca.upgrade() else { return };
        if let Err(e) = ca.tick().await {
            tracing::warn!("the authority could not do what is due: {e}");
        }
    }
}
