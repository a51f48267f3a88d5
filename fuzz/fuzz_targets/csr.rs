//! Requests for certificates, and certificates that peers show: read or refused, whatever comes.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = raddle_identity::read_request(data);
    let _ = raddle_identity::Leaf::read(data);
});
