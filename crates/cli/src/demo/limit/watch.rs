//! Looks once a second at the app's CPU, and at what the sidecar says happened.
use super::ledger::Ledger;
use super::mesh::Mesh;
use crate::demo::board::{Board, Mood};
use crate::http;
use raddle_bench::cpu::CpuMeter;
use serde::Deserialize;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// An event of the sidecar, as far as it is looked at.
#[derive(Debug, Deserialize)]
struct Event {
    seq: u64,
    severity: String,
    subject: String,
    message: String,
}

/// Looks until `over`.
pub(super) fn run(mesh: &Mesh, board: &Board, ledger: &Ledger, over: &AtomicBool) {
    let mut meter = CpuMeter::start(mesh.app_pid());
    let (mut last, mut used, mut seen) = (Instant::now(), 0.0, 0);
    while !over.load(Ordering::Relaxed) {
        if last.elapsed() < Duration::from_secs(1) {
            std::thread::sleep(Duration::from_millis(20));
            continue;
        }
        let now = meter.sample().as_secs_f64();
        ledger.tell_cores((now - used) / last.elapsed().as_secs_f64());
        (used, last) = (now, Instant::now());
        for event in events(mesh.admin, seen) {
            seen = seen.max(event.seq);
            if event.subject.starts_with("AdaptiveLimit") {
                let mood = if event.severity == "info" { Mood::Good } else { Mood::Bad };
                board.note(mood, format!("order-1: {}", event.message));
            }
        }
    }
}

fn events(admin: SocketAddr, since: u64) -> Vec<Event> {
    let answer = http::get(admin, &format!("/events?since={since}"), Duration::from_millis(500));
    let Some(answer) = answer.ok().filter(|a| a.status == 200) else { return Vec::new() };
    serde_json::from_str(&answer.body).unwrap_or_default()
}
