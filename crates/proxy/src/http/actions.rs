//! What rules do to HTTP requests besides sending them somewhere.
use super::exchange::{Exchange, Up};
use crate::worker::Worker;
use raddle_core::Reason;
use raddle_model::HeaderOps;
use raddle_net::Key;
use raddle_policy::{Actions, Answer};
use raddle_wire::http::{Fields, Request, Response};

impl Worker {
    /// Carries out a rule's actions on a request that is dispatched for the first time. True if it waits.
    pub(crate) fn act(&mut self, key: Key, request: &Request, actions: &Actions, rule: Option<&str>) -> bool {
        let mut changed = request.clone();
        if let Some(rewrite) = &actions.rewrite {
            let mut target = Vec::new();
            if rewrite.path(request.target(), &mut target) {
                changed.set_target(&target);
            }
            if let Some(authority) = &rewrite.authority {
                changed.set_authority(authority.as_bytes());
            }
        }
        mutate(&mut changed.fields, &actions.headers.request);
        let fault = actions.fault.as_ref().map(|f| f.draw(&mut self.rng)).unwrap_or_default();
        let mirror = actions.mirror.as_ref().filter(|m| m.draw(&mut self.rng)).map(|m| m.service.clone());
        let Some(x) = self.http.exchanges.get_mut(key) else { return true };
        x.acted = true;
        x.mirror_to = mirror;
        x.request = changed;
        if !actions.headers.response.is_empty() {
            x.response_ops = Some(Box::new(actions.headers.response.clone()));
        }
        x.abort = fault.abort;
        x.plan.rule = rule.map(str::to_owned);
        if let Some(delay) = fault.delay {
            let until = self.now + delay;
            x.up = Up::Delayed(until);
            let down = x.down;
            self.arm(down, until);
            return true;
        }
        if x.abort.is_some() {
            self.abort(key);
            return true;
        }
        if x.request_over {
            self.mirror(key);
        }
        false
    }

    /// The wait made on purpose is over.
    pub(crate) fn after_delay(&mut self, key: Key) {
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        x.up = Up::None;
        if x.abort.is_some() {
            return self.abort(key);
        }
        if x.request_over {
            self.mirror(key);
        }
        self.dispatch_exchange(key);
    }

    fn abort(&mut self, key: Key) {
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        let status = x.abort.unwrap_or_default().http();
        self.answer_http(key, Reason::Injected, Some(status), "");
    }

    /// Sends a copy of a whole request to the service that mirrors it. One whose body was too long to be kept
    /// is not copied.
    pub(crate) fn mirror(&mut self, key: Key) {
        let now = self.now;
        let Some(x) = self.http.exchanges.get_mut(key) else { return };
        let Some(name) = x.mirror_to.take() else { return };
        if !x.kept_all || x.upgrade {
            self.shard.mirrors_skipped.inc();
            return;
        }
        let (direction, listener, framing, protocol) = (x.direction, x.listener, x.framing, x.protocol);
        let (request, kept) = (x.request.clone(), x.kept.clone());
        let Some(service) = self.service_named(name.as_bytes()) else {
            self.shard.mirrors_skipped.inc();
            return;
        };
        let row = self.services.get(service).map_or(0, |s| s.row);
        let mut copy = Exchange::new(Key::NONE, direction, listener, request, framing, protocol, now);
        copy.mirror = true;
        copy.acted = true;
        copy.service = service;
        copy.row = row;
        copy.kept = kept;
        copy.request_over = true;
        copy.deadline = now + MIRROR_TIME;
        let copy = self.http.exchanges.insert(copy);
        self.http.mirrors.push(copy);
        self.shard.mirrored.inc();
        self.http.again.push(copy);
    }

    /// Ends copies whose time is over.
    pub(crate) fn tidy_mirrors(&mut self) {
        let mirrors = std::mem::take(&mut self.http.mirrors);
        for m in mirrors {
            let Some(x) = self.http.exchanges.get(m) else { continue };
            if x.deadline <= self.now {
                self.drop_up(m);
                self.answer_http(m, Reason::Timeout, None, "");
            } else {
                self.http.mirrors.push(m);
            }
        }
    }

    /// Answers as a rule says.
    pub(crate) fn answer_by_rule(&mut self, key: Key, request: &Request, rule: &str, answer: &Answer) {
        let mut response = Response::new(answer.status());
        let mut body = Vec::new();
        match answer {
            Answer::Redirect(r) => {
                let mut location = Vec::new();
                r.location(request.authority(), request.target(), &mut location);
                response.fields.push(b"location", &location);
            }
            Answer::Respond(r) => {
                for (name, value) in &r.headers {
                    response.fields.push(name.as_bytes(), value.as_bytes());
                }
                body.extend_from_slice(r.body.as_bytes());
            }
        }
        response.fields.push(b"x-raddle-rule", rule.as_bytes());
        if let Some(x) = self.http.exchanges.get_mut(key) {
            x.plan.rule = Some(rule.to_owned());
            // It was taken out to be looked at; the answer depends on its method.
            x.request.clone_from(request);
        }
        self.respond_locally(key, &response, &body, None);
    }
}

/// Longest life of a copy.
const MIRROR_TIME: std::time::Duration = std::time::Duration::from_secs(15);

/// Changes fields as a rule says: removed, set, added.
pub(crate) fn mutate(fields: &mut Fields, ops: &HeaderOps) {
    for name in &ops.remove {
        fields.remove(name);
    }
    for (name, value) in &ops.set {
        fields.set(name, value.as_bytes());
    }
    for (name, value) in &ops.add {
        fields.push(name.as_bytes(), value.as_bytes());
    }
}
