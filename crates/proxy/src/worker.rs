//! A worker: one thread, one epoll set, everything it owns. The loop, timers, flushing, closing.
//!
//! A turn is: wait → handle each event → settle what became possible → fire timers → flush each connection
//! that has something to write, once.
use crate::conn::{Conn, Paused, Role};
use crate::hosts::Hosts;
use crate::request::Requeued;
use crate::services::Services;
use crate::shared::{Config, Message, Shared};
use ahash::AHashMap;
use crossbeam_channel::Receiver;
use raddle_core::{Reason, Time};
use raddle_net::{BufPool, Event, EventBuf, Flushed, Interest, Key, Poller, Slab, Waker};
use raddle_policy::Rng;
use raddle_telemetry::{AccessLogger, Malformed, Shard};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

/// Frames up to this long are copied whole; longer ones pass through piece by piece.
pub(crate) const STREAM_FROM: usize = 64 << 10;
/// Most bytes read from one connection in a turn, so that a firehose leaves room for others.
const READ_MOST: usize = 128 << 10;
/// A connection with this much to write is flushed within the turn, while the bytes are in cache.
const FLUSH_AT: usize = 128 << 10;
/// Timers may be this late; deadlines are not looked at more often.
pub(crate) const TICK: Duration = Duration::from_millis(10);
/// Out-buffers of one worker together may hold this much before slow callers lose their long rope.
const BUFFER_BUDGET: usize = 128 << 20;

/// Epoll tokens of what is not a connection.
const TOKEN_SPECIAL: u64 = (u32::MAX as u64) << 32;
const TOKEN_WAKE: u64 = u64::MAX;

/// A worker's whole state. Nothing in it is shared but what [`Shared`] says.
pub struct Worker {
    pub(crate) id: usize,
    pub(crate) now: Time,
    pub(crate) shared: Arc<Shared>,
    pub(crate) config: Arc<Config>,
    pub(crate) inbox: Receiver<Message>,
    pub(crate) waker: Waker,
    pub(crate) callers: Arc<AtomicUsize>,
    pub(crate) poller: Poller,
    pub(crate) conns: Slab<Conn>,
    pub(crate) scratch: Vec<u8>,
    pub(crate) pool: BufPool,
    dirty: Vec<Key>,
    timers: BinaryHeap<Reverse<(Time, Key)>>,
    /// Connections whose stash may hold whole frames that can go on now.
    pub(crate) resume: Vec<Key>,
    /// Requests to dispatch again.
    pub(crate) requeue: VecDeque<Requeued>,
    /// Connections to reset when it is safe to.
    pub(crate) doomed: Vec<Key>,
    pub(crate) hosts: Hosts,
    pub(crate) services: Services,
    pub(crate) methods: AHashMap<Box<[u8]>, u32>,
    pub(crate) method_names: Vec<Box<[u8]>>,
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
    tidied: Time,
    turn: u32,
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
}

impl Worker {
    /// A worker that accepts nothing yet.
    ///
    /// # Errors
    /// Out of descriptors.
    pub fn new(parts: Parts) -> io::Result<Worker> {
        let poller = Poller::new()?;
        let waker = Waker::new(&poller, TOKEN_WAKE)?;
        let config = parts.shared.config.load_full();
        let now = parts.shared.clock.now();
        let shard = parts.shared.registry.shard(parts.id);
        Ok(Worker {
            id: parts.id,
            now,
            config,
            inbox: parts.inbox,
            waker,
            callers: parts.callers,
            poller,
            conns: Slab::default(),
            scratch: Vec::new(),
            pool: BufPool::new(64),
            dirty: Vec::new(),
            timers: BinaryHeap::new(),
            resume: Vec::new(),
            requeue: VecDeque::new(),
            doomed: Vec::new(),
            hosts: Hosts::default(),
            services: Services::default(),
            methods: AHashMap::new(),
            method_names: vec![Box::from(&b""[..])],
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
        })
    }

    /// The handle by which other threads wake it.
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// Runs until it is stopped or drained.
    pub fn run(mut self) {
        self.fit_scratch();
        self.listen_anew();
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
            self.accept((e.token & 0xFFFF) as u16);
            return;
        }
        let key = Key::from_u64(e.token);
        let Some(conn) = self.conns.get(key) else { return };
        if let Role::Endpoint(ep) = &conn.role
            && ep.phase == crate::conn::Phase::Connecting
        {
            if e.writable || e.dead {
                self.on_connected(key);
            }
            return;
        }
        if let Role::Relay(r) = &conn.role
            && r.connecting
        {
            if e.writable || e.dead {
                self.on_relay_connected(key);
            }
            return;
        }
        if e.writable && !conn.out.is_empty() && conn.interest.write {
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
            Message::Log(log) => {
                if let Some(old) = &mut self.log {
                    old.flush();
                }
                self.log = log;
            }
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
        let Some(conn) = self.conns.get_mut(key) else { return };
        let held = conn.stash.len();
        buf[..held].copy_from_slice(&conn.stash);
        let most = (held + READ_MOST).min(buf.len());
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
        self.set_interest(key);
        self.close_if_done(key);
    }

    /// Hands bytes to the role's parser and keeps what it could not use yet.
    fn feed(&mut self, key: Key, bytes: &mut [u8], fresh: bool) {
        let Some(conn) = self.conns.get(key) else { return };
        let used = match conn.role {
            Role::New(_) => self.detect(key, bytes),
            Role::Caller(_) => self.feed_caller(key, bytes),
            Role::Endpoint(_) => self.feed_endpoint(key, bytes),
            Role::Relay(_) => self.feed_relay(key, bytes),
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
    fn on_end(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        match &conn.role {
            Role::New(_) => self.close(key, Reason::CallerGone),
            Role::Endpoint(_) => self.close(key, Reason::ConnectionLost),
            Role::Relay(_) => self.on_relay_end(key),
            Role::Caller(_) => {
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

    // ---- writing ----

    /// Notes that a connection has bytes to write.
    #[inline]
    pub(crate) fn mark_dirty(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let long = conn.out.len() >= FLUSH_AT && !conn.interest.write;
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(key);
        }
        if long && !conn.connecting() {
            // An error shows again at the turn's end, where closing is safe.
            let before = conn.out.written_offset();
            let _ = conn.out.flush(&conn.fd, &mut self.pool);
            let wrote = conn.out.written_offset() - before;
            if wrote > 0 {
                conn.wrote_at = self.now;
                match conn.is_endpoint() {
                    true => self.shard.upstream_bytes_out.add(wrote),
                    false => self.shard.caller_bytes_out.add(wrote),
                }
            }
        }
    }

    fn flush_dirty(&mut self) {
        while let Some(key) = self.dirty.pop() {
            if let Some(c) = self.conns.get_mut(key) {
                c.dirty = false;
                self.flush(key);
            }
        }
    }

    /// Writes what the socket takes and lets those go on that waited for room.
    pub(crate) fn flush(&mut self, key: Key) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.connecting() {
            return;
        }
        let before = conn.out.written_offset();
        match conn.out.flush(&conn.fd, &mut self.pool) {
            Ok(f) => {
                let wrote = conn.out.written_offset() - before;
                if wrote > 0 {
                    conn.wrote_at = now;
                    match conn.is_endpoint() {
                        true => self.shard.upstream_bytes_out.add(wrote),
                        false => self.shard.caller_bytes_out.add(wrote),
                    }
                }
                let want = f == Flushed::Partly;
                if want != conn.interest.write {
                    self.set_interest(key);
                }
                self.made_room(key);
                if !want {
                    self.close_if_done(key);
                }
            }
            Err(_) => match &conn.role {
                // What it sent before it went is still to be read; the error shows again behind it.
                Role::Relay(_) if !conn.paused.has(Paused::ENDED) => {
                    conn.out.clear(&mut self.pool);
                    self.set_interest(key);
                    self.made_room(key);
                }
                _ => self.broken(key),
            },
        }
    }

    /// Lets those read again that were held back because this connection's out-buffer was full.
    fn made_room(&mut self, key: Key) {
        let soft = self.config.limits().buffer_soft as usize;
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.out.len() > soft / 2 {
            return;
        }
        if conn.paused.has(Paused::OUT_FULL) {
            conn.paused.clear(Paused::OUT_FULL);
            self.resume.push(key);
        }
        let Some(conn) = self.conns.get_mut(key) else { return };
        let feeders = match &mut conn.role {
            Role::Caller(c) => std::mem::take(&mut c.feeders),
            Role::Endpoint(e) => std::mem::take(&mut e.feeders),
            Role::Relay(r) => vec![r.peer],
            Role::New(_) => return,
        };
        for f in feeders {
            self.unpause(f, Paused::SINK_FULL);
        }
    }

    /// Stops reading from a connection for a reason.
    pub(crate) fn pause(&mut self, key: Key, why: u8) {
        if let Some(c) = self.conns.get_mut(key) {
            c.paused.set(why);
            self.set_interest(key);
        }
    }

    /// Removes a reason not to read from a connection; it goes on when the turn settles.
    pub(crate) fn unpause(&mut self, key: Key, why: u8) {
        if let Some(c) = self.conns.get_mut(key)
            && c.paused.has(why)
        {
            c.paused.clear(why);
            if let Role::Endpoint(e) = &mut c.role {
                e.stalled_since = None;
            }
            self.resume.push(key);
        }
    }

    /// Makes epoll watch for just what is wanted now.
    pub(crate) fn set_interest(&mut self, key: Key) {
        let Some(c) = self.conns.get_mut(key) else { return };
        let want =
            Interest { read: !c.paused.any() && !c.connecting(), write: c.connecting() || !c.out.is_empty() };
        if want != c.interest {
            c.interest = want;
            // It can only fail for a descriptor that is not in the set, and every connection's is.
            let _ = self.poller.modify(&c.fd, key.to_u64(), want);
        }
    }

    /// Bytes a caller's out-buffer may hold while others' connections feed it.
    pub(crate) fn hard_limit(&self) -> usize {
        let l = self.config.limits();
        if self.buffered > BUFFER_BUDGET { l.buffer_soft as usize } else { l.buffer_hard as usize }
    }

    // ---- timers ----

    /// Has [`Worker::on_timer`] called for a connection at `at` or soon after.
    pub(crate) fn arm(&mut self, key: Key, at: Time) {
        if let Some(c) = self.conns.get_mut(key)
            && at < c.timer_at
        {
            c.timer_at = at;
            self.timers.push(Reverse((at, key)));
        }
    }

    fn until_next_timer(&self) -> Option<Duration> {
        if !self.requeue.is_empty() || !self.resume.is_empty() {
            return Some(Duration::ZERO);
        }
        let mut next = self.timers.peek().map(|Reverse((t, _))| *t);
        for t in [self.accept_again, self.draining.map(|_| self.now + TICK), self.next_down_host()]
            .into_iter()
            .flatten()
        {
            next = Some(next.map_or(t, |n| n.min(t)));
        }
        if !self.conns.is_empty() {
            let t = self.tidied + Duration::from_secs(5);
            next = Some(next.map_or(t, |n| n.min(t)));
        }
        // One nanosecond late is never early.
        next.map(|t| t.since(self.shared.clock.now()) + Duration::from_nanos(1))
    }

    fn fire_timers(&mut self) {
        while let Some(&Reverse((at, key))) = self.timers.peek() {
            if at > self.now {
                break;
            }
            self.timers.pop();
            if let Some(c) = self.conns.get_mut(key)
                && c.timer_at == at
            {
                c.timer_at = Time::MAX;
                self.on_timer(key);
            }
        }
        self.try_down_hosts_if_due();
        if self.accept_again.is_some_and(|t| t <= self.now) {
            self.accept_again = None;
            self.listen_anew();
        }
    }

    fn try_down_hosts_if_due(&mut self) {
        if self.next_down_host().is_some_and(|t| t <= self.now) {
            self.try_down_hosts();
        }
    }

    fn on_timer(&mut self, key: Key) {
        let Some(conn) = self.conns.get(key) else { return };
        let half_frame = (!conn.stash.is_empty() && !conn.paused.any()) || conn.stream.is_some();
        let frame_timeout = self.config.limits().frame_timeout;
        if half_frame && !conn.paused.any() {
            // A large frame may take longer, as long as its bytes keep coming.
            let since = if conn.stream.is_some() { conn.read_at } else { conn.frame_since };
            if self.now.since(since) >= frame_timeout && !matches!(conn.role, Role::New(_) | Role::Relay(_)) {
                let cells = if conn.is_endpoint() {
                    &self.shard.upstream_malformed
                } else {
                    &self.shard.caller_malformed
                };
                cells[Malformed::SlowFrame].inc();
                let why = if conn.is_endpoint() { Reason::EndpointProtocol } else { Reason::CallerProtocol };
                return self.close(key, why);
            }
            let at = since + frame_timeout;
            self.arm(key, at.max(self.now + TICK));
        }
        let Some(conn) = self.conns.get(key) else { return };
        match conn.role {
            Role::New(_) => self.on_detect_timer(key),
            Role::Caller(_) => self.on_caller_timer(key),
            Role::Endpoint(_) => self.on_endpoint_timer(key),
            Role::Relay(_) => self.on_relay_timer(key),
        }
    }

    /// Now and then: gives back memory, prunes what configuration no longer names.
    fn tidy(&mut self) {
        if self.now.since(self.tidied) < Duration::from_secs(1) {
            return;
        }
        self.tidied = self.now;
        self.pool.shrink();
        if (self.now.as_millis() / 1000).is_multiple_of(5) {
            self.prune_hosts();
        }
        let (mut buffered, mut paused) = (0, 0);
        for (_, c) in self.conns.iter() {
            buffered += c.out.len() + c.stash.len();
            paused += i64::from(c.paused.any());
        }
        let pending: usize = self.services.iter().map(|(_, s)| s.waiting.len()).sum();
        self.shard.paused_connections.set(paused);
        self.shard.pending_requests.set(pending as i64);
        self.shard.buffered_bytes.set(buffered as i64);
        self.buffered = buffered;
    }

    // ---- listening ----

    /// Watches the listeners of the configuration and no others.
    pub(crate) fn listen_anew(&mut self) {
        let config = self.config.clone();
        self.listening.retain(|(id, _)| config.binding(*id).is_some());
        if self.draining.is_some() || self.accept_again.is_some() {
            return;
        }
        for b in &config.bindings {
            let id = b.listener.id;
            if self.listening.iter().any(|(l, on)| *l == id && *on) {
                continue;
            }
            match self.poller.add_exclusive(&b.listener.fd, TOKEN_SPECIAL | u64::from(id)) {
                Ok(()) => {
                    self.listening.retain(|(l, _)| *l != id);
                    self.listening.push((id, true));
                }
                Err(e) => {
                    tracing::error!(listener = %b.listener.addr, error = %e, "cannot watch the listener");
                }
            }
        }
    }

    /// Stops watching every listener; what has arrived already is accepted first where `take` says so.
    pub(crate) fn listen_no_more(&mut self) {
        let config = self.config.clone();
        for (id, on) in &mut self.listening {
            if let Some(b) = config.binding(*id)
                && *on
            {
                let _ = self.poller.remove(&b.listener.fd);
            }
            *on = false;
        }
    }

    fn reload(&mut self) {
        let new = self.shared.config.load_full();
        // Sockets of removed listeners leave the epoll set before the last owner closes them.
        for (id, on) in &self.listening {
            if *on
                && new.binding(*id).is_none()
                && let Some(b) = self.config.binding(*id)
            {
                let _ = self.poller.remove(&b.listener.fd);
            }
        }
        self.config = new;
        self.fit_scratch();
        self.listen_anew();
        self.services.forget_removed(&self.config);
        self.prune_hosts();
        self.shard.config_generation.set(self.config.generation as i64);
    }

    /// Sizes the scratch buffer for the largest head plus a full read.
    fn fit_scratch(&mut self) {
        let head = self.config.limits().max_header as usize + (64 << 10) + 4096;
        let want = READ_MOST + head.max(STREAM_FROM) + READ_MOST;
        if self.scratch.len() < want {
            self.scratch = vec![0; want];
        }
    }
}
