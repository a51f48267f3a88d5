//! Authorization on the inbound way: what rules see of a request, and what their refusal becomes.
//!
//! Requests are judged each time they are dispatched, by the rules then in force: a change of rules needs no new
//! connection. TCP connections are judged when they come, and again when the rules change. The decisions themselves are
//! [`raddle_policy::authz`]'s.
use crate::answer::Refusal;
use crate::call::Call;
use crate::conn::{Conn, Direction, Role};
use crate::links::Peer;
use crate::request::Origin;
use crate::worker::Worker;
use ahash::AHashMap;
use raddle_core::{Protocol, Reason, Time};
use raddle_model::AuthSubject;
use raddle_net::{Key, socket};
use raddle_policy::authz::{self, Caller, Facts, Names, Rules, Verdict};
use raddle_telemetry::RuleCells;
use raddle_wire::http::{Request, grpc};
use std::net::IpAddr;
use std::sync::Arc;

/// Stands before the name of a rule that would have refused a request, in the access log.
pub(crate) const OBSERVED: &str = "observed:";

/// A worker's part of authorization.
#[derive(Default)]
pub(crate) struct Authorizing {
    /// The metrics of rules that refused something.
    cells: AHashMap<Box<str>, Arc<RuleCells>>,
    /// The rules that live TCP connections were judged by last.
    reviewed: Option<Arc<Rules>>,
}

/// What came of judging, without borrows.
pub(crate) enum Judged {
    /// It passes; the text is for the access log.
    Pass(Option<String>),
    /// It does not.
    Refuse(Denial),
}

/// A refusal.
pub(crate) struct Denial {
    /// What the caller may know of the rule.
    pub told: Option<String>,
    /// The rule, as logs name it.
    pub rule: String,
    /// What is wrong with the request itself, if it is that.
    pub detail: &'static str,
    labels: Vec<String>,
}

impl Denial {
    /// As a refusal of a request.
    pub(crate) fn refusal(self) -> Refusal {
        Refusal { rule: self.told, logged: Some(self.rule), ..Refusal::new(Reason::Denied, self.detail) }
    }
}

/// What a caller may be told of the rule an access log line will name.
pub(crate) fn told(rule: Option<&str>) -> Option<&str> {
    rule.filter(|r| !is_observed(r))
}

/// Whether a text for the access log says what would have refused a request.
pub(crate) fn is_observed(rule: &str) -> bool {
    rule.starts_with(OBSERVED)
}

fn caller(peer: Option<&Peer>) -> Option<Caller<'_>> {
    peer.map(|p| Caller { app: &p.app, unit: &p.unit, id: &p.id })
}

fn judge(rules: &Rules, facts: &impl Facts) -> (Judged, Vec<String>) {
    let labels = |r: &authz::Refusal<'_>| r.labels().map(str::to_owned).collect();
    match rules.judge(facts) {
        Verdict::Pass { observed: None, .. } => (Judged::Pass(None), Vec::new()),
        Verdict::Pass { observed: Some(r), .. } => {
            (Judged::Pass(Some(format!("{OBSERVED}{}", r.text()))), labels(&r))
        }
        Verdict::Refuse(r) => {
            let told = r.told().map(str::to_owned);
            let (rule, detail) = (r.text().to_owned(), r.detail());
            (Judged::Refuse(Denial { told, rule, detail, labels: labels(&r) }), Vec::new())
        }
    }
}

/// What rules see of a Bolt or Dubbo request.
struct CallFacts<'a> {
    call: &'a Call<'a>,
    /// The name the service is known by here.
    service: &'a [u8],
    peer: Option<&'a Peer>,
    ip: Option<IpAddr>,
}

impl Facts for CallFacts<'_> {
    fn caller(&self) -> Option<Caller<'_>> {
        caller(self.peer)
    }

    fn source(&self) -> Option<IpAddr> {
        self.ip
    }

    fn values(&self, subject: &AuthSubject, f: &mut dyn FnMut(&[u8])) {
        match subject {
            AuthSubject::Service => {
                if !self.service.is_empty() {
                    f(self.service);
                }
                self.call.shorter_names().for_each(f);
            }
            AuthSubject::Method => self.call.method().into_iter().for_each(f),
            AuthSubject::Header(name) => self.call.header(name.as_bytes()).into_iter().for_each(f),
            _ => {}
        }
    }

    fn names(&self) -> Names {
        self.call.names()
    }
}

/// What rules see of an HTTP request.
struct HttpFacts<'a> {
    request: &'a Request,
    grpc: bool,
    peer: Option<&'a Peer>,
    ip: Option<IpAddr>,
}

impl HttpFacts<'_> {
    /// The names of the service a path is of: with what Triple's callers say of version and group, and without.
    fn grpc_service(&self, f: &mut dyn FnMut(&[u8])) {
        let Some((service, _)) = grpc::split_path(self.request.path()) else { return };
        f(service);
        let field = |name| self.request.fields.get(name).filter(|v| !v.is_empty());
        let (version, group) = (field("tri-service-version"), field("tri-service-group"));
        if version.is_none() && group.is_none() {
            return;
        }
        let mut name = Name::new();
        name.add(service);
        name.add(b":");
        name.add(version.unwrap_or_default());
        if version.is_some() {
            name.say(f);
        }
        if let Some(group) = group {
            name.add(b":");
            name.add(group);
            name.say(f);
        }
    }
}

/// Room to put a name together in. One that is longer is nobody's.
struct Name {
    bytes: [u8; 512],
    len: usize,
}

impl Name {
    fn new() -> Name {
        Name { bytes: [0; 512], len: 0 }
    }

    fn add(&mut self, part: &[u8]) {
        let end = self.len.saturating_add(part.len());
        if let Some(room) = self.bytes.get_mut(self.len..end) {
            room.copy_from_slice(part);
        }
        self.len = end;
    }

    fn say(&self, f: &mut dyn FnMut(&[u8])) {
        if let Some(name) = self.bytes.get(..self.len) {
            f(name);
        }
    }
}

impl Facts for HttpFacts<'_> {
    fn caller(&self) -> Option<Caller<'_>> {
        caller(self.peer)
    }

    fn source(&self) -> Option<IpAddr> {
        self.ip
    }

    fn values(&self, subject: &AuthSubject, f: &mut dyn FnMut(&[u8])) {
        let request = self.request;
        match subject {
            AuthSubject::Service if self.grpc => self.grpc_service(f),
            AuthSubject::Service | AuthSubject::Authority => authz::hosts(request.authority(), f),
            AuthSubject::Method if self.grpc => {
                if let Some((_, method)) = grpc::split_path(request.path()) {
                    f(method);
                }
            }
            AuthSubject::Method => f(request.method()),
            AuthSubject::Path => f(request.path()),
            AuthSubject::Header(name) if name.eq_ignore_ascii_case("host") => {
                authz::hosts(request.authority(), f);
            }
            AuthSubject::Header(name) => request.fields.get_all(name).for_each(f),
            AuthSubject::CallerApp | AuthSubject::CallerUnit | AuthSubject::CallerId => {}
        }
    }

    fn names(&self) -> Names {
        match self.grpc.then(|| grpc::split_path(self.request.path())) {
            Some(None) => Names::Hidden,
            Some(Some(_)) if !authz::is_plain(self.request.path()) => Names::Differ,
            _ => Names::Clear,
        }
    }
}

/// What rules see of a TCP connection.
struct TcpFacts<'a> {
    peer: Option<&'a Peer>,
    ip: Option<IpAddr>,
}

impl Facts for TcpFacts<'_> {
    fn caller(&self) -> Option<Caller<'_>> {
        caller(self.peer)
    }

    fn source(&self) -> Option<IpAddr> {
        self.ip
    }

    fn values(&self, _: &AuthSubject, _: &mut dyn FnMut(&[u8])) {}
}

impl Worker {
    /// Judges a Bolt or Dubbo request that came in.
    #[inline]
    pub(crate) fn authorize_call(&mut self, origin: &Origin, call: &Call<'_>, service: &[u8]) -> Judged {
        if origin.direction == Direction::Outbound || self.config.snapshot.authorization().is_empty() {
            return Judged::Pass(None);
        }
        let conn = self.conns.get(origin.caller);
        let ip = match conn.map(|c| &c.role) {
            Some(Role::Caller(c)) => c.accepted.peer.map(|a| a.ip()),
            _ => None,
        };
        let facts = CallFacts { call, service, peer: peer(conn), ip };
        let judged = judge(self.config.snapshot.authorization(), &facts);
        self.count(judged, origin.deadline == Time::MAX && origin.ticket.is_none())
    }

    /// Judges an HTTP request that came in.
    pub(crate) fn authorize_http(&mut self, key: Key, request: &Request) -> Judged {
        let Some(x) = self.http.exchanges.get(key) else { return Judged::Pass(None) };
        if x.direction == Direction::Outbound || x.mirror || self.config.snapshot.authorization().is_empty() {
            return Judged::Pass(None);
        }
        let conn = self.conns.get(x.down);
        let ip = match conn.map(|c| &c.role) {
            Some(Role::Http(h)) => h.accepted().and_then(|a| a.peer).map(|a| a.ip()),
            _ => None,
        };
        let facts = HttpFacts { request, grpc: x.protocol == Protocol::Grpc, peer: peer(conn), ip };
        let first = x.tried == 0 && x.moves == 0 && !x.acted && x.ticket.is_none();
        let judged = judge(self.config.snapshot.authorization(), &facts);
        self.count(judged, first)
    }

    /// Judges a TCP connection that came in. True if it was refused, and is closed.
    pub(crate) fn refuses_relay(&mut self, key: Key) -> bool {
        let judged = self.judge_relay(key);
        let judged = self.count(judged, true);
        self.carry_out(key, judged)
    }

    /// Ends a relay that is refused; true if it is. There are no words for it in TCP: both sides are reset, as cut-off
    /// bytes must not look like the orderly end of all there were.
    fn carry_out(&mut self, key: Key, judged: Judged) -> bool {
        let (rule, refused) = match judged {
            Judged::Pass(observed) => (observed, false),
            Judged::Refuse(denial) => (Some(denial.rule), true),
        };
        let Some(conn) = self.conns.get_mut(key) else { return refused };
        let Role::Relay(r) = &mut conn.role else { return refused };
        r.rule = rule.map(String::into_boxed_str);
        if refused {
            let other = r.peer;
            socket::reset_on_close(&conn.fd);
            if let Some(other) = self.conns.get(other) {
                socket::reset_on_close(&other.fd);
            }
            self.close(key, Reason::Denied);
        }
        refused
    }

    fn judge_relay(&self, key: Key) -> (Judged, Vec<String>) {
        let pass = || (Judged::Pass(None), Vec::new());
        let rules = self.config.snapshot.authorization();
        let Some(conn) = self.conns.get(key) else { return pass() };
        let Role::Relay(r) = &conn.role else { return pass() };
        if rules.is_empty() || r.direction == Direction::Outbound {
            return pass();
        }
        let ip = r.accepted.as_ref().and_then(|a| a.peer).map(|a| a.ip());
        judge(rules, &TcpFacts { peer: peer(Some(conn)), ip })
    }

    /// Judges live TCP connections again after a change of rules; those that would be refused now are ended. What came
    /// by another protocol first (CONNECT, an upgrade) was judged as a request of that, and stays.
    pub(crate) fn review_authorization(&mut self) {
        let rules = self.config.snapshot.authorization().clone();
        if self.authorizing.reviewed.as_ref().is_some_and(|r| Arc::ptr_eq(r, &rules)) {
            return;
        }
        // Names of rules that are gone make room for others'.
        self.authorizing.cells.clear();
        if !rules.is_empty() {
            let live = |(key, conn): (Key, &Conn)| match &conn.role {
                Role::Relay(r) if r.plain && r.accepted.is_some() => Some(key),
                _ => None,
            };
            let relays: Vec<Key> = self.conns.iter().filter_map(live).collect();
            let mut ended = 0;
            for key in relays {
                let judged = self.judge_relay(key);
                let judged = self.count(judged, false);
                ended += u32::from(self.carry_out(key, judged));
            }
            if ended > 0 {
                let what = format!("{ended} TCP connections are ended: the rules in force now refuse them");
                self.shared.note("authorization", "worker", what);
            }
        }
        self.authorizing.reviewed = Some(rules);
    }

    /// Counts what a judgement came to.
    fn count(&mut self, (judged, observed): (Judged, Vec<String>), first: bool) -> Judged {
        if first {
            for label in &observed {
                self.rule_cells(label).observed.inc();
            }
        }
        if let Judged::Refuse(denial) = &judged {
            denial.labels.iter().for_each(|label| self.rule_cells(label).denied.inc());
        }
        judged
    }

    fn rule_cells(&mut self, rule: &str) -> &RuleCells {
        let shard = &self.shard;
        self.authorizing.cells.entry(rule.into()).or_insert_with(|| shard.rule(rule))
    }
}

fn peer(conn: Option<&Conn>) -> Option<&Peer> {
    conn?.peer().map(Arc::as_ref)
}
