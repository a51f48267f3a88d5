//! Strict on the inbound side: who comes in plaintext, whether that is still taken, and what those are told that are not.
//!
//! One thread keeps the gates ([`Gates`]); what they come to reaches workers as a message, between two turns. So a
//! worker marks the connections it has at that moment, which are served on, and refuses those that come later.
use crate::answer::Refusal;
use crate::callers::Row;
use crate::conn::{Conn, Direction, Role};
use crate::holding::Held;
use crate::leaving::Why;
use crate::shared::{Listener, Message, Shared};
use crate::worker::Worker;
use ahash::AHashMap;
use raddle_core::{Reason, Time};
use raddle_model::LinkMode;
use raddle_net::{Key, socket};
use raddle_policy::LinkPlan;
use raddle_policy::link::{Effective, Gate, Seen, Why as Awaits};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Plaintext callers are noted no oftener than this.
const NOTE_EVERY: Duration = Duration::from_millis(50);
/// Who connected just when strict began may not have been able to know: it is served as those before are.
const FOLLOW: Duration = Duration::from_secs(1);
/// What a caller is told that is refused.
const REFUSED: &str = "plaintext is refused here: connect by TLS with a certificate of the mesh, as the caller's own sidecar \
                       does when it has one";
const DENIED: &str = "the caller's certificate is not to be trusted any more";

/// What workers and the keeper of the gates tell each other of one inbound listener.
#[derive(Debug, Default)]
pub struct GateCell {
    /// When a plaintext caller last came or asked, in nanoseconds of the clock.
    seen: AtomicU64,
    /// Plaintext connections open.
    open: AtomicUsize,
    state: Mutex<Effective>,
}

impl GateCell {
    fn note(&self, now: Time) {
        let last = Time::from_nanos(self.seen.load(Ordering::Relaxed));
        if now.since(last) >= NOTE_EVERY {
            self.seen.fetch_max(now.as_nanos(), Ordering::Relaxed);
        }
    }

    /// When a plaintext caller was last there.
    pub fn seen(&self, now: Time) -> Time {
        match self.open.load(Ordering::Relaxed) {
            0 => Time::from_nanos(self.seen.load(Ordering::Relaxed)),
            _ => now,
        }
    }

    /// Plaintext connections open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// What holds on the listener.
    pub fn state(&self) -> Effective {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Keeps the gates of all inbound listeners.
#[derive(Debug, Default)]
pub(crate) struct Gates {
    gates: AHashMap<u16, (Gate, Option<Arc<str>>)>,
}

impl Gates {
    /// Looks at every listener, and tells what changed.
    pub(crate) fn look(&mut self, shared: &Arc<Shared>, held: Held) {
        let config = shared.config.load_full();
        let (plan, now) = (config.snapshot.link().clone(), shared.clock.now());
        self.gates.retain(|id, _| config.binding(*id).is_some());
        let mut sums = (LinkMode::Disable, 0);
        let inbound = config.bindings.iter().filter(|b| b.listener.direction == Direction::Inbound);
        for b in inbound {
            let listener = &b.listener;
            let (gate, rule) = self.gates.entry(listener.id).or_default();
            let before = gate.state();
            let seen = Seen { plaintext: listener.gate.seen(now), held: held.is_valid() };
            let after = gate.step(&plan, listener.addr.port(), seen, now);
            sums.0 = sums.0.max(plan.settings.mode_of(listener.addr.port()));
            sums.1 = sums.1.max(match after {
                Effective::Open => 0,
                Effective::Waiting { .. } => 1,
                Effective::Strict { .. } => 2,
            });
            if before == after && *rule == plan.rule {
                continue;
            }
            let renamed = std::mem::replace(rule, plan.rule.clone()) != plan.rule;
            *listener.gate.state.lock().unwrap_or_else(PoisonError::into_inner) = after;
            if before != after {
                say(shared, listener, &plan, before, after);
            }
            if before.strict() != after.strict() || renamed && after.strict().is_some() {
                let strict = after.strict().map(|since| (since, plan.clone()));
                let tell = |w: &crate::shared::WorkerHandle| {
                    w.tell(Message::Gate { listener: listener.id, strict: strict.clone() });
                };
                shared.workers().iter().for_each(tell);
            }
        }
        shared.registry.link.mode.set(sums.0 as i64);
        shared.registry.link.effective.set(sums.1);
    }
}

/// Events for people.
fn say(shared: &Shared, listener: &Listener, plan: &LinkPlan, before: Effective, after: Effective) {
    let rule = format!("LinkEncryption/{}", plan.rule.as_deref().unwrap_or_default());
    let who = listener.addr;
    match after {
        Effective::Strict { .. } => {
            tracing::info!(listener = %who, rule, "plaintext is refused from now on");
            shared.note("link_strict", rule, format!("{who}: new plaintext connections are refused"));
        }
        Effective::Waiting { why: Awaits::NoCertificate, .. } => {
            tracing::error!(listener = %who, rule, "strict cannot take effect: there is no valid certificate");
            let text = format!(
                "{who}: strict does not take effect, plaintext goes on: there is no valid certificate to serve TLS with"
            );
            shared.warn("link_strict_without_certificate", rule, text);
        }
        Effective::Waiting { why: Awaits::Callers, .. } => {
            let quiet = plan.settings.quiet;
            let text = format!("{who}: strict waits until no plaintext caller was seen for {quiet:?}");
            shared.note("link_strict_waits", rule, text);
        }
        Effective::Open if before.strict().is_some() => {
            tracing::info!(listener = %who, "plaintext is taken again");
            shared.note("link_open", rule, format!("{who}: plaintext is taken again"));
        }
        Effective::Open => {}
    }
}

impl Worker {
    /// The gate of a listener has changed.
    pub(crate) fn on_gate(&mut self, listener: u16, strict: Option<(Time, Arc<LinkPlan>)>) {
        let was = self.strict.iter().any(|(id, ..)| *id == listener);
        self.strict.retain(|(id, ..)| *id != listener);
        let Some((since, plan)) = strict else { return self.stay_all(listener) };
        self.strict.push((listener, since, plan));
        if was {
            return;
        }
        let here = |c: &Conn| c.tls.is_none() && c.role.accepted().is_some_and(|a| a.listener == listener);
        let plain: Vec<Key> = self.conns.iter().filter(|(_, c)| here(c)).map(|(key, _)| key).collect();
        for key in plain {
            self.leave_strict(key);
        }
    }

    /// What strict on the listener of a connection says; `None` = nothing.
    fn strict_on(&self, listener: u16) -> Option<(Time, Arc<LinkPlan>)> {
        let (_, since, plan) = self.strict.iter().find(|(id, ..)| *id == listener)?;
        // Callers are told at once that it was taken back; the keeper of the gates looks only now and then.
        let port = self.config.binding(listener)?.listener.addr.port();
        let held = self.config.snapshot.link().settings.mode_of(port) == LinkMode::Strict;
        held.then(|| (*since, plan.clone()))
    }

    /// A plaintext connection from before strict is to go within the rule's time.
    fn leave_strict(&mut self, key: Key) {
        let Some(listener) = self.conns.get(key).and_then(|c| c.role.accepted()).map(|a| a.listener) else {
            return;
        };
        let Some((_, plan)) = self.strict_on(listener) else { return };
        let by = self.now + plan.settings.deadline;
        let tcp_by = self.now + plan.settings.tcp_deadline;
        self.leave(key, Why::Strict(plan), by, tcp_by);
    }

    /// What a connection speaks is known: it is counted, once, with who it is from.
    pub(crate) fn link_begins(&mut self, key: Key) {
        let now = self.now;
        let Some(conn) = self.conns.get(key) else { return };
        if conn.row != Row::NONE {
            return;
        }
        let Some(a) = conn.role.accepted() else { return };
        let (listener, ip) = (a.listener, a.peer.map(|p| p.ip().to_canonical()));
        let Some(binding) = self.config.binding(listener) else { return };
        if binding.listener.direction != Direction::Inbound {
            return;
        }
        let (encrypted, peer) = (conn.tls.is_some(), conn.peer().cloned());
        let fresh = now.since(a.since);
        if !encrypted {
            let listener = binding.listener.clone();
            listener.gate.open.fetch_add(1, Ordering::Relaxed);
            listener.gate.note(now);
            if !self.plain_at.iter().any(|l| l.id == listener.id) {
                self.plain_at.push(listener);
            }
        }
        let app = peer.as_ref().map_or("", |p| &p.app);
        let row = self.callers_seen.join(app.as_bytes(), peer.as_ref().map(|p| &p.id), ip, encrypted, now);
        match encrypted {
            true => self.shard.link_in_tls.inc(),
            false => self.shard.link_in_plain.inc(),
        }
        if let Some(conn) = self.conns.get_mut(key) {
            conn.row = row;
        }
        if !encrypted
            && let Some((since, _)) = self.strict_on(listener)
            && now.since(since) < FOLLOW + fresh
        {
            self.leave_strict(key);
        }
    }

    /// A caller's connection has ended.
    pub(crate) fn link_ends(&mut self, row: Row, encrypted: bool, role: &Role) {
        if row == Row::NONE {
            return;
        }
        self.callers_seen.leave(row);
        match encrypted {
            true => self.shard.link_in_tls.dec(),
            false => self.shard.link_in_plain.dec(),
        }
        if let Some(a) = role.accepted().filter(|_| !encrypted)
            && let Some(l) = self.plain_at.iter().find(|l| l.id == a.listener)
        {
            l.gate.seen.fetch_max(self.now.as_nanos(), Ordering::Relaxed);
            l.gate.open.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// A request on the inbound side: counted, and refused if its connection may send none. `app` is asked for what the
    /// request says of its caller.
    #[inline]
    pub(crate) fn link_refuses<'r>(
        &mut self,
        key: Key,
        app: impl FnOnce() -> Option<&'r [u8]>,
    ) -> Option<Refusal> {
        if self.conns.get(key)?.row == Row::NONE {
            self.link_begins(key);
        }
        let now = self.now;
        let conn = self.conns.get(key)?;
        let row = conn.row;
        if conn.tls.is_some() {
            self.shard.link_in_requests_tls.inc();
            self.callers_seen.request(row, now);
            return match &conn.leaving {
                Some(l) if l.why.refuses() => Some(Refusal::new(Reason::Denied, DENIED)),
                _ => None,
            };
        }
        self.shard.link_in_requests_plain.inc();
        if self.callers_seen.unnamed(row)
            && let Some(app) = app()
        {
            self.name_caller(key, app);
        }
        let conn = self.conns.get(key)?;
        self.callers_seen.request(conn.row, now);
        if conn.row == Row::NONE {
            return None;
        }
        let listener = conn.role.accepted()?.listener;
        if let Some(l) = self.plain_at.iter().find(|l| l.id == listener) {
            l.gate.note(now);
        }
        if self.strict.is_empty() || conn.leaving.is_some() {
            return None;
        }
        let (_, plan) = self.strict_on(listener)?;
        self.shard.link_refused.inc();
        let rule = plan.rule.as_deref().map(|name| format!("LinkEncryption/{name}"));
        Some(Refusal { rule, ..Refusal::new(Reason::Denied, REFUSED) })
    }

    /// The first request that names its caller names that of the connection.
    fn name_caller(&mut self, key: Key, app: &[u8]) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let ip = conn.role.accepted().and_then(|a| a.peer).map(|p| p.ip().to_canonical());
        self.callers_seen.leave(conn.row);
        conn.row = self.callers_seen.join(app, None, ip, false, self.now);
    }

    /// Whether bytes without a known protocol are refused on a connection, which is reset then.
    pub(crate) fn resets_plain(&mut self, key: Key) -> bool {
        self.link_begins(key);
        let Some(conn) = self.conns.get(key) else { return true };
        let Some(a) = conn.role.accepted() else { return false };
        if conn.tls.is_some() || conn.leaving.is_some() || conn.row == Row::NONE {
            return false;
        }
        if self.strict_on(a.listener).is_none() {
            return false;
        }
        self.shard.link_refused.inc();
        socket::reset_on_close(&conn.fd);
        self.close(key, Reason::Denied);
        true
    }

    /// Whether plaintext is refused on the listener of a connection that has not spoken yet.
    pub(crate) fn is_strict(&self, key: Key) -> bool {
        let Some(conn) = self.conns.get(key) else { return false };
        let strict = |a: &crate::conn::Accepted| self.strict.iter().any(|(id, ..)| *id == a.listener);
        conn.tls.is_none() && conn.leaving.is_none() && conn.role.accepted().is_some_and(strict)
    }
}
