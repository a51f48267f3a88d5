//! Rules between resources: what no document shows alone.
mod authorization;
mod conditions;
mod limit;
mod speech;

use crate::decode::{At, Cx, Referent};
use crate::kinds;
use crate::mistake::Mistake;
use crate::resources::{Metadata, Resources, TrafficPolicy};
use std::collections::{HashMap, HashSet};

/// Checks everything; `demand` is the file to name if a sidecar is needed and there is none.
pub(crate) fn all(resources: &Resources, demand: Option<&str>, cx: &mut Cx) {
    sidecar(demand, cx);
    references(cx);
    endpoint_loops(resources, cx);
    policy_conflicts(&resources.policies, cx);
    targets(resources, cx);
    hosts(resources, cx);
    speech::all(resources, cx);
    authorization::all(&resources.authorization, cx);
    conditions::all(resources, cx);
    limit::all(resources, cx);
}

/// Exactly one sidecar to run one; at most one to check.
fn sidecar(demand: Option<&str>, cx: &mut Cx) {
    let found = std::mem::take(&mut cx.sidecars);
    if let (Some(file), []) = (demand, found.as_slice()) {
        cx.mistake_at(Mistake {
            file: file.to_owned(),
            line: 0,
            column: 0,
            path: String::new(),
            problem: "no document of kind Sidecar".into(),
            remedy: "add one: it says which app this is and where to listen".into(),
        });
    }
    let mut found = found.into_iter();
    let Some(first) = found.next() else { return };
    for mut second in found {
        second.path = "kind".into();
        second.problem = format!("a second Sidecar; the first is at {}:{}", first.file, first.line);
        second.remedy = "keep one: a process is one sidecar".into();
        cx.mistake_at(second);
    }
}

/// Names that nothing declares.
fn references(cx: &mut Cx) {
    for reference in std::mem::take(&mut cx.references) {
        let name = &reference.name;
        let (known, problem) = match reference.to {
            Referent::NeededService | Referent::Service => {
                // The key owns its text, so a lookup needs an owned one too; references are few.
                (cx.declared.contains_key(&("Service", name.clone())), format!("no Service is named {name}"))
            }
            Referent::App => (cx.apps.contains(name), format!("no Service belongs to app {name}")),
            Referent::Group => (cx.groups.contains(name), format!("no endpoint is in group {name}")),
            Referent::Certificate => {
                let key = ("Certificate", name.clone());
                (cx.declared.contains_key(&key), format!("no Certificate is named {name}"))
            }
        };
        if known || (cx.served && reference.to != Referent::Certificate) {
            continue;
        }
        let mut finding = reference.place;
        finding.problem = problem;
        if matches!(reference.to, Referent::NeededService | Referent::Certificate) {
            finding.remedy = "declare it, or mend the name".into();
            cx.mistake_at(finding);
        } else {
            finding.remedy = "mend the name, unless it is declared later".into();
            cx.warning_at(finding);
        }
    }
}

/// Endpoints that are the sidecar's own outbound listeners: requests to them would go round for ever.
fn endpoint_loops(resources: &Resources, cx: &mut Cx) {
    let Some(sidecar) = &resources.sidecar else { return };
    let ports: HashSet<u16> = sidecar.outbound.iter().map(|listener| listener.listen.port()).collect();
    for service in &resources.services {
        for (i, endpoint) in service.endpoints.iter().enumerate() {
            if !ports.contains(&endpoint.address.port()) {
                continue;
            }
            let own = sidecar.outbound.iter().position(|l| kinds::accepts(l.listen, endpoint.address));
            let Some(own) = own else { continue };
            let spec = At::ROOT.field("spec");
            let list = spec.field("endpoints");
            let mut finding = place(&service.metadata, &list.item(i).field("address"));
            finding.problem = format!(
                "{} of service {} is the sidecar's own spec.outbound[{own}]: a loop",
                endpoint.address, service.metadata.name
            );
            finding.remedy = "give the address of an instance of the service".into();
            cx.mistake_at(finding);
        }
    }
}

/// Two policies of which neither is the more particular for the same service and sidecar.
fn policy_conflicts(policies: &[TrafficPolicy], cx: &mut Cx) {
    // Pairs looked at; a file made to be slow ends here, and a real one never comes near.
    let mut budget = 1_000_000usize;
    let mut by_target: HashMap<(usize, &str), Vec<&TrafficPolicy>> = HashMap::new();
    for policy in policies {
        let level = policy.to.specificity();
        let keys: Vec<&str> = match level {
            2.. => policy.to.services.iter().map(String::as_str).collect(),
            _ => vec![policy.to.app.as_deref().unwrap_or_default()],
        };
        let mut told = false;
        for key in keys {
            let alike = by_target.entry((level, key)).or_default();
            for earlier in alike.iter() {
                budget = budget.saturating_sub(1);
                if told || budget == 0 || !conflict(earlier, policy) {
                    continue;
                }
                told = true;
                cx.mistake_at(conflict_of(earlier, policy, level, key));
            }
            alike.push(policy);
        }
    }
}

fn conflict(a: &TrafficPolicy, b: &TrafficPolicy) -> bool {
    let apps_agree = match (&a.to.app, &b.to.app) {
        (Some(a), Some(b)) => a == b,
        _ => true,
    };
    !std::ptr::eq(a, b)
        && apps_agree
        && a.scope.specificity() == b.scope.specificity()
        && a.scope.overlaps(&b.scope)
}

fn conflict_of(earlier: &TrafficPolicy, policy: &TrafficPolicy, level: usize, key: &str) -> Mistake {
    let what = match level {
        2.. => format!("service {key}"),
        1 => format!("app {key}"),
        _ => "every service".into(),
    };
    let (name, other) = (&policy.metadata.name, &earlier.metadata);
    let mut finding = place(&policy.metadata, &At::ROOT.field("spec").field("to"));
    finding.problem = format!(
        "policies {name} and {} ({}:{}) are both about {what}, and neither is more particular",
        other.name, other.origin.file, other.origin.line
    );
    finding.remedy = "merge them, or give their scopes parts that differ".into();
    finding
}

/// Targets whose services are not of their app: such a rule meets no request.
fn targets(resources: &Resources, cx: &mut Cx) {
    let rules = resources.policies.iter().map(|p| (&p.metadata, &p.to));
    let rules: Vec<_> = rules
        .chain(resources.routes.iter().map(|r| (&r.metadata, &r.to)))
        .filter(|(_, to)| to.app.is_some() && !to.services.is_empty())
        .collect();
    if rules.is_empty() {
        return;
    }
    let apps: HashMap<&str, &str> =
        resources.services.iter().map(|s| (s.metadata.name.as_str(), s.app.as_str())).collect();
    for (metadata, to) in rules {
        let Some(app) = to.app.as_deref() else { continue };
        let Some((service, other)) = to
            .services
            .iter()
            .filter_map(|service| apps.get_key_value(service.as_str()))
            .find(|(_, other)| **other != app)
        else {
            continue;
        };
        let mut finding = place(metadata, &At::ROOT.field("spec").field("to"));
        finding.problem =
            format!("service {service} belongs to app {other}, not {app}: the rule never meets it");
        finding.remedy = "leave app out, or mend the names".into();
        cx.warning_at(finding);
    }
}

/// Hosts that are another service's name: requests for them go there.
fn hosts(resources: &Resources, cx: &mut Cx) {
    for service in resources.services.iter().filter(|s| !s.hosts.is_empty()) {
        let own = &service.metadata.name;
        let spec = At::ROOT.field("spec");
        let list = spec.field("hosts");
        for (i, host) in service.hosts.iter().enumerate() {
            if host == own || !cx.declared.contains_key(&("Service", host.clone())) {
                continue;
            }
            let mut finding = place(&service.metadata, &list.item(i));
            finding.problem = format!("{host} is the name of another Service");
            finding.remedy = "keep one of them".into();
            cx.mistake_at(finding);
        }
    }
}

/// An empty finding in the document of this resource.
fn place(metadata: &Metadata, at: &At<'_>) -> Mistake {
    let origin = &metadata.origin;
    Mistake {
        file: origin.file.clone(),
        line: origin.line,
        column: origin.column,
        path: at.to_string(),
        problem: String::new(),
        remedy: String::new(),
    }
}
