//! The quota server: who may let through how much of rates that all sidecars with a rule have together
//! (`kind: RateLimit`, `reach: cluster`).
//!
//! What is decided is [`raddle_policy::quota`]'s. Here are the streams it is asked by ([`service`]), Envoy's rate limit
//! service on the same numbers ([`rls`]), where limits come from ([`limits`]), and which replica counts what
//! ([`owner`]): rules are divided into shards, and a shard is counted by whoever has its key in the store under its own
//! lease. A replica that may have lost its lease, or was stopped for a while, gives nothing more.
mod limits;
mod owner;
mod rls;
mod service;

pub use owner::SHARDS;

use crate::election::Replica;
use crate::rules::RuleBook;
use envoy_types::pb::envoy::service::ratelimit::v3::rate_limit_service_server::RateLimitServiceServer;
use limits::Limits;
use owner::Shards;
use raddle_core::Time;
use raddle_policy::quota::{ClientId, RuleView, Server, TICK};
use raddle_store::{LeaseId, Store};
use raddle_xds::proto::QuotaAnswer;
use raddle_xds::proto::quotas_server::QuotasServer;
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tonic::Status;

/// Streams at once, and bytes of a report.
const STREAMS: usize = 100_000;
const REPORT_MOST: usize = 1024 * 1024;
/// A replica that was stopped for so long does not know what others did meanwhile.
const STALL: Duration = Duration::from_secs(2);

/// What the quota server counts.
#[derive(Debug, Default)]
pub struct Counters {
    /// Open streams.
    pub streams: AtomicU64,
    /// Reports.
    pub reports: AtomicU64,
    /// Tokens given.
    pub tokens: AtomicU64,
    /// Items of rules that another replica counts.
    pub elsewhere: AtomicU64,
    /// Envoy's questions that passed, and that did not.
    pub rls: [AtomicU64; 2],
}

/// The quota server of one replica.
pub struct Quota {
    replica: Arc<str>,
    lease: watch::Receiver<Option<LeaseId>>,
    began: Instant,
    state: Mutex<State>,
    places: Arc<Semaphore>,
    ending: watch::Sender<bool>,
    counters: Counters,
}

/// A stream's way out, by its number.
type Tell = mpsc::Sender<Result<QuotaAnswer, Status>>;

#[derive(Debug, Default)]
struct State {
    server: Server,
    limits: Limits,
    shards: Shards,
    streams: HashMap<ClientId, (u64, Tell)>,
    ticked: Time,
}

/// Where a rule is counted.
enum Place {
    /// Here, and now.
    Here,
    /// By this replica, that listens there.
    There(String, Vec<String>),
    /// There is no such rule.
    Unknown,
}

impl Quota {
    /// Begins to count, in tasks of the caller's runtime. `alone`: nobody else can have the store open, so what others
    /// left there are former lives.
    pub fn start(
        store: Arc<dyn Store>,
        replica: &Replica,
        book: watch::Receiver<Arc<RuleBook>>,
        alone: bool,
    ) -> Arc<Quota> {
        let quota = Arc::new(Quota {
            replica: replica.id().clone(),
            lease: replica.lease(),
            began: Instant::now(),
            state: Mutex::default(),
            places: Arc::new(Semaphore::new(STREAMS)),
            ending: watch::channel(false).0,
            counters: Counters::default(),
        });
        let weak = Arc::downgrade(&quota);
        tokio::spawn(owner::follow(weak.clone(), store, replica.lease(), alone));
        tokio::spawn(tick(weak, book));
        quota
    }

    /// The sidecars' gRPC service.
    pub fn service(self: &Arc<Quota>) -> QuotasServer<service::Service> {
        QuotasServer::new(service::Service(self.clone())).max_decoding_message_size(REPORT_MOST)
    }

    /// Envoy's gRPC service.
    pub fn rls(self: &Arc<Quota>) -> RateLimitServiceServer<rls::Service> {
        rls::server(self.clone())
    }

    /// Ends the streams, and stops giving.
    pub fn end(&self) {
        self.ending.send_replace(true);
    }

    /// What it counts.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The rules that are counted here, and how they are.
    pub fn view(&self) -> Vec<RuleView> {
        let now = self.now();
        self.state().server.view(now)
    }

    /// Who counts each shard; empty = nobody yet.
    pub fn shards(&self) -> Vec<String> {
        let state = self.state();
        (0..SHARDS).map(|s| state.shards.owner(s).unwrap_or_default().to_owned()).collect()
    }

    /// How many shards are counted here.
    pub fn owned(&self) -> usize {
        let state = self.state();
        (0..SHARDS).filter(|s| state.shards.held(*s).is_some()).count()
    }

    fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this replica may give anything of a shard.
    fn may(&self, state: &State, shard: usize, now: Time) -> bool {
        let lease = *self.lease.borrow();
        lease.is_some()
            && state.shards.held(shard) == lease
            && now.since(state.ticked) < STALL
            && !*self.ending.borrow()
    }

    fn place(&self, state: &State, rule: &str, now: Time) -> Place {
        if !state.limits.has(rule) {
            return Place::Unknown;
        }
        let shard = owner::shard_of(rule);
        if self.may(state, shard, now) && state.server.has(rule) {
            return Place::Here;
        }
        let owner = state.shards.owner(shard).filter(|o| *o != &*self.replica).unwrap_or_default();
        Place::There(owner.to_owned(), state.shards.addresses(owner))
    }
}

impl State {
    /// The rules of the shards that are here, with their limits of now.
    fn settle(&mut self, now: Time) {
        let State { server, limits, shards, .. } = self;
        let gone: Vec<Arc<str>> = server
            .rules()
            .filter(|r| !limits.has(r) || shards.held(owner::shard_of(r)).is_none())
            .cloned()
            .collect();
        for rule in &gone {
            server.remove(rule);
        }
        for (rule, limit) in limits.all() {
            let shard = owner::shard_of(rule);
            if shards.held(shard).is_some() {
                server.set(rule, limit, shards.learns(shard, now), now);
            }
        }
    }
}

/// Divides anew, as long as somebody has the server.
async fn tick(quota: Weak<Quota>, mut book: watch::Receiver<Arc<RuleBook>>) {
    let mut beat = tokio::time::interval(TICK);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut poke, mut first) = (Vec::new(), true);
    loop {
        beat.tick().await;
        let Some(quota) = quota.upgrade() else { return };
        let now = quota.now();
        let mut state = quota.state();
        if now.since(state.ticked) >= STALL && state.ticked > Time::ZERO {
            tracing::warn!("the quota server stood still; it begins anew");
            state.shards.forget();
        }
        state.ticked = now;
        if first || book.has_changed().unwrap_or(false) {
            first = false;
            let rules = book.borrow_and_update().clone();
            state.limits.follow(&rules);
        }
        state.settle(now);
        poke.clear();
        state.server.tick(now, &mut poke);
        for client in &poke {
            if let Some((_, tell)) = state.streams.get(client) {
                // Who does not read has its answers yet to read.
                let _ = tell.try_send(Ok(QuotaAnswer { poke: true, ..QuotaAnswer::default() }));
            }
        }
        quota.counters.streams.store(state.streams.len() as u64, Relaxed);
    }
}

impl fmt::Debug for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quota").field("replica", &self.replica).finish_non_exhaustive()
    }
}
