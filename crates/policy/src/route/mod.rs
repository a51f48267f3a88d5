//! Routing: which subset of a service's endpoints a request may go to, by which rule.
//!
//! Rules are tried in file order; the first whose conditions hold, whose share takes the request and whose
//! destination has usable endpoints decides. Without one, the default destination takes it: endpoints of
//! group `default`, the own unit preferred by policy.

pub mod actions;
pub mod asked;
mod dispatch;
mod does;
pub mod explain;
pub(crate) mod matcher;
pub(crate) mod plan;
pub(crate) mod program;
mod state;

use crate::rng::Rng;
use crate::snapshot::policy::CompiledRetry;
use crate::snapshot::service::{Service, hash_of};
use crate::snapshot::subset::Subset;
use actions::{Actions, Answer};
pub use asked::{Asked, CALLER_APP, LOAD_TEST};
use plan::{Slot, Target};
pub use program::RuleRef;
use raddle_core::Reason;
use raddle_model::IfEmpty;
pub use state::RouteState;
use std::net::IpAddr;
use std::time::Duration;

/// What rules may look at in a request. Header names are compared as the protocol does.
pub trait Attributes {
    /// The service name.
    fn service(&self) -> &[u8];
    /// The method, if it is known. HTTP: the request method; gRPC and Triple: the last part of the path.
    fn method(&self) -> Option<&[u8]>;
    /// HTTP: the path as it was sent, without the query.
    fn path(&self) -> Option<&[u8]> {
        None
    }
    /// HTTP: the host, and the port if it is given (`Host` or `:authority`).
    fn authority(&self) -> Option<&[u8]> {
        None
    }
    /// HTTP: a parameter of the query as it was sent, the first of that name; empty if it has no value.
    fn query(&self, _name: &str) -> Option<&[u8]> {
        None
    }
    /// Value of a header; the first if it occurs more than once.
    fn header(&self, name: &str) -> Option<&[u8]>;
    /// The caller's app, as the request says it.
    fn caller_app(&self) -> Option<&[u8]>;
    /// The caller's address.
    fn caller_ip(&self) -> Option<IpAddr>;
    /// Whether it carries the load-test mark.
    fn load_test(&self) -> bool;
}

/// What happens to a request.
#[derive(Debug)]
pub enum Decision<'s> {
    /// It goes to an endpoint of a subset.
    Send {
        /// Where it may go.
        subset: &'s Subset,
        /// The rule that sent it there; absent = the default destination.
        rule: Option<&'s RuleRef>,
        /// Bound for the whole request: the rule's, else the policy's.
        timeout: Option<Duration>,
        /// Retries: the rule's, else the policy's.
        retry: Option<&'s CompiledRetry>,
        /// What the rule does to it besides; absent = nothing.
        actions: Option<&'s Actions>,
    },
    /// The sidecar answers it as a rule says; in a protocol other than HTTP it is rejected with
    /// [`Reason::NoRoute`], as such an answer cannot be said there.
    Answer {
        /// The rule.
        rule: &'s RuleRef,
        /// What it says.
        answer: &'s Answer,
    },
    /// The sidecar rejects it.
    Reject {
        /// Why.
        reason: Reason,
        /// The rule behind it; absent = no rule.
        rule: Option<&'s RuleRef>,
    },
}

impl Service {
    /// Decides about a request. Costs a hash look-up for each hashed subject and the test of the rules
    /// left, independent of other services' rules and of the number of endpoints.
    ///
    /// A destination counts as empty if fewer than `max(1, minHealthy)` of its endpoints are usable; the
    /// panic threshold does not fill it up for `next`, `any` and `fail`. Where the last resort (first
    /// skipped destination, else the default one) has no usable endpoint, it is used all the same if
    /// health is ignored by the panic threshold or only reachability is in doubt.
    pub fn route<'s>(&'s self, req: &impl Attributes, state: &mut RouteState, rng: &mut Rng) -> Decision<'s> {
        let mut skipped: Option<(&Slot, &Target)> = None;
        if !self.plan.slots.is_empty() {
            for i in self.plan.dispatch.candidates(req) {
                let slot = &self.plan.slots[i as usize];
                if !slot.rule().holds(req) || !self.takes_share(slot, req, state, rng) {
                    continue;
                }
                if let Some(answer) = &slot.rule().answer {
                    return Decision::Answer { rule: &slot.rule().name, answer };
                }
                let target = self.next_target(slot, state, rng);
                if let Some(subset) = target.and_then(|t| self.usable_part(t)) {
                    return self.send(subset, Some(slot));
                }
                match slot.rule().if_empty {
                    IfEmpty::Next => {
                        if let (None, Some(target)) = (skipped, target) {
                            skipped = Some((slot, target));
                        }
                    }
                    IfEmpty::Fail => return reject(Reason::NoHealthy, Some(slot)),
                    IfEmpty::Any => {
                        let any = self.plan.any.as_ref().unwrap_or(&self.plan.default);
                        return self.last_resort(any, Some(slot));
                    }
                }
            }
        }
        if let Some(subset) = self.usable_part(&self.plan.default) {
            return self.send(subset, None);
        }
        match skipped {
            Some((slot, target)) if !target.all.members.is_empty() => self.last_resort(target, Some(slot)),
            _ => self.last_resort(&self.plan.default, None),
        }
    }

    fn takes_share(&self, slot: &Slot, req: &impl Attributes, state: &mut RouteState, rng: &mut Rng) -> bool {
        let rule = slot.rule();
        match (rule.percent_ppm, slot.counter) {
            (0, _) => false,
            (1_000_000.., _) | (_, None) => true,
            (share, Some(counter)) => {
                let key = rule.hash_on.as_ref().and_then(|on| hash_of(on, req, rule.salt));
                match key {
                    Some(key) => within_share(key, share),
                    None => state.counter(self, slot, counter, rng).takes(share),
                }
            }
        }
    }

    fn next_target<'s>(
        &'s self,
        slot: &'s Slot,
        state: &mut RouteState,
        rng: &mut Rng,
    ) -> Option<&'s Target> {
        if let [only] = &*slot.targets {
            return (only.weight > 0).then_some(only);
        }
        match slot.counter {
            Some(counter) => {
                let turn = state.counter(self, slot, counter, rng).next_target()?;
                slot.targets.get(turn as usize)
            }
            None => slot.targets.iter().find(|t| t.weight > 0),
        }
    }

    /// The part of a destination a request goes to, if the destination has enough usable endpoints.
    fn usable_part<'s>(&self, target: &'s Target) -> Option<&'s Subset> {
        (self.usable(&target.all) >= target.min_healthy.max(1)).then(|| self.near(target))
    }

    /// The own unit's part while it has a usable endpoint and is not in panic, else the whole.
    pub(crate) fn near<'s>(&self, target: &'s Target) -> &'s Subset {
        match &target.own {
            Some(own) if self.usable(own) > 0 && !self.panics(own) => own,
            _ => &target.all,
        }
    }

    fn last_resort<'s>(&'s self, target: &'s Target, slot: Option<&'s Slot>) -> Decision<'s> {
        let subset = self.near(target);
        if subset.members.is_empty() {
            let isolated = slot.is_none() && self.endpoints.iter().any(|e| e.weight > 0);
            return reject(if isolated { Reason::NoRoute } else { Reason::NoHealthy }, slot);
        }
        let healthy = subset.counts(&self.endpoints, self.changes.count()).healthy;
        if healthy > 0 || subset.panics(healthy, self.policy.settings.panic_threshold) {
            self.send(subset, slot)
        } else {
            reject(Reason::NoHealthy, slot)
        }
    }

    fn send<'s>(&'s self, subset: &'s Subset, slot: Option<&'s Slot>) -> Decision<'s> {
        let rule = slot.map(Slot::rule);
        Decision::Send {
            subset,
            rule: rule.map(|r| &r.name),
            timeout: rule.and_then(|r| r.timeout).or(self.policy.settings.timeouts.request),
            retry: rule.and_then(|r| r.retry.as_ref()).or(self.policy.retry.as_ref()),
            actions: rule.and_then(|r| r.actions.as_ref()),
        }
    }
}

fn reject(reason: Reason, slot: Option<&Slot>) -> Decision<'_> {
    Decision::Reject { reason, rule: slot.map(|s| &s.rule().name) }
}

/// Whether a key is of the share. A growing share keeps the keys it had.
fn within_share(key: u64, share_ppm: u32) -> bool {
    ((u128::from(key) * 1_000_000) >> 64) < u128::from(share_ppm)
}
