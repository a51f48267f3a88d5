//! `raddle bench`: an echo server, a load generator, and the comparison with other proxies.
//!
//! It is for figures that can be trusted: open-loop load counts latency from the *intended* send time,
//! every reply is checked against its request, the generator reports its own CPU cost, and peers are
//! measured in interleaved rounds in one run on one machine. It is not part of the data plane and shares
//! no code with it: the framing of every protocol ([`bolt`], [`dubbo`], and those of HTTP) is its own on purpose,
//! because a generator that shared the proxy's codec would share its mistakes.
//!
//! Start with [`load`](load()) for the generator, [`serve`](serve()) for the server,
//! [`compare`](compare()) for the tables.
#![forbid(unsafe_code)]

pub mod bolt;
pub mod burn;
pub mod cgroup;
pub mod compare;
pub mod cpu;
pub mod dubbo;
mod http1;
mod http2;
pub mod limit;
pub mod load;
pub mod mix;
mod poll;
mod protocol;
pub mod serve;
mod stream;
mod token;

pub use burn::BurnOptions;
pub use compare::{CompareOptions, CompareReport, compare};
pub use limit::{LimitOptions, LimitReport, limit};
pub use load::{LoadOptions, LoadResult, Progress, load};
pub use mix::{MixOptions, MixResult, mix};
pub use protocol::{Protocol, UnknownProtocol};
pub use serve::{ServeOptions, Server, serve};
