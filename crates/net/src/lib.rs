//! The kernel's edge: epoll, sockets, out-buffers, the real clock.
//!
//! It knows nothing of protocols or rules. Every call is non-blocking except [`Poller::wait`]. A worker owns
//! one [`Poller`], reads into its own scratch memory, and keeps one [`OutBuf`] for each connection that has
//! something to write; an idle connection therefore owns no buffer at all.
//!
//! Start with [`poller`], then [`socket`] and [`outbuf`]. [`original`] is about connections that the kernel
//! captured, [`capture`] builds and applies the rules by which it does.
//!
//! `unsafe` is allowed here and only here, each use with its invariant; today [`memory`] alone needs it.
#![deny(unsafe_code)]

pub mod capture;
pub mod clock;
pub mod memory;
pub mod original;
pub mod outbuf;
pub mod poller;
pub mod slab;
pub mod socket;

pub use clock::Clock;
pub use outbuf::{BufPool, Flushed, OutBuf};
pub use poller::{Event, EventBuf, Interest, Poller, Waker};
pub use slab::{Key, Slab};
