//! What the app serves is in the registry as long as it does, and no longer.
use crate::control::Control;
use raddle_testkit::{Ask, BoltClient, BoltServer, Config, PATIENCE, Running, free_addr, until};
use raddle_xds::proto::Instance;
use std::net::{SocketAddr, TcpListener};

const SERVICE: &str = "com.test.Echo:1.0";

fn sidecar(control: &Control, app: SocketAddr, more: &str) -> (Running, SocketAddr) {
    let listen = free_addr();
    let config = Config::new()
        .inbound(listen, app)
        .sidecar(&format!("controlPlane: {{addresses: [\"{}\"]}}", control.addr))
        .sidecar(&format!(
            "publish: {{services: [{{name: \"{SERVICE}\", protocol: bolt, port: {}}}]{more}}}",
            listen.port()
        ));
    (Running::start(&config), listen)
}

/// What was said last: an instance, if it was not a withdrawal.
fn last(control: &Control) -> Option<Instance> {
    control.script.published().pop()?.instance
}

fn is_withdrawn(control: &Control) -> bool {
    control.script.published().last().is_some_and(|p| p.instance.is_none())
}

#[test]
fn what_the_file_says_is_published_and_withdrawn_before_connections_end() {
    let app = BoltServer::echo();
    let control = Control::start();
    let (sidecar, listen) = sidecar(&control, app.addr, ", weight: 70");
    until(PATIENCE, "it is published", || last(&control).is_some());
    let instance = last(&control).unwrap();
    assert_eq!((instance.weight, instance.tls, instance.address.as_str()), (70, false, "127.0.0.1"));
    assert_eq!(
        (instance.services[0].name.as_str(), instance.services[0].protocol.as_str()),
        (SERVICE, "bolt")
    );
    assert_eq!(control.script.published()[0].node.as_ref().unwrap().id, "test");
    let mut c = BoltClient::connect(listen);
    assert_eq!(c.call(&Ask::to(SERVICE).id(1)).head.status, 0);
    until(PATIENCE, "that is known here", || {
        sidecar.admin.json("/mesh")["publication"]["acknowledged"] == true
    });
    sidecar.sidecar().drain();
    until(PATIENCE, "it is withdrawn", || is_withdrawn(&control));
    // Callers that have not heard yet are still served.
    assert_eq!(c.call(&Ask::to(SERVICE).id(2)).head.status, 0);
    until(PATIENCE, "it ends", || sidecar.sidecar().ended());
}

#[test]
fn what_is_published_is_said_again_to_a_control_plane_that_comes_back() {
    let app = BoltServer::echo();
    let mut control = Control::start();
    let (_sidecar, _) = sidecar(&control, app.addr, "");
    until(PATIENCE, "it is published", || last(&control).is_some());
    control.kill();
    control.revive();
    until(PATIENCE, "it is published again", || {
        let all = control.script.published();
        all.len() > 1 && all.iter().all(|p| p.node.is_some() && p.sequence == 1)
    });
}

#[test]
fn an_app_whose_port_is_watched_is_published_only_while_it_accepts() {
    let app = free_addr();
    let control = Control::start();
    let (sidecar, _) = sidecar(&control, app, &format!(", watchPort: {}", app.port()));
    until(PATIENCE, "it is seen that the app is away", || {
        sidecar.admin.json("/mesh")["publication"]["app_away"] == true
    });
    assert!(control.script.published().is_empty());
    let listener = TcpListener::bind(app).unwrap();
    until(PATIENCE, "it is published", || last(&control).is_some());
    drop(listener);
    until(PATIENCE, "it is withdrawn", || is_withdrawn(&control));
}
