//! The sidecar's own answers: each has its status and a sentence with its flag, and comes in time.
use super::{SERVICE, holding, outbound, started, two_hops};
use raddle_testkit::{
    Config, DubboAsk, DubboClient, DubboFrame, DubboServer, PATIENCE, Running, Status, free_addr,
    refused_addr, until,
};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

#[track_caller]
fn expect(f: &DubboFrame, status: Status, flag: &str) {
    assert_eq!((f.status(), f.flag().as_deref()), (status as u8, Some(flag)), "{}", f.text());
}

#[test]
fn an_unknown_service_is_answered_nc_with_its_name_in_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let line = format!("accessLog: {{path: {}, format: json}}", path.display());
    let (sidecar, listen) = started(|c| c.sidecar(&line));
    let mut c = DubboClient::connect(listen);
    expect(&c.call(&DubboAsk::to("com.test.Nobody:1.0:red").id(u64::MAX)), Status::ServiceNotFound, "NC");
    let rejected = ["rejected", "reason=\"NC\""];
    assert_eq!(sidecar.admin.metric("raddle_requests_total", &rejected), 1);
    until(PATIENCE, "the line is written", || {
        let log = std::fs::read_to_string(&path).unwrap_or_default();
        log.contains("com.test.Nobody:1.0:red") && log.contains("\"dubbo\"") && log.contains("\"NC\"")
    });
}

#[test]
fn a_service_without_endpoints_is_answered_uh_and_a_refused_connection_uf() {
    let (_sidecar, listen) = started(|c| c.service("none", &[]).service(SERVICE, &[refused_addr()]));
    let mut c = DubboClient::connect(listen);
    expect(&c.call(&DubboAsk::to("none")), Status::ServiceNotFound, "UH");
    expect(&c.call(&DubboAsk::to(SERVICE)), Status::ClientError, "UF");
}

#[test]
fn a_one_way_request_that_cannot_be_delivered_is_answered_by_nothing() {
    let (_sidecar, listen) = started(|c| c.service(SERVICE, &[refused_addr()]));
    let mut c = DubboClient::connect(listen);
    c.ask(&DubboAsk::to(SERVICE).id(1).one_way());
    c.ask(&DubboAsk::to("unknown").id(2).one_way());
    assert_eq!(c.call(&DubboAsk::to("unknown").id(3)).id(), 3);
    assert_eq!(c.call(&DubboAsk::to(SERVICE).id(4)).id(), 4);
}

#[track_caller]
fn times_out(listen: SocketAddr, ask: &DubboAsk, about: Duration) {
    let began = Instant::now();
    let f = DubboClient::connect(listen).call(ask);
    let took = began.elapsed();
    expect(&f, Status::ServerTimeout, "UT");
    assert!(took >= about && took < about + Duration::from_millis(500), "{took:?} instead of {about:?}");
}

#[test]
fn the_shorter_of_the_policys_and_the_attachments_timeout_holds() {
    let (server, _held) = holding();
    let (_sidecar, listen) =
        started(|c| c.service(SERVICE, &[server.addr]).policy("p", "timeouts: {request: 120ms}"));
    let ms = Duration::from_millis;
    times_out(listen, &DubboAsk::to(SERVICE).timeout(5000), ms(120));
    times_out(listen, &DubboAsk::to(SERVICE).timeout(40), ms(40));
    times_out(listen, &DubboAsk::to(SERVICE).timeout(0), ms(120));
}

#[test]
fn a_late_reply_is_dropped_and_never_given_to_another_request() {
    let (server, held) = holding();
    let (sidecar, listen) = outbound(server.addr);
    let mut c = DubboClient::connect(listen);
    for id in 0..200u64 {
        c.ask(&DubboAsk::to(SERVICE).id(id).timeout(30).content("late"));
    }
    for _ in 0..200 {
        expect(&c.frame(), Status::ServerTimeout, "UT");
    }
    let late: Vec<_> = held.lock().unwrap().drain(..).collect();
    assert_eq!(late.len(), 200);
    for id in 0..200u64 {
        c.ask(&DubboAsk::to(SERVICE).id(id).timeout(5000).content(id.to_string()));
    }
    until(PATIENCE, "all arrive", || held.lock().unwrap().len() == 200);
    for call in late.iter().chain(held.lock().unwrap().iter()) {
        call.echo();
    }
    for _ in 0..200 {
        let f = c.frame();
        assert_eq!(f.content().unwrap(), f.id().to_string().as_bytes());
    }
    sidecar.admin.until_metric("raddle_late_replies_total", &[], |n| n == 200);
}

#[test]
fn more_than_is_allowed_is_answered_uo_as_an_exhausted_pool() {
    let (server, held) = holding();
    let (_sidecar, listen) =
        started(|c| c.workers(1).service(SERVICE, &[server.addr]).policy("p", "pool: {maxOutstanding: 5}"));
    let mut c = DubboClient::connect(listen);
    c.ask(&DubboAsk::to(SERVICE).id(0));
    until(PATIENCE, "it arrives", || held.lock().unwrap().len() == 1);
    for id in 1..12 {
        c.ask(&DubboAsk::to(SERVICE).id(id));
    }
    for _ in 0..7 {
        expect(&c.frame(), Status::Exhausted, "UO");
    }
    until(PATIENCE, "the others arrive", || held.lock().unwrap().len() == 5);
    held.lock().unwrap().drain(..).for_each(|c| {
        c.echo();
    });
    for _ in 0..5 {
        assert_eq!(c.frame().status(), Status::Ok as u8);
    }
}

#[test]
fn a_servers_own_failures_reach_the_caller_unchanged_and_count_as_the_apps() {
    let server = DubboServer::start(|c| {
        match c.frame.content().unwrap()[0] {
            0 => c.throw("out of stock"),
            status => c.fail(status, "why"),
        };
    });
    let (sidecar, listen) = outbound(server.addr);
    let mut c = DubboClient::connect(listen);
    for status in [30u8, 31, 40, 50, 60, 70, 80, 90, 100, 255] {
        let f = c.call(&DubboAsk::to(SERVICE).content([status]));
        assert_eq!((f.status(), f.body()), (status, &b"\x03why"[..]));
    }
    let f = c.call(&DubboAsk::to(SERVICE).content([0]));
    assert_eq!((f.status(), f.body()[0]), (Status::Ok as u8, 0x93));
    assert_eq!(sidecar.admin.metric("raddle_requests_total", &["app_error"]), 11);
}

#[test]
fn rejections_are_exceptions_that_people_can_read_where_that_is_asked_for() {
    let (_sidecar, listen) = started(|c| c.sidecar("replies: readable").service(SERVICE, &[refused_addr()]));
    let mut c = DubboClient::connect(listen);
    let f = c.call(&DubboAsk::to(SERVICE));
    assert_eq!((f.status(), f.flag().as_deref()), (Status::Ok as u8, Some("UF")), "{}", f.text());
    assert!(f.text().contains("org.apache.dubbo.rpc.RpcException"), "{}", f.text());
    // What cannot be read by the caller is said by its status.
    let f = c.call(&DubboAsk::to(SERVICE).serializer(21));
    assert_eq!(f.status(), Status::ServiceNotFound as u8);
}

#[test]
fn another_sidecars_rejection_is_said_again_in_the_form_the_app_asked_for() {
    let (middle, listen) = (free_addr(), free_addr());
    // Its app is not there.
    let _inbound = Running::start(&Config::new().inbound(middle, refused_addr()));
    let config = Config::new().outbound(listen).sidecar("replies: readable").service(SERVICE, &[middle]);
    let _outbound = Running::start(&config);
    let f = DubboClient::connect(listen).call(&DubboAsk::to(SERVICE));
    assert_eq!((f.status(), f.flag().as_deref()), (Status::Ok as u8, Some("UF")), "{}", f.text());
    assert!(f.text().contains("said by the sidecar at"), "{}", f.text());
}

#[test]
fn another_sidecars_rejection_keeps_its_status_where_no_form_is_asked_for() {
    let (_in, _out, listen) = two_hops(refused_addr());
    expect(&DubboClient::connect(listen).call(&DubboAsk::to(SERVICE)), Status::ClientError, "UF");
}

#[test]
fn the_line_of_a_request_whose_caller_is_gone_names_its_side_and_listener() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("access.log");
    let (server, held) = holding();
    let listen = free_addr();
    let line = format!("accessLog: {{path: {}, format: json, sample: 1}}", path.display());
    let sidecar = Running::start(&Config::new().inbound(listen, server.addr).sidecar(&line));
    let mut c = DubboClient::connect(listen);
    c.ask(&DubboAsk::to(SERVICE).id(1 << 40));
    until(PATIENCE, "it arrives", || held.lock().unwrap().len() == 1);
    // A reset: after an orderly end it would still be owed its reply.
    socket2::SockRef::from(&*c.stream.0).set_linger(Some(Duration::ZERO)).unwrap();
    drop(c);
    sidecar.admin.until_metric("raddle_connections_active", &["caller"], |n| n == 0);
    held.lock().unwrap().pop().unwrap().echo();
    let mut text = String::new();
    until(PATIENCE, "the line is written", || {
        text = std::fs::read_to_string(&path).unwrap_or_default();
        text.contains("\"DC\"")
    });
    assert!(text.contains("\"inbound\"") && !text.contains("\"outbound\""), "{text}");
    assert!(text.contains(&listen.to_string()) && !text.contains("\"-\""), "{text}");
}

#[test]
fn the_log_names_protocol_method_and_64_bit_id_on_both_sides() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("in.log"), dir.path().join("out.log"));
    let server = DubboServer::echo();
    let (middle, listen) = (free_addr(), free_addr());
    let log = |p: &std::path::Path| format!("accessLog: {{path: {}, format: json}}", p.display());
    let _in = Running::start(&Config::new().inbound(middle, server.addr).sidecar(&log(&a)));
    let out = Config::new().outbound(listen).service(SERVICE, &[middle]).sidecar(&log(&b));
    let _out = Running::start(&out);
    let id = 0xFEDC_BA98_7654_3210;
    DubboClient::connect(listen).call(&DubboAsk::to(SERVICE).id(id).method("buy"));
    let written = |p: &std::path::Path| std::fs::read_to_string(p).unwrap_or_default();
    until(PATIENCE, "both write", || written(&a).contains("\"buy\"") && written(&b).contains("\"buy\""));
    assert!(written(&b).contains(&id.to_string()), "{}", written(&b));
    for text in [written(&a), written(&b)] {
        assert!(text.contains("\"dubbo\"") && text.contains(SERVICE), "{text}");
    }
}

#[test]
fn a_rule_that_aborts_is_named_and_no_endpoint_is_asked() {
    let server = DubboServer::echo();
    let rule = "{to: {services: [\"pay.Api:1.0\"]}, rules: [{name: none, fault: {abort: {status: 503}}}]}";
    let rule = rule.replace("pay.Api:1.0", SERVICE);
    let (_sidecar, listen) =
        started(|c| c.service(SERVICE, &[server.addr]).document("Route", "no-one", &rule));
    let f = DubboClient::connect(listen).call(&DubboAsk::to(SERVICE));
    assert_eq!(f.flag().as_deref(), Some("FI"));
    assert!(f.text().contains("(rule no-one"), "{}", f.text());
    assert_eq!(server.requests(), 0);
}
