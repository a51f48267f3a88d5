//! What the access log promises, on real files, pipes and devices.
use raddle_core::{Protocol, Reason};
use raddle_telemetry::{
    AccessLog, AccessLogOptions, AccessLogTarget, AccessLogger, Direction, Entry, Events, Format, Registry,
    Totals,
};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// No line of these tests is shorter.
const LINE: u64 = 200;
const PATIENCE: Duration = Duration::from_secs(10);

fn entry(id: u64) -> Entry<'static> {
    Entry {
        time: 1_772_366_400_000_000_000 + id,
        direction: Direction::Inbound,
        protocol: Protocol::Dubbo,
        listener: "inbound",
        caller: ([127, 0, 0, 1], 40000).into(),
        connection: 1,
        request_id: id,
        service: "com.example.Echo",
        method: Some("echo"),
        endpoint: None,
        ok: true,
        status: 20,
        flag: None,
        rule: None,
        duration_ns: 1_000_000,
        request_bytes: 100,
        response_bytes: 100,
        retries: 0,
        traceparent: None,
    }
}

struct Bed {
    registry: Arc<Registry>,
    events: Events,
    log: AccessLog,
    logger: AccessLogger,
}

fn bed(path: &Path, sample: f64) -> Bed {
    let registry = Registry::new(1);
    let events = Events::default();
    let target = AccessLogTarget::File(path.to_owned());
    let options = AccessLogOptions { target, format: Format::Json, sample };
    let log = AccessLog::start(options, &registry, events.clone()).expect("started");
    let logger = log.logger(&registry.shard(0));
    Bed { registry, events, log, logger }
}

fn until(what: &str, mut met: impl FnMut() -> bool) {
    let start = Instant::now();
    while !met() {
        assert!(start.elapsed() < PATIENCE, "not in time: {what}");
        std::thread::yield_now();
    }
}

fn dropped(totals: &Totals, cause: &str) -> u64 {
    totals.access_log.dropped.get(cause).copied().unwrap_or(0)
}

fn ids(path: &Path) -> Vec<u64> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let id = |line: &str| serde_json::from_str::<serde_json::Value>(line).ok()?["request_id"].as_u64();
    text.lines().filter_map(id).collect()
}

#[test]
fn every_line_handed_over_is_written_in_order_before_the_log_stops() {
    let dir = tempfile::tempdir().expect("made");
    let path = dir.path().join("access.log");
    let Bed { log, mut logger, registry, .. } = bed(&path, 1.0);
    for turn in 0..100 {
        (0..10).for_each(|i| logger.record(&entry(turn * 10 + i)));
        logger.flush();
    }
    until("the last turn is handed over", || {
        logger.flush();
        logger.pending_bytes() == 0
    });
    assert!(log.stop(PATIENCE));
    assert_eq!(ids(&path), (0..1000).collect::<Vec<_>>());
    assert_eq!(registry.totals().access_log.lines, 1000);
    assert!(registry.totals().access_log.dropped.is_empty());
}

#[test]
fn a_line_is_visible_soon_after_its_turn_without_another() {
    let dir = tempfile::tempdir().expect("made");
    let path = dir.path().join("access.log");
    let mut bed = bed(&path, 1.0);
    for id in 0..5 {
        bed.logger.record(&entry(id));
        bed.logger.flush();
        until("the line is in the file", || ids(&path).len() as u64 == id + 1);
    }
}

#[test]
fn of_successes_the_exact_share_is_logged_and_of_failures_all() {
    let dir = tempfile::tempdir().expect("made");
    let path = dir.path().join("access.log");
    let mut bed = bed(&path, 0.01);
    for id in 0..10_000 {
        bed.logger.record(&entry(id));
    }
    assert_eq!(bed.registry.totals().access_log.lines, 100);
    for id in 0..50 {
        bed.logger.record(&Entry { ok: false, status: 70, ..entry(id) });
        bed.logger.record(&Entry { flag: Some(Reason::Injected), ..entry(id) });
    }
    assert_eq!(bed.registry.totals().access_log.lines, 200);
    bed.log.set_sample(0.0);
    (0..1000).for_each(|id| bed.logger.record(&entry(id)));
    assert_eq!(bed.registry.totals().access_log.lines, 200);
    bed.log.set_sample(f64::NAN);
    bed.logger.record(&entry(0));
    assert_eq!(bed.registry.totals().access_log.lines, 200);
    bed.log.set_sample(1.0);
    (0..1000).for_each(|id| bed.logger.record(&entry(id)));
    assert_eq!(bed.registry.totals().access_log.lines, 1200);
}

#[test]
fn after_rotation_lines_go_to_the_new_file() {
    let dir = tempfile::tempdir().expect("made");
    let (path, old) = (dir.path().join("access.log"), dir.path().join("access.log.1"));
    let mut bed = bed(&path, 1.0);
    bed.logger.record(&entry(1));
    bed.logger.flush();
    until("the first line is written", || ids(&path) == [1]);
    fs::rename(&path, &old).expect("moved");
    bed.log.reopen();
    bed.logger.record(&entry(2));
    bed.logger.flush();
    until("the second line is in the new file", || ids(&path) == [2]);
    assert_eq!(ids(&old), [1]);
}

#[test]
fn a_full_disk_costs_lines_counts_them_and_ends_when_there_is_room() {
    let dir = tempfile::tempdir().expect("made");
    let (path, real) = (dir.path().join("access.log"), dir.path().join("real.log"));
    std::os::unix::fs::symlink("/dev/full", &path).expect("linked");
    let mut bed = bed(&path, 1.0);
    bed.logger.record(&entry(1));
    bed.logger.flush();
    until("the line is counted as lost", || dropped(&bed.registry.totals(), "write_error") == 1);
    assert_eq!(bed.registry.totals().access_log.write_errors.get("enospc"), Some(&1));
    let failed: Vec<_> = bed.events.list(0).iter().map(|e| (e.kind, e.fields[0].1.clone())).collect();
    assert_eq!(failed, [("access_log_failed", "enospc".to_owned())]);

    std::os::unix::fs::symlink(&real, dir.path().join("new")).expect("linked");
    fs::rename(dir.path().join("new"), &path).expect("replaced");
    let mut id = 1;
    until("lines are written again", || {
        id += 1;
        bed.logger.record(&entry(id));
        bed.logger.flush();
        !ids(&real).is_empty()
    });
    until("the event tells", || bed.events.list(0).last().is_some_and(|e| e.kind == "access_log_recovered"));
    until("the last line is handed over", || {
        bed.logger.flush();
        bed.logger.pending_bytes() == 0
    });
    let Bed { log, registry, .. } = bed;
    assert!(log.stop(PATIENCE));
    let totals = registry.totals();
    let lost = dropped(&totals, "write_error") + dropped(&totals, "backlog");
    assert_eq!(
        ids(&real).len() as u64 + lost,
        totals.access_log.lines,
        "a line is neither written nor counted"
    );
}

#[test]
fn a_reader_that_stalls_costs_lines_and_never_the_worker() {
    let dir = tempfile::tempdir().expect("made");
    let path = dir.path().join("pipe");
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).expect("made");
    // Held open for reading and writing, and not read from.
    let stalled = fs::File::options().read(true).write(true).open(&path).expect("opened");
    let mut bed = bed(&path, 1.0);
    let start = Instant::now();
    let mut id = 0;
    while dropped(&bed.registry.totals(), "backlog") < 1000 {
        assert!(start.elapsed() < PATIENCE, "nothing is dropped");
        (0..100).for_each(|i| bed.logger.record(&entry(id + i)));
        bed.logger.flush();
        id += 100;
    }
    assert!(bed.logger.pending_bytes() <= 256 * 1024);
    let accepted = id - dropped(&bed.registry.totals(), "backlog");
    // The worker's buffer, its mailbox, what the writer holds and what the pipe holds.
    assert!(accepted * LINE < 4 * 256 * 1024, "{accepted} lines are kept");
    assert!(!bed.log.stop(Duration::from_millis(50)), "the writer cannot be done");
    drop(stalled);
}

#[test]
fn a_log_replaced_while_workers_write_to_it_loses_nothing() {
    let dir = tempfile::tempdir().expect("made");
    let (old, new) = (dir.path().join("old.log"), dir.path().join("new.log"));
    let Bed { registry, events, log, mut logger } = bed(&old, 1.0);
    let options =
        AccessLogOptions { target: AccessLogTarget::File(new.clone()), format: Format::Json, sample: 1.0 };
    let next = AccessLog::start(options, &registry, events).expect("started");
    drop(log);
    // The worker has not heard of the new log yet.
    logger.record(&entry(1));
    logger.flush();
    until("the line is in the old log", || ids(&old) == [1]);
    logger.record(&entry(2));
    logger = next.logger(&registry.shard(0));
    logger.record(&entry(3));
    logger.flush();
    until("both logs are complete", || ids(&old) == [1, 2] && ids(&new) == [3]);
    assert!(registry.totals().access_log.dropped.is_empty());
}

#[test]
fn lines_after_the_end_are_counted() {
    let dir = tempfile::tempdir().expect("made");
    let Bed { registry, log, mut logger, .. } = bed(&dir.path().join("access.log"), 1.0);
    assert!(log.stop(PATIENCE));
    logger.record(&entry(1));
    drop(logger);
    assert_eq!(dropped(&registry.totals(), "stopped"), 1);
}

#[test]
fn a_target_that_cannot_be_opened_is_an_error_at_the_start() {
    let registry = Registry::new(1);
    let target = AccessLogTarget::File("/proc/no/such/folder/log".into());
    let options = AccessLogOptions { target, format: Format::Text, sample: 1.0 };
    let error = AccessLog::start(options, &registry, Events::default()).expect_err("no such folder");
    assert!(error.to_string().contains("/proc/no/such/folder/log"), "{error}");
}
