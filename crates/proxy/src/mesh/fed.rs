//! What the control plane said, as the loader merges it with the files.
use crate::loader::{Loader, refuse_rule};
use crate::shared::{Config, Message};
use raddle_model::{LoadOptions, Metadata, Resources, Route, Service, Source, TrafficPolicy};
use raddle_policy::{Fed as Input, Snapshot};
use raddle_xds::client::{Refused, RuleDoc, Update};
use raddle_xds::types::Kind;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

/// Services and rules the control plane gave, as they are in force or will be with the next compilation.
#[derive(Default)]
pub(crate) struct Fed {
    services: BTreeMap<Arc<str>, Held>,
    rules: BTreeMap<Arc<str>, Rule>,
    /// From servers that speak Envoy's language only, by service.
    policies: BTreeMap<Arc<str>, TrafficPolicy>,
    routes: BTreeMap<Arc<str>, Route>,
    /// Something came since the last compilation.
    changed: bool,
    shadowed: Vec<String>,
}

/// A service: the snapshot in force has it, or the next one will.
enum Held {
    Compiled,
    /// New, changed, or hidden behind one of the files.
    Waiting(Box<Service>),
}

/// A rule at its revision.
struct Rule {
    revision: Arc<str>,
    body: Body,
    /// A file has one of the same kind and name.
    hidden: bool,
}

/// One rule of any kind: resources with nothing else in them.
struct Body(Box<Resources>);

impl Body {
    fn kind(&self) -> &'static str {
        self.0.rules().next().map_or("", |r| r.kind)
    }

    fn name(&self) -> &str {
        self.0.rules().next().map_or("", |r| &r.metadata.name)
    }

    /// The only rule there is, if it is the only resource.
    fn only(found: Resources) -> Option<Body> {
        let others = found.services.len() + found.certificates.len();
        let one = found.rules().count() == 1 && others == 0 && found.sidecar.is_none();
        one.then(|| Body(Box::new(found)))
    }

    fn add_to(&self, resources: &mut Resources) {
        resources.add_rules(&self.0);
    }
}

/// Kind and name of all rules there are.
fn rules(of: &Resources) -> HashSet<(&'static str, String)> {
    of.rules().map(|r| (r.kind, r.metadata.name.clone())).collect()
}

/// A rule in force.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RunningRule {
    /// KIND/NAME.
    pub rule: Arc<str>,
    /// Its revision.
    pub revision: Arc<str>,
}

impl Fed {
    /// Takes an update; what is refused leaves what was there before in force.
    pub(crate) fn take(&mut self, update: Update) -> Vec<Refused> {
        let mut refused = Vec::new();
        for (name, service) in update.services {
            self.changed = true;
            match service {
                Some(s) => {
                    self.services.insert(name, Held::Waiting(Box::new(s)));
                }
                None => {
                    self.services.remove(&name);
                }
            }
        }
        for (id, doc) in update.rules {
            let Some(doc) = doc else {
                self.changed |= self.rules.remove(&id).is_some();
                continue;
            };
            match parse(&id, &doc) {
                Ok(body) => {
                    self.changed = true;
                    self.rules.insert(id, Rule { revision: doc.revision, body, hidden: false });
                }
                Err(reason) => {
                    refuse_rule(&id, &doc.revision, &reason);
                    refused.push(Refused { kind: Kind::Rule, name: id, reason });
                }
            }
        }
        for (name, policy) in update.policies {
            self.changed = true;
            change(&mut self.policies, name, policy);
        }
        for (name, route) in update.routes {
            self.changed = true;
            change(&mut self.routes, name, route);
        }
        refused
    }

    /// Whether the next compilation would differ.
    pub(crate) fn changed(&self) -> bool {
        self.changed
    }

    /// How many services there are.
    pub(crate) fn services(&self) -> usize {
        self.services.len()
    }

    /// Services of the control plane that files hide.
    pub(crate) fn shadowed(&self) -> &[String] {
        &self.shadowed
    }

    /// The rules in force, by kind and name.
    pub(crate) fn running(&self) -> Vec<RunningRule> {
        let running =
            |(rule, r): (&Arc<str>, &Rule)| RunningRule { rule: rule.clone(), revision: r.revision.clone() };
        self.rules.iter().filter(|(_, r)| !r.hidden).map(running).collect()
    }

    /// Adds rules to those of the files, and gives the services for the compilation. A file's resource hides one
    /// of the same kind and name.
    pub(crate) fn merge(
        &mut self,
        resources: &mut Resources,
        own: &HashSet<Arc<str>>,
        old: Option<&Snapshot>,
    ) -> Vec<Input> {
        self.merge_rules(resources);
        let mut shadowed = Vec::new();
        let mut out = Vec::with_capacity(self.services.len());
        for (name, held) in &mut self.services {
            let compiled = old.and_then(|o| o.service(name.as_bytes()));
            if own.contains(name) {
                shadowed.push(name.to_string());
                if let (Held::Compiled, Some(s)) = (&*held, compiled) {
                    *held = Held::Waiting(Box::new(source_of(s)));
                }
                continue;
            }
            match (held, compiled) {
                (Held::Waiting(s), _) => out.push(Input::New((**s).clone())),
                (Held::Compiled, Some(s)) => out.push(Input::Kept(s.clone())),
                (Held::Compiled, None) => {}
            }
        }
        for name in shadowed.iter().filter(|n| !self.shadowed.contains(n)) {
            tracing::warn!(service = name, "a file declares it, too; the file's is used");
        }
        self.shadowed = shadowed;
        out
    }

    fn merge_rules(&mut self, resources: &mut Resources) {
        let files = rules(resources);
        for (id, rule) in &mut self.rules {
            let hidden = files.contains(&(rule.body.kind(), rule.body.name().to_owned()));
            let told = std::mem::replace(&mut rule.hidden, hidden);
            if !hidden {
                rule.body.add_to(resources);
            } else if !told {
                tracing::warn!(rule = %id, "a file has it, too; the file's is used");
            }
        }
        let free = |kind, m: &Metadata| !files.contains(&(kind, m.name.clone()));
        let policies = self.policies.values().filter(|p| free("TrafficPolicy", &p.metadata));
        resources.policies.extend(policies.cloned());
        let routes = self.routes.values().filter(|r| free("Route", &r.metadata));
        resources.routes.extend(routes.cloned());
    }

    /// The compilation is in force.
    pub(crate) fn settled(&mut self) {
        self.changed = false;
        let shadowed: HashSet<&str> = self.shadowed.iter().map(String::as_str).collect();
        for (name, held) in &mut self.services {
            if matches!(held, Held::Waiting(_)) && !shadowed.contains(&**name) {
                *held = Held::Compiled;
            }
        }
    }
}

fn change<T>(map: &mut BTreeMap<Arc<str>, T>, name: Arc<str>, to: Option<T>) {
    match to {
        Some(t) => {
            map.insert(name, t);
        }
        None => {
            map.remove(&name);
        }
    }
}

/// A rule's document, judged as one in a file is.
///
/// # Errors
/// Every mistake in it, as a sentence.
fn parse(id: &str, doc: &RuleDoc) -> Result<Body, String> {
    let name = format!("{id}@{}", doc.revision);
    let source = Source { name, text: doc.json.to_string() };
    let (resources, _) =
        raddle_model::load(&[source], LoadOptions::delivered()).map_err(|report| report.to_string())?;
    let body = Body::only(resources).ok_or("it is not one rule of a kind that a sidecar takes")?;
    let said = format!("{}/{}", body.kind(), body.name());
    if said != id {
        return Err(format!("it is {said} and was sent as {id}"));
    }
    Ok(body)
}

/// A compiled service as its source was.
fn source_of(s: &raddle_policy::Service) -> Service {
    let endpoint = |e: &raddle_policy::Endpoint| raddle_model::Endpoint {
        address: e.host.addr,
        unit: e.unit.as_deref().map(str::to_owned),
        group: e.group.to_string(),
        weight: e.weight,
        labels: (*e.labels).clone(),
        tls: e.transport.as_ref().map(|t| raddle_model::EndpointTls {
            required: t.required,
            ids: t.ids.iter().map(ToString::to_string).collect(),
        }),
    };
    Service {
        metadata: raddle_model::Metadata { name: s.name.to_string(), ..Default::default() },
        app: s.app.to_string(),
        protocol: s.protocol,
        hosts: s.hosts.to_vec(),
        endpoints: s.endpoints.iter().map(endpoint).collect(),
    }
}

impl Loader {
    /// Takes what the control plane said; [`Loader::apply_fed`] puts it in force.
    pub(crate) fn feed(&self, update: Update) -> Vec<Refused> {
        self.state().fed.take(update)
    }

    /// Puts what was fed in force, if anything was. Listeners and certificates are not touched.
    pub(crate) fn apply_fed(&self) -> bool {
        let Some(shared) = self.shared.get() else { return false };
        let mut state = self.state();
        if !state.fed.changed() {
            return false;
        }
        let began = Instant::now();
        let old = shared.config.load_full();
        let mut resources = state.files.clone();
        let own = state.file_services.iter().filter_map(|n| old.snapshot.service(n.as_bytes()));
        let mut fed: Vec<Input> = own.map(|s| Input::Kept(s.clone())).collect();
        let names: HashSet<Arc<str>> = state.file_services.iter().cloned().collect();
        fed.extend(state.fed.merge(&mut resources, &names, Some(&old.snapshot)));
        let snapshot = Snapshot::compile_fed(resources, fed, Some(&old.snapshot), shared.clock.now());
        let generation = old.generation + 1;
        let config = Config {
            generation,
            snapshot: Arc::new(snapshot),
            sidecar: old.sidecar.clone(),
            bindings: old.bindings.clone(),
        };
        state.fed.settled();
        state.status.generation = generation;
        shared.put_config(config);
        drop(state);
        shared.workers().iter().for_each(|w| w.tell(Message::Reload));
        tracing::debug!(generation, took_us = began.elapsed().as_micros() as u64, "update applied");
        true
    }

    /// The rules of the control plane in force.
    pub fn running(&self) -> Vec<RunningRule> {
        self.state().fed.running()
    }
}

#[cfg(test)]
#[path = "fed_tests.rs"]
mod tests;
