//! The simulated mesh: who publishes what, and who subscribes to what.
use raddle_xds::proto::{Instance, Node, Service};
use std::net::Ipv4Addr;

/// How large it is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) streams: usize,
    pub(super) services: usize,
    pub(super) instances: usize,
    pub(super) apps: usize,
    /// Services each sidecar subscribes to.
    pub(super) subscribe: usize,
}

impl Shape {
    pub(super) fn service(n: usize) -> String {
        format!("com.example.bench.Service{n:05}:1.0")
    }

    /// The services a sidecar subscribes to: the first one, which all have, and others spread over all.
    pub(super) fn subscriptions(&self, stream: usize) -> Vec<usize> {
        let step = (self.services / self.subscribe).max(1);
        let others = (1..self.subscribe).map(|i| (stream + i * step) % self.services);
        let mut all: Vec<usize> = [0].into_iter().chain(others).collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// The instances a sidecar publishes, by their numbers.
    pub(super) fn published(&self, stream: usize) -> impl Iterator<Item = usize> + use<> {
        (stream..self.instances).step_by(self.streams)
    }

    /// The app of an instance, and of a service.
    pub(super) fn app(&self, n: usize) -> usize {
        n % self.apps
    }

    /// Who publishes an instance.
    pub(super) fn node(&self, instance: usize) -> Node {
        let app = format!("app{:04}", self.app(instance));
        Node {
            id: format!("{app}-{instance:06}"),
            app,
            unit: format!("u{}", instance % 3),
            ..Node::default()
        }
    }

    /// An instance with its app's services. The weight marks it: it is what changes.
    pub(super) fn instance(&self, n: usize, weight: u32) -> Instance {
        let services = (self.app(n)..self.services).step_by(self.apps).map(|s| Service {
            name: Shape::service(s),
            protocol: "bolt".into(),
            port: 12200,
            ..Service::default()
        });
        let address = Ipv4Addr::from(0x0a00_0000 + n as u32 + 1).to_string();
        Instance { address, weight, tls: false, tls_required: false, services: services.collect() }
    }

    /// How many sidecars subscribe to a service.
    pub(super) fn subscribers(&self, service: usize) -> usize {
        (0..self.streams).filter(|s| self.subscriptions(*s).contains(&service)).count()
    }
}
