//! Who the sidecar is to others, as workers use it: TLS of the links between sidecars.
//!
//! [`Links`] is replaced as a whole when the certificate, the key or the roots change; connections made before go on
//! with what they were made with, and are looked at again.
use crate::lane::Lane;
use crate::shared::{Message, Shared};
use crate::worker::Worker;
use ahash::{AHashMap, AHashSet};
use raddle_identity::{
    ALPN_H1, ALPN_H2, Clients, Identity, Judge, Leaf, PeerRule, Refuses, Tickets, Verdict, verify_chain,
};
use raddle_policy::Transport;
use raddle_telemetry::LinkFailure;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, ServerConfig};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Client configurations kept; beyond, they are made anew.
const CLIENTS_MOST: usize = 4096;

/// The sidecar's identity, and configurations made of it.
pub struct Links {
    /// Counts replacements.
    pub generation: u64,
    /// Certificate, key and roots; `None` = there is no certificate.
    pub identity: Option<Arc<Identity>>,
    server: Option<Arc<ServerConfig>>,
    judge: Option<Judge>,
    /// By what callers resume sessions; of the same trust.
    tickets: Option<Tickets>,
    /// Whether some are denied whose certificates are good.
    denies: bool,
    clients: Mutex<AHashMap<(u64, Lane), Arc<ClientConfig>>>,
    told: Mutex<AHashSet<(SocketAddr, LinkFailure)>>,
}

impl Links {
    /// Without a certificate.
    pub fn none() -> Links {
        Links {
            generation: 0,
            identity: None,
            server: None,
            judge: None,
            tickets: None,
            denies: false,
            clients: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// With one. `refuses` is asked about every caller's certificate that is good otherwise.
    ///
    /// # Errors
    /// rustls refuses the certificate.
    pub fn new(
        generation: u64,
        identity: Arc<Identity>,
        refuses: Option<Refuses>,
    ) -> Result<Links, rustls::Error> {
        Links::with(generation, identity, refuses, Tickets::new()?)
    }

    /// What comes after these: sessions can be resumed still, if nobody can have lost trust meanwhile.
    ///
    /// # Errors
    /// rustls refuses the certificate.
    pub fn next(&self, identity: Arc<Identity>, refuses: Option<Refuses>) -> Result<Links, rustls::Error> {
        let same = self.identity.as_ref().is_some_and(|i| **i.trust() == **identity.trust());
        let kept = self.tickets.clone().filter(|_| same && !self.denies && refuses.is_none());
        let tickets = kept.map_or_else(Tickets::new, Ok)?;
        Links::with(self.generation + 1, identity, refuses, tickets)
    }

    fn with(
        generation: u64,
        identity: Arc<Identity>,
        refuses: Option<Refuses>,
        tickets: Tickets,
    ) -> Result<Links, rustls::Error> {
        let denies = refuses.is_some();
        let judge = Judge::new(&identity, PeerRule::Member, refuses.clone())?;
        let mut server = identity.server_config(PeerRule::Member, Clients::Required, refuses)?;
        tickets.issue(&mut server);
        server.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_H1.to_vec()];
        let server = Some(Arc::new(server));
        Ok(Links {
            generation,
            identity: Some(identity),
            server,
            judge: Some(judge),
            tickets: Some(tickets),
            denies,
            clients: Mutex::default(),
            told: Mutex::default(),
        })
    }

    /// What callers' connections are taken with; `None` = there is no certificate.
    pub fn server(&self) -> Option<&Arc<ServerConfig>> {
        self.server.as_ref()
    }

    /// What a caller's certificate is worth at this time, seconds since 1970; `None` = there is nothing to judge by.
    pub fn judge(&self, chain: &[CertificateDer<'_>], now: i64) -> Option<Verdict> {
        Some(self.judge.as_ref()?.judge(chain, now))
    }

    /// What an endpoint's chain is worth at this time; `None` = there is no identity to judge by.
    pub fn judge_endpoint(&self, chain: &[CertificateDer<'_>], now: i64) -> Option<Verdict> {
        let own = self.identity.as_ref()?;
        Some(if verify_chain(chain, own.trust(), now).is_ok() { Verdict::Good } else { Verdict::Untrusted })
    }

    /// Whether somebody may have been good with `old` and not be with these.
    pub fn trusts_less_than(&self, old: &Links) -> bool {
        let Some(now) = &self.identity else { return false };
        let Some(before) = &old.identity else { return false };
        let (now, before) = (now.trust(), before.trust());
        let all = before.roots().iter().all(|r| now.roots().contains(r));
        self.denies || old.denies || !all || now.trust_domain() != before.trust_domain()
    }

    /// What a connection to an endpoint is made with that is to carry `lane`; `None` = there is no certificate.
    /// Not on a request's way: it takes a lock.
    pub fn client(&self, to: &Transport, lane: Lane) -> Option<Arc<ClientConfig>> {
        let identity = self.identity.as_ref()?;
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(made) = clients.get(&(to.id, lane)) {
            return Some(made.clone());
        }
        let mut config = identity.client_config(expected(to)).ok()?;
        config.alpn_protocols = match lane {
            Lane::Http1 => vec![ALPN_H1.to_vec()],
            Lane::Http2 => vec![ALPN_H2.to_vec()],
            // Servers tell these by their first bytes, and some refuse names they do not know.
            Lane::Bolt(_) | Lane::Dubbo => Vec::new(),
        };
        let config = Arc::new(config);
        if clients.len() >= CLIENTS_MOST {
            clients.clear();
        }
        clients.insert((to.id, lane), config.clone());
        Some(config)
    }
}

impl Links {
    /// Whether nobody was told yet, of any worker, that links to an endpoint fail for this cause.
    pub(crate) fn tell_once(&self, at: SocketAddr, cause: LinkFailure) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.len() < CLIENTS_MOST && told.insert((at, cause))
    }

    /// Links to an endpoint can be had again. Returns whether anybody was told that they could not.
    pub(crate) fn tell_again(&self, at: SocketAddr) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let before = told.len();
        told.retain(|(a, _)| *a != at);
        told.len() != before
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links")
            .field("generation", &self.generation)
            .field("identity", &self.identity)
            .finish_non_exhaustive()
    }
}

/// Whom a connection to an endpoint must lead to.
pub fn expected(to: &Transport) -> PeerRule {
    match &*to.ids {
        [] => PeerRule::App { app: to.app.clone(), unit: to.unit.clone() },
        ids => PeerRule::Ids(ids.into()),
    }
}

/// Who is at the other end of a TLS connection, as its certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// SPIFFE id.
    pub id: Arc<str>,
    /// App.
    pub app: Arc<str>,
    /// Unit; empty = none.
    pub unit: Arc<str>,
    /// Until when the certificate is valid, seconds since 1970.
    pub not_after: i64,
}

impl Peer {
    /// Of a certificate that was verified.
    pub fn of(leaf: &Leaf) -> Peer {
        Peer {
            id: leaf.id.to_string().into(),
            app: leaf.id.app_name().into(),
            unit: leaf.id.unit().into(),
            not_after: leaf.not_after,
        }
    }
}

/// What one worker, or all of them, saw of one inbound caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerRow {
    /// The app: as its certificate says, in plaintext as its requests say; empty = not known, `other` = the rest that
    /// is not told apart.
    pub app: Box<str>,
    /// SPIFFE id; `None` in plaintext.
    pub id: Option<Arc<str>>,
    /// Its address, without the port.
    pub ip: Option<IpAddr>,
    /// Whether it came by TLS.
    pub encrypted: bool,
    /// Requests so far.
    pub requests: u64,
    /// Connections open now.
    pub connections: u32,
    /// Time since its last request, or since its last connection began.
    pub idle: Duration,
}

impl Shared {
    /// The callers of the inbound side, over all workers; a worker that does not answer in a second is left out.
    pub async fn callers(&self) -> Vec<CallerRow> {
        let all = crate::admin::views::ask(self, |w: &mut Worker| w.caller_rows()).await;
        crate::callers::sum(all.into_iter().flatten())
    }

    /// Puts another identity in force for new connections, and has those there are looked at again.
    ///
    /// # Errors
    /// rustls refuses the certificate; the former stays in force.
    pub fn set_identity(
        &self,
        identity: Option<Arc<Identity>>,
        refuses: Option<Refuses>,
    ) -> Result<(), rustls::Error> {
        let old = self.links.load_full();
        let links = match identity {
            Some(identity) => old.next(identity, refuses)?,
            None => Links { generation: old.generation + 1, ..Links::none() },
        };
        self.links.store(Arc::new(links));
        self.workers().iter().for_each(|w| w.tell(Message::Links));
        Ok(())
    }
}
