//! Starting the `mesh` thread.
use super::link::Link;
use super::local_state::LocalState;
use super::names::Names;
use super::thread::{Parts, node_of, run};
use crate::loader::Loader;
use crate::shared::Shared;
use crate::sidecar::StartError;
use raddle_model::Sidecar;
use raddle_net::socket;
use std::net::{IpAddr, Ipv4Addr, ToSocketAddrs, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};

/// Starts the thread, if a control plane is configured. Nobody waits for the control plane itself.
///
/// # Errors
/// The OS refuses a thread, or the local mesh API's address is taken.
pub(crate) fn start(shared: &Arc<Shared>, loader: &Arc<Loader>) -> Result<(), StartError> {
    let sidecar = shared.config.load().sidecar.clone();
    let Some(control) = sidecar.control_plane.clone() else { return Ok(()) };
    let os = |e| StartError::Os("mesh thread".into(), e);
    let api = match sidecar.local_mesh {
        None => None,
        Some(addr) => Some(socket::listen(addr).map_err(|error| StartError::Listen {
            what: "localMesh".into(),
            addr,
            error,
        })?),
    };
    let (link, asks) = Link::new(shared.registry.mesh.clone());
    let address = address_of(&sidecar);
    let local = Arc::new(LocalState::new(shared.clone(), link.clone(), address));
    let parts = Parts {
        shared: shared.clone(),
        loader: loader.clone(),
        link: link.clone(),
        local,
        names: Arc::new(Mutex::new(Names::default())),
        node: node_of(&sidecar, address),
        control: Arc::new(control),
        agent: None,
    };
    let _ = shared.mesh.set(link);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(os)?;
    let spawned = std::thread::Builder::new().name("mesh".into()).spawn(move || {
        let tasks = tokio::task::LocalSet::new();
        tasks.block_on(&runtime, async move {
            if let Some(fd) = api {
                serve_local(fd, &parts);
            }
            run(parts, asks).await;
        });
    });
    spawned.map(|_| ()).map_err(os)
}

fn serve_local(fd: OwnedFd, parts: &Parts) {
    match tokio::net::TcpListener::from_std(std::net::TcpListener::from(fd)) {
        Ok(listener) => {
            tokio::task::spawn_local(super::local::serve(listener, parts.local.clone()));
        }
        Err(e) => tracing::error!(error = %e, "the local mesh API"),
    }
}

/// The address callers connect to: the configured one, the first inbound listener's, or the one this machine has
/// on the way to the control plane.
fn address_of(sidecar: &Sidecar) -> Option<IpAddr> {
    let configured = sidecar.publish.as_ref().and_then(|p| p.address);
    let listener = sidecar.inbound.iter().map(|l| l.listen.ip()).find(|ip| !ip.is_unspecified());
    configured.or(listener).or_else(|| towards(sidecar))
}

/// No packet is sent: connecting a datagram socket only chooses the route.
fn towards(sidecar: &Sidecar) -> Option<IpAddr> {
    let control = sidecar.control_plane.as_ref()?.addresses.first()?;
    let host = control.host.trim_start_matches('[').trim_end_matches(']');
    let local = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let Some(to) = (host, control.port).to_socket_addrs().ok().and_then(|mut all| all.next()) else {
        return local;
    };
    let any: IpAddr = if to.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { "::".parse().ok()? };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    match socket.connect(to).and_then(|()| socket.local_addr()) {
        Ok(own) => Some(own.ip()),
        Err(_) => local,
    }
}
