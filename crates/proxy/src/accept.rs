//! Accepting: fair among workers, bounded, and never ended by a lack of descriptors.
use crate::conn::{Accepted, Role};
use crate::destination::Came;
use crate::shared::Message;
use crate::worker::Worker;
use raddle_core::Protocol;
use raddle_net::{Interest, socket};
use raddle_telemetry::{AcceptError, Direction};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Most connections accepted from one listener in a turn.
const BATCH: usize = 64;

impl Worker {
    /// A listener has connections. True if there may be more after those that a turn takes.
    pub(crate) fn accept(&mut self, listener: u16) -> bool {
        let Some(l) = self.config.binding(listener).map(|b| b.listener.clone()) else { return false };
        for _ in 0..BATCH {
            match socket::accept(&l.fd) {
                Ok((fd, peer)) => self.place(fd, peer, listener),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return false,
                Err(e) => match e.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
                    // The caller gave up while it queued.
                    Some(rustix::io::Errno::CONNABORTED | rustix::io::Errno::INTR) => {}
                    // Another worker began to drain before this one and has closed the queue.
                    Some(rustix::io::Errno::INVAL) if self.shared.draining.load(Ordering::Acquire) => {
                        self.listen_no_more();
                        return false;
                    }
                    Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => {
                        self.shard.accept_errors[AcceptError::of(&e)].inc();
                        if !self.turn_away(&l.fd) {
                            return false;
                        }
                    }
                    _ => {
                        self.shard.accept_errors[AcceptError::of(&e)].inc();
                        tracing::warn!(listener = %l.addr, error = %e, "accept failed; trying again in 100 ms");
                        self.rest_accepting();
                        return false;
                    }
                },
            }
        }
        true
    }

    /// Without descriptors a caller would hang in the queue and epoll would spin. The spare one is given up
    /// for a moment, so that the caller gets an orderly close and comes again.
    fn turn_away(&mut self, listener: &OwnedFd) -> bool {
        self.shared.warn(
            "no_descriptors",
            "listener",
            "open files are used up; new connections are turned away",
        );
        if self.spare_fd.take().is_none() {
            self.rest_accepting();
            return false;
        }
        let taken = socket::accept(listener).is_ok();
        self.spare_fd = std::fs::File::open("/dev/null").ok().map(Into::into);
        taken
    }

    fn rest_accepting(&mut self) {
        self.listen_no_more();
        self.accept_again = Some(self.now + Duration::from_millis(100));
        if self.spare_fd.is_none() {
            self.spare_fd = std::fs::File::open("/dev/null").ok().map(Into::into);
        }
    }

    /// Gives a connection to the worker with the fewest.
    fn place(&mut self, fd: OwnedFd, peer: Option<SocketAddr>, listener: u16) {
        let direction = self.config.binding(listener).map_or(Direction::Outbound, |b| b.listener.direction);
        self.shard.accepted[direction].inc();
        let most = self.config.limits().max_connections as usize;
        if most > 0 && self.shared.connections.load(Ordering::Relaxed) >= most {
            self.shard.accept_errors[AcceptError::OverLimit].inc();
            self.shared.warn("connection_limit", "listener", "limits.maxConnections is reached");
            return;
        }
        self.shared.connections.fetch_add(1, Ordering::Relaxed);
        let workers = self.shared.workers();
        let own = self.callers.load(Ordering::Relaxed);
        let emptiest = workers
            .iter()
            .enumerate()
            .min_by_key(|(i, w)| (w.callers.load(Ordering::Relaxed), *i != self.id))
            .filter(|(i, w)| *i != self.id && w.callers.load(Ordering::Relaxed) < own)
            // The other one may be gone already.
            .filter(|_| self.draining.is_none());
        match emptiest {
            Some((_, w)) => {
                // Counted at once, so that the next one sees it.
                w.callers.fetch_add(1, Ordering::Relaxed);
                w.tell(Message::Accepted { fd, peer, listener });
            }
            None => {
                self.callers.fetch_add(1, Ordering::Relaxed);
                self.adopt(fd, peer, listener);
            }
        }
    }

    /// Takes a connection in; it is counted already.
    pub(crate) fn adopt(&mut self, fd: OwnedFd, peer: Option<SocketAddr>, listener: u16) {
        let id = self.shared.next_conn.fetch_add(1, Ordering::Relaxed);
        let to = match self.came_from(&fd, peer, listener) {
            Came::Directly => None,
            Came::Captured(to) => Some(to),
            Came::Round => return self.refuse_loop(fd, peer),
        };
        let accepted = Accepted { listener, peer, to, since: self.now, id };
        let declared = self.declared(&accepted);
        let Some(key) = self.add_conn(fd, Interest::READ, Role::New(Box::new(accepted))) else {
            return self.count_caller_gone();
        };
        self.shard.callers_active.inc();
        match declared {
            // Its server may speak first.
            Some(Protocol::Tcp) if !self.awaits_tls(listener) => self.become_relay(key, false),
            _ => {
                let at = self.now + self.config.limits().detect_timeout;
                self.arm(key, at);
            }
        }
    }

    /// Whether a connection of a listener that is declared to be TCP may begin with TLS: then silence is waited out
    /// before its server may speak. Only where callers were ever told to use TLS.
    fn awaits_tls(&self, listener: u16) -> bool {
        let Some(b) = self.config.binding(listener) else { return false };
        let told = self.config.snapshot.link().rule.is_some() && self.links.server().is_some();
        b.tls.is_some() || b.listener.direction == Direction::Inbound && told && b.app_tls.is_empty()
    }

    /// The sidecar's own connection was captured: passed on, it would come again for ever.
    fn refuse_loop(&mut self, fd: OwnedFd, peer: Option<SocketAddr>) {
        self.shard.capture_loops.inc();
        self.shared.warn(
            "capture_loop",
            peer.map_or_else(String::new, |p| p.to_string()),
            "a connection of this sidecar was captured and is refused: run it as the user that \
             `raddle capture install --proxy-uid` named",
        );
        socket::reset_on_close(&fd);
        self.callers.fetch_sub(1, Ordering::Relaxed);
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// An accepted connection is gone.
    pub(crate) fn count_caller_gone(&self) {
        self.callers.fetch_sub(1, Ordering::Relaxed);
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        self.shard.callers_active.dec();
    }
}
