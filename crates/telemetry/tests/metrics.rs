//! What a scrape promises, through the public interface.
mod exposition;

use exposition::{Page, parse};
use raddle_core::Reason;
use raddle_telemetry::{AcceptError, Bounds, Direction, Malformed, Registry};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

fn page(registry: &Registry) -> Page {
    parse(&registry.render()).unwrap_or_else(|why| panic!("{why}"))
}

fn address(n: u32) -> SocketAddr {
    (Ipv4Addr::from(0x0a00_0000 + n), 12200).into()
}

#[test]
fn a_scrape_is_valid_whatever_was_counted() {
    let registry = Registry::new(3);
    page(&registry);
    for worker in 0..3 {
        let shard = registry.shard(worker);
        shard.accepted[Direction::Inbound].inc();
        shard.accept_errors[AcceptError::Emfile].add(2);
        shard.caller_malformed[Malformed::TooLarge].inc();
        shard.turn_events.record(17);
        shard.config_generation.set(4 + worker as i64);
        for name in ["com.example.Echo:1.0", "a\"b\\c\nd} 1", "", "服务", &"x".repeat(70_000)] {
            let cells = shard.service(Direction::Outbound, name);
            cells.ok.add(10);
            cells.rejected[Reason::RateLimited].inc();
            cells.latency.record(1_500_000);
        }
        shard.host(address(1)).requests.inc();
        shard.host("[2001:db8::1]:80".parse().expect("an address")).connections.inc();
    }
    let page = page(&registry);
    let echo = [("direction", "outbound"), ("service", "com.example.Echo:1.0")];
    assert_eq!(page.value("raddle_requests_total", &[&echo[..], &[("outcome", "ok")]].concat()), Some(30.0));
    let rejected = [&echo[..], &[("outcome", "rejected"), ("reason", "RL")]].concat();
    assert_eq!(page.value("raddle_requests_total", &rejected), Some(3.0));
    let never = [&echo[..], &[("outcome", "rejected"), ("reason", "NR")]].concat();
    assert_eq!(
        page.value("raddle_requests_total", &never),
        None,
        "reasons that never occurred take no series"
    );
    let bucket =
        |le| page.value("raddle_request_duration_seconds_bucket", &[&echo[..], &[("le", le)]].concat());
    assert_eq!((bucket("0.001"), bucket("0.0025"), bucket("+Inf")), (Some(0.0), Some(3.0), Some(3.0)));
    assert_eq!(page.value("raddle_request_duration_seconds_sum", &echo), Some(0.0045));
    assert_eq!(page.value("raddle_accept_errors_total", &[("kind", "emfile")]), Some(6.0));
    assert_eq!(page.value("raddle_config_generation", &[]), Some(4.0));
    assert_eq!(page.value("raddle_turn_events_bucket", &[("le", "16")]), Some(0.0));
    assert_eq!(page.value("raddle_turn_events_bucket", &[("le", "32")]), Some(3.0));
    assert_eq!(page.value("raddle_endpoint_requests_total", &[("endpoint", "10.0.0.1:12200")]), Some(3.0));
    assert_eq!(page.value("raddle_workers", &[]), Some(3.0));
    assert!(page.value("process_resident_memory_bytes", &[]).is_some_and(|bytes| bytes > 100_000.0));
    let hostile = [("direction", "outbound"), ("service", "a\"b\\c\nd} 1"), ("outcome", "ok")];
    assert_eq!(page.value("raddle_requests_total", &hostile), Some(30.0));
}

#[test]
fn names_follow_the_conventions_of_prometheus() {
    let page = page(&Registry::new(1));
    for (name, family) in &page.families {
        assert!(name.starts_with("raddle_") || name.starts_with("process_"), "{name}");
        assert_eq!(name.ends_with("_total"), family.kind == "counter", "{name}");
        assert!(!family.help.is_empty() && family.help.ends_with('.'), "{name}: {}", family.help);
        for unit in ["_ms", "_millis", "_us", "_ns", "_kb", "_mib"] {
            assert!(!name.contains(unit), "{name} is in no base unit");
        }
    }
}

#[test]
fn every_metric_of_a_scrape_is_in_the_reference() {
    let registry = Registry::new(1);
    registry.shard(0).service(Direction::Inbound, "s");
    registry.shard(0).host(address(1));
    let reference = raddle_telemetry::reference::metrics_markdown();
    for name in page(&registry).families.keys() {
        assert!(reference.contains(&format!("| `{name}` |")), "{name}");
    }
}

#[test]
fn the_number_of_series_is_bounded_and_no_count_is_lost() {
    let registry = Registry::with_bounds(2, Bounds { services: 10, hosts: 20, ..Bounds::default() });
    let shards = [registry.shard(0), registry.shard(1)];
    let mut held = Vec::new();
    for n in 0..1000u32 {
        let shard = &shards[n as usize % 2];
        let cells = shard.service(Direction::Inbound, &format!("service-{n}"));
        cells.ok.inc();
        let host = shard.host(address(n));
        host.requests.inc();
        // Half of the callers keep their handles for ever, half let go.
        if n % 2 == 0 {
            held.push((cells, host));
        }
    }
    let page = page(&registry);
    let services = page.series("raddle_requests_in_flight");
    let hosts = page.series("raddle_endpoint_requests_total");
    assert!(services.len() <= 11, "{} services", services.len());
    assert!(hosts.len() <= 21, "{} endpoints", hosts.len());
    let ok: f64 = page
        .series("raddle_requests_total")
        .iter()
        .filter(|s| s.label("outcome") == Some("ok"))
        .map(|s| s.value)
        .sum();
    assert!((ok - 1000.0).abs() < 0.5, "{ok} of 1000 requests");
    assert!((hosts.iter().map(|s| s.value).sum::<f64>() - 1000.0).abs() < 0.5);
    let totals = registry.totals();
    assert_eq!(totals.inbound.ok, 1000);
    assert_eq!(totals.endpoints.iter().map(|e| e.requests).sum::<u64>(), 1000);
}

#[test]
fn services_of_both_directions_fold_into_the_other_of_their_own_direction() {
    let registry = Registry::with_bounds(1, Bounds { services: 2, hosts: 0, ..Bounds::default() });
    let shard = registry.shard(0);
    shard.service(Direction::Inbound, "in").ok.add(1);
    shard.service(Direction::Outbound, "out").ok.add(2);
    shard.service(Direction::Outbound, "out2").ok.add(4);
    let totals = registry.totals();
    assert_eq!((totals.inbound.ok, totals.outbound.ok), (1, 6));
    let names: BTreeSet<_> = totals.services.iter().map(|s| (s.direction, s.service.as_str())).collect();
    assert_eq!(names, [("inbound", "other"), ("outbound", "other"), ("outbound", "out2")].into());
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Counts for as long as a scrape reads, and checks that no series ever goes down.
#[test]
fn counters_never_go_down_between_scrapes_while_workers_write() {
    const SCRAPES: usize = 40;
    let registry = Registry::new(2);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Also when a check fails: the scope waits for the writers.
        let stop_writers = SetOnDrop(&stop);
        let writers: Vec<_> = (0..2)
            .map(|worker| {
                let (shard, stop) = (registry.shard(worker), &stop);
                scope.spawn(move || {
                    let cells = shard.service(Direction::Inbound, "busy");
                    let mut n = 0u64;
                    while !stop.load(Relaxed) {
                        n += 1;
                        cells.ok.inc();
                        cells.latency.record(n % 10_000_000);
                        shard.turn_events.record(n % 100);
                        shard.caller_bytes_in.add(128);
                        if n.is_multiple_of(64) {
                            shard.service(Direction::Inbound, &format!("service-{}", n / 64 % 20)).ok.inc();
                        }
                    }
                    n
                })
            })
            .collect();
        let mut before = page(&registry);
        for _ in 0..SCRAPES {
            let now = page(&registry);
            now.assert_not_below(&before);
            before = now;
        }
        drop(stop_writers);
        let written: u64 = writers.into_iter().map(|w| w.join().expect("the writer ran")).sum();
        let busy = registry.latency(Direction::Inbound, "busy");
        assert_eq!(busy.count(), written, "a count was lost");
        assert_eq!(registry.totals().bytes.caller_in, written * 128);
    });
}

#[test]
fn totals_are_json_with_the_flags_as_keys() {
    let registry = Registry::new(1);
    let cells = registry.shard(0).service(Direction::Outbound, "s");
    cells.ok.add(98);
    cells.rejected[Reason::NoHealthy].add(2);
    cells.latency.record(2_000_000);
    let json = serde_json::to_value(registry.totals()).expect("serialises");
    assert_eq!(json["outbound"]["total"], 100);
    assert_eq!(json["outbound"]["rejected"]["UH"], 2);
    assert_eq!(json["services"][0]["service"], "s");
    assert_eq!(json["services"][0]["ok"], 98);
    let p99 = json["services"][0]["latency"]["p99_ms"].as_f64().expect("a number");
    assert!((p99 - 2.0).abs() <= 0.12, "{p99}");
    assert!(json["inbound"]["latency"]["p99_ms"].is_null());
}
