//! `raddle store`: as an operator meets it.
use bytes::Bytes;
use raddle_store::{Embedded, EmbeddedOptions, Op, Outcome, Store, Txn};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

fn raddle(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_raddle")).arg("store").args(args).output().expect("the binary runs")
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn says(output: &Output, code: i32, word: &str) {
    assert_eq!(output.status.code(), Some(code), "{}", text(output));
    assert!(text(output).contains(word), "{:?} should say {word:?}", text(output));
}

fn open(file: &Path) -> Embedded {
    Embedded::open(file, EmbeddedOptions::default()).expect("opened")
}

fn block<T>(wait: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(wait)
}

#[test]
fn a_store_is_backed_up_lost_and_restored() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, lost) = (folder.path().join("control.db"), folder.path().join("new.db"));
    let backup = folder.path().join("mesh.backup");
    let path = |p: &Path| p.display().to_string();
    let (file_name, new_name, backup_name) = (path(&file), path(&lost), path(&backup));

    says(&raddle(&["backup", "--store", &file_name, &backup_name]), 1, "no such store");
    assert!(!file.exists(), "a store that is not there is not made");
    let store = open(&file);
    let op = Op::Put { key: "rules/a".into(), value: Bytes::from_static(b"rule"), lease: None };
    let outcome = block(store.commit(Txn { ops: vec![op], ..Txn::default() })).expect("answered");
    assert!(matches!(outcome, Outcome::Done(_)));
    says(
        &raddle(&["backup", "--store", &file_name, &backup_name]),
        4,
        "control.db is open in another process",
    );
    drop(store);

    says(&raddle(&["backup", "--store", &file_name, &backup_name]), 0, "1 entries of revision 1");
    let mode = std::fs::metadata(&backup).expect("made").permissions().mode();
    assert_eq!(mode & 0o077, 0, "others may read it: {mode:o}");
    says(&raddle(&["backup", "--store", &file_name, &backup_name]), 1, "--force");
    says(&raddle(&["backup", "--force", "--store", &file_name, &backup_name]), 0, "1 entries");

    says(&raddle(&["restore", "--store", &new_name, &backup_name]), 0, "1 written, 0 removed");
    let found = block(open(&lost).get("rules/a")).expect("answered").expect("there");
    assert_eq!(found.value, "rule");
    says(&raddle(&["restore", "--store", &new_name, &backup_name]), 1, "--overwrite");
    says(&raddle(&["restore", "--overwrite", "--store", &new_name, &backup_name]), 0, "0 written, 0 removed");

    let mut damaged = std::fs::read(&backup).expect("read");
    damaged.truncate(damaged.len() - 1);
    std::fs::write(&backup, damaged).expect("written");
    says(&raddle(&["restore", "--overwrite", "--store", &new_name, &backup_name]), 1, "damaged");
}

#[test]
fn what_cannot_be_reached_or_makes_no_sense_is_told() {
    says(&raddle(&["backup", "x"]), 2, "--store");
    says(&raddle(&["backup", "--store", "a", "--etcd", "http://127.0.0.1:1", "x"]), 2, "cannot be used with");
    says(&raddle(&["backup", "--etcd", "ftp://127.0.0.1:1", "x"]), 1, "http or https");
    says(&raddle(&["backup", "--etcd", "https://127.0.0.1:1", "x"]), 1, "authority");
    says(
        &raddle(&["backup", "--etcd", "http://127.0.0.1:1", "--etcd-user", "u", "x"]),
        2,
        "RADDLE_ETCD_PASSWORD",
    );
    says(&raddle(&["backup", "--etcd", "http://127.0.0.1:1", "x"]), 4, "127.0.0.1:1");
}
