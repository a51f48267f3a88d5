//! The etcd engine: several control planes share the state that a cluster keeps.
//!
//! A thin client of its own: [`proto`] the messages, [`client`] calls with failover, [`watch`] watches that outlive
//! connections, [`convert`] between the two vocabularies.
//!
//! Reads are linearizable. A read is tried at other members until one answers; a commit only if it surely was not
//! received: if its answer was lost, the caller gets [`StoreError::Unavailable`] and must look what became of it.
//! Every commit is on the disks of most members when it is answered; `relaxed` changes nothing.
mod client;
mod convert;
mod options;
mod proto;
mod watch;

use crate::limits::{check_key, check_prefix, check_ttl, check_txn};
use crate::types::{Entry, LeaseId, Listing, Outcome, Revision, Store, StoreError, Txn, Wait, Watch};
use client::{Client, Failed, Retry};
use convert::{Place, entry, one, outcome, request, revision};
pub use options::{EtcdOptions, EtcdTls};
use proto::{
    COMPACT, CompactionRequest, Empty, LEASE_GRANT, LEASE_KEEP_ALIVE, LEASE_REVOKE, LeaseGrantRequest,
    LeaseRequest, LeaseResponse, RANGE, RangeRequest, RangeResponse, TXN,
};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use watch::Watching;

/// Entries of one answer while listing.
const PAGE: i64 = 500;
/// How often a listing is begun again because its revision was compacted under it.
const LISTINGS: usize = 5;
/// Messages that wait in a watcher's channel.
const CHANNEL: usize = 8;

/// A store in an etcd cluster.
pub struct Etcd {
    client: Arc<Client>,
    prefix: String,
    name: String,
}

impl Etcd {
    /// Connects, and asks once whether it answers.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] if an option makes no sense or the user is refused, [`StoreError::Unavailable`] if no
    /// member answers.
    pub async fn connect(options: EtcdOptions) -> Result<Etcd, StoreError> {
        let client = Client::new(&options)?;
        let name = format!("etcd {}", client.hosts());
        let etcd = Etcd { client: Arc::new(client), prefix: options.prefix, name };
        etcd.client.authenticate().await?;
        etcd.range(one(&etcd.prefix, "raddle")).await?;
        Ok(etcd)
    }

    async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Failed> {
        self.client.call(RANGE, request, Retry::Safe).await
    }

    /// All pages of a listing, at the revision of the first one.
    async fn pages(&self, place: &Place) -> Result<Listing, Failed> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut at = 0;
        let mut key = place.begin();
        loop {
            let request = RangeRequest { key, range_end: place.end(), limit: PAGE, revision: at };
            let page = self.range(request).await?;
            if at == 0 {
                at = page.header.map_or(0, |h| h.revision);
            }
            // The next page begins right after this one's last key.
            key = page.kvs.last().map(|kv| [&kv.key[..], &[0]].concat().into()).unwrap_or_default();
            for kv in page.kvs {
                entries.push(entry(kv, place).map_err(Failed::Store)?);
            }
            if !page.more || key.is_empty() {
                return Ok(Listing { entries, revision: revision(at) });
            }
        }
    }
}

impl Store for Etcd {
    fn get<'a>(&'a self, key: &'a str) -> Wait<'a, Option<Entry>> {
        Box::pin(async move {
            check_key(key)?;
            let found = self.range(one(&self.prefix, key)).await?.kvs.into_iter().next();
            found.map(|kv| entry(kv, &Place::new(&self.prefix, key))).transpose()
        })
    }

    fn list<'a>(&'a self, prefix: &'a str) -> Wait<'a, Listing> {
        Box::pin(async move {
            check_prefix(prefix)?;
            let place = Place::new(&self.prefix, prefix);
            for _ in 0..LISTINGS {
                match self.pages(&place).await {
                    Err(Failed::Compacted) => {}
                    other => return Ok(other?),
                }
            }
            Err(Failed::Compacted.into())
        })
    }

    fn commit(&self, txn: Txn) -> Wait<'_, Outcome> {
        Box::pin(async move {
            check_txn(&txn)?;
            let expected = txn.expect.clone();
            let answer = self.client.call(TXN, request(&self.prefix, txn), Retry::Unsent).await?;
            outcome(expected, answer, &Place::new(&self.prefix, ""))
        })
    }

    fn watch<'a>(&'a self, prefix: &'a str, after: Revision) -> Wait<'a, Watch> {
        Box::pin(async move {
            check_prefix(prefix)?;
            let (tell, watch) = mpsc::channel(CHANNEL);
            let (client, place) = (Arc::clone(&self.client), Place::new(&self.prefix, prefix));
            tokio::spawn(Watching { client, place, told: after.0 as i64, tell }.run());
            Ok(watch)
        })
    }

    fn grant(&self, ttl: Duration) -> Wait<'_, LeaseId> {
        Box::pin(async move {
            check_ttl(ttl)?;
            let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
            let request = LeaseGrantRequest { ttl: seconds as i64 };
            // Done twice, the first one ends by itself.
            let granted: LeaseResponse = self.client.call(LEASE_GRANT, request, Retry::Safe).await?;
            match granted.id {
                0 => Err(StoreError::Corrupt("etcd granted a lease without an id".into())),
                id => Ok(LeaseId(id)),
            }
        })
    }

    fn keep_alive(&self, lease: LeaseId) -> Wait<'_, ()> {
        Box::pin(async move {
            let request = LeaseRequest { id: lease.0 };
            let kept: LeaseResponse = self.client.call(LEASE_KEEP_ALIVE, request, Retry::Safe).await?;
            if kept.ttl > 0 { Ok(()) } else { Err(StoreError::NoLease) }
        })
    }

    fn revoke(&self, lease: LeaseId) -> Wait<'_, ()> {
        Box::pin(async move {
            let request = LeaseRequest { id: lease.0 };
            let _: Empty = self.client.call(LEASE_REVOKE, request, Retry::Unsent).await?;
            Ok(())
        })
    }

    fn compact(&self, before: Revision) -> Wait<'_, ()> {
        Box::pin(async move {
            if before.0 == 0 {
                return Ok(());
            }
            let request = CompactionRequest { revision: before.0 as i64 };
            match self.client.call::<_, Empty>(COMPACT, request, Retry::Safe).await {
                // Another did it already.
                Err(Failed::Compacted) => Ok(()),
                other => Ok(other.map(|_| ())?),
            }
        })
    }

    fn name(&self) -> String {
        self.name.clone()
    }
}

impl fmt::Debug for Etcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Etcd").field("name", &self.name).field("prefix", &self.prefix).finish_non_exhaustive()
    }
}
