//! A sidecar and its control plane: what it gets from there, what it tells it, and what becomes of requests meanwhile.
mod control;
mod limits;
mod link;
mod on_demand;
mod publish;
mod served;

use raddle_model::{Endpoint, Labels, Metadata, Service};
use raddle_testkit::{Config, Running, free_addr, refused_addr};
use raddle_xds::client::Update;
use std::net::SocketAddr;

/// A service at these addresses.
pub(crate) fn service(name: &str, at: &[SocketAddr]) -> Service {
    let endpoint = |address: &SocketAddr| Endpoint {
        address: *address,
        unit: None,
        group: "default".into(),
        weight: 100,
        labels: Labels::new(),
        tls: None,
    };
    Service {
        metadata: Metadata { name: name.into(), ..Metadata::default() },
        app: "callee".into(),
        protocol: None,
        hosts: Vec::new(),
        endpoints: at.iter().map(endpoint).collect(),
    }
}

/// An update that says this of a service.
pub(crate) fn says(name: &str, at: Option<&[SocketAddr]>) -> Update {
    Update { services: vec![(name.into(), at.map(|at| service(name, at)))], ..Update::default() }
}

/// An update that says that there is no such service.
pub(crate) fn denies(name: &str) -> Update {
    Update { missing: vec![name.into()], ..Update::default() }
}

/// A sidecar whose control plane is not there: what it knows is fed by the test.
pub(crate) fn orphan(wait: &str) -> (Running, SocketAddr) {
    let (listen, control) = (free_addr(), refused_addr());
    let line = format!("controlPlane: {{addresses: [\"{control}\"], wait: {wait}}}");
    (Running::start(&Config::new().outbound(listen).sidecar(&line)), listen)
}
