//! Limits that come from the control plane, and what is reported of them.
use super::control::Control;
use raddle_testkit::{Config, PATIENCE, Running, free_addr, until, until_some};
use raddle_xds::proto::Limiting;
use std::net::TcpListener;

fn last(control: &Control) -> Option<Limiting> {
    control.script.reports().pop().and_then(|r| r.limiting)
}

fn sidecar(control: &Control, app: &TcpListener) -> Running {
    let (listen, forward) = (free_addr(), app.local_addr().expect("an address"));
    let line = format!("controlPlane: {{addresses: [\"{}\"]}}", control.addr);
    Running::start(&Config::new().inbound(listen, forward).sidecar(&line))
}

#[test]
fn an_adaptive_limit_arrives_reads_the_app_reports_and_goes() {
    let control = Control::start();
    let app = TcpListener::bind("127.0.0.1:0").expect("a port");
    control.rule("AdaptiveLimit", "shop", "{\"threshold\":0.7}");
    let running = sidecar(&control, &app);
    // This test is the app and the sidecar at once.
    let pid = std::process::id().to_string();
    let report = until_some(PATIENCE, "a report with what is read", || {
        last(&control).filter(|l| l.rule == "AdaptiveLimit/shop" && l.sensing.contains(&pid))
    });
    assert_eq!((&*report.mode, report.tier, report.since_ms), ("enforce", 0, 0));
    let page = until_some(PATIENCE, "the page says the same", || {
        let page: serde_json::Value = serde_json::from_str(&running.admin.get("/limits/explain")).ok()?;
        (page["rules"][0]["rule"] == "AdaptiveLimit/shop").then_some(page)
    });
    assert!(page["sidecars"][0]["sensing"].as_str().is_some_and(|s| s.contains(&pid)), "{page}");
    until(PATIENCE, "people are told once it reads", || {
        running.admin.get("/events").contains("limit_signal")
    });

    control.rule(
        "AdaptiveLimit",
        "shop",
        "{\"threshold\":0.7,\"mode\":\"observe\",\"signal\":{\"from\":\"latency\"}}",
    );
    until(PATIENCE, "the change is reported", || {
        last(&control).is_some_and(|l| l.mode == "observe" && l.sensing.contains("latency alone"))
    });
    control.unrule("AdaptiveLimit", "shop");
    until(PATIENCE, "the rule is gone", || last(&control).is_some_and(|l| l.rule.is_empty()));
}
