//! What every Raddle crate agrees on: reject [`Reason`]s, the data plane's [`Error`] model, the
//! passed-in [`Time`], and the names of [`Protocol`]s.
//!
//! It holds no I/O and reads no clock. Start with [`reason`]: a user who asks "why did my request fail"
//! ends there.
#![forbid(unsafe_code)]

pub mod error;
pub mod hash;
pub mod protocol;
pub mod reason;
pub mod time;

pub use error::{Error, Source};
pub use hash::share;
pub use protocol::Protocol;
pub use reason::Reason;
pub use time::Time;
