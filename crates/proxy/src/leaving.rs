//! Callers' connections that are to go: told so where their protocol can say it, served meanwhile, closed when they have
//! nothing under way and were quiet for a moment, and ended when their time is over.
//!
//! So a drain ends connections, a switch to strict those in plaintext, and a change of trust those whose certificate is
//! not good any more.
use crate::conn::{Conn, Paused, Role};
use crate::frame;
use crate::http::HttpConn;
use crate::worker::Worker;
use raddle_core::{Reason, Time};
use raddle_net::{Key, socket};
use raddle_policy::LinkPlan;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// How often connections that are to go are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// A caller that cannot be told is closed after this long without a request, so that none is cut.
pub(crate) const QUIET: Duration = Duration::from_millis(500);
/// A caller that was told closes by itself; if it does not, after this long without a request.
pub(crate) const QUIET_TOLD: Duration = Duration::from_secs(2);
/// What is answered at the end may take this long to be written.
const LINGER: Duration = Duration::from_secs(2);
/// Detail of what is answered at the end.
const TIME_OVER: &str = "the connection's time was over before the reply came";

/// Why a connection is to go.
#[derive(Clone, Debug)]
pub enum Why {
    /// It is plaintext, and strict has begun.
    Strict(Arc<LinkPlan>),
    /// The certificate's time is over.
    Expired,
    /// The certificate does not lead to the present roots.
    Untrusted,
    /// The certificate, or who has it, is denied.
    Denied,
}

impl Why {
    /// Whether new requests on it are refused.
    pub const fn refuses(&self) -> bool {
        matches!(self, Why::Denied)
    }

    /// In words, for pages and events.
    pub const fn name(&self) -> &'static str {
        match self {
            Why::Strict(_) => "plaintext",
            Why::Expired => "expired",
            Why::Untrusted => "untrusted",
            Why::Denied => "denied",
        }
    }

    fn rule(&self) -> Option<String> {
        match self {
            Why::Strict(plan) => plan.rule.as_deref().map(|name| format!("LinkEncryption/{name}")),
            _ => None,
        }
    }
}

/// That a connection is to go.
#[derive(Debug)]
pub struct Leaving {
    /// Why.
    pub why: Why,
    /// Since when.
    pub since: Time,
    /// When it is ended, whatever is under way.
    pub by: Time,
    /// What was under way was answered, and is being written.
    ended: bool,
}

impl Worker {
    /// Has a caller's connection go: by `by`, or by `tcp_by` if it carries bytes of no known protocol, which cannot be
    /// told.
    pub(crate) fn leave(&mut self, key: Key, why: Why, by: Time, tcp_by: Time) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(key) else { return };
        let by = if matches!(conn.role, Role::Relay(_)) { tcp_by } else { by };
        match &mut conn.leaving {
            // A worse cause takes the place of one that left it more time.
            Some(l) if l.by <= by => return,
            Some(l) => {
                l.why = why;
                l.by = by;
            }
            none => {
                *none = Some(Box::new(Leaving { why, since: now, by, ended: false }));
                self.leaving.push(key);
                self.shard.link_retired.inc();
            }
        }
        self.tell(key);
    }

    /// Those that were to go because of strict on a listener may stay.
    pub(crate) fn stay_all(&mut self, listener: u16) {
        for i in (0..self.leaving.len()).rev() {
            let Some(conn) = self.conns.get_mut(self.leaving[i]) else { continue };
            let here = conn.role.accepted().is_some_and(|a| a.listener == listener);
            if here
                && matches!(conn.leaving.as_deref(), Some(Leaving { why: Why::Strict(_), ended: false, .. }))
            {
                conn.leaving = None;
                self.leaving.swap_remove(i);
            }
        }
    }

    /// Whether a caller is to be told to go.
    pub(crate) fn is_leaving(&self, key: Key) -> bool {
        self.draining.is_some() || self.conns.get(key).is_some_and(|c| c.leaving.is_some())
    }

    /// When connections that are to go are looked at next.
    pub(crate) fn next_leaving(&self) -> Option<Time> {
        (!self.leaving.is_empty()).then(|| self.looked + LOOK)
    }

    /// Tells a caller that understands it to send no more requests here.
    pub(crate) fn tell(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        match &mut conn.role {
            Role::Http(HttpConn::Down1(d)) => {
                // Said with the response, if it has not begun.
                d.last |= d.exchange.is_some();
                return;
            }
            Role::Http(_) => return self.tell_down2(key),
            _ => {}
        }
        let Role::Caller(c) = &mut conn.role else { return };
        c.active_at = self.now;
        if c.takes_goaway && !c.told {
            c.told = true;
            let lane = c.lane;
            self.shard.goaways_sent.inc();
            self.deliver(key, |out| frame::goaway(out, lane));
        }
    }

    /// Whether a caller's connection that is to go since then has nothing to do and may be closed; `None` for
    /// endpoints' connections.
    pub(crate) fn may_go(&self, conn: &Conn, since: Time) -> Option<bool> {
        let over = |at: Time, quiet| self.now.since(at) >= quiet;
        match &conn.role {
            Role::New(_) => Some(over(since, QUIET)),
            Role::Caller(c) => {
                let quiet = if c.told { QUIET_TOLD } else { QUIET };
                let idle =
                    c.in_flight == 0 && !conn.wants_write() && conn.stream.is_none() && conn.stash.is_empty();
                Some(idle && (over(c.active_at, quiet) || conn.paused.has(Paused::ENDED)))
            }
            Role::Relay(r) if r.accepted.is_some() => {
                // An RPC client that has not asked yet looks so, too: nothing is lost with it.
                let other = self.conns.get(r.peer).map(|c| &c.role);
                let unused = r.bytes == 0 && matches!(other, Some(Role::Relay(o)) if o.bytes == 0);
                Some(r.undecided && unused && over(since, QUIET))
            }
            Role::Relay(_) | Role::Endpoint(_) => None,
            Role::Http(h) => self.http_idle(conn, h, since),
        }
    }

    /// Closes connections that are to go and have nothing to do, and ends those whose time is over.
    pub(crate) fn look_at_leaving(&mut self) {
        if self.leaving.is_empty() || self.now.since(self.looked) < LOOK {
            return;
        }
        self.looked = self.now;
        let mut over = Vec::new();
        for key in std::mem::take(&mut self.leaving) {
            let Some(conn) = self.conns.get(key) else { continue };
            let Some(l) = &conn.leaving else { continue };
            let done = l.why.refuses() && Worker::is_idle(conn) || self.may_go(conn, l.since) == Some(true);
            if done || l.ended && l.by <= self.now {
                self.close(key, Reason::Draining);
                continue;
            }
            if l.by <= self.now {
                over.push(key);
            }
            self.leaving.push(key);
        }
        if !over.is_empty() {
            self.end_callers(&over);
        }
    }

    /// Whether nothing is under way on a caller's connection.
    fn is_idle(conn: &Conn) -> bool {
        let quiet = !conn.wants_write() && conn.stash.is_empty() && conn.stream.is_none();
        quiet
            && match &conn.role {
                Role::New(_) => true,
                Role::Caller(c) => c.in_flight == 0,
                Role::Http(HttpConn::Down1(d)) => d.exchange.is_none(),
                Role::Http(HttpConn::Down2(d)) => d.exchanges.is_empty(),
                _ => false,
            }
    }

    /// Ends callers' connections whose time is over: what is under way is answered first.
    fn end_callers(&mut self, keys: &[Key]) {
        let now = self.now;
        self.shard.link_cut.add(keys.len() as u64);
        let mut rpc = HashSet::new();
        for &key in keys {
            let Some(conn) = self.conns.get_mut(key) else { continue };
            let Some(l) = &mut conn.leaving else { continue };
            l.ended = true;
            l.by = now + LINGER;
            let rule = l.why.rule();
            match &conn.role {
                Role::New(_) | Role::Endpoint(_) => self.close(key, Reason::Denied),
                Role::Relay(_) => {
                    socket::reset_on_close(&conn.fd);
                    self.close(key, Reason::Denied);
                }
                Role::Caller(_) => {
                    conn.paused.set(Paused::ENDED);
                    self.set_interest(key);
                    rpc.insert(key);
                }
                Role::Http(HttpConn::Down1(d)) => {
                    let all: Vec<Key> = d.exchange.into_iter().collect();
                    self.end_http(key, &all, rule.as_ref());
                }
                Role::Http(HttpConn::Down2(d)) => {
                    let all = d.exchanges.clone();
                    self.end_http(key, &all, rule.as_ref());
                }
                Role::Http(_) => {}
            }
        }
        if !rpc.is_empty() {
            self.answer_all_of(&rpc);
        }
    }

    fn end_http(&mut self, key: Key, exchanges: &[Key], rule: Option<&String>) {
        for &x in exchanges {
            self.drop_up(x);
            if let Some(x) = self.http.exchanges.get_mut(x) {
                x.plan.rule = rule.cloned();
            }
            self.answer_http(x, Reason::Denied, None, TIME_OVER);
        }
        if exchanges.is_empty()
            && let Some(conn) = self.conns.get(key)
            && !conn.wants_write()
        {
            self.close(key, Reason::Denied);
        }
    }

    /// Answers every request in flight of these callers.
    fn answer_all_of(&mut self, callers: &HashSet<Key>) {
        for key in self.conns.keys() {
            let Some(conn) = self.conns.get_mut(key) else { continue };
            let Role::Endpoint(e) = &mut conn.role else { continue };
            let host = e.host;
            let mut cut = Vec::new();
            e.pending.cut(|r| callers.contains(&r.caller), |r| cut.push(r));
            for mut r in cut {
                let leaving = self.conns.get(r.caller).and_then(|c| c.leaving.as_ref());
                let rule = leaving.and_then(|l| l.why.rule());
                r.extra.get_or_insert_default().rule = rule;
                self.host_done(host, None, false);
                self.release_permit(&mut r);
                self.services.cells(r.cells).in_flight.dec();
                self.answer(host, &r, Reason::Denied, TIME_OVER);
            }
        }
        for &key in callers {
            self.mark_dirty(key);
        }
    }
}
