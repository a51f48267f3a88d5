//! Who gets a certificate of which name.
//!
//! A name is proven in one of three ways: by a bootstrap token bound to the app, by a Kubernetes service account that
//! means the app, or by the present certificate of the same name. What the request itself says of names is ignored.
use super::issued::Issued;
use super::pace::Pace;
use super::{Ca, lock};
use crate::events::Severity;
use crate::tokens::{Bootstrap, Denied, Grant};
use raddle_identity::{IssuerError, Leaf, ProvenKey, SpiffeId, crypto, read_request};
use raddle_store::{Outcome, StoreError, Txn};
use raddle_xds::proto::{Node, SignRequest, SignResponse};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

const LONGEST_INSTANCE: usize = 253;
/// Times a one-time token is tried when others use it at the same time.
const TRIES: u32 = 3;

/// Who asks for a certificate.
#[derive(Clone, Debug, Default)]
pub struct Asker {
    /// The certificate they have proven to hold on the connection.
    pub peer: Option<Arc<Leaf>>,
    /// From where they ask.
    pub from: Option<IpAddr>,
}

/// Why somebody gets no certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignError {
    /// They asked too often; how many seconds to wait.
    TooOften(u32),
    /// What they ask for makes no sense.
    Invalid(String),
    /// They have proven nothing, or not well.
    NotProven(String),
    /// They have proven to be somebody else, or are denied.
    Forbidden(String),
    /// It cannot be done now.
    Unavailable(String),
}

impl fmt::Display for SignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SignError::TooOften(s) => write!(f, "too many certificates were asked for; ask again in {s} s"),
            SignError::Invalid(why)
            | SignError::NotProven(why)
            | SignError::Forbidden(why)
            | SignError::Unavailable(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for SignError {}

impl From<StoreError> for SignError {
    fn from(e: StoreError) -> SignError {
        SignError::Unavailable(e.to_string())
    }
}

impl From<Denied> for SignError {
    fn from(e: Denied) -> SignError {
        SignError::NotProven(e.to_string())
    }
}

/// How often one may ask.
#[derive(Debug)]
pub(super) struct Paces {
    /// By name and instance: 20 at once, one every 10 s. A sidecar asks twice a day.
    granted: Pace<String>,
    /// By address: attempts that proved nothing. 50 at once, one a second.
    failed: Pace<IpAddr>,
}

impl Paces {
    pub(super) fn new() -> Paces {
        Paces { granted: Pace::new(20, 10.0), failed: Pace::new(50, 1.0) }
    }
}

/// How a name was proven.
#[derive(Clone, Debug)]
pub(super) enum Proof {
    /// By a bootstrap token.
    Token(Bootstrap),
    /// By a service account, and the app it means.
    Account { account: String, app: String },
    /// By a certificate.
    Peer(Arc<Leaf>),
}

impl Proof {
    /// As the record of what was signed says it.
    fn describe(&self) -> String {
        match self {
            Proof::Token(token) => format!("token {}", token.id),
            Proof::Account { account, .. } => format!("kubernetes {account}"),
            Proof::Peer(leaf) => format!("certificate {}", leaf.serial),
        }
    }
}

/// Whether a proof is good for a name.
///
/// # Errors
/// It is not, and why.
pub(super) fn check(wanted: &SpiffeId, instance: &str, proof: &Proof, now: i64) -> Result<(), SignError> {
    let forbidden = |why: String| Err(SignError::Forbidden(why));
    match proof {
        Proof::Token(token) if token.app != wanted.app_name() => {
            forbidden(format!("the token is for app `{}`, not `{}`", token.app, wanted.app_name()))
        }
        Proof::Token(Bootstrap { unit: Some(unit), .. }) if unit != wanted.unit() => {
            forbidden(format!("the token is for unit `{unit}`, not `{}`", wanted.unit()))
        }
        Proof::Token(Bootstrap { instance: Some(bound), .. }) if bound != instance => {
            forbidden(format!("the token is for instance `{bound}`, not `{instance}`"))
        }
        Proof::Account { account, app } if app != wanted.app_name() => {
            forbidden(format!("the service account {account} means app `{app}`, not `{}`", wanted.app_name()))
        }
        Proof::Peer(leaf) if leaf.id != *wanted => {
            forbidden(format!("a certificate of {} gets no other name than its own, not {wanted}", leaf.id))
        }
        // A connection may outlive the certificate it was made with.
        Proof::Peer(leaf) if now > leaf.not_after => {
            Err(SignError::NotProven("the certificate has expired; a token is needed".into()))
        }
        _ => Ok(()),
    }
}

impl Ca {
    /// Signs, or says why not. What is answered has been recorded.
    ///
    /// # Errors
    /// The name is not proven, is denied, was asked for too often, or the store does not do it.
    pub async fn sign(&self, asker: &Asker, request: &SignRequest) -> Result<SignResponse, SignError> {
        let signed = self.try_sign(asker, request).await;
        if let Err(e @ (SignError::NotProven(_) | SignError::Forbidden(_))) = &signed {
            let from = asker.from.map_or_else(|| "a local peer".to_owned(), |a| a.to_string());
            let node = request.node.clone().unwrap_or_default();
            let short = |s: &str| s.chars().filter(|c| !c.is_control()).take(64).collect::<String>();
            let who = format!("{} of app {}", short(&node.id), short(&node.app));
            tracing::warn!("no certificate for {who} from {from}: {e}");
            if let Some(events) = &self.options.events {
                events.tell(Severity::Warning, "certificateRefused", who, format!("asked from {from}: {e}"));
            }
        }
        signed
    }

    async fn try_sign(&self, asker: &Asker, request: &SignRequest) -> Result<SignResponse, SignError> {
        let now = self.now();
        // Who has a certificate does not wait behind those at the same address who have none.
        if let (None, Some(from)) = (&asker.peer, &asker.from)
            && !lock(&self.paces).failed.has(from, now as f64)
        {
            return Err(SignError::TooOften(1));
        }
        let node = request.node.as_ref().ok_or_else(|| SignError::Invalid("the node is missing".into()))?;
        let wanted = self.wanted(node)?;
        let proof = match self.prove(asker, request, &wanted, &node.id, now).await {
            Ok(proof) => proof,
            Err(e) => {
                if let Some(from) = &asker.from {
                    lock(&self.paces).failed.take(from, now as f64);
                }
                return Err(e);
            }
        };
        let key = read_request(&request.request).map_err(|e| SignError::Invalid(e.to_string()))?;
        if !lock(&self.paces).granted.take(&format!("{wanted} {}", node.id), now as f64) {
            return Err(SignError::TooOften(10));
        }
        self.issue(asker, &wanted, &node.id, &proof, &key, now).await
    }

    /// The name that is asked for.
    fn wanted(&self, node: &Node) -> Result<SpiffeId, SignError> {
        let id = &node.id;
        if id.is_empty() || id.len() > LONGEST_INSTANCE || id.chars().any(char::is_control) {
            let why = "the node's id is empty, longer than 253 bytes or has control characters";
            return Err(SignError::Invalid(why.into()));
        }
        SpiffeId::app(self.trust_domain(), &node.unit, &node.app)
            .map_err(|e| SignError::Invalid(e.to_string()))
    }

    async fn prove(
        &self,
        asker: &Asker,
        request: &SignRequest,
        wanted: &SpiffeId,
        instance: &str,
        now: i64,
    ) -> Result<Proof, SignError> {
        let token = request.token.trim();
        let proof = match &asker.peer {
            _ if token.starts_with("rdl_") => match self.tokens.authenticate(token)? {
                Grant::Bootstrap(bootstrap) => Proof::Token(bootstrap),
                Grant::Api { .. } => {
                    let why = "the token is for the API; a bootstrap token is needed (raddle token create)";
                    return Err(SignError::Forbidden(why.into()));
                }
            },
            _ if !token.is_empty() => {
                let Some(reviewer) = &self.reviewer else {
                    let why = "the token is not one of ours, and no Kubernetes accounts are set up";
                    return Err(SignError::NotProven(why.into()));
                };
                let (account, app) = reviewer.review(token, now).await.map_err(SignError::NotProven)?;
                Proof::Account { account, app }
            }
            Some(leaf) => Proof::Peer(leaf.clone()),
            None => {
                let why = "nothing proves the name: a token or a certificate is needed";
                return Err(SignError::NotProven(why.into()));
            }
        };
        check(wanted, instance, &proof, now)?;
        // Who has a name speaks for no other, whatever token they got hold of.
        if let Some(leaf) = asker.peer.as_ref().filter(|l| l.id != *wanted) {
            return Err(SignError::Forbidden(format!(
                "the connection is one of {}, not of {wanted}",
                leaf.id
            )));
        }
        let denied = self.denied.borrow().clone();
        let shown = asker.peer.as_ref().is_some_and(|leaf| denied.denies(leaf));
        if shown || denied.ids.contains(wanted) {
            return Err(SignError::Forbidden(format!("{wanted} is denied")));
        }
        Ok(proof)
    }

    async fn issue(
        &self,
        asker: &Asker,
        wanted: &SpiffeId,
        instance: &str,
        proof: &Proof,
        key: &ProvenKey,
        now: i64,
    ) -> Result<SignResponse, SignError> {
        let current = self.current();
        let signed = current.issuer.sign(key, wanted, self.options.lifetime, now).map_err(|e| match e {
            IssuerError::Expired(_) => SignError::Unavailable(e.to_string()),
            e => SignError::Invalid(e.to_string()),
        })?;
        let record = Issued {
            serial: signed.serial.to_string(),
            id: wanted.to_string(),
            instance: instance.to_owned(),
            proof: proof.describe(),
            from: asker.from.map(|a| a.to_string()).unwrap_or_default(),
            authority: current.issuer.id().to_owned(),
            at: now,
            not_after: signed.not_after,
        };
        self.record(&record, proof, key).await?;
        Ok(SignResponse {
            chain: signed.chain.iter().map(|c| c.to_vec().into()).collect(),
            roots: current.trust.roots().iter().map(|c| c.to_vec().into()).collect(),
            not_after: signed.not_after.max(0) as u64,
        })
    }

    /// Records what was signed, and in the same transaction that a one-time token was used.
    async fn record(&self, record: &Issued, proof: &Proof, key: &ProvenKey) -> Result<(), SignError> {
        let hash = crypto::hex(&crypto::sha256(key.der()));
        for _ in 0..TRIES {
            let mut txn = match proof {
                Proof::Token(token) => self.tokens.claim(token, &hash, &record.instance)?,
                _ => Txn::default(),
            };
            txn.ops.push(record.put());
            match self.store.commit(txn).await? {
                Outcome::Done(_) => return Ok(()),
                // Somebody else used the token, or it was revoked.
                Outcome::Conflict(..) => {
                    if let Proof::Token(token) = proof {
                        self.tokens.refresh(&token.id).await?;
                    }
                }
            }
        }
        Err(SignError::Unavailable("others use the same token at the same time; try again".into()))
    }
}
