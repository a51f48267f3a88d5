//! Asking limits about a TCP connection.
//!
//! There are no words in TCP: a connection that is held is reset, before its endpoint hears of it. What became a relay
//! for want of bytes to tell its protocol is asked about when the first bytes pass, for it may turn out to be HTTP or
//! RPC that was opened ahead, whose requests are asked about one by one.
use super::judge::side;
use super::state::{Limited, Question};
use crate::conn::{Direction, Role};
use crate::relay::TcpAttributes;
use crate::worker::Worker;
use raddle_net::{Key, socket};
use raddle_policy::limit::Held;

impl Worker {
    /// Asks about a caller's connection that is TCP. True if it is held, and closed.
    pub(crate) fn limits_relay(&mut self, key: Key) -> bool {
        let Some(conn) = self.conns.get(key) else { return false };
        let Role::Relay(r) = &conn.role else { return false };
        let side = side(r.direction);
        let Some(accepted) = r.accepted.as_ref().filter(|_| r.plain && self.limits.any(side)) else {
            return false;
        };
        let name = match r.direction {
            Direction::Outbound => self.services.get(r.service).map(|s| s.service.name.to_string()),
            // By the app's port: that is what its people know.
            Direction::Inbound => {
                let endpoint = self.services.get(r.service).and_then(|s| s.service.endpoints.first());
                accepted.to.or(endpoint.map(|e| e.host.addr)).map(|to| format!("tcp:{}", to.port()))
            }
        };
        let (name, peer) = (name.unwrap_or_default(), conn.peer().cloned());
        let ip = accepted.peer.map(|a| a.ip());
        let req = TcpAttributes { service: name.as_bytes(), ip, peer: peer.as_deref() };
        let q = Question { side, req: &req, can_wait: false, patience: None };
        let quota = self.shared.quota.get().map(AsRef::as_ref);
        let mut ticket = None;
        let limited = self.limits.judge_connection(&mut ticket, &q, quota, self.now, &mut self.rng);
        let (rule, refused) = match limited {
            Limited::Pass(observed) => (observed, None),
            Limited::Refuse(Held { reason, rule, .. }) => (Some(rule.as_ref().into()), Some(reason)),
            // It was said that it cannot wait.
            Limited::Wait(_) => (None, None),
        };
        let Some(Role::Relay(r)) = self.conns.get_mut(key).map(|c| &mut c.role) else { return false };
        r.ticket = ticket;
        // A rule of authorization that observes is named first.
        if refused.is_some() || r.rule.is_none() {
            r.rule = rule;
        }
        let other = r.peer;
        let Some(reason) = refused else { return false };
        for side in [key, other] {
            if let Some(c) = self.conns.get(side) {
                socket::reset_on_close(&c.fd);
            }
        }
        self.close(key, reason);
        true
    }

    /// Bytes come from one side of a relay that limits were not asked about. True if it is held, and closed.
    #[inline]
    pub(crate) fn limits_relay_late(&mut self, key: Key) -> bool {
        let Some(Role::Relay(r)) = self.conns.get_mut(key).map(|c| &mut c.role) else { return false };
        if !std::mem::take(&mut r.unasked) {
            return false;
        }
        if r.accepted.is_some() {
            return self.limits_relay(key);
        }
        // The server speaks first.
        let caller = r.peer;
        let Some(Role::Relay(c)) = self.conns.get_mut(caller).map(|c| &mut c.role) else { return false };
        std::mem::take(&mut c.unasked) && self.limits_relay(caller)
    }
}
