//! See `checks::bolt_rewrite`.
#![no_main]
#[allow(dead_code, unused_imports, reason = "one target, one check")]
#[path = "../../crates/wire/tests/checks/mod.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|data: &[u8]| checks::bolt_rewrite(data));
