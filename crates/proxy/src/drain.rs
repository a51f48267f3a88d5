//! Shutting down without losing a request: accept no more, tell callers, let requests finish, then end.
use crate::conn::{Paused, Role};
use crate::frame;
use crate::worker::Worker;
use raddle_core::Reason;
use raddle_net::Key;
use std::time::Duration;

/// Batches of connections accepted from a queue at the end.
const ACCEPT_MOST: usize = 64;
/// A caller that cannot be told is closed after this long without a request, so that none is cut.
const QUIET: Duration = Duration::from_millis(500);
/// A worker stays this long: another one may just be handing it a connection.
const LEAST: Duration = Duration::from_millis(50);
/// A caller that was told closes by itself; if it does not, after this long without a request.
const QUIET_TOLD: Duration = Duration::from_secs(2);

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

    /// Tells a caller that understands it to send no more requests here.
    pub(crate) fn tell(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        if let Role::Http(_) = &conn.role {
            return self.tell_down2(key);
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
            match &conn.role {
                Role::New(_) => {
                    if self.now.since(since) >= QUIET {
                        done.push(key);
                    } else {
                        left += 1;
                    }
                }
                Role::Caller(c) => {
                    let quiet = if c.told { QUIET_TOLD } else { QUIET };
                    let idle = c.in_flight == 0
                        && conn.out.is_empty()
                        && conn.stream.is_none()
                        && conn.stash.is_empty();
                    if idle && (self.now.since(c.active_at) >= quiet || conn.paused.has(Paused::ENDED)) {
                        done.push(key);
                    } else {
                        left += 1;
                    }
                }
                Role::Relay(r) if r.accepted.is_some() => {
                    // An RPC client that has not asked yet looks so, too: nothing is lost with it.
                    let other = self.conns.get(r.peer).map(|c| &c.role);
                    let unused = r.bytes == 0 && matches!(other, Some(Role::Relay(o)) if o.bytes == 0);
                    if r.undecided && unused && self.now.since(since) >= QUIET {
                        done.push(key);
                    } else {
                        left += 1;
                    }
                }
                Role::Relay(_) => {}
                Role::Http(h) => match self.http_idle(conn, h) {
                    None => {}
                    Some(true) => done.push(key),
                    Some(false) => left += 1,
                },
                Role::Endpoint(_) => {}
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
