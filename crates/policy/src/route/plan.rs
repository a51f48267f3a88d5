//! What of all rules concerns one service, with its destinations resolved to subsets of its endpoints.
use crate::route::dispatch::Dispatch;
use crate::route::program::{Program, Rule};
use crate::snapshot::index::{LabelIndex, Query};
use crate::snapshot::policy::{CompiledRetry, Policy};
use crate::snapshot::service::Endpoint;
use crate::snapshot::subset::Subset;
use raddle_model as model;
use raddle_model::{HashOn, IfEmpty, UnitAffinity};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Fewer endpoints are searched one by one.
const WORTH_INDEXING: usize = 64;
const SAME: &str = "same";
pub(crate) const DEFAULT_GROUP: &str = "default";

/// The rules of a service in order, and where the requests no rule sends go.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) slots: Box<[Slot]>,
    pub(crate) dispatch: Dispatch,
    pub(crate) default: Target,
    /// Every endpoint of whatever group; present only if some rule can fall back to it.
    pub(crate) any: Option<Target>,
    pub(crate) needs_method: bool,
    /// The route programs the slots come from, in order.
    pub(crate) programs: Box<[Arc<Program>]>,
    /// How many slots count requests.
    pub(crate) counters: u32,
}

/// One rule as it concerns one service.
#[derive(Debug)]
pub(crate) struct Slot {
    program: Arc<Program>,
    index: u32,
    pub(crate) targets: Box<[Target]>,
    /// Index of its counter, if its share or weights are counted.
    pub(crate) counter: Option<u32>,
}

/// A destination resolved.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) weight: u32,
    pub(crate) min_healthy: u32,
    /// Members of the sidecar's own unit, if they are preferred and not all of them.
    pub(crate) own: Option<Arc<Subset>>,
    pub(crate) all: Arc<Subset>,
}

impl Slot {
    pub(crate) fn rule(&self) -> &Rule {
        &self.program.rules[self.index as usize]
    }
}

/// What of this sidecar the meaning of a destination depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) app: String,
    pub(crate) unit: Option<String>,
    pub(crate) group: String,
    pub(crate) labels: model::Labels,
    id: String,
    version: Option<String>,
    address: Option<IpAddr>,
}

impl model::Member for Identity {
    fn id(&self) -> &str {
        &self.id
    }

    fn app(&self) -> &str {
        &self.app
    }

    fn unit(&self) -> Option<&str> {
        self.unit.as_deref()
    }

    fn group(&self) -> &str {
        &self.group
    }

    fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    fn address(&self) -> Option<IpAddr> {
        self.address
    }
}

impl Identity {
    pub(crate) fn of(sidecar: &model::Sidecar) -> Identity {
        Identity {
            app: sidecar.app.clone(),
            unit: sidecar.unit.clone(),
            group: sidecar.group.clone(),
            labels: sidecar.labels.clone(),
            id: sidecar.metadata.name.clone(),
            version: sidecar.version.clone(),
            address: model::Member::address(sidecar),
        }
    }

    /// Of no sidecar in particular.
    pub(crate) fn nobody() -> Identity {
        Identity {
            app: String::new(),
            unit: None,
            group: DEFAULT_GROUP.to_owned(),
            labels: model::Labels::new(),
            id: String::new(),
            version: None,
            address: None,
        }
    }

    pub(crate) fn within(&self, scope: &model::Scope) -> bool {
        scope.covers(self)
    }
}

/// Resolves destinations; equal ones share a subset.
struct Resolver<'a> {
    endpoints: &'a [Endpoint],
    index: Option<LabelIndex>,
    affinity: UnitAffinity,
    me: &'a Identity,
    known: HashMap<Query, Arc<Subset>, ahash::RandomState>,
    next_id: &'a mut u64,
}

impl Resolver<'_> {
    fn subset(&mut self, query: Query) -> Arc<Subset> {
        if let Some(subset) = self.known.get(&query) {
            return subset.clone();
        }
        let members = self.members(&query);
        *self.next_id += 1;
        let subset = Arc::new(Subset::new(*self.next_id, members, self.endpoints));
        self.known.insert(query, subset.clone());
        subset
    }

    fn members(&mut self, query: &Query) -> Box<[u32]> {
        let endpoints = self.endpoints;
        if endpoints.len() < WORTH_INDEXING {
            let held = endpoints.iter().enumerate().filter(|(_, e)| query.holds(e.traits()));
            return held.map(|(i, _)| i as u32).collect();
        }
        let index = self.index.get_or_insert_with(|| {
            let mut index = LabelIndex::default();
            for (i, endpoint) in endpoints.iter().enumerate() {
                index.insert(i as u32, endpoint.traits());
            }
            index
        });
        index.select(query)
    }

    fn target(&mut self, to: &model::Destination) -> Target {
        let group = match to.group.as_deref() {
            None => DEFAULT_GROUP.to_owned(),
            Some(SAME) => self.me.group.clone(),
            Some(group) => group.to_owned(),
        };
        // `same` without a unit of one's own says nothing.
        let unit = match to.unit.as_deref() {
            Some(SAME) => self.me.unit.clone(),
            unit => unit.map(str::to_owned),
        };
        let query = Query { group: Some(group), unit, labels: to.labels.clone() };
        Target { weight: to.weight, min_healthy: to.min_healthy, ..self.near(query) }
    }

    /// Adds the preference for the own unit where no unit is asked for.
    fn near(&mut self, query: Query) -> Target {
        let own_unit = self.me.unit.clone().filter(|_| query.unit.is_none());
        let own = |unit| Query { unit: Some(unit), ..query.clone() };
        let (own, all) = match (self.affinity, own_unit) {
            (UnitAffinity::Require, Some(unit)) => (None, self.subset(own(unit))),
            (UnitAffinity::Prefer, Some(unit)) => {
                let own = self.subset(own(unit));
                let all = self.subset(query);
                let narrower = !own.members.is_empty() && own.members.len() < all.members.len();
                (narrower.then_some(own), all)
            }
            _ => (None, self.subset(query)),
        };
        Target { weight: 1, min_healthy: 0, own, all }
    }
}

impl Plan {
    /// Every subset a request can be sent to, some more than once.
    pub(crate) fn subsets(&self) -> impl Iterator<Item = &Arc<Subset>> {
        let targets = self.slots.iter().flat_map(|s| &s.targets).chain([&self.default]).chain(&self.any);
        targets.flat_map(|t| t.own.iter().chain([&t.all]))
    }

    pub(crate) fn new(
        programs: Vec<Arc<Program>>,
        endpoints: &[Endpoint],
        policy: &Policy,
        me: &Identity,
        next_id: &mut u64,
    ) -> Plan {
        let affinity = policy.settings.unit_affinity;
        let mut to = Resolver { endpoints, index: None, affinity, me, known: HashMap::default(), next_id };
        let default = to.near(Query { group: Some(DEFAULT_GROUP.to_owned()), ..Query::default() });
        let mut counters = 0;
        let mut slots = Vec::with_capacity(programs.iter().map(|p| p.rules.len()).sum());
        for program in &programs {
            for (index, rule) in program.rules.iter().enumerate() {
                let targets: Box<[Target]> = if rule.send.is_empty() {
                    Box::new([default.clone()])
                } else {
                    rule.send.iter().map(|d| to.target(d)).collect()
                };
                let weighted = targets.iter().filter(|t| t.weight > 0).count() > 1;
                let counter = (weighted || rule.percent_ppm < 1_000_000).then(|| {
                    counters += 1;
                    counters - 1
                });
                slots.push(Slot { program: program.clone(), index: index as u32, targets, counter });
            }
        }
        let falls_back = slots.iter().any(|s| s.rule().if_empty == IfEmpty::Any);
        Plan {
            any: falls_back.then(|| to.near(Query::default())),
            dispatch: Dispatch::new(&slots),
            slots: slots.into_boxed_slice(),
            default,
            needs_method: programs.iter().any(|p| p.needs_method())
                || policy.retry.as_ref().is_some_and(CompiledRetry::needs_method)
                || policy.hash_on() == Some(&HashOn::Method),
            programs: programs.into_boxed_slice(),
            counters,
        }
    }
}
