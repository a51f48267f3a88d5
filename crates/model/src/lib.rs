//! Resources: what they are, how their YAML is read and validated.
#![forbid(unsafe_code)]

pub mod resources;

pub use resources::*;
