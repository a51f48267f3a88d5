//! Replacing connections to endpoints that are no longer what is wanted of them: the hot switch.
//!
//! What is wanted is established first; then what it replaces is retired ([`Worker::retire`]), which cuts no request.
//! Requests see to it by themselves where they find nothing that is wanted ([`lease`](crate::lease)); here it is done
//! for connections without requests, and after changes of whom one trusts.
use crate::conn::{Conn, Role};
use crate::lane::Lane;
use crate::worker::Worker;
use ahash::AHashMap;
use raddle_core::{Reason, Time};
use raddle_net::Key;
use raddle_policy::Standing;
use raddle_policy::link::PLAINTEXT;
use raddle_policy::link::switch::{DISTRUSTED, DISTRUSTED_MOST, SPREAD};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Bytes of no known protocol cannot be told to go elsewhere: they have this long on a connection whose peer is no longer
/// trusted.
const RELAY_MOST: Duration = Duration::from_hours(1);

/// What of a worker's connections is to be replaced or looked at again.
#[derive(Default)]
pub(crate) struct Turning {
    due: BinaryHeap<Reverse<(Time, Key)>>,
    at: AHashMap<Key, Time>,
    /// [`raddle_policy::Snapshot::transports`] when hosts were last looked at.
    seen: u64,
}

impl Turning {
    /// Has a host's connections looked at then, or before.
    pub(crate) fn schedule(&mut self, host: Key, at: Time) {
        if self.at.get(&host).is_none_or(|t| *t > at) {
            self.at.insert(host, at);
            self.due.push(Reverse((at, host)));
        }
    }

    /// When the next is due.
    pub(crate) fn next(&self) -> Option<Time> {
        self.due.peek().map(|Reverse((t, _))| *t)
    }

    fn pop(&mut self, now: Time) -> Option<Key> {
        while let Some(&Reverse((at, host))) = self.due.peek() {
            if at > now {
                return None;
            }
            self.due.pop();
            if self.at.get(&host) == Some(&at) {
                self.at.remove(&host);
                return Some(host);
            }
        }
        None
    }
}

impl Worker {
    /// A configuration is in force that may want other connections.
    pub(crate) fn review_transports(&mut self) {
        let transports = self.config.snapshot.transports();
        if std::mem::replace(&mut self.hosts.turning.seen, transports) == transports {
            return;
        }
        self.schedule_switches();
    }

    /// Has every host looked at whose connections are not what is wanted, each at its own moment. Connections that may
    /// carry nothing any more go at once.
    fn schedule_switches(&mut self) {
        for host in self.hosts.keys() {
            let inward = !self.leads_out(host);
            let Some(h) = self.hosts.get_mut(host) else { continue };
            h.inward = inward;
            let wanted = h.wanted();
            let (mut stale, mut wrong) = (false, Vec::new());
            for p in &h.conns {
                let Some(c) = self.conns.get(p.key) else { continue };
                match h.link.standing(c.transport, wanted) {
                    Standing::Current => {}
                    Standing::Stale => stale = true,
                    Standing::Wrong => {
                        stale = true;
                        wrong.extend(p.ready.then_some(p.key));
                    }
                }
            }
            if stale {
                let at = self.now + SPREAD.mul_f64(self.rng.unit());
                self.hosts.turning.schedule(host, at);
            }
            for k in wrong {
                self.retire(k, "another peer is expected there");
            }
        }
    }

    /// Does what is due.
    pub(crate) fn turn_links(&mut self) {
        while let Some(host) = self.hosts.turning.pop(self.now) {
            self.switch_host(host);
        }
    }

    /// Starts a connection that is what is wanted, for each lane that has connections and none such.
    fn switch_host(&mut self, host: Key) {
        let now = self.now;
        self.retire_barred(host);
        let Some(h) = self.hosts.get(host) else { return };
        let wanted = h.wanted();
        if h.link.aim(wanted, now) != wanted {
            if let Some(next) = h.link.next(wanted) {
                self.hosts.turning.schedule(host, next);
            }
            return;
        }
        let is = |k: Key| self.conns.get(k).map_or(wanted, |c| c.transport);
        let mut lanes: Vec<Lane> = Vec::new();
        let mut own = Vec::new();
        for p in h.conns.iter().filter(|p| is(p.key) != wanted) {
            if p.owner == Key::NONE {
                if !lanes.contains(&p.lane) {
                    lanes.push(p.lane);
                }
            } else if p.ready && self.conns.get(p.key).is_some_and(Conn::is_idle_endpoint) {
                own.push(p.key);
            }
        }
        lanes.retain(|lane| h.made(&self.conns, *lane, wanted).0 == 0);
        if let Some(until) = h.down_until.filter(|t| *t > now && !lanes.is_empty()) {
            return self.hosts.turning.schedule(host, until);
        }
        let Some(policy) = h.policy.clone() else { return };
        for lane in lanes {
            if !self.open(host, lane, Key::NONE, &policy) {
                break;
            }
        }
        for k in own {
            // Its owner's next request makes one that is what is wanted.
            self.retire(k, "another connection is wanted");
        }
    }

    /// A connection has become ready: if it is what is wanted, those that are not and do the same are retired.
    pub(crate) fn settle_switch(&mut self, key: Key) {
        let Some(c) = self.conns.get(key) else { return };
        let is = c.transport;
        let Some(host) = c.endpoint_host() else { return };
        let Some(h) = self.hosts.get_mut(host) else { return };
        let Some(p) = h.conns.iter().find(|p| p.key == key).copied() else { return };
        let wanted = h.wanted();
        let standing = h.link.standing(is, wanted);
        let rivals =
            h.conns.iter().filter(|o| o.key != key && o.ready && o.lane == p.lane && o.owner == p.owner);
        let transport = |k: Key| self.conns.get(k).map_or(PLAINTEXT, |c| c.transport);
        let retire: Vec<Key> = match standing {
            Standing::Current => rivals.map(|o| o.key).filter(|k| transport(*k) != wanted).collect(),
            Standing::Stale if !rivals.into_iter().any(|o| transport(o.key) == wanted) => Vec::new(),
            _ => vec![key],
        };
        if standing == Standing::Current {
            let addr = h.host.addr;
            if is != PLAINTEXT && h.link.forget() {
                h.link_error = None;
                if self.links.tell_again(addr) {
                    self.shared.note(
                        "link_encrypted",
                        addr.to_string(),
                        "connections to it are encrypted again",
                    );
                }
            }
            if !retire.is_empty() {
                self.shard.link_switches.inc();
            }
        }
        for k in retire {
            self.retire(k, "another connection is wanted");
        }
    }

    /// Another identity or other roots are in force.
    pub(crate) fn on_links(&mut self) {
        let old = std::mem::replace(&mut self.links, self.shared.links.load_full());
        for host in self.hosts.keys() {
            if let Some(h) = self.hosts.get_mut(host)
                && h.link.forget()
            {
                h.down_until = None;
            }
        }
        self.schedule_switches();
        self.on_trust(&old);
    }

    /// The other end's certificate is no longer good: the connection is to be replaced, within bounds.
    pub(crate) fn distrust(&mut self, key: Key) {
        let now = self.now;
        let Some(c) = self.conns.get_mut(key) else { return };
        let Some(host) = c.endpoint_host() else { return };
        let Some(link) = c.tls.as_mut().and_then(|t| t.link.as_mut()) else { return };
        if link.distrusted.is_some() {
            return;
        }
        link.distrusted = Some(now);
        c.transport = DISTRUSTED;
        let Some(h) = self.hosts.get(host) else { return };
        let addr = h.host.addr.to_string();
        self.shared.warn(
            "link_distrusted",
            addr,
            "its certificate has expired or leads to no root in force; connections are replaced",
        );
        let at = now + SPREAD.mul_f64(self.rng.unit());
        self.hosts.turning.schedule(host, at);
    }

    /// Once a second: certificates that have expired, peers that are not trusted for too long, and what is counted.
    pub(crate) fn tend_links(&mut self) {
        let (now, wall) = (self.now, self.wall_seconds());
        let (mut stale, mut secured, mut plain) = (0, 0, 0);
        let (mut expired, mut over) = (Vec::new(), Vec::new());
        for (key, c) in self.conns.iter() {
            let Some(h) = c.endpoint_host().and_then(|k| self.hosts.get(k)) else { continue };
            if h.inward || c.connecting() {
                continue;
            }
            *(if c.transport == PLAINTEXT { &mut plain } else { &mut secured }) += 1;
            stale += i64::from(c.transport != h.wanted());
            let Some(link) = c.tls.as_ref().and_then(|t| t.link.as_ref()) else { continue };
            let most = if matches!(c.role, Role::Relay(_)) { RELAY_MOST } else { DISTRUSTED_MOST };
            match link.distrusted {
                Some(since) if now.since(since) >= most => over.push(key),
                None if link.not_after <= wall => expired.push(key),
                _ => {}
            }
        }
        self.shard.link_stale.set(stale);
        self.shard.link_secured.set(secured);
        self.shard.link_plain.set(plain);
        for key in expired {
            self.distrust(key);
        }
        for key in over {
            match self.conns.get(key).map(|c| &c.role) {
                Some(Role::Relay(_)) => self.close(key, Reason::ConnectionLost),
                _ => self.retire(key, "its peer is no longer trusted"),
            }
        }
    }
}
