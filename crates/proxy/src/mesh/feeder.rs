//! Takes what the xDS client delivers.
use super::names::State;
use super::thread::{Parts, tell_missing};
use raddle_xds::client::{Refused, Sink, Update};
use raddle_xds::types::Kind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::Notify;

/// Longest name a service may have.
const NAME_LONGEST: usize = super::demand::NAME_LONGEST;

pub(crate) struct Feeder {
    parts: Parts,
    changed: Arc<Notify>,
}

impl Feeder {
    pub(crate) fn new(parts: Parts, changed: Arc<Notify>) -> Feeder {
        Feeder { parts, changed }
    }
}

impl Sink for Feeder {
    fn apply(&mut self, mut update: Update) -> Vec<Refused> {
        let link = &self.parts.link;
        link.cells.updates.inc();
        link.cached.store(update.cached, Ordering::Release);
        let mut refused = unfit(&mut update);
        self.without_loops(&mut update);
        {
            let mut names = self.parts.names();
            for (name, service) in &update.services {
                names.set(name, if service.is_some() { State::Found } else { State::Pending });
            }
            for name in &update.missing {
                names.set(name, State::Missing);
            }
        }
        if let Some(roots) = update.roots.take() {
            link.roots.send_replace(roots);
        }
        let missing = std::mem::take(&mut update.missing);
        refused.extend(self.parts.loader.feed(update));
        tell_missing(&self.parts.shared, &missing);
        self.parts.local.missing(&missing);
        link.answered.store(true, Ordering::Release);
        link.cells.refused.add(refused.len() as u64);
        for r in &refused {
            self.parts.shared.warn("resource_refused", format!("{} {}", r.kind.name(), r.name), &r.reason);
        }
        self.changed.notify_one();
        refused
    }
}

impl Feeder {
    /// Takes out endpoints that are where this sidecar's own calls come in: whoever published them did so by mistake, and
    /// every request to them would come back here. Its inbound listeners are no loop as long as they know their app.
    fn without_loops(&self, update: &mut Update) {
        let config = self.parts.shared.config.load();
        let served =
            |port: u16| config.sidecar.inbound.iter().any(|l| l.forward.is_some() && l.listen.port() == port);
        for (name, service) in &mut update.services {
            let Some(service) = service else { continue };
            let before = service.endpoints.len();
            service.endpoints.retain(|e| !config.is_own(e.address) || served(e.address.port()));
            let loops = before - service.endpoints.len();
            if loops > 0 {
                let text = format!(
                    "{loops} of its endpoints are at this sidecar's own listeners, and would lead back here: they are left \
                     out; publish the inbound listener's port"
                );
                self.parts.shared.warn("endpoint_loops", format!("service {name}"), text);
            }
        }
    }
}

/// Takes out services that this sidecar cannot have.
fn unfit(update: &mut Update) -> Vec<Refused> {
    let mut refused = Vec::new();
    update.services.retain(|(name, service)| {
        let reason = match service {
            None => return true,
            Some(s) if *s.metadata.name != **name => format!("it is named {}", s.metadata.name),
            Some(_) if name.is_empty() || name.len() > NAME_LONGEST => {
                format!("its name has {} bytes; 1..={NAME_LONGEST} are allowed", name.len())
            }
            Some(_) => return true,
        };
        refused.push(Refused { kind: Kind::Cluster, name: name.clone(), reason });
        false
    });
    refused
}
