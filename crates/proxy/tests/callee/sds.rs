//! The sidecar's identity from another agent's SDS; here the agent is a sidecar's own.
use crate::mesh::{Mesh, http, tls};
use raddle_identity::Identity;
use raddle_proxy::mesh::sds::{Access, Sds};
use raddle_testkit::http::http_server;
use raddle_testkit::{Config, PATIENCE, Running, free_addr, until};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn an_agents_certificate_is_taken_renewed_and_kept_while_the_agent_is_away() {
    let (mesh, listen) = (Mesh::new(), free_addr());
    let server = http_server(|mut c| while c.request().is_some() && c.ok("answer") {});
    let socket = mesh.dir.path().join("agent.sock");
    let config = Config::new()
        .inbound(listen, server.addr)
        .sidecar(&format!("identity: {{sds: \"{}\"}}", socket.display()));
    let sidecar = Running::start(&config);
    until(PATIENCE, "it is missed", || sidecar.admin.has_event("sds_away"));
    assert!(sidecar.admin.get("/ready").contains("no certificate of spec.identity yet"));
    let (put, identity) = watch::channel(Some(Arc::new(mesh.caller("pay", HOUR))));
    // A runtime of its own, so that its connections end with it as with a process.
    let serve = |identity: watch::Receiver<Option<Arc<Identity>>>| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let sds = runtime.block_on(Sds::spawn(&socket, Access::Owner, identity)).unwrap();
        (sds, runtime)
    };
    let agent = serve(identity.clone());
    let serial = || sidecar.admin.json("/encryption")["identity"]["serial"].as_str().map(str::to_owned);
    let is = |i: &Identity| serial() == Some(i.leaf().serial.to_string());
    let first = identity.borrow().clone().unwrap();
    until(PATIENCE, "it is taken", || is(&first));
    let mut stream = tls(listen, &mesh.client("shop"));
    assert!(http(&mut stream, "/").unwrap().contains("answer"));
    let second = Arc::new(mesh.caller("pay", HOUR));
    put.send_replace(Some(second.clone()));
    until(PATIENCE, "it is renewed", || is(&second));
    drop(agent);
    let mut again = tls(listen, &mesh.client("shop"));
    assert!(http(&mut again, "/").unwrap().contains("answer"));
    let third = Arc::new(mesh.caller("pay", HOUR));
    put.send_replace(Some(third.clone()));
    let _agent = serve(identity.clone());
    until(PATIENCE, "it is there again", || is(&third));
    assert!(http(&mut stream, "/").unwrap().contains("answer"), "the connection from before goes on");
}
