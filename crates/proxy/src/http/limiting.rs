//! What limits make of an HTTP exchange.
use super::exchange::Up;
use crate::conn::Role;
use crate::limits::done::{Fate, costs};
use crate::worker::Worker;
use raddle_core::{Reason, Time};
use raddle_net::Key;
use raddle_policy::limit::Held;

impl Worker {
    /// A limit lets an exchange pass later. Other streams of its connection go on.
    pub(super) fn wait_for_turn(&mut self, key: Key, until: Time) {
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        x.up = Up::Delayed(until);
        let down = x.down;
        self.arm(down, until);
    }

    /// Answers an exchange that a limit holds.
    pub(super) fn hold_http(&mut self, key: Key, held: &Held) {
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        x.plan.rule = Some(held.rule.to_string());
        x.plan.logged = None;
        self.answer_http(key, held.reason, None, &held.detail);
    }

    /// An exchange goes to the endpoint of a connection.
    pub(super) fn goes_on(&mut self, key: Key, conn: Key) -> Result<(), Held> {
        let host = match self.conns.get(conn).map(|c| &c.role) {
            Some(Role::Http(h)) => h.host(),
            _ => None,
        };
        let to = host.and_then(|h| self.hosts.get(h)).map(|h| h.host.addr);
        let ticket = self.http.exchanges.get(key).and_then(|x| x.ticket.clone());
        self.limited_goes(ticket.as_ref(), to)
    }

    /// One try of an exchange has ended, and another follows.
    pub(super) fn exchange_returns(&mut self, key: Key, fate: Fate) {
        let Some(x) = self.http.exchanges.get(key) else { return };
        if let Some(ticket) = x.ticket.clone() {
            self.limited_returns(Some(&ticket), fate);
        }
    }

    /// An exchange has ended as far as its endpoint is concerned. Only the first who says so is heard.
    pub(super) fn exchange_ends(&mut self, key: Key, reason: Option<Reason>) {
        let Some(x) = self.http.exchanges.get(key) else { return };
        let Some(ticket) = x.ticket.clone() else { return };
        let fate = reason.map_or_else(|| Fate::of_http(x.status, x.grpc_status, x.said), Fate::of);
        self.limited_ends(Some(&ticket), fate);
    }

    /// The app may have said in a response's fields what the request cost.
    pub(super) fn exchange_costs(&self, key: Key, fields: &raddle_wire::http::Fields) {
        let ticket = self.http.exchanges.get(key).and_then(|x| x.ticket.as_ref());
        costs(ticket, self.limits.cost_header().and_then(|name| fields.get(name)));
    }
}
