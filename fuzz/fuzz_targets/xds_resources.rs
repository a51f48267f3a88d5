//! See `raddle_xds::client::check::resources`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| raddle_xds::client::check::resources(data));
