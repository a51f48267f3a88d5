//! Asking limits about a request: once, after authorization and before routing.
use super::interface;
use super::state::{Limited, Question};
use super::ticket::Ticket;
use crate::answer::Refusal;
use crate::call::CallAttributes;
use crate::conn::Direction;
use crate::http::attributes::HttpAttributes;
use crate::http::request::host_of;
use crate::request::Origin;
use crate::worker::Worker;
use raddle_core::Protocol;
use raddle_model::{InterfaceBy, Side};
use raddle_net::Key;
use raddle_policy::Attributes;
use raddle_policy::limit::Held;
use raddle_wire::http::{Request, grpc};
use std::net::IpAddr;
use std::time::Duration;

/// The side that limits know a direction by.
pub(crate) const fn side(direction: Direction) -> Side {
    match direction {
        Direction::Inbound => Side::Inbound,
        Direction::Outbound => Side::Outbound,
    }
}

impl From<Held> for Refusal {
    fn from(held: Held) -> Refusal {
        let rule = Some(held.rule.to_string());
        Refusal { rule, ..Refusal::new(held.reason, held.detail.to_string()) }
    }
}

impl Worker {
    /// Asks about a Bolt or Dubbo request.
    #[inline]
    pub(crate) fn limit_call(&mut self, origin: &mut Origin, req: &CallAttributes<'_>) -> Limited {
        let side = side(origin.direction);
        if !self.limits.any(side) && origin.ticket.is_none() {
            return Limited::Pass(None);
        }
        let call = req.call;
        let whole = call.whole();
        if origin.ticket.is_some() {
            return self.limit_again(origin.ticket.as_ref(), whole);
        }
        let patience = u64::try_from(call.timeout_ms()).ok().filter(|ms| *ms > 0).map(Duration::from_millis);
        let q = Question { side, req, can_wait: whole, patience };
        let name = |by, out: &mut Vec<u8>| {
            let method = if by == InterfaceBy::Method { call.method() } else { None };
            interface::rpc(out, req.service, method);
        };
        let quota = self.shared.quota.get().map(AsRef::as_ref);
        self.limits.judge(&mut origin.ticket, &q, name, quota, self.now, &mut self.rng)
    }

    /// Asks about an HTTP request.
    pub(crate) fn limit_exchange(
        &mut self,
        key: Key,
        request: &Request,
        service: Key,
        ip: Option<IpAddr>,
    ) -> Limited {
        let Some(x) = self.http.exchanges.get(key) else { return Limited::Pass(None) };
        let (side, mirror) = (side(x.direction), x.mirror);
        if mirror || (!self.limits.any(side) && x.ticket.is_none()) {
            return Limited::Pass(None);
        }
        if x.ticket.is_some() {
            let ticket = x.ticket.clone();
            return self.limit_again(ticket.as_ref(), true);
        }
        let (is_grpc, down, direction) = (x.protocol == Protocol::Grpc, x.down, x.direction);
        let patience = request.fields.get("grpc-timeout").filter(|_| is_grpc).and_then(grpc::parse_timeout);
        let peer = self.peer_behind(direction, down);
        let compiled = self.services.get(service).map(|s| s.service.clone());
        let named = match (side, &compiled) {
            // Outbound it is known by its name; the app beside the sidecar is whatever it is called.
            (Side::Outbound, Some(s)) => s.name.as_bytes(),
            _ if is_grpc => grpc::split_path(request.path()).map_or(&b""[..], |(service, _)| service),
            _ => host_of(request.authority()),
        };
        let a = HttpAttributes { request, service: named, grpc: is_grpc, ip, peer: peer.as_deref() };
        let q = Question { side, req: &a, can_wait: true, patience };
        let name = |by, out: &mut Vec<u8>| match by {
            InterfaceBy::Service => out.extend_from_slice(named),
            InterfaceBy::Method if is_grpc => interface::rpc(out, named, a.method()),
            InterfaceBy::Method => interface::http(out, request.method(), request.path()),
        };
        let quota = self.shared.quota.get().map(AsRef::as_ref);
        let mut ticket = None;
        let limited = self.limits.judge(&mut ticket, &q, name, quota, self.now, &mut self.rng);
        if let Some(x) = self.http.exchanges.get_mut(key) {
            x.ticket = ticket;
        }
        limited
    }

    #[cold]
    fn limit_again(&mut self, ticket: Option<&Ticket>, can_wait: bool) -> Limited {
        let Some(ticket) = ticket else { return Limited::Pass(None) };
        let quota = self.shared.quota.get().map(AsRef::as_ref);
        self.limits.judge_again(ticket, can_wait, quota, self.now, &mut self.rng)
    }

    /// Follows the limits in force.
    pub(crate) fn review_limits(&mut self) {
        let limiting = self.shared.limits.load_full();
        self.limits.sync(self.config.snapshot.limits(), limiting);
        // What is kept ready by a bound of before must not keep others out by the one of now.
        self.limits.local.flush();
    }
}
