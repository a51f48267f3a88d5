//! With a control plane: services come on demand, change under load, outlive it, and are there again from the cache.
use crate::control::Control;
use raddle_testkit::h1::Client;
use raddle_testkit::{Ask, BoltClient, BoltServer, Config, Load, PATIENCE, Running, free_addr, until};
use std::net::SocketAddr;
use std::time::Duration;

const SERVICE: &str = "com.test.Echo:1.0";

fn sidecar(control: &Control, more: &str) -> (Running, SocketAddr) {
    let listen = free_addr();
    let line = format!("controlPlane: {{addresses: [\"{}\"], wait: 10s{more}}}", control.addr);
    (Running::start(&Config::new().outbound(listen).sidecar(&line)), listen)
}

#[test]
fn the_first_request_brings_its_service() {
    let server = BoltServer::echo();
    let control = Control::start();
    control.service(SERVICE, &[server.addr]);
    for protocol in ["delta", "sotw", "auto"] {
        let (_sidecar, listen) = sidecar(&control, &format!(", protocol: {protocol}"));
        let reply = BoltClient::connect(listen).call(&Ask::to(SERVICE).id(1));
        assert_eq!((reply.head.status, reply.flag()), (0, None), "{protocol}");
    }
}

#[test]
fn a_service_the_control_plane_does_not_know_is_refused_at_once() {
    let control = Control::start();
    let (sidecar, listen) = sidecar(&control, "");
    until(PATIENCE, "it is connected", || sidecar.admin.metric("raddle_control_plane_connected", &[]) == 1);
    let mut c = Client::connect(listen);
    assert!(c.send("GET / HTTP/1.1\r\nhost: nobody.mesh\r\n\r\n"));
    let response = c.response("GET").unwrap();
    let body = String::from_utf8_lossy(&response.body).into_owned();
    assert!(body.contains("service nobody.mesh: not known to the control plane"), "{body}");
    // Once it is there, it is found without anybody asking again.
    let server = raddle_testkit::http::http_server(|mut c| {
        while c.request().is_some() {
            c.ok(b"here");
        }
    });
    control.service("nobody.mesh", &[server.addr]);
    until(PATIENCE, "it is served", || {
        assert!(c.send("GET / HTTP/1.1\r\nhost: nobody.mesh\r\n\r\n"));
        c.response("GET").unwrap().status() == 200
    });
}

#[test]
fn endpoints_change_under_load_and_no_request_is_lost() {
    let servers: Vec<BoltServer> = (0..4).map(|_| BoltServer::echo()).collect();
    let control = Control::start();
    control.service(SERVICE, &[servers[0].addr]);
    let (_sidecar, listen) = sidecar(&control, "");
    assert_eq!(BoltClient::connect(listen).call(&Ask::to(SERVICE).id(1)).head.status, 0);
    let load = Load::on(listen, SERVICE, 4, 4);
    for round in 0..12 {
        let now = &servers[round % 4];
        let before = now.accepted();
        control.service(SERVICE, &[now.addr]);
        if round < 4 && round > 0 {
            until(PATIENCE, "the new one is used", || now.accepted() > before);
        }
    }
    load.goes_on(500);
    load.stop().expect_all_ok();
}

#[test]
fn a_control_plane_that_dies_takes_nothing_away_and_is_heard_again_when_it_is_back() {
    let (one, two) = (BoltServer::echo(), BoltServer::echo());
    let mut control = Control::start();
    control.service(SERVICE, &[one.addr]);
    control.service("gone:1.0", &[one.addr]);
    let (sidecar, listen) = sidecar(&control, "");
    let mut c = BoltClient::connect(listen);
    assert_eq!(c.call(&Ask::to(SERVICE).id(1)).head.status, 0);
    assert_eq!(c.call(&Ask::to("gone:1.0").id(1)).head.status, 0);
    control.kill();
    until(PATIENCE, "it is noticed", || sidecar.admin.metric("raddle_control_plane_connected", &[]) == 0);
    assert_eq!(c.call(&Ask::to(SERVICE).id(2)).head.status, 0);
    // What changes meanwhile is caught up with, removals included.
    control.service(SERVICE, &[two.addr]);
    control.remove("gone:1.0");
    control.revive();
    until(PATIENCE, "the new endpoint is used", || {
        assert_eq!(c.call(&Ask::to(SERVICE).id(3)).head.status, 0);
        two.accepted() > 0
    });
    until(PATIENCE, "the service that went is gone", || {
        c.call(&Ask::to("gone:1.0").id(4)).flag().as_deref() == Some("NC")
    });
}

#[test]
fn a_start_without_control_plane_uses_the_cache() {
    let server = BoltServer::echo();
    let mut control = Control::start();
    control.service(SERVICE, &[server.addr]);
    let dir = tempfile::tempdir().unwrap();
    // Made if it is not there.
    let folder = dir.path().join("state");
    let cache = format!(", cache: \"{}\"", folder.display());
    {
        let (_sidecar, listen) = sidecar(&control, &cache);
        assert_eq!(BoltClient::connect(listen).call(&Ask::to(SERVICE).id(1)).head.status, 0);
        let files = || std::fs::read_dir(&folder).map_or(0, Iterator::count);
        until(PATIENCE, "it is on disk", || files() > 0);
    }
    control.kill();
    let (sidecar, listen) = sidecar(&control, &cache);
    assert_eq!(BoltClient::connect(listen).call(&Ask::to(SERVICE).id(1)).head.status, 0);
    until(PATIENCE, "it is ready", || sidecar.admin.try_get("/ready").is_some_and(|(s, _)| s == 200));
    assert_eq!(sidecar.admin.json("/mesh")["cached"], true);
}

#[test]
fn a_bad_rule_is_refused_alone_and_told_with_what_runs() {
    let server = BoltServer::echo();
    let control = Control::start();
    control.service(SERVICE, &[server.addr]);
    control.rule(
        "TrafficPolicy",
        "good",
        &format!("{{\"to\":{{\"services\":[\"{SERVICE}\"]}},\"timeouts\":{{\"request\":\"3s\"}}}}"),
    );
    control.rule("TrafficPolicy", "bad", "{\"timeouts\":{\"request\":\"soon\"}}");
    let (sidecar, listen) = sidecar(&control, "");
    assert_eq!(BoltClient::connect(listen).call(&Ask::to(SERVICE).id(1)).head.status, 0);
    let ran = |r: &raddle_xds::proto::ReportRequest| r.running.iter().any(|r| r.rule == "TrafficPolicy/good");
    let told = |r: &raddle_xds::proto::ReportRequest| {
        r.refused.iter().any(|r| r.name == "TrafficPolicy/bad" && r.reason.contains("soon"))
    };
    until(PATIENCE, "a report says both", || control.script.reports().iter().any(|r| ran(r) && told(r)));
    let report = control.script.reports().into_iter().rfind(|r| ran(r)).unwrap();
    let pairs = report.running.iter().map(|r| (r.rule.clone(), r.revision.clone()));
    assert_eq!(report.digest, raddle_xds::digest::digest(pairs));
    assert!(report.running.iter().all(|r| r.rule != "TrafficPolicy/bad"));
    assert_eq!(sidecar.admin.json("/clusters")[0]["policy"], "good");
    until(PATIENCE, "the request is reported", || {
        let all = control.script.reports();
        all.iter().flat_map(|r| &r.stats).any(|s| s.service == SERVICE && !s.inbound && s.requests == 1)
    });
}

#[test]
fn what_is_idle_is_unsubscribed_and_comes_again_when_it_is_called() {
    let server = BoltServer::echo();
    let control = Control::start();
    control.service(SERVICE, &[server.addr]);
    let (sidecar, listen) = sidecar(&control, ", idle: 1s");
    let mut c = BoltClient::connect(listen);
    assert_eq!(c.call(&Ask::to(SERVICE).id(1)).head.status, 0);
    let services = |n: usize| {
        until(Duration::from_secs(30), "the services", || {
            sidecar.admin.json("/clusters").as_array().map(Vec::len) == Some(n)
        });
    };
    services(1);
    services(0);
    assert_eq!(c.call(&Ask::to(SERVICE).id(2)).head.status, 0);
}

#[test]
fn an_endpoint_that_is_the_sidecars_own_listener_is_left_out_and_told_of() {
    let server = BoltServer::echo();
    let control = Control::start();
    let (sidecar, listen) = sidecar(&control, "");
    control.service(SERVICE, &[listen, server.addr]);
    let mut c = BoltClient::connect(listen);
    for id in 1..=20 {
        let reply = c.call(&Ask::to(SERVICE).id(id));
        assert_eq!((reply.head.status, reply.flag()), (0, None));
    }
    let clusters = sidecar.admin.get("/clusters");
    assert!(!clusters.contains(&listen.to_string()), "{clusters}");
    assert!(sidecar.admin.has_event("endpoint_loops"));
}
