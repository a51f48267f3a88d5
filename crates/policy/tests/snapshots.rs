//! What compiling promises: what is unchanged stays the same, hosts keep their health, the right policy wins.
mod common;
use common::*;
use raddle_core::Time;
use raddle_model::{PolicySettings, Resources, Scope, Target, TrafficPolicy};
use raddle_policy::{Health, Snapshot};
use std::sync::Arc;

fn two_services(weight: u32) -> Resources {
    let mut res = resources(weighted(&[1, 2, 3]), vec![route("r", vec![rule()])], PolicySettings::default());
    res.services
        .push(service("t", vec![endpoint(1, "default", None, weight), endpoint(9, "default", None, 1)]));
    res
}

#[test]
fn unchanged_services_stay_the_same_and_hosts_keep_their_health() {
    let old = Snapshot::compile(two_services(1), None);
    old.host(addr(1)).unwrap().set_health(Health::Unhealthy, Time::from_millis(1));
    let new = Snapshot::compile(two_services(5), Some(&old));
    assert!(new.generation > old.generation);
    assert!(Arc::ptr_eq(old.service(b"s").unwrap(), new.service(b"s").unwrap()));
    let (was, is) = (old.service(b"t").unwrap(), new.service(b"t").unwrap());
    assert!(!Arc::ptr_eq(was, is));
    assert_eq!(was.id, is.id);
    assert_ne!(was.revision, is.revision);
    assert!(Arc::ptr_eq(&was.outstanding, &is.outstanding));
    assert!(Arc::ptr_eq(&was.endpoints[0].host, &is.endpoints[0].host));
    assert!(
        Arc::ptr_eq(&is.endpoints[0].host, &new.service(b"s").unwrap().endpoints[1].host),
        "one host an address"
    );
    assert_eq!(new.host(addr(1)).unwrap().health(), Health::Unhealthy);
    assert_eq!((new.hosts().count(), new.services().count()), (4, 2));
}

#[test]
fn a_changed_route_policy_or_sidecar_changes_just_what_it_concerns() {
    let old = Snapshot::compile(two_services(1), None);
    let mut res = two_services(1);
    res.routes[0].to = Target { services: vec!["t".into()], ..Target::default() };
    let new = Snapshot::compile(res, Some(&old));
    assert!(!Arc::ptr_eq(old.service(b"s").unwrap(), new.service(b"s").unwrap()), "a route left it");

    let mut res = two_services(1);
    res.policies[0].to = Target { services: vec!["t".into()], ..Target::default() };
    let new = Snapshot::compile(res, Some(&old));
    assert_eq!(new.service(b"s").unwrap().policy.name, None);
    assert_eq!(new.service(b"t").unwrap().policy.name.as_deref(), Some("p"));

    let mut res = two_services(1);
    res.sidecar = Some(sidecar("gateway", Some("u2"), "default"));
    let new = Snapshot::compile(res, Some(&old));
    assert!(!Arc::ptr_eq(old.service(b"s").unwrap(), new.service(b"s").unwrap()), "the own unit is another");

    let mut res = two_services(1);
    res.routes[0].metadata.origin.line = 77;
    let new = Snapshot::compile(res, Some(&old));
    assert!(Arc::ptr_eq(old.service(b"s").unwrap(), new.service(b"s").unwrap()), "a moved line is no change");
}

#[test]
fn hosts_that_leave_are_forgotten() {
    let old = Snapshot::compile(two_services(1), None);
    let new = Snapshot::compile(resources(weighted(&[1]), vec![], PolicySettings::default()), Some(&old));
    assert!(new.host(addr(9)).is_none() && new.service(b"t").is_none());
    assert!(old.service(b"t").is_some());
}

#[test]
fn only_hosts_that_join_later_begin_a_slow_start() {
    let old = Snapshot::compile_at(two_services(1), None, Time::from_millis(5));
    assert!(old.hosts().all(|h| h.since() == Time::ZERO));
    let res = resources(weighted(&[1; 20]), vec![], PolicySettings::default());
    let new = Snapshot::compile_at(res, Some(&old), Time::from_millis(9));
    assert_eq!(new.host(addr(1)).unwrap().since(), Time::ZERO);
    assert_eq!(new.host(addr(15)).unwrap().since(), Time::from_millis(9));
}

#[test]
fn the_most_specific_policy_is_in_force() {
    let of = |name: &str, to, scope| TrafficPolicy { to, scope, ..policy(name, PolicySettings::default()) };
    let app = || Target { app: Some("order".into()), ..Target::default() };
    let this = || Target { services: vec!["s".into()], ..Target::default() };
    let mine = || Scope { apps: vec!["gateway".into()], ..Scope::default() };
    let others = || Scope { apps: vec!["other".into()], ..Scope::default() };
    let all = vec![
        of("not-mine", this(), others()),
        of("everything", Target::default(), mine()),
        of("app", app(), Scope::default()),
        of("app-mine", app(), mine()),
        of("service", this(), Scope::default()),
        of("service-again", this(), Scope::default()),
    ];
    let winner = |policies: &[TrafficPolicy]| {
        let res = Resources { policies: policies.to_vec(), ..two_services(1) };
        only(&Snapshot::compile(res, None)).policy.name.as_deref().map(str::to_owned)
    };
    assert_eq!(winner(&all).as_deref(), Some("service"));
    assert_eq!(winner(&all[..4]).as_deref(), Some("app-mine"));
    assert_eq!(winner(&all[..3]).as_deref(), Some("app"));
    assert_eq!(winner(&all[..2]).as_deref(), Some("everything"));
    assert_eq!(winner(&all[..1]), None);
}

#[test]
fn subset_ids_are_never_used_twice() {
    let mut seen = std::collections::HashSet::new();
    let mut prev: Option<Snapshot> = None;
    for weight in 1..20 {
        let snap = Snapshot::compile(two_services(weight), prev.as_ref());
        assert!(seen.insert(snap.service(b"t").unwrap().default_subset().id));
        prev = Some(snap);
    }
}

#[test]
fn resources_without_a_sidecar_still_compile() {
    let snap = Snapshot::compile(Resources { sidecar: None, ..two_services(1) }, None);
    assert_eq!(snap.sidecar.group, "default");
    assert_eq!(decide_once(only(&snap), &request(&[])).0, "default");
}
