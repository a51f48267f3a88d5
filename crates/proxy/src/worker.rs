//! A worker: one thread, one epoll set, everything it owns. The loop, timers, flushing, closing.
//!
//! A turn is: wait → handle each event → settle what became possible → fire timers → flush each connection
//! that has something to write, once.
use crate::conn::{Conn, Paused, Role};
use crate::destination::Destinations;
use crate::hosts::Hosts;
use crate::request::Requeued;
use crate::services::Services;
use crate::shared::{Config, Message, Shared};
use ahash::AHashMap;
use crossbeam_channel::Receiver;
use raddle_core::{Reason, Time};
use raddle_net::{BufPool, Event, EventBuf, Key, Poller, Slab, Waker};
use raddle_policy::{LinkPlan, Rng};
use raddle_telemetry::{AccessLogger, Shard};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

/// Frames up to this long are copied whole; longer ones pass through piece by piece.
pub(crate) const STREAM_FROM: usize = 64 << 10;
/// Most bytes read from one connection in a turn, so that a firehose leaves room for others.
pub(crate) const READ_MOST: usize = 128 << 10;
/// Timers may be this late; deadlines are not looked at more often.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Epoll tokens of what is not a connection.
pub(crate) const TOKEN_SPECIAL: u64 = (u32::MAX as u64) << 32;
const TOKEN_WAKE: u64 = u64::MAX;

/// A worker's whole state. Nothing in it is shared but what [`Shared`] says.
pub struct Worker {
    pub(crate) id: usize,
    pub(crate) now: Time,
    pub(crate) shared: Arc<Shared>,
    pub(crate) config: Arc<Config>,
    pub(crate) links: Arc<crate::links::Links>,
    pub(crate) inbox: Receiver<Message>,
    pub(crate) waker: Waker,
    pub(crate) callers: Arc<AtomicUsize>,
    pub(crate) poller: Poller,
    pub(crate) conns: Slab<Conn>,
    pub(crate) scratch: Vec<u8>,
    pub(crate) pool: BufPool,
    pub(crate) dirty: Vec<Key>,
    pub(crate) timers: BinaryHeap<Reverse<(Time, Key)>>,
    /// Connections whose stash may hold whole frames that can go on now.
    pub(crate) resume: Vec<Key>,
    /// Requests to dispatch again.
    pub(crate) requeue: VecDeque<Requeued>,
    pub(crate) delayed: crate::fault::Delayed,
    pub(crate) demand: crate::mesh::demand::Demand,
    /// Connections to reset when it is safe to.
    pub(crate) doomed: Vec<Key>,
    pub(crate) hosts: Hosts,
    pub(crate) services: Services,
    pub(crate) destinations: Destinations,
    pub(crate) http: crate::http::Http,
    pub(crate) authorizing: crate::authorize::Authorizing,
    pub(crate) limits: crate::limits::state::Limits,
    pub(crate) cipher: Vec<u8>,
    /// Who called on the inbound side.
    pub(crate) callers_seen: crate::callers::Callers,
    /// Listeners that refuse plaintext, since when, and by what.
    pub(crate) strict: Vec<(u16, Time, Arc<LinkPlan>)>,
    /// Listeners that plaintext callers came by.
    pub(crate) plain_at: Vec<Arc<crate::shared::Listener>>,
    /// Connections that are to go, and when they were last looked at.
    pub(crate) leaving: Vec<Key>,
    /// Connections that wait until the handshake threads have room.
    pub(crate) unshaken: VecDeque<Key>,
    /// Callers whose certificates are to be judged again.
    pub(crate) trial: crate::trust::Trial,
    pub(crate) looked: Time,
    pub(crate) methods: AHashMap<Box<[u8]>, u32>,
    pub(crate) method_names: Vec<Box<[u8]>>,
    /// Room to put a service's name together in.
    pub(crate) name: Vec<u8>,
    pub(crate) rng: Rng,
    pub(crate) shard: Arc<Shard>,
    pub(crate) log: Option<AccessLogger>,
    pub(crate) listening: Vec<(u16, bool)>,
    /// Given up for a moment to answer a connection that no descriptor is left for.
    pub(crate) spare_fd: Option<std::os::fd::OwnedFd>,
    /// Accepting is suspended until then, for want of descriptors.
    pub(crate) accept_again: Option<Time>,
    pub(crate) buffered: usize,
    pub(crate) draining: Option<Time>,
    pub(crate) stopped: bool,
    pub(crate) tidied: Time,
    pub(crate) turn: u32,
}

/// What a worker is made from.
pub struct Parts {
    /// Its number.
    pub id: usize,
    /// What all share.
    pub shared: Arc<Shared>,
    /// Its inbox.
    pub inbox: Receiver<Message>,
    /// Its callers' count.
    pub callers: Arc<AtomicUsize>,
    /// Its access log.
    pub log: Option<AccessLogger>,
    /// Seed of its random numbers.
    pub seed: u64,
    /// Its epoll set.
    pub poller: Poller,
    /// The handle by which other threads wake it.
    pub waker: Waker,
}

/// An epoll set for a worker, and what wakes it.
///
/// # Errors
/// Out of descriptors.
pub fn reactor() -> io::Result<(Poller, Waker)> {
    let poller = Poller::new()?;
    let waker = Waker::new(&poller, TOKEN_WAKE)?;
    Ok((poller, waker))
}

impl Worker {
    /// A worker that accepts nothing yet. It is made in the thread it runs in, and stays there.
    pub fn new(parts: Parts) -> Worker {
        let config = parts.shared.config.load_full();
        let now = parts.shared.clock.now();
        let shard = parts.shared.registry.shard(parts.id);
        let count = parts.shared.workers().len().max(1);
        let mut limits = crate::limits::state::Limits::new(parts.id, count, shard.clone());
        limits.sync(config.snapshot.limits(), parts.shared.limits.load_full());
        Worker {
            id: parts.id,
            now,
            config,
            links: parts.shared.links.load_full(),
            inbox: parts.inbox,
            waker: parts.waker,
            callers: parts.callers,
            poller: parts.poller,
            conns: Slab::default(),
            scratch: Vec::new(),
            pool: BufPool::new(64),
            dirty: Vec::new(),
            timers: BinaryHeap::new(),
            resume: Vec::new(),
            requeue: VecDeque::new(),
            delayed: Default::default(),
            demand: Default::default(),
            doomed: Vec::new(),
            hosts: Hosts::default(),
            services: Services::default(),
            destinations: Destinations::default(),
            http: Default::default(),
            authorizing: Default::default(),
            limits,
            cipher: Vec::new(),
            callers_seen: Default::default(),
            strict: Vec::new(),
            plain_at: Vec::new(),
            leaving: Vec::new(),
            trial: Default::default(),
            unshaken: VecDeque::new(),
            looked: now,
            methods: AHashMap::new(),
            method_names: vec![Box::from(&b""[..])],
            name: Vec::new(),
            rng: Rng::new(parts.seed),
            shard,
            log: parts.log,
            listening: Vec::new(),
            spare_fd: std::fs::File::open("/dev/null").ok().map(Into::into),
            accept_again: None,
            buffered: 0,
            draining: None,
            stopped: false,
            tidied: now,
            turn: 0,
            shared: parts.shared,
        }
    }

    /// Runs until it is stopped or drained.
    pub fn run(mut self) {
        self.fit_scratch();
        self.listen_anew();
        self.shard.config_generation.set(self.config.generation as i64);
        let mut events: Vec<Event> = Vec::with_capacity(256);
        let mut room = EventBuf::new(256);
        while !self.stopped {
            let timeout = self.until_next_timer();
            if let Err(e) = self.poller.wait(&mut room, &mut events, timeout) {
                tracing::error!(worker = self.id, error = %e, "epoll failed; the worker ends");
                return;
            }
            self.now = self.shared.clock.now();
            self.shard.turns.inc();
            self.shard.turn_events.record(events.len() as u64);
            for e in &events {
                self.guarded(Key::from_u64(e.token), |w| w.on_event(*e));
            }
            // Under load more has come meanwhile: taken in now, it shares this turn's writes.
            if events.len() > 1 && self.poller.wait(&mut room, &mut events, Some(Duration::ZERO)).is_ok() {
                for e in &events {
                    self.guarded(Key::from_u64(e.token), |w| w.on_event(*e));
                }
            }
            self.guarded(Key::NONE, |w| {
                w.settle();
                w.fire_timers();
                w.settle();
                w.flush_dirty();
            });
            self.measure_turn();
            if let Some(log) = &mut self.log {
                log.flush();
            }
            self.tidy();
            self.judge_some();
            self.shake_more();
            self.look_at_leaving();
            self.drained();
        }
        if let Some(log) = &mut self.log {
            log.flush();
        }
    }

    /// Runs `f`; should it panic, the connection it was about is closed and the worker lives on. A panic is
    /// a bug, but one that must not take everybody's connections with it.
    fn guarded(&mut self, key: Key, f: impl FnOnce(&mut Worker)) {
        if std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| f(self))).is_ok() {
            return;
        }
        self.shard.panics.inc();
        self.shared.warn("panic", "worker", "handling a connection panicked; it is closed. This is a bug");
        // The scratch buffer may have gone with the stack.
        self.fit_scratch();
        if self.conns.get(key).is_some() {
            let close = |w: &mut Worker| w.close(key, Reason::CallerProtocol);
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| close(self)));
        }
    }

    /// How long turns take, of one in sixteen: a clock read more is not worth it for each.
    fn measure_turn(&mut self) {
        self.turn = self.turn.wrapping_add(1);
        if self.turn.is_multiple_of(16) {
            self.shard.turn_time.record(self.shared.clock.now().since(self.now).as_nanos() as u64);
        }
    }

    fn on_event(&mut self, e: Event) {
        if e.token == TOKEN_WAKE {
            self.waker.drain();
            while let Ok(m) = self.inbox.try_recv() {
                self.on_message(m);
            }
            return;
        }
        if e.token >= TOKEN_SPECIAL {
            let _ = self.accept((e.token & 0xFFFF) as u16);
            return;
        }
        let key = Key::from_u64(e.token);
        let Some(conn) = self.conns.get(key) else { return };
        if conn.dialling() {
            if e.writable || e.dead {
                self.on_dialled(key);
            }
            return;
        }
        if e.writable && conn.interest.write {
            self.flush(key);
        }
        let Some(conn) = self.conns.get(key) else { return };
        if e.readable && !conn.paused.any() {
            self.read(key);
        } else if e.dead && matches!(conn.role, Role::Relay(_)) {
            self.on_relay_hangup(key);
        } else if e.dead {
            // Paused, and no byte can move in either direction any more.
            self.broken(key);
        }
    }

    fn on_message(&mut self, m: Message) {
        match m {
            Message::Accepted { fd, peer, listener } => self.adopt(fd, peer, listener),
            Message::Reload => self.reload(),
            Message::Links => self.on_links(),
            Message::Shaken(job) => self.guarded(Key::NONE, |w| w.take_back(job)),
            Message::Gate { listener, strict } => self.on_gate(listener, strict),
            Message::Log(log) => {
                if let Some(old) = &mut self.log {
                    old.flush();
                }
                self.log = log;
            }
            Message::Missing(names) => self.missing(&names),
            Message::Ask(f) => f(self),
            Message::Drain => self.begin_drain(),
            Message::Stop => self.stop(),
        }
    }

    /// Reads once and hands the bytes to whoever understands them.
    pub(crate) fn read(&mut self, key: Key) {
        let mut buf = std::mem::take(&mut self.scratch);
        self.read_into(key, &mut buf);
        self.scratch = buf;
    }

    fn read_into(&mut self, key: Key, buf: &mut [u8]) {
        let now = self.now;
        let Some(conn) = self.conns.get(key) else { return };
        if conn.tls.is_some() {
            return self.read_tls(key);
        }
        let piece = if matches!(conn.role, Role::Http(_)) { self.http_read_most(key) } else { READ_MOST };
        let Some(conn) = self.conns.get_mut(key) else { return };
        let held = conn.stash.len();
        buf[..held].copy_from_slice(&conn.stash);
        let most = (held + piece).min(buf.len());
        let got = match raddle_net::socket::recv(&conn.fd, &mut buf[held..most]) {
            Ok(0) => return self.on_end(key),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
            Err(_) => return self.broken(key),
        };
        conn.read_at = now;
        match conn.is_endpoint() {
            true => self.shard.upstream_bytes_in.add(got as u64),
            false => self.shard.caller_bytes_in.add(got as u64),
        }
        if held > 0 {
            self.pool.give(std::mem::take(&mut conn.stash));
        }
        self.feed(key, &mut buf[..held + got], held == 0);
    }

    /// Goes on with the bytes a connection has in its stash.
    fn feed_stash(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.paused.any() && !conn.paused.has(Paused::ENDED) {
            return;
        }
        if !conn.stash.is_empty() {
            let mut buf = std::mem::take(&mut self.scratch);
            let held = conn.stash.len();
            buf[..held].copy_from_slice(&conn.stash);
            self.pool.give(std::mem::take(&mut conn.stash));
            self.feed(key, &mut buf[..held], false);
            self.scratch = buf;
        }
        if let Some(c) = self.conns.get_mut(key)
            && c.ends
            && c.stash.is_empty()
        {
            c.ends = false;
            self.on_end(key);
        }
        self.set_interest(key);
        self.close_if_done(key);
    }

    /// Hands bytes to the role's parser and keeps what it could not use yet.
    pub(crate) fn feed(&mut self, key: Key, bytes: &mut [u8], fresh: bool) {
        let Some(conn) = self.conns.get(key) else { return };
        let used = match conn.role {
            Role::New(_) => self.detect(key, bytes),
            Role::Caller(_) => self.feed_caller(key, bytes),
            Role::Endpoint(_) => self.feed_endpoint(key, bytes),
            Role::Relay(_) => self.feed_relay(key, bytes),
            Role::Http(_) => {
                let used = self.feed_http(key, bytes).min(bytes.len());
                // After a change of protocol, what came with the agreement must not wait: the end may be next.
                match self.conns.get(key).map(|c| &c.role) {
                    Some(Role::Relay(r)) if r.peer != Key::NONE => {
                        used + self.feed_relay(key, &mut bytes[used..])
                    }
                    _ => used,
                }
            }
        };
        // Gone meanwhile: nothing to keep.
        let Some(conn) = self.conns.get_mut(key) else { return };
        let rest = &bytes[used.min(bytes.len())..];
        if rest.is_empty() {
            return;
        }
        let arm = fresh || used > 0;
        let mut stash = self.pool.take();
        stash.extend_from_slice(rest);
        conn.stash = stash;
        if arm {
            conn.frame_since = self.now;
            let at = self.now + self.config.limits().frame_timeout;
            self.arm(key, at);
        }
    }

    /// The socket is in error.
    pub(crate) fn broken(&mut self, key: Key) {
        let Some(conn) = self.conns.get(key) else { return };
        if conn.connecting() {
            return self.link_cut(key);
        }
        if let Role::Relay(r) = &conn.role
            && let Some(other) = self.conns.get(r.peer)
        {
            // Cut-off bytes must not look like the orderly end of all there were.
            raddle_net::socket::reset_on_close(&other.fd);
        }
        let endpoint = conn.is_endpoint();
        self.close(key, if endpoint { Reason::ConnectionLost } else { Reason::CallerGone });
    }

    /// The peer has ended its stream.
    pub(crate) fn on_end(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.connecting() {
            return self.link_cut(key);
        }
        match &conn.role {
            Role::New(_) => self.close(key, Reason::CallerGone),
            Role::Endpoint(_) => self.close(key, Reason::ConnectionLost),
            Role::Relay(_) => self.on_relay_end(key),
            Role::Http(_) => self.on_http_end(key),
            Role::Caller(_) => {
                // Nobody who ends its side while a limit has it wait is still there when its turn comes.
                self.forget_delayed(key);
                let Some(conn) = self.conns.get_mut(key) else { return };
                // It may only have ended its sending side: what it asked for is still delivered.
                conn.paused.set(Paused::ENDED);
                self.set_interest(key);
                self.close_if_done(key);
            }
        }
    }

    /// Does what became possible during the turn, until nothing more does.
    fn settle(&mut self) {
        for _ in 0..8 {
            self.settle_http();
            self.settle_limits();
            if self.resume.is_empty() && self.requeue.is_empty() && self.doomed.is_empty() {
                return;
            }
            for key in std::mem::take(&mut self.doomed) {
                self.reset(key);
            }
            for key in std::mem::take(&mut self.resume) {
                self.feed_stash(key);
            }
            // Only those that wait now: one that cannot go on is put back and must not spin here.
            for _ in 0..self.requeue.len() {
                if let Some(r) = self.requeue.pop_front() {
                    self.dispatch_again(r);
                }
            }
        }
    }
}
