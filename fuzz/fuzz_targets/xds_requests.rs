//! See `checks::requests`.
#![no_main]
#[path = "../../crates/xds/tests/checks/mod.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::requests(data));
