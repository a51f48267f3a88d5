//! Peers' certificates, judged again: when whom one trusts changes, and callers' when their time is over. Who is still
//! good notices nothing.
use crate::conn::{Conn, Role};
use crate::leaving::Why;
use crate::links::Links;
use crate::worker::Worker;
use ahash::AHashMap;
use raddle_identity::Verdict;
use raddle_net::Key;
use std::time::Duration;

/// Connections judged in one turn: each costs as much as some hundred requests.
const JUDGED: usize = 8;
/// A connection whose certificate is not good any more has this long.
const DISTRUSTED: Duration = Duration::from_secs(60);
/// One whose certificate is denied has this long for what is under way.
const DENIED: Duration = Duration::from_secs(10);

/// Peers that are to be judged again.
#[derive(Debug, Default)]
pub(crate) struct Trial {
    left: Vec<Key>,
    /// By certificate and whether it is an endpoint's: peers have several connections with the same.
    verdicts: AHashMap<(Vec<u8>, bool), Verdict>,
    gone: usize,
}

impl Trial {
    /// Whether some are left.
    pub(crate) fn pending(&self) -> bool {
        !self.left.is_empty()
    }
}

/// Whether it leads to an endpoint by TLS, or is of a caller with a certificate of the mesh.
fn has_peer(c: &Conn) -> bool {
    c.tls.as_ref().is_some_and(|t| if t.link.is_some() { !c.connecting() } else { t.peer.is_some() })
}

impl Worker {
    /// Another identity is in force: if somebody may have lost trust by it, all peers are judged again.
    pub(crate) fn on_trust(&mut self, old: &Links) {
        if !self.links.trusts_less_than(old) {
            return;
        }
        self.trial.verdicts.clear();
        self.trial.left = self.conns.iter().filter(|(_, c)| has_peer(c)).map(|(key, _)| key).collect();
    }

    /// Judges some of them.
    pub(crate) fn judge_some(&mut self) {
        if self.trial.left.is_empty() {
            return;
        }
        for _ in 0..JUDGED {
            let Some(key) = self.trial.left.pop() else { break };
            let verdict = self.judge_peer(key);
            self.act_on(key, verdict);
        }
        if self.trial.left.is_empty() {
            let gone = std::mem::take(&mut self.trial.gone);
            self.trial.verdicts = AHashMap::new();
            if gone > 0 {
                let text = format!(
                    "{gone} connections of callers are to go: their certificates are not good any more"
                );
                self.shared.warn("callers_distrusted", "links", text);
            }
        }
    }

    /// What the certificate of a peer is worth now.
    fn judge_peer(&mut self, key: Key) -> Verdict {
        let now = self.wall_seconds();
        let Some(tls) = self.conns.get(key).and_then(|c| c.tls.as_ref()) else { return Verdict::Good };
        let chain = tls.session.state().peer_certificates().unwrap_or_default();
        let Some(leaf) = chain.first() else { return Verdict::Good };
        let id = (leaf.to_vec(), tls.link.is_some());
        if let Some(known) = self.trial.verdicts.get(&id) {
            return *known;
        }
        let verdict = match id.1 {
            true => self.links.judge_endpoint(chain, now),
            false => self.links.judge(chain, now),
        };
        // Without an identity there is nothing to judge by: who was trusted goes on.
        let Some(verdict) = verdict else { return Verdict::Good };
        self.trial.verdicts.insert(id, verdict);
        verdict
    }

    fn act_on(&mut self, key: Key, verdict: Verdict) {
        let (why, within) = match verdict {
            Verdict::Good => return,
            Verdict::Expired => (Why::Expired, DISTRUSTED),
            Verdict::Untrusted => (Why::Untrusted, DISTRUSTED),
            Verdict::Denied => (Why::Denied, DENIED),
        };
        if self.conns.get(key).is_some_and(Conn::is_link) {
            return self.distrust(key);
        }
        self.trial.gone += 1;
        let by = self.now + within;
        // Bytes of no known protocol have no requests that could be waited for.
        let tcp_by = if why.refuses() { self.now } else { by };
        self.leave(key, why, by, tcp_by);
    }

    /// Whether a session that was resumed may go on: TLS has not looked at its certificate again.
    pub(crate) fn may_resume(&mut self, key: Key) -> bool {
        let now = self.wall_seconds();
        let tls = self.conns.get(key).and_then(|c| c.tls.as_ref());
        let Some(tls) = tls.filter(|t| t.link.is_none()) else { return true };
        let Some(chain) = tls.session.state().peer_certificates() else { return true };
        matches!(self.links.judge(chain, now), Some(Verdict::Good))
    }

    /// Once a second: callers whose certificates' time is over are to go.
    pub(crate) fn expire_callers(&mut self) {
        let wall = self.wall_seconds();
        let over = |c: &Conn| {
            let caller = c.leaving.is_none() && !matches!(c.role, Role::Endpoint(_));
            let tls = c.tls.as_ref().filter(|t| caller && t.link.is_none());
            tls.and_then(|t| t.peer.as_ref()).is_some_and(|p| p.not_after < wall)
        };
        let all: Vec<Key> = self.conns.iter().filter(|(_, c)| over(c)).map(|(key, _)| key).collect();
        for key in all {
            self.act_on(key, Verdict::Expired);
        }
    }
}
