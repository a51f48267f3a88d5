//! The demo as a script runs it.
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

fn demo(tmp: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raddle"));
    command.args(["demo", "--headless", "--rate", "500"]).args(args).env("TMPDIR", tmp).stdin(Stdio::null());
    command
}

/// Processes whose command line names a file under `dir`: the demo's sidecars.
fn sidecars(dir: &Path) -> usize {
    let dir = dir.display().to_string();
    let names_it = |entry: &std::fs::DirEntry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(&dir)
    };
    std::fs::read_dir("/proc").unwrap().flatten().filter(names_it).count()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
}

#[test]
fn the_tour_loses_only_what_a_kill_cuts_off_and_leaves_nothing_behind() {
    let tmp = tempfile::tempdir().unwrap();
    let output = demo(tmp.path(), &["--duration", "5s"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    for part in [
        "weights 80/10/10",
        "kill -9 order-2",
        "20 revisions",
        "rolled back by its guard",
        "canary rule",
        "requests sent",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0, "its files are removed");
    assert_eq!(sidecars(tmp.path()), 0);
}

#[test]
fn a_signal_ends_the_tour_in_order() {
    let tmp = tempfile::tempdir().unwrap();
    let mut child = demo(tmp.path(), &[]).stdout(Stdio::piped()).spawn().unwrap();
    until("sidecars run", || sidecars(tmp.path()) == 6);
    signal(&child, "-INT");
    let mut text = String::new();
    child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    child.wait().unwrap();
    assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0, "{text}");
    assert_eq!(sidecars(tmp.path()), 0);
}

#[test]
fn a_demo_that_is_killed_takes_its_processes_with_it() {
    let tmp = tempfile::tempdir().unwrap();
    let mut child = demo(tmp.path(), &[]).stdout(Stdio::null()).spawn().unwrap();
    until("sidecars run", || sidecars(tmp.path()) == 6);
    child.kill().unwrap();
    child.wait().unwrap();
    until("its sidecars end", || sidecars(tmp.path()) == 0);
}

#[test]
fn encryption_goes_on_and_off_under_load_without_a_failed_request() {
    let tmp = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_raddle"));
    command.args(["demo", "encryption", "--headless", "--duration", "10s", "--rate", "200"]);
    let output = command.env("TMPDIR", tmp.path()).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}\n{complaints}");
    for part in [
        "card=4929-1234",
        "100 % of the links encrypted",
        "the card number was read 0 times",
        "refused: RBAC, by LinkEncryption/pay",
        "all links in plaintext again",
        "No request failed",
        "raddle status encryption pay",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0, "its files are removed");
    assert_eq!(sidecars(tmp.path()), 0);
}

#[test]
fn a_surge_is_told_with_the_limiter_and_without_and_nothing_is_left_behind() {
    let tmp = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_raddle"));
    command.args(["demo", "limit", "--headless", "--duration", "20s", "--cores", "0.3"]);
    let output = command.env("TMPDIR", tmp.path()).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}\n{complaints}");
    for part in [
        "shop asks for 100 interfaces",
        "is asked for 5 times as often",
        "AdaptiveLimit/order in mode: observe",
        "Surge with the limiter   : the 99 others got",
        "Surge without the limiter: the 99 others got",
        "raddle explain limit order",
    ] {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
    assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0, "its files are removed");
    assert_eq!(sidecars(tmp.path()), 0);
}
