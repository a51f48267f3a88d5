//! Requests for which there is no connection yet, or none to be had.
use crate::answer::Refusal;
use crate::call::Call;
use crate::conn::{Paused, Role};
use crate::lane::Lane;
use crate::lease::readiness;
use crate::request::{MOVES_MOST, Origin, Plan, Requeued, Sent};
use crate::worker::Worker;
use raddle_core::Reason;
use raddle_net::Key;
use raddle_policy::Readiness;

impl Worker {
    /// Starts a connection to an endpoint the balancer would have liked.
    pub(crate) fn connect_ahead(&mut self, service: Key, endpoint: u32, lane: Lane, owner: Key) {
        let Some(s) = self.services.get(service) else { return };
        let Some(&host) = s.hosts.get(endpoint as usize) else { return };
        if let Some(h) = self.hosts.get(host)
            && readiness(h, &self.conns, lane, owner, self.now) == Readiness::Idle
        {
            self.open_for(service, host, lane, owner);
        }
    }

    /// The caller is not read until the connection is there: its large frame cannot be held meanwhile.
    pub(crate) fn block(&mut self, origin: Origin, host: Key) -> Sent {
        let caller = origin.caller;
        if let Some(Role::Caller(c)) = self.conns.get_mut(caller).map(|c| &mut c.role) {
            c.blocked = origin.ticket;
        }
        if let Some(h) = self.hosts.get_mut(host) {
            h.blocked.push(caller);
        }
        self.pause(caller, Paused::NO_CONNECTION);
        Sent::Blocked
    }

    /// The request waits, within bounds, for the connection that is being made.
    pub(crate) fn wait(
        &mut self,
        origin: Origin,
        service: Key,
        host: Key,
        call: &Call<'_>,
        row: u32,
    ) -> Sent {
        let Some(s) = self.services.get_mut(service) else { return Sent::Done };
        if s.waiting.len() >= s.service.policy.settings.pool.max_pending as usize {
            let r = Refusal::new(Reason::Overflow, "pool.maxPending requests wait for a connection already");
            return self.refuse(&origin, call, row, r);
        }
        let deadline = origin.deadline;
        s.waiting.push_back(Requeued { origin, frame: call.frame.to_vec() });
        if let Some(h) = self.hosts.get_mut(host) {
            if !h.waiting.contains(&service) {
                h.waiting.push(service);
            }
            // Its time may be over before the connect attempt is.
            let connecting: Vec<Key> = h.conns.iter().filter(|p| !p.ready).map(|p| p.key).collect();
            for key in connecting {
                self.arm(key, deadline);
            }
        }
        Sent::Done
    }

    /// The endpoint cannot be connected to: another one if retries are asked for, else the caller is told.
    pub(crate) fn no_connection(
        &mut self,
        origin: &Origin,
        service: Key,
        plan: &Plan,
        call: &Call<'_>,
        row: u32,
    ) -> Sent {
        // Not sent to anyone yet: another endpoint that is not known to be down may still be tried.
        if !plan.ready && origin.moves < MOVES_MOST && self.any_not_down(service, origin.lane) {
            let mut again = origin.clone();
            again.moves += 1;
            again.avoid = Some(plan.endpoint);
            if call.whole() {
                self.requeue.push_back(Requeued { origin: again, frame: call.frame.to_vec() });
                return Sent::Done;
            }
        }
        let r = Refusal {
            rule: plan.rule.clone(),
            ..Refusal::new(Reason::ConnectFailure, self.why_unconnected(service))
        };
        self.refuse(origin, call, row, r)
    }

    pub(crate) fn any_not_down(&self, service: Key, lane: Lane) -> bool {
        self.services.get(service).is_some_and(|s| {
            s.hosts
                .iter()
                .filter_map(|h| self.hosts.get(*h))
                .any(|h| readiness(h, &self.conns, lane, Key::NONE, self.now) != Readiness::Down)
        })
    }
}
