//! Shutting down without losing a request: accept no more, tell callers, let requests finish, then end.
use crate::conn::Role;
use crate::worker::Worker;
use raddle_core::Reason;
use std::time::Duration;

/// Batches of connections accepted from a queue at the end.
const ACCEPT_MOST: usize = 64;
/// A worker stays this long: another one may just be handing it a connection.
const LEAST: Duration = Duration::from_millis(50);

impl Worker {
    /// Begins to drain.
    pub(crate) fn begin_drain(&mut self) {
        if self.draining.is_some() {
            return;
        }
        // What waits in the accept queue has been promised a connection.
        self.draining = Some(self.now);
        let config = self.config.clone();
        for b in &config.bindings {
            for _ in 0..ACCEPT_MOST {
                if !self.accept(b.listener.id) {
                    break;
                }
            }
            // Nobody will take more: connecting must fail from here on, or callers would come and be lost.
            let _ = rustix::net::shutdown(&b.listener.fd, rustix::net::Shutdown::Read);
        }
        self.listen_no_more();
        for key in self.conns.keys() {
            self.tell(key);
        }
    }

    /// During a drain, once a turn: closes what is done; ends the worker when nothing is left.
    pub(crate) fn drained(&mut self) {
        let Some(since) = self.draining else { return };
        if self.stopped {
            return;
        }
        if self.now.since(since) >= self.config.sidecar.drain.timeout {
            tracing::warn!("drain time is over; requests still in flight are answered with DR");
            return self.stop();
        }
        let mut left = 0usize;
        let mut done = Vec::new();
        for (key, conn) in self.conns.iter() {
            match self.may_go(conn, since) {
                None => {}
                Some(true) => done.push(key),
                Some(false) => left += 1,
            }
        }
        for key in done {
            self.close(key, Reason::Draining);
        }
        if left == 0 && self.requeue.is_empty() && self.now.since(since) >= LEAST {
            self.stop();
        }
    }

    /// Ends now: what is in flight is answered, what is written is flushed as far as sockets take it.
    pub(crate) fn stop(&mut self) {
        if self.stopped {
            return;
        }
        self.stopped = true;
        self.listen_no_more();
        self.end_exchanges();
        self.end_delayed();
        for key in self.conns.keys() {
            let Some(conn) = self.conns.get_mut(key) else { continue };
            let Role::Endpoint(e) = &mut conn.role else { continue };
            let host = e.host;
            for r in e.pending.drain() {
                self.end_in_flight(host, r);
            }
        }
        for key in self.conns.keys() {
            self.flush(key);
        }
    }
}
