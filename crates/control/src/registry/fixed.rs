//! Services that are there without being published: those of files.
use super::Instance;
use super::book::{Book, Published, ServiceSet};
use std::collections::HashSet;
use std::sync::Arc;

/// Puts services that are there without being published into the book, in place of earlier ones.
pub(super) fn fix(book: &mut Book, old: &[raddle_model::Service], new: &[raddle_model::Service]) {
    let stays: HashSet<(Arc<str>, Arc<str>)> =
        new.iter().flat_map(|s| fixed(s).1).map(|i| (i.app.clone(), i.id.clone())).collect();
    let sets: HashSet<Arc<str>> = new.iter().map(|s| set_hash(&fixed(s).0)).collect();
    for service in old {
        let (set, instances) = fixed(service);
        for i in instances.iter().filter(|i| !stays.contains(&(i.app.clone(), i.id.clone()))) {
            book.withdraw(&i.app, &i.id);
        }
        if !sets.contains(&set_hash(&set)) {
            book.delete_set(&app_of(service), &set_hash(&set));
        }
    }
    for service in new {
        let (set, instances) = fixed(service);
        // Ports differ between endpoints: a set for each port; one without endpoints keeps the name known.
        book.put_set(&app_of(service), &set_hash(&set), set);
        for (instance, port) in instances.into_iter().zip(service.endpoints.iter().map(|e| e.address.port()))
        {
            book.put_set(&instance.app, &instance.services, published(service, port));
            book.put(instance);
        }
    }
}

fn fixed(service: &raddle_model::Service) -> (ServiceSet, Vec<Instance>) {
    let instances = service.endpoints.iter().map(|e| Instance {
        id: format!("static:{}:{}", service.metadata.name, e.address).into(),
        app: app_of(service),
        unit: e.unit.as_deref().unwrap_or_default().into(),
        group: e.group.as_str().into(),
        version: e.labels.get("version").map_or("", |v| v).into(),
        labels: e.labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect(),
        address: e.address.ip(),
        weight: e.weight,
        tls: false,
        tls_required: false,
        services: set_hash(&published(service, e.address.port())),
    });
    (published(service, 1), instances.collect())
}

fn app_of(service: &raddle_model::Service) -> Arc<str> {
    if service.app.is_empty() { service.metadata.name.as_str().into() } else { service.app.as_str().into() }
}

fn published(service: &raddle_model::Service, port: u16) -> ServiceSet {
    Arc::new([Published {
        name: service.metadata.name.as_str().into(),
        protocol: service.protocol.map_or("", raddle_core::Protocol::name).into(),
        port,
        hosts: service.hosts.iter().map(|h| h.as_str().into()).collect(),
        metadata: Default::default(),
    }])
}

/// Static sets are named by service and port: they never meet those of the store, whose names are hashes.
fn set_hash(set: &ServiceSet) -> Arc<str> {
    let words: Vec<_> = set.iter().map(|s| format!("static:{}:{}", s.name, s.port)).collect();
    words.concat().into()
}
