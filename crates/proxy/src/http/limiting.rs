//! What limits make of an HTTP exchange.
use super::exchange::Up;
use crate::conn::Role;
use crate::frame::number;
use crate::limits::done::{Fate, costs};
use crate::worker::Worker;
use raddle_core::{Protocol, Reason, Time};
use raddle_net::Key;
use raddle_policy::Rng;
use raddle_policy::limit::{Again, Held};
use raddle_wire::http::grpc;
use std::time::Duration;

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
        let timeout = x.request.fields.get("grpc-timeout").and_then(grpc::parse_timeout);
        let left = timeout.map(|t| t.saturating_sub(self.now.since(x.start)));
        let hint = match x.protocol {
            Protocol::Grpc => pushback(held.again, left, &mut self.rng),
            _ => retry_after(held.again),
        };
        self.answer_http_with(key, held.reason, None, &held.detail, hint);
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
        costs(ticket, self.limits.cost_header().and_then(|name| fields.get(name)).and_then(number));
    }
}

/// A field of an answer, and its number.
pub(super) type Hint = (&'static [u8], i64);

/// `retry-after` (RFC 9110, 10.2.3) with whole seconds: when one like it may pass, or a modest 1 where nobody knows.
/// Nothing where none passes however late it comes: a client's own back-off is wiser than any number.
fn retry_after(again: Again) -> Option<Hint> {
    let seconds = match again {
        Again::In(wait) => wait.as_nanos().div_ceil(1_000_000_000).clamp(1, i64::MAX as u128) as i64,
        Again::Unknown => 1,
        Again::Never => return None,
    };
    Some((b"retry-after", seconds))
}

/// `grpc-retry-pushback-ms` (gRFC A6): a client that was told to retry this status waits so long instead of its own
/// back-off, without any chance added and beginning anew afterwards. So it is only said where it is known, with the
/// fifth added by chance that the client's own would have had; and where the call's time is over by then, -1 tells
/// the client to give up at once instead of waiting for nothing.
fn pushback(again: Again, left: Option<Duration>, rng: &mut Rng) -> Option<Hint> {
    let Again::In(wait) = again else { return None };
    let wait = wait + wait.mul_f64(0.2 * rng.unit());
    let over = left.is_some_and(|left| wait >= left);
    let ms = i64::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(i64::MAX).max(1);
    Some((b"grpc-retry-pushback-ms", if over { -1 } else { ms.min(i32::MAX.into()) }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_rounded_up_and_one_where_nobody_knows() {
        let seconds = |again| retry_after(again).map(|(_, n)| n);
        assert_eq!(seconds(Again::In(Duration::from_millis(2001))), Some(3));
        assert_eq!(seconds(Again::In(Duration::ZERO)), Some(1));
        assert_eq!(seconds(Again::Unknown), Some(1));
        assert_eq!(seconds(Again::Never), None);
    }

    #[test]
    fn a_grpc_client_is_told_what_is_known_and_to_give_up_if_its_time_is_over_by_then() {
        let mut rng = Rng::new(1);
        let second = Duration::from_secs(1);
        for _ in 0..100 {
            let told = pushback(Again::In(second), Some(second * 2), &mut rng).map(|(_, n)| n);
            assert!(told.is_some_and(|ms| (1000..=1200).contains(&ms)), "{told:?}");
        }
        assert_eq!(pushback(Again::In(second), Some(second), &mut rng).map(|(_, n)| n), Some(-1));
        assert_eq!(pushback(Again::Unknown, None, &mut rng), None);
        assert_eq!(pushback(Again::Never, None, &mut rng), None);
        assert_eq!(
            pushback(Again::In(Duration::MAX / 2), None, &mut rng).map(|(_, n)| n),
            Some(i32::MAX.into())
        );
    }
}
