//! Calls to whichever member answers.
use super::options::EtcdOptions;
use super::proto::{AUTHENTICATE, AuthenticateRequest, AuthenticateResponse};
use crate::types::StoreError;
use prost::Message;
use std::error::Error;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock};
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::AsciiMetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, ConnectError, Request, Status};
use tonic_prost::ProstCodec;

/// How long one member may take to answer.
const ANSWER: Duration = Duration::from_secs(3);
/// How long all tries together may take.
const PATIENCE: Duration = Duration::from_secs(6);
/// The pause after every member was tried.
const PAUSE: Duration = Duration::from_millis(100);
/// Largest answer: a page of a listing with large values.
const MAX_ANSWER: usize = 256 << 20;

/// Whether a call may be made again when its answer was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Retry {
    /// It changes nothing, or the same twice.
    Safe,
    /// Only if it surely was not received.
    Unsent,
}

/// Why a call failed, after all tries.
#[derive(Debug)]
pub(super) enum Failed {
    /// What was asked for is older than the history.
    Compacted,
    Store(StoreError),
}

impl From<Failed> for StoreError {
    fn from(failed: Failed) -> StoreError {
        match failed {
            Failed::Compacted => StoreError::Unavailable("etcd: that part of its history is gone".into()),
            Failed::Store(why) => why,
        }
    }
}

/// What an error says about a call.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It was not received, or not begun: another member may do it.
    NotDone,
    /// Nobody knows.
    Unknown,
    /// Our token is not taken any more.
    Token,
    /// It was understood and refused.
    Refused,
}

fn verdict(status: &Status) -> Verdict {
    let mut cause: Option<&(dyn Error + 'static)> = status.source();
    while let Some(error) = cause {
        if error.is::<ConnectError>() {
            return Verdict::NotDone;
        }
        cause = error.source();
    }
    let says = status.message();
    match status.code() {
        Code::ResourceExhausted if says.contains("too many requests") => Verdict::NotDone,
        Code::Unauthenticated => Verdict::Token,
        Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled | Code::Internal => {
            Verdict::Unknown
        }
        Code::Aborted => Verdict::Unknown,
        _ => Verdict::Refused,
    }
}

/// What a refusal means to a user of the store.
fn refused(status: &Status) -> Failed {
    let says = status.message();
    Failed::Store(match status.code() {
        Code::OutOfRange if says.contains("compacted") => return Failed::Compacted,
        Code::NotFound if says.contains("lease") => StoreError::NoLease,
        Code::ResourceExhausted if says.contains("space") => {
            StoreError::Unavailable(format!("etcd is full and takes no writes until it is compacted: {says}"))
        }
        Code::PermissionDenied => StoreError::Invalid(format!("etcd: this user may not do that: {says}")),
        _ => StoreError::Invalid(format!("etcd: {says}")),
    })
}

/// The members, and which of them answered last.
pub(super) struct Client {
    members: Vec<(Endpoint, Channel)>,
    current: AtomicUsize,
    user: Option<(String, String)>,
    token: RwLock<Option<AsciiMetadataValue>>,
}

impl Client {
    pub(super) fn new(options: &EtcdOptions) -> Result<Client, StoreError> {
        let members = options.members()?.into_iter().map(|e| {
            let channel = e.connect_lazy();
            (e, channel)
        });
        let (members, user) = (members.collect(), options.user.clone());
        Ok(Client { members, current: AtomicUsize::new(0), user, token: RwLock::new(None) })
    }

    /// The member that answered last.
    pub(super) fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed) % self.members.len()
    }

    /// A member failed: the next one is tried first, unless somebody found that out already.
    pub(super) fn failed(&self, member: usize) {
        let next = (member + 1) % self.members.len();
        // Who loses this race wanted the same.
        let _ = self.current.compare_exchange(member, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// A member's address for people.
    pub(super) fn host(&self, member: usize) -> String {
        self.members[member].0.uri().authority().map_or_else(String::new, ToString::to_string)
    }

    pub(super) fn hosts(&self) -> String {
        (0..self.members.len()).map(|m| self.host(m)).collect::<Vec<_>>().join(",")
    }

    /// A connection of its own to a member: a watch that is read slowly must not hold up the others' answers.
    pub(super) fn own_channel(&self, member: usize) -> Channel {
        self.members[member].0.connect_lazy()
    }

    /// The request with what every request carries.
    pub(super) fn dress<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        if let Some(token) = &*self.token.read().unwrap_or_else(PoisonError::into_inner) {
            request.metadata_mut().insert("token", token.clone());
        }
        request
    }

    /// Gets a token, if there is a user to get one for.
    pub(super) async fn authenticate(&self) -> Result<(), StoreError> {
        let Some((name, password)) = &self.user else { return Ok(()) };
        let request = AuthenticateRequest { name: name.clone(), password: password.clone() };
        let answer: AuthenticateResponse = self.tries(AUTHENTICATE, request, Retry::Safe, false).await?;
        let token = AsciiMetadataValue::try_from(answer.token)
            .map_err(|_| StoreError::Corrupt("etcd: its token is no header value".into()))?;
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(())
    }

    /// Calls a method with one answer (of one with a stream of them, the first).
    pub(super) async fn call<Q, A>(&self, method: &'static str, request: Q, retry: Retry) -> Result<A, Failed>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        self.tries(method, request, retry, true).await
    }

    async fn tries<Q, A>(
        &self,
        method: &'static str,
        request: Q,
        retry: Retry,
        renew: bool,
    ) -> Result<A, Failed>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let deadline = Instant::now() + PATIENCE;
        let mut renew = renew && self.user.is_some();
        let mut tried = 0;
        loop {
            let member = self.current();
            let patience = ANSWER.min(deadline.saturating_duration_since(Instant::now()));
            let (verdict, status) = match timeout(patience, self.once(member, method, request.clone())).await
            {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(status)) => (verdict(&status), status),
                Err(_) => (Verdict::Unknown, Status::deadline_exceeded(format!("no answer in {patience:?}"))),
            };
            match verdict {
                Verdict::Refused => return Err(refused(&status)),
                Verdict::Token if renew => {
                    renew = false;
                    Box::pin(self.authenticate()).await.map_err(Failed::Store)?;
                    continue;
                }
                Verdict::Token => return Err(refused(&status)),
                Verdict::Unknown | Verdict::NotDone => self.failed(member),
            }
            tracing::debug!("etcd {}: {method}: {status}", self.host(member));
            if verdict == Verdict::Unknown && retry == Retry::Unsent {
                return Err(self.unavailable(member, &status, "; it may or may not have been done"));
            }
            tried += 1;
            if Instant::now() + PAUSE >= deadline {
                return Err(self.unavailable(member, &status, ""));
            }
            if tried % self.members.len() == 0 {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn unavailable(&self, member: usize, status: &Status, addition: &str) -> Failed {
        let mut why = status.message().to_owned();
        let mut cause = status.source();
        while let Some(error) = cause {
            why = error.to_string();
            cause = error.source();
        }
        Failed::Store(StoreError::Unavailable(format!("etcd {}: {why}{addition}", self.host(member))))
    }

    async fn once<Q, A>(&self, member: usize, method: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = Grpc::new(self.members[member].1.clone()).max_decoding_message_size(MAX_ANSWER);
        grpc.ready().await.map_err(|e| Status::from_error(e.into()))?;
        let codec = ProstCodec::<Q, A>::default();
        let answer =
            grpc.server_streaming(self.dress(request), PathAndQuery::from_static(method), codec).await?;
        let first = answer.into_inner().message().await?;
        first.ok_or_else(|| Status::unavailable("it hung up without an answer"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_is_tried_again_only_if_it_surely_was_not_done() {
        let refused = ConnectError(std::io::Error::from(std::io::ErrorKind::ConnectionRefused).into());
        assert_eq!(verdict(&Status::from_error(refused.into())), Verdict::NotDone);
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert_eq!(verdict(&Status::from_error(reset.into())), Verdict::Unknown);
        assert_eq!(verdict(&Status::unavailable("etcdserver: request timed out")), Verdict::Unknown);
        assert_eq!(verdict(&Status::resource_exhausted("etcdserver: too many requests")), Verdict::NotDone);
        assert_eq!(verdict(&Status::invalid_argument("etcdserver: key is not provided")), Verdict::Refused);
    }

    #[test]
    fn a_refusal_says_what_it_means() {
        let lease = refused(&Status::not_found("etcdserver: requested lease not found"));
        assert!(matches!(lease, Failed::Store(StoreError::NoLease)));
        let compacted =
            refused(&Status::out_of_range("etcdserver: mvcc: required revision has been compacted"));
        assert!(matches!(compacted, Failed::Compacted));
    }
}
