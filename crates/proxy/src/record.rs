//! The end of every request: counted, and written to the access log.
use crate::authorize::is_observed;
use crate::conn::Role;
use crate::fault::Faults;
use crate::limits::done::Fate;
use crate::pending::InFlight;
use crate::request::Origin;
use crate::worker::Worker;
use raddle_core::{Reason, Time};
use raddle_telemetry::TraceParent;
use raddle_telemetry::access_log::Entry;
use std::net::IpAddr;

/// Parts of a request's end that only some have.
#[derive(Default)]
pub(crate) struct End<'a> {
    pub reason: Option<Reason>,
    pub status: u16,
    /// The app answered with an error.
    pub app_error: bool,
    /// What its reply says of the callee.
    pub fate: Option<Fate>,
    pub endpoint: Option<std::net::SocketAddr>,
    /// The service as the request names it, where it has no row of its own.
    pub service: Option<&'a str>,
    pub rule: Option<&'a str>,
    pub method: Option<&'a [u8]>,
    pub trace: Option<&'a [u8]>,
    pub tried: u8,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

/// Stands in logs for a caller whose connection is gone.
pub(crate) const NOBODY: std::net::SocketAddr =
    std::net::SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

impl Worker {
    /// Counts and logs the end of a request that had been sent.
    pub(crate) fn finish(&mut self, r: &InFlight, end: &End<'_>) {
        if r.ticket.is_some() {
            let fate = end.reason.map(Fate::of).or(end.fate).unwrap_or(Fate::Unknown);
            self.limited_ends(r.ticket.as_ref(), fate);
        }
        let cells = self.services.cells(r.cells);
        let latency = self.now.since(r.start);
        match end.reason {
            Some(reason) => cells.rejected[reason].inc(),
            None if end.app_error => cells.app_error.inc(),
            None => cells.ok.inc(),
        }
        cells.latency.record(latency.as_nanos() as u64);
        let observed = r.extra.as_ref().and_then(|x| x.rule.as_deref()).is_some_and(is_observed);
        let wanted = end.reason.is_some() || end.app_error || observed;
        if !self.log.as_mut().is_some_and(|l| l.wants(wanted)) {
            return;
        }
        let method = self.method_names.get(r.method as usize).cloned().filter(|m| !m.is_empty());
        let x = r.extra.as_deref();
        let mut end = End { method: method.as_deref(), ..*end };
        if let Some(x) = x {
            end.tried = x.tried;
            end.trace = (!x.trace.is_empty()).then_some(&x.trace[..]);
            end.rule = x.rule.as_deref();
        }
        let origin = Origin {
            caller: r.caller,
            caller_id: r.caller_id,
            one_way: false,
            lane: r.lane,
            direction: r.direction,
            listener: r.listener,
            start: r.start,
            deadline: Time::MAX,
            avoid: None,
            tried: 0,
            tries_left: None,
            moves: 0,
            faults: Faults::Over,
            ticket: None,
        };
        let origin = self.origin_of(r).unwrap_or(origin);
        self.write_line(&origin, r.cells, &end);
    }

    /// Writes the line of a request that was not sent, or wants no reply.
    pub(crate) fn log_end(&mut self, origin: &Origin, row: u32, end: &End<'_>) {
        let wanted = end.reason.is_some() || end.app_error || end.rule.is_some_and(is_observed);
        if self.log.as_mut().is_some_and(|l| l.wants(wanted)) {
            self.write_line(origin, row, end);
        }
    }

    pub(crate) fn write_line(&mut self, origin: &Origin, row: u32, end: &End<'_>) {
        let (caller, connection) = match self.conns.get(origin.caller).map(|c| &c.role) {
            Some(Role::Caller(c)) => (c.accepted.peer, c.accepted.id),
            _ => (None, 0),
        };
        let flag = match end.reason {
            None if connection == 0 && caller.is_none() => Some(Reason::CallerGone),
            r => r,
        };
        let binding = self.config.binding(origin.listener);
        let entry = Entry {
            time: self.shared.wall_zero_ns + origin.start.as_nanos(),
            direction: origin.direction,
            protocol: origin.lane.protocol(),
            listener: binding.map_or("-", |b| &b.name),
            caller: caller.unwrap_or(NOBODY),
            connection,
            request_id: origin.caller_id,
            service: end.service.unwrap_or_else(|| self.services.row_name(row)),
            method: end.method.and_then(|m| std::str::from_utf8(m).ok()),
            endpoint: end.endpoint,
            ok: end.reason.is_none() && !end.app_error,
            status: end.status,
            flag,
            rule: end.rule,
            duration_ns: self.now.since(origin.start).as_nanos() as u64,
            request_bytes: end.bytes_in,
            response_bytes: end.bytes_out,
            retries: u32::from(end.tried),
            traceparent: end.trace.and_then(TraceParent::parse),
        };
        if let Some(log) = &mut self.log {
            log.write(&entry);
        }
    }
}
