//! Handshakes away from the workers: asymmetric cryptography takes as long as some hundred requests, and ten thousand
//! callers that come back at once would hold up everybody else.
//!
//! A few threads of lower priority take a connection's session and the bytes that came for it, let TLS work on them, and
//! give both back as a message; the connection is not read meanwhile. First come, first served, and no more wait there
//! than a bound: the rest wait unread, in the kernel.
use crate::conn::{Paused, Role};
use crate::shared::Message;
use crate::worker::{READ_MOST, TICK, Worker};
use crossbeam_channel::{Receiver, Sender};
use raddle_core::Time;
use raddle_identity::{TlsError, TlsSession};
use raddle_net::{Key, Waker};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

/// Most sessions with the threads, or waiting for them.
const WAIT_MOST: usize = 512;
/// How much nicer the threads are than the workers: where there is not enough for both, a worker gets nine times as much.
const NICER: i32 = 10;

/// A session on its way to the threads and back.
pub struct Shaken {
    key: Key,
    session: TlsSession,
    /// What came for it.
    cipher: Vec<u8>,
    /// What it says.
    plain: Vec<u8>,
    /// What is to be said.
    out: Vec<u8>,
    result: Result<(), TlsError>,
    inbox: Sender<Message>,
    waker: Waker,
}

/// The threads; there are none until they are needed.
#[derive(Debug, Default)]
pub struct Shakers {
    jobs: OnceLock<Option<Sender<Box<Shaken>>>>,
    waiting: Arc<AtomicUsize>,
}

impl Shakers {
    /// How many more may come.
    fn room(&self) -> usize {
        WAIT_MOST.saturating_sub(self.waiting.load(Ordering::Relaxed))
    }

    fn jobs(&self) -> Option<&Sender<Box<Shaken>>> {
        let begin = || {
            let (jobs, inbox) = crossbeam_channel::unbounded();
            let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
            let begun = (0..(cores / 2).max(1)).filter(|n| {
                let (inbox, waiting) = (inbox.clone(), self.waiting.clone());
                let run = move || shake(&inbox, &waiting);
                std::thread::Builder::new().name(format!("handshake-{n}")).spawn(run).is_ok()
            });
            (begun.count() > 0).then_some(jobs)
        };
        self.jobs.get_or_init(begin).as_ref()
    }
}

/// One thread's life: it ends with the sidecar.
fn shake(inbox: &Receiver<Box<Shaken>>, waiting: &AtomicUsize) {
    // Of this thread alone, as Linux has it. Refused at worst.
    let _ = rustix::process::setpriority_process(None, NICER);
    while let Ok(mut job) = inbox.recv() {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            job.work();
            job
        }));
        waiting.fetch_sub(1, Ordering::Relaxed);
        // Of one that panicked the connection stays as it is, until its time is over.
        let Ok(job) = done else { continue };
        let (inbox, waker) = (job.inbox.clone(), job.waker.clone());
        if inbox.send(Message::Shaken(job)).is_ok() {
            waker.wake();
        }
    }
}

impl Shaken {
    fn work(&mut self) {
        let mut cipher = std::mem::take(&mut self.cipher);
        let mut rest = &mut cipher[..];
        while !rest.is_empty() {
            match self.session.feed(rest, &mut self.plain, READ_MOST) {
                Ok(used) => rest = &mut rest[used..],
                Err(e) => {
                    self.result = Err(e);
                    break;
                }
            }
        }
        self.session.take_handshake_output(&mut self.out);
    }
}

impl Worker {
    /// Hands a session that is in its handshake to the threads, with the bytes that came for it. False: there are none,
    /// and the worker does it itself.
    pub(crate) fn hand_over(&mut self, key: Key, cipher: &[u8]) -> bool {
        // What stands in its place meanwhile: one that is in its handshake for ever.
        let Some(Ok(stand_in)) = self.links.server().cloned().map(TlsSession::server) else { return false };
        let shared = self.shared.clone();
        let Some(jobs) = shared.shakers.jobs() else { return false };
        let (Some(own), Some(tls)) =
            (shared.workers().get(self.id), self.conns.get_mut(key).and_then(|c| c.tls.as_mut()))
        else {
            return false;
        };
        let session = std::mem::replace(&mut tls.session, stand_in);
        let job = Shaken {
            key,
            session,
            cipher: cipher.to_vec(),
            plain: Vec::new(),
            out: Vec::new(),
            result: Ok(()),
            inbox: own.inbox.clone(),
            waker: own.waker.clone(),
        };
        shared.shakers.waiting.fetch_add(1, Ordering::Relaxed);
        self.shard.link_handshakes_waiting.inc();
        self.pause(key, Paused::SHAKING);
        // It fails only if the threads have ended, with the process.
        let _ = jobs.send(Box::new(job));
        true
    }

    /// A session comes back.
    pub(crate) fn take_back(&mut self, job: Box<Shaken>) {
        self.shard.link_handshakes_waiting.dec();
        let Shaken { key, session, mut plain, out, result, .. } = *job;
        if let Some(conn) = self.conns.get_mut(key)
            && let Some(tls) = &mut conn.tls
        {
            tls.session = session;
            if !out.is_empty() {
                tls.sealed.tail(&mut self.pool).extend_from_slice(&out);
            }
            conn.paused.clear(Paused::SHAKING);
            if self.opened(key, true, 0, &mut plain, &result) {
                self.set_interest(key);
            }
        }
        self.shake_more();
    }

    /// Whether the threads have room; if not, the connection is not read until they have.
    pub(crate) fn may_shake(&mut self, key: Key) -> bool {
        if self.shared.shakers.room() > 0 {
            return true;
        }
        self.pause(key, Paused::SHAKING);
        self.unshaken.push_back(key);
        false
    }

    /// Lets those go on that wait for the threads.
    pub(crate) fn shake_more(&mut self) {
        for _ in 0..self.shared.shakers.room().min(self.unshaken.len()) {
            if let Some(key) = self.unshaken.pop_front() {
                self.unpause(key, Paused::SHAKING);
            }
        }
    }

    /// When those that wait are looked at next.
    pub(crate) fn next_shake(&self) -> Option<Time> {
        (!self.unshaken.is_empty()).then(|| self.now + TICK)
    }

    /// Whether a caller's connection is new and waits for its handshake.
    pub(crate) fn is_shaking(&self, key: Key) -> bool {
        let waits = |c: &crate::conn::Conn| matches!(c.role, Role::New(_)) && c.paused.has(Paused::SHAKING);
        self.conns.get(key).is_some_and(waits)
    }
}
