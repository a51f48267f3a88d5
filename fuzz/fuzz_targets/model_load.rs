//! See `checks::loads`.
#![no_main]
#[allow(dead_code, reason = "one target, one check")]
#[path = "../../crates/model/tests/checks/mod.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::loads(data));
