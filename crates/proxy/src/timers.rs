//! Timers: one lazily moved deadline a connection, and what is done now and then.
use crate::conn::Role;
use crate::worker::{TICK, Worker};
use raddle_core::{Reason, Time};
use raddle_net::Key;
use raddle_telemetry::Malformed;
use std::cmp::Reverse;
use std::time::Duration;

impl Worker {
    /// Has [`Worker::on_timer`] called for a connection at `at` or soon after.
    pub(crate) fn arm(&mut self, key: Key, at: Time) {
        if let Some(c) = self.conns.get_mut(key)
            && at < c.timer_at
        {
            c.timer_at = at;
            self.timers.push(Reverse((at, key)));
        }
    }

    pub(crate) fn until_next_timer(&self) -> Option<Duration> {
        if !self.requeue.is_empty() || !self.resume.is_empty() || self.http.pending() || self.trial.pending()
        {
            return Some(Duration::ZERO);
        }
        let mut next = self.timers.peek().map(|Reverse((t, _))| *t);
        for t in [
            self.accept_again,
            self.draining.map(|_| self.now + TICK),
            self.next_down_host(),
            self.delayed.next(),
            self.next_leaving(),
            self.next_shake(),
            self.demand.next(),
            self.hosts.turning.next(),
            self.limits.keeps().then(|| self.tidied + Duration::from_secs(1)),
        ]
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

    pub(crate) fn fire_timers(&mut self) {
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
        self.release_delayed();
        self.release_parked();
        self.try_down_hosts_if_due();
        self.turn_links();
        if self.accept_again.is_some_and(|t| t <= self.now) {
            self.accept_again = None;
            self.listen_anew();
        }
    }

    pub(crate) fn try_down_hosts_if_due(&mut self) {
        if self.next_down_host().is_some_and(|t| t <= self.now) {
            self.try_down_hosts();
        }
    }

    pub(crate) fn on_timer(&mut self, key: Key) {
        let Some(conn) = self.conns.get(key) else { return };
        if conn.tls.is_some() && conn.connecting() {
            return self.on_link_timer(key);
        }
        let half_frame = !matches!(conn.role, Role::Http(_))
            && (!conn.stash.is_empty() && !conn.paused.any())
            || conn.stream.is_some();
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
            Role::Http(_) => self.on_http_timer(key),
        }
    }

    /// Now and then: gives back memory, prunes what configuration no longer names.
    pub(crate) fn tidy(&mut self) {
        if self.now.since(self.tidied) < Duration::from_secs(1) {
            return;
        }
        self.tidied = self.now;
        self.expire_callers();
        self.pool.shrink();
        self.http.shrink();
        self.tidy_mirrors();
        self.tidy_limits();
        if (self.now.as_millis() / 1000).is_multiple_of(5) {
            self.prune_hosts();
        }
        let (mut buffered, mut paused) = (0, 0);
        for (_, c) in self.conns.iter() {
            buffered += c.out.len() + c.stash.len();
            paused += i64::from(c.paused.any());
        }
        self.tend_links();
        self.forget_names(false);
        let pending: usize = self.services.iter().map(|(_, s)| s.waiting.len()).sum();
        self.shard.paused_connections.set(paused);
        self.shard.pending_requests.set(pending as i64);
        self.shard.buffered_bytes.set(buffered as i64);
        self.buffered = buffered;
    }
}
