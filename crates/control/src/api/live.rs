//! Changes as they happen, by server-sent events.
//!
//! One watch of the store for all clients. An event's id is the store's revision, the same on every replica, so a
//! client may go on where it was after a reconnect, at whichever replica; where that is no longer known it is told
//! `reset`, and lists again.
use super::State;
use super::http::shape::answers;
use super::http::{Call, ParamKind, Problem, Reply, Route};
use super::log::EventAnswer;
use crate::keys::{EVENTS, INSTANCES, LEADER, NODES, ROOT, RULES};
use axum::body::Body;
use axum::http::{StatusCode, header};
use bytes::Bytes;
use raddle_store::{Change, Revision, Store, Told};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Changes kept for clients that come back.
const KEPT: usize = 4096;
/// Changes that may wait for a slow client; then it is told `reset`.
const BEHIND: usize = 1024;
/// Clients at once.
const CLIENTS: usize = 256;
/// Silence after which a heartbeat is sent.
const HEARTBEAT: Duration = Duration::from_secs(15);
const KINDS: &[&str] = &["rules", "services", "sidecars", "rollouts", "events"];

pub(super) fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/watch", "watch")
            .says(
                "Changes as they happen, as server-sent events. The event's name is the kind, its data a WatchAnswer, \
                 its id the place to go on from (Last-Event-ID). `reset` says that changes were missed: list again.",
            )
            .query("kinds", ParamKind::Words(KINDS), "What to watch; absent = all.")
            .answers_text(200, "text/event-stream", "Never ends by itself.")
            .on(watch),
    ]
}

answers! {
    /// The data of a watch's event.
    pub struct WatchAnswer {
        /// What changed: `KIND/NAME` of a rule, id of a sidecar, `APP/INSTANCE` of services, id of an event.
        pub id: String,
        /// `put` or `delete`.
        pub change: String,
        /// The event itself, where events are watched.
        pub event: Option<EventAnswer>,
    }
}

/// What one commit changed, for clients.
#[derive(Clone, Debug)]
struct Tick {
    revision: u64,
    /// Kind (as an index of [`KINDS`]) and the event's data.
    items: Arc<[(usize, String)]>,
}

/// The watch that all clients share.
#[derive(Debug)]
pub(crate) struct Hub {
    ring: Mutex<Ring>,
    sender: broadcast::Sender<Tick>,
    clients: AtomicUsize,
}

#[derive(Debug, Default)]
struct Ring {
    /// Changes after this revision are all in `ticks`; `None` = the watch has not begun.
    from: Option<u64>,
    latest: u64,
    ticks: VecDeque<Tick>,
}

impl Hub {
    /// Begins to watch the store, in a task that ends with the hub.
    pub(crate) fn start(store: Arc<dyn Store>) -> Arc<Hub> {
        let hub = Arc::new(Hub {
            ring: Mutex::new(Ring::default()),
            sender: broadcast::channel(BEHIND).0,
            clients: AtomicUsize::new(0),
        });
        tokio::spawn(follow(store, Arc::downgrade(&hub)));
        hub
    }

    fn begin(&self, revision: u64) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        *ring = Ring { from: Some(revision), latest: revision, ticks: VecDeque::new() };
    }

    fn push(&self, tick: Tick) {
        let mut ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        ring.latest = tick.revision;
        if tick.items.is_empty() {
            return;
        }
        if ring.ticks.len() == KEPT {
            ring.from = ring.ticks.pop_front().map(|t| t.revision);
        }
        ring.ticks.push_back(tick.clone());
        // That nobody listens is no error. Sent under the lock, so that a client that joins misses nothing.
        let _ = self.sender.send(tick);
    }

    /// Changes after `after`, then those to come; `true` = some are missing. `None` = from now on.
    fn join(&self, after: Option<u64>) -> (Vec<Tick>, broadcast::Receiver<Tick>, Option<u64>, bool) {
        let ring = self.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let receiver = self.sender.subscribe();
        let latest = ring.from.map(|_| ring.latest);
        let Some(after) = after else { return (Vec::new(), receiver, latest, false) };
        let known = ring.from.is_some_and(|from| from <= after && after <= ring.latest);
        if !known {
            return (Vec::new(), receiver, latest, true);
        }
        (ring.ticks.iter().filter(|t| t.revision > after).cloned().collect(), receiver, latest, false)
    }
}

async fn follow(store: Arc<dyn Store>, hub: Weak<Hub>) {
    loop {
        // Listed only for the revision: few keys lie there.
        if let Ok(listing) = store.list(LEADER).await
            && let Ok(mut watch) = store.watch(ROOT, listing.revision).await
        {
            let Some(alive) = hub.upgrade() else { return };
            alive.begin(listing.revision.0);
            drop(alive);
            while let Some(Told::Changes(revision, changes)) = watch.recv().await {
                let Some(hub) = hub.upgrade() else { return };
                hub.push(tick(revision, &changes));
            }
        }
        if hub.strong_count() == 0 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn tick(Revision(revision): Revision, changes: &[Change]) -> Tick {
    let mut items = Vec::new();
    for change in changes {
        let (key, value, what) = match change {
            Change::Put(entry) => (&entry.key, Some(&entry.value), "put"),
            Change::Delete(key) => (key, None, "delete"),
        };
        let mut item = |kind: usize, id: &str, event: Option<EventAnswer>| {
            let data = WatchAnswer { id: id.to_owned(), change: what.to_owned(), event };
            items.push((kind, serde_json::to_string(&data).unwrap_or_default()));
        };
        if let Some(id) = key.strip_prefix(RULES) {
            item(0, id, None);
            if value.is_none_or(rolls) {
                item(3, id, None);
            }
        } else if let Some(id) = key.strip_prefix(INSTANCES) {
            item(1, id, None);
        } else if let Some(id) = key.strip_prefix(NODES) {
            item(2, id, None);
        } else if let (Change::Put(entry), Some(_)) = (change, key.strip_prefix(EVENTS))
            && let Some((id, event)) = crate::events::read(entry)
        {
            item(4, &id.clone(), Some(EventAnswer::new(id, event)));
        }
    }
    Tick { revision, items: items.into() }
}

/// Whether a stored rule is being rolled out.
fn rolls(value: &Bytes) -> bool {
    let rule: Value = serde_json::from_slice(value).unwrap_or_default();
    !rule["rollout"].is_null()
}

async fn watch(call: Call) -> Result<Reply, Problem> {
    let after = match call.headers.get("last-event-id") {
        Some(id) => {
            let id = id.to_str().ok().and_then(|id| id.trim().parse::<u64>().ok());
            Some(
                id.ok_or_else(|| Problem::bad("Last-Event-ID must be an id that this watch gave: a number"))?,
            )
        }
        None => None,
    };
    let kinds: Vec<bool> = match call.query.words("kinds") {
        Some(words) => KINDS.iter().map(|k| words.contains(k)).collect(),
        None => vec![true; KINDS.len()],
    };
    let guest = Guest::enter(&call.state)?;
    let (missed, changes, latest, reset) = guest.0.hub.join(after);
    let mut first = String::from("retry: 1000\n\n");
    if reset {
        first.push_str(&lost(latest));
    } else if let Some(latest) = latest {
        // Gives a client that is cut before the first change a place to go on from.
        let at = if missed.is_empty() { latest } else { after.unwrap_or(latest) };
        first.push_str(&format!("id: {at}\nevent: hello\ndata: {{}}\n\n"));
    }
    for tick in &missed {
        first.push_str(&render(tick, &kinds));
    }
    let stream = futures_util::stream::unfold(
        (Some(first), changes, guest, kinds),
        |(first, mut changes, guest, kinds)| async move {
            let text = match first {
                Some(text) => text,
                None => next(&mut changes, &guest, &kinds).await?,
            };
            Some((Ok::<_, Infallible>(Bytes::from(text)), (None, changes, guest, kinds)))
        },
    );
    let reply = Reply::new(StatusCode::OK, "text/event-stream", Body::from_stream(stream));
    Ok(reply.header(header::CACHE_CONTROL, "no-store"))
}

/// What to send next; nothing = it ends.
async fn next(changes: &mut broadcast::Receiver<Tick>, guest: &Guest, kinds: &[bool]) -> Option<String> {
    loop {
        match tokio::time::timeout(HEARTBEAT, changes.recv()).await {
            Ok(Ok(tick)) => {
                let text = render(&tick, kinds);
                if !text.is_empty() {
                    return Some(text);
                }
            }
            Ok(Err(RecvError::Lagged(_))) => return Some(lost(guest.0.hub.join(None).2)),
            Ok(Err(RecvError::Closed)) => return None,
            Err(_) => return Some(": heartbeat\n\n".into()),
        }
    }
}

fn lost(latest: Option<u64>) -> String {
    let id = latest.map_or_else(String::new, |id| format!("id: {id}\n"));
    format!("{id}event: reset\ndata: {}\n\n", json!({"message": "changes were missed: list again"}))
}

fn render(tick: &Tick, kinds: &[bool]) -> String {
    let mut out = String::new();
    for (kind, data) in tick.items.iter().filter(|(kind, _)| kinds[*kind]) {
        out.push_str(&format!("id: {}\nevent: {}\ndata: {data}\n\n", tick.revision, KINDS[*kind]));
    }
    out
}

/// A client's place among the watchers, given back when it goes.
struct Guest(Arc<State>);

impl Guest {
    fn enter(state: &Arc<State>) -> Result<Guest, Problem> {
        if state.hub.clients.fetch_add(1, Ordering::Relaxed) >= CLIENTS {
            state.hub.clients.fetch_sub(1, Ordering::Relaxed);
            return Err(Problem::too_many(format!("{CLIENTS} clients watch already")));
        }
        Ok(Guest(state.clone()))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.0.hub.clients.fetch_sub(1, Ordering::Relaxed);
    }
}
