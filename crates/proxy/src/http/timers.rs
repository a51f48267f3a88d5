//! Time on HTTP connections: deadlines, idle connections, heads that do not come.
use super::exchange::Up;
use super::sides::{Doing, HttpConn};
use crate::conn::{Conn, Role};
use crate::leaving::{QUIET, QUIET_TOLD};
use crate::worker::{TICK, Worker};
use raddle_core::{Reason, Time};
use raddle_model::RetryOn;
use raddle_net::Key;
use raddle_telemetry::Malformed;

impl Worker {
    pub(crate) fn on_http_timer(&mut self, key: Key) {
        let Some(conn) = self.conns.get(key) else { return };
        let Role::Http(h) = &conn.role else { return };
        match h {
            HttpConn::Down1(d) => {
                if let Some(x) = d.exchange {
                    let next = self.check_exchange(x);
                    return self.arm(key, next);
                }
                self.on_idle_down1(key);
            }
            HttpConn::Down2(d) => {
                let all = d.exchanges.clone();
                let next = all.into_iter().map(|x| self.check_exchange(x)).min().unwrap_or(Time::MAX);
                self.on_down2_timer(key, next);
            }
            HttpConn::Up1(_) | HttpConn::Up2(_) => self.on_up_timer(key),
        }
    }

    fn on_idle_down1(&mut self, key: Key) {
        let now = self.now;
        let (idle, head) = (self.config.limits().idle_timeout, self.config.limits().head_timeout);
        let Some(conn) = self.conns.get(key) else { return };
        let Role::Http(HttpConn::Down1(d)) = &conn.role else { return };
        if conn.interest.write && now.since(conn.wrote_at) >= idle {
            return self.reset_later(key);
        }
        if d.doing == Doing::Head && !conn.stash.is_empty() {
            let due = conn.frame_since + head;
            if due <= now {
                self.shard.caller_malformed[Malformed::SlowFrame].inc();
                return self.say_last(key, 408, "the request's head did not arrive in time");
            }
            return self.arm(key, due);
        }
        let due = match d.doing {
            // However its bytes trickle, they are of no use.
            Doing::Closing => d.active_at + head,
            Doing::Discarding { .. } => d.active_at + idle,
            _ => d.active_at.max(conn.read_at) + idle,
        };
        if due <= now {
            self.shard.idle_closed.inc();
            return self.close(key, Reason::CallerGone);
        }
        self.arm(key, due);
    }

    fn on_down2_timer(&mut self, key: Key, next: Time) {
        let now = self.now;
        let (idle, head) = (self.config.limits().idle_timeout, self.config.limits().head_timeout);
        let Some(conn) = self.conns.get(key) else { return };
        let stuck = conn.interest.write && now.since(conn.wrote_at) >= idle;
        let Role::Http(HttpConn::Down2(d)) = &conn.role else { return };
        if stuck {
            return self.reset_later(key);
        }
        if !d.exchanges.is_empty() {
            return self.arm(key, next);
        }
        let begun = matches!(d.h2, super::sides::Server::Open(_));
        let due = d.active_at + if begun { idle } else { head };
        if due > now {
            return self.arm(key, due);
        }
        if !begun || d.told {
            self.shard.idle_closed.inc();
            return self.close(key, Reason::CallerGone);
        }
        self.tell_down2(key);
        self.arm(key, now + head);
    }

    /// Looks at an exchange's times. Returns when to look again.
    fn check_exchange(&mut self, key: Key) -> Time {
        let now = self.now;
        let Some(x) = self.http.exchanges.get(key) else { return Time::MAX };
        if let Up::Delayed(until) = x.up {
            if until <= now {
                self.http.again.push(key);
            }
            return until.max(now + TICK);
        }
        if x.deadline.min(x.try_deadline) <= now {
            self.on_exchange_timeout(key);
            return now + TICK;
        }
        let idle = self
            .services
            .get(x.service)
            .map_or(std::time::Duration::from_mins(5), |s| s.service.policy.settings.timeouts.stream_idle);
        let quiet = x.active_at + idle;
        if quiet <= now {
            self.drop_up(key);
            self.answer_http(key, Reason::Timeout, None, "no byte moved for timeouts.streamIdle");
            return now + TICK;
        }
        x.deadline.min(x.try_deadline).min(quiet).max(now + TICK)
    }

    fn on_exchange_timeout(&mut self, key: Key) {
        let now = self.now;
        let Some(x) = self.http.exchanges.get(key) else { return };
        let final_one = x.deadline <= now;
        let answered = x.down_framing.is_some();
        if answered && !final_one {
            // The try was in time: its response has begun.
            if let Some(x) = self.http.exchanges.get_mut(key) {
                x.try_deadline = Time::MAX;
            }
            return;
        }
        self.drop_up(key);
        if !final_one && self.retry_http(key, RetryOn::Timeout) {
            return;
        }
        self.answer_http(key, Reason::Timeout, None, "no response in time");
    }

    /// An endpoint with streams under way that has been silent is asked by a PING, and given up if it does
    /// not answer. The kernel acknowledges bytes for a process that hangs; only an answer shows that it lives.
    fn ask_if_alive(&mut self, key: Key) {
        let now = self.now;
        let Some(read_at) = self.conns.get(key).map(|c| c.read_at) else { return };
        let Some(u) = self.up2(key) else { return };
        let at = match alive(read_at, u.pinged, u.quiet_for, now) {
            Alive::Look { at, answered } => {
                u.pinged = u.pinged.filter(|_| !answered);
                at
            }
            Alive::Dead => {
                let addr = self.host_of_http(key).map(|a| a.to_string()).unwrap_or_default();
                self.shared.warn("dead_peer", addr, "it answers neither requests nor pings");
                return self.close(key, Reason::ConnectionLost);
            }
            Alive::Ask { again_at } => {
                u.pinged = Some(now);
                let mut cx = std::task::Context::from_waker(&u.waker);
                let asked = u.pinger.as_mut().is_some_and(|p| {
                    // h2 sends no further PING before the last one's answer was taken.
                    let _ = p.poll_pong(&mut cx);
                    p.send_ping(h2::Ping::opaque()).is_ok()
                });
                if asked {
                    self.shard.heartbeats_sent.inc();
                    self.drive_up2(key);
                }
                again_at
            }
        };
        self.arm(key, at);
    }

    fn host_of_http(&self, key: Key) -> Option<std::net::SocketAddr> {
        let Role::Http(h) = &self.conns.get(key)?.role else { return None };
        self.hosts.get(h.host()?).map(|h| h.host.addr)
    }

    fn on_up_timer(&mut self, key: Key) {
        let now = self.now;
        let Some(conn) = self.conns.get(key) else { return };
        let Role::Http(h) = &conn.role else { return };
        let (connecting, since, connect_timeout) = match h {
            HttpConn::Up1(u) => (u.connecting, u.since, u.connect_timeout),
            HttpConn::Up2(u) => (u.connecting, u.since, u.connect_timeout),
            HttpConn::Down1(_) | HttpConn::Down2(_) => return,
        };
        if connecting {
            let due = since + connect_timeout;
            if due > now {
                return self.arm(key, due);
            }
            let error = std::io::Error::from(std::io::ErrorKind::TimedOut);
            return self.drop_http_connecting(key, &error);
        }
        if let HttpConn::Up2(u) = h
            && u.active > 0
        {
            return self.ask_if_alive(key);
        }
        let (busy, due) = match h {
            HttpConn::Up1(u) => (u.exchange.is_some(), super::up1::idle_until(u)),
            HttpConn::Up2(u) => (u.active > 0, u.idle_timeout.map_or(Time::MAX, |d| u.used_at + d)),
            HttpConn::Down1(_) | HttpConn::Down2(_) => return,
        };
        if due == Time::MAX {
            return;
        }
        if busy {
            return self.arm(key, due.max(now + super::up1::IDLE));
        }
        if due > now {
            return self.arm(key, due);
        }
        self.shard.idle_closed.inc();
        self.retire_http(key);
    }

    /// Whether a caller's connection that is to go since then has nothing to do and may be closed; `None` for
    /// endpoints' connections.
    pub(crate) fn http_idle(&self, conn: &Conn, h: &HttpConn, since: Time) -> Option<bool> {
        let quiet = |at: Time, d| self.now.since(at.max(since)) >= d;
        match h {
            HttpConn::Down1(d) => Some(
                d.exchange.is_none()
                    && !conn.wants_write()
                    && conn.stash.is_empty()
                    && (conn.lingers || quiet(d.active_at, QUIET)),
            ),
            HttpConn::Down2(d) => {
                Some(d.exchanges.is_empty() && !conn.wants_write() && quiet(d.active_at, QUIET_TOLD))
            }
            HttpConn::Up1(_) | HttpConn::Up2(_) => None,
        }
    }

    /// The sidecar ends: whoever still waits is told.
    pub(crate) fn end_exchanges(&mut self) {
        for x in self.http.exchanges.keys() {
            self.drop_up(x);
            self.answer_http(x, Reason::Draining, None, "the sidecar ends");
        }
        self.settle_http();
    }
}

/// A PING is waited for at least this long: an event loop may be busy.
const ANSWER_LEAST: std::time::Duration = std::time::Duration::from_secs(20);

/// What is to be done about an endpoint whose streams are silent.
#[derive(Debug, PartialEq, Eq)]
enum Alive {
    /// Nothing; to be looked at again then. `answered` = the last PING was, or bytes came.
    Look { at: Time, answered: bool },
    /// A PING, and a look at its answer then.
    Ask { again_at: Time },
    /// It does not answer.
    Dead,
}

/// Bytes last came at `read_at`, and it was asked at `pinged`. What came after the question is an answer, however long ago
/// that was: one that has been silent since is asked again.
fn alive(read_at: Time, pinged: Option<Time>, quiet_for: std::time::Duration, now: Time) -> Alive {
    let patience = (quiet_for * 4).max(ANSWER_LEAST);
    if now.since(read_at) < quiet_for {
        return Alive::Look { at: read_at + quiet_for, answered: true };
    }
    match pinged.filter(|at| read_at <= *at) {
        Some(at) if now.since(at) >= patience => Alive::Dead,
        Some(at) => Alive::Look { at: at + patience, answered: false },
        None => Alive::Ask { again_at: now + patience },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_peer_that_answers_each_ping_lives_however_long_its_streams_are_silent() {
        let (at, quiet) = (|s: u64| Time::from_millis(s * 1000), Duration::from_secs(5));
        let (mut read_at, mut pinged, mut now, mut asked) = (at(0), None, at(0), 0);
        while now < at(600) {
            now = match alive(read_at, pinged, quiet, now) {
                Alive::Look { at, answered } => {
                    pinged = pinged.filter(|_| !answered);
                    at
                }
                Alive::Ask { again_at } => {
                    pinged = Some(now);
                    read_at = now + Duration::from_millis(1);
                    asked += 1;
                    again_at
                }
                Alive::Dead => panic!("given up at {now:?}"),
            };
        }
        assert!(asked > 10, "{asked}");
    }

    #[test]
    fn a_peer_that_does_not_answer_is_given_up_in_bounded_time() {
        let at = |s: u64| Time::from_millis(s * 1000);
        let quiet = Duration::from_secs(5);
        assert_eq!(alive(at(0), None, quiet, at(5)), Alive::Ask { again_at: at(25) });
        assert_eq!(alive(at(0), Some(at(5)), quiet, at(24)), Alive::Look { at: at(25), answered: false });
        assert_eq!(alive(at(0), Some(at(5)), quiet, at(25)), Alive::Dead);
    }
}
