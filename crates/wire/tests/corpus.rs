//! Replays the fuzzers' corpora, and the captured frames, through the fuzz targets' checks.
mod checks;
mod common;

use std::path::Path;

#[test]
fn every_corpus_input_keeps_the_promises() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    for (name, check) in checks::ALL {
        let dir = root.join(name);
        let entries = std::fs::read_dir(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
        let mut inputs = 0;
        for entry in entries {
            check(&std::fs::read(entry.unwrap().path()).unwrap());
            inputs += 1;
        }
        assert!(inputs > 0, "{} is empty", dir.display());
    }
}

#[test]
fn every_captured_frame_keeps_every_promise_cut_anywhere() {
    for frame in common::frames("") {
        for (_, check) in checks::ALL {
            // Every one of short frames; as many of long ones.
            for cut in (0..=frame.bytes.len()).rev().step_by(1 + frame.bytes.len() / 500) {
                check(&frame.bytes[..cut]);
            }
        }
    }
}
