//! A resource's content as one number, so that a reload can keep what has not changed.
use serde::Serialize;
use std::hash::{DefaultHasher, Hasher};
use std::io;

/// Hash of a value's serialised form; positions in files are not part of that form.
pub(crate) fn fingerprint<T: Serialize>(value: &T) -> u64 {
    let mut sink = Sink(DefaultHasher::new());
    // Plain structs with string keys always serialise, and the sink takes everything. Were that to change,
    // two differing values would still differ in what was written up to the failure.
    let _ = serde_json::to_writer(&mut sink, value);
    sink.0.finish()
}

struct Sink(DefaultHasher);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
