//! What the machine of the app beside the sidecar has left: read once a second, from its cgroup, `/proc` or itself.
//!
//! [`Sensor`] is all others need. It finds the app ([`find`]: by its port, a file with its process id, or a cgroup's
//! folder), decides what of it to read ([`plan`]), reads it ([`reading`]; an app's own word: [`http`]), and makes
//! [`Sample`](raddle_policy::limit::adaptive::Sample)s of the differences. What the kernel's files say is read by pure
//! functions over text ([`text`], [`table`]).
//!
//! It decides nothing about requests. Files are read below a root that tests can move, and no longer than a bound.
#![forbid(unsafe_code)]

mod error;
pub mod find;
pub mod http;
pub mod plan;
pub mod reading;
mod root;
mod sensor;
pub mod table;
pub mod text;

pub use error::SenseError;
pub use root::Root;
pub use sensor::Sensor;
