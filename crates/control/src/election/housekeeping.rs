//! The store's history must not grow for ever (etcd keeps all of it until it is told otherwise): one replica forgets
//! what is older than anybody needs. Nor must the lists of what happened: it keeps the newest of each.
use super::replica::Replica;
use crate::{events, keys};
use raddle_store::StoreError;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// The job's name.
pub const HISTORY_JOB: &str = "history";

/// Lists in order of time, and how many of their newest entries are kept.
const LISTS: [(&str, usize); 2] = [(keys::EVENTS, events::KEPT), (keys::AUDIT, events::AUDIT_KEPT)];

/// Forgets, as the one leader of this job, the history that is older than one or two `keep`, and all but the
/// newest events and audit notes. Ends when the replica leaves.
pub fn housekeep(replica: &Arc<Replica>, keep: Duration) -> JoinHandle<()> {
    let mut term = replica.lead(HISTORY_JOB);
    let replica = Arc::clone(replica);
    tokio::spawn(async move {
        let work = async {
            let mut before = None;
            let mut beat = tokio::time::interval(keep);
            loop {
                beat.tick().await;
                if term.borrow_and_update().is_none() {
                    before = None;
                    continue;
                }
                for (prefix, most) in LISTS {
                    if let Err(why) = events::prune(replica.store().as_ref(), prefix, most).await {
                        tracing::warn!("{prefix} was not shortened: {why}");
                    }
                }
                match forget(&replica, before).await {
                    Ok(now) => before = Some(now),
                    Err(why) => tracing::warn!("the store's history was not compacted: {why}"),
                }
            }
        };
        tokio::select! {
            () = work => {}
            () = replica.left() => {}
        }
    })
}

/// Forgets up to where history was last time; where it is now.
async fn forget(
    replica: &Replica,
    before: Option<raddle_store::Revision>,
) -> Result<raddle_store::Revision, StoreError> {
    if let Some(before) = before {
        replica.store().compact(before).await?;
    }
    Ok(replica.store().list(keys::LEADER).await?.revision)
}
