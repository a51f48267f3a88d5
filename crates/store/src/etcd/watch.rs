//! A watch that outlives connections: it goes on at another member from the last revision it told.
use super::client::{Client, Retry};
use super::convert::{Place, entry};
use super::proto::{
    DELETED, RANGE, RangeRequest, RangeResponse, WATCH, WatchCreate, WatchRequest, WatchResponse,
};
use crate::types::{Change, Revision, StoreError, Told};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;

/// How long a member may take to begin a watch.
const BEGIN: Duration = Duration::from_secs(3);
/// The first pause after a connection was lost; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Largest message; etcd cuts them at about 2 MiB when asked to.
const MAX_MESSAGE: usize = 16 << 20;

/// Why a connection's watch ended.
enum Ended {
    /// The watch cannot go on.
    Lost(String),
    /// Another connection may go on.
    Broken(String),
    /// Nobody listens.
    Left,
}

impl From<Status> for Ended {
    fn from(status: Status) -> Ended {
        Ended::Broken(status.to_string())
    }
}

/// A watch's state between connections.
pub(super) struct Watching {
    pub(super) client: Arc<Client>,
    pub(super) place: Place,
    /// Everything up to this revision was told.
    pub(super) told: i64,
    pub(super) tell: mpsc::Sender<Told>,
}

impl Watching {
    /// Until nobody listens or the watch is lost.
    pub(super) async fn run(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let (member, before) = (self.client.current(), self.told);
            let tell = self.tell.clone();
            let ended = tokio::select! {
                ended = self.connection(member) => ended,
                () = tell.closed() => Ended::Left,
            };
            match ended {
                Ended::Left => return,
                Ended::Lost(why) => {
                    // A listener that has gone needs no word.
                    let _ = self.tell.send(Told::Lost(why)).await;
                    return;
                }
                Ended::Broken(why) => {
                    tracing::debug!("etcd {}: a watch broke: {why}", self.client.host(member));
                    self.client.failed(member);
                }
            }
            pause = if self.told > before { FIRST_PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = tell.closed() => return,
            }
        }
    }

    /// One connection's watch, until it ends.
    async fn connection(&mut self, member: usize) -> Ended {
        // The requests' stream must stay open: etcd takes its end for the watch's.
        let (requests, to_send) = mpsc::channel(1);
        let create = WatchCreate {
            key: self.place.begin(),
            range_end: self.place.end(),
            start_revision: self.told + 1,
            progress_notify: true,
            fragment: true,
        };
        if requests.send(WatchRequest { create: Some(create) }).await.is_err() {
            return Ended::Left;
        }
        let mut told = match timeout(BEGIN, self.open(member, ReceiverStream::new(to_send))).await {
            Ok(Ok(told)) => told,
            Ok(Err(status)) if status.code() == Code::Unauthenticated => {
                return match self.client.authenticate().await {
                    Ok(()) => Ended::Broken("its token was renewed".into()),
                    Err(why) => Ended::Broken(why.to_string()),
                };
            }
            Ok(Err(status)) => return status.into(),
            Err(_) => return Ended::Broken("no answer in time".into()),
        };
        let mut pending = Vec::new();
        loop {
            let answer = match told.message().await {
                Ok(Some(answer)) => answer,
                Ok(None) => return Ended::Broken("it hung up".into()),
                Err(status) => return status.into(),
            };
            if let Err(ended) = self.answer(answer, &mut pending).await {
                return ended;
            }
        }
    }

    async fn open(
        &self,
        member: usize,
        requests: ReceiverStream<WatchRequest>,
    ) -> Result<Streaming<WatchResponse>, Status> {
        let mut grpc = Grpc::new(self.client.own_channel(member)).max_decoding_message_size(MAX_MESSAGE);
        grpc.ready().await.map_err(|e| Status::from_error(e.into()))?;
        let mut request = self.client.dress(requests);
        // A member that is cut off from the others must say so, instead of saying nothing.
        request.metadata_mut().insert("hasleader", AsciiMetadataValue::from_static("true"));
        let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
        Ok(grpc.streaming(request, PathAndQuery::from_static(WATCH), codec).await?.into_inner())
    }

    /// The member has not come to our place yet. It may be behind the others for a moment; or etcd was restored from an
    /// older backup, and a watch of the future would be silent for ever.
    async fn in_the_future(&self) -> Result<(), Ended> {
        let key = RangeRequest { key: self.place.begin(), ..RangeRequest::default() };
        let answer: Result<RangeResponse, _> = self.client.call(RANGE, key, Retry::Safe).await;
        let answer = answer.map_err(|failed| Ended::Broken(StoreError::from(failed).to_string()))?;
        match answer.header.map_or(0, |h| h.revision) {
            now if now < self.told => {
                Err(Ended::Lost(format!("etcd is at revision {now}, and was at {} before", self.told)))
            }
            _ => Ok(()),
        }
    }

    /// Takes one answer in. A commit that came in pieces is told when it is whole.
    async fn answer(&mut self, answer: WatchResponse, pending: &mut Vec<(i64, Change)>) -> Result<(), Ended> {
        let now = answer.header.map_or(0, |h| h.revision);
        if answer.compact_revision > 0 {
            return Err(Ended::Lost(format!(
                "etcd's history up to revision {} is gone",
                answer.compact_revision
            )));
        }
        if answer.canceled {
            return Err(Ended::Lost(format!("etcd ended the watch: {}", answer.cancel_reason)));
        }
        if answer.created {
            return if now < self.told { self.in_the_future().await } else { Ok(()) };
        }
        let quiet = answer.events.is_empty() && pending.is_empty();
        for event in answer.events {
            let Some(kv) = event.kv else { continue };
            let revision = kv.mod_revision;
            let deleted = event.kind == DELETED;
            let entry = match entry(kv, &self.place) {
                Ok(entry) => entry,
                Err(StoreError::Corrupt(why)) => {
                    tracing::warn!("a change in etcd is passed over: {why}");
                    continue;
                }
                Err(why) => return Err(Ended::Lost(why.to_string())),
            };
            // What was told before the connection broke.
            if revision > self.told {
                pending
                    .push((revision, if deleted { Change::Delete(entry.key) } else { Change::Put(entry) }));
            }
        }
        let last = pending.last().map_or(0, |(revision, _)| *revision);
        let whole = match answer.fragment {
            true => pending.partition_point(|(revision, _)| *revision < last),
            false => pending.len(),
        };
        let changes: Vec<(i64, Change)> = pending.drain(..whole).collect();
        if let Some(upto) = changes.last().map(|(revision, _)| *revision) {
            let changes = changes.into_iter().map(|(_, change)| change).collect();
            self.tell.send(Told::Changes(Revision(upto as u64), changes)).await.map_err(|_| Ended::Left)?;
            self.told = upto;
        } else if quiet {
            // Word of how far all was told: after a reconnect less history is needed.
            self.told = self.told.max(now);
        }
        Ok(())
    }
}
