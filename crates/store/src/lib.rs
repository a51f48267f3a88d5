//! The control plane's memory: keys and values with revisions, watched, changed by compare-and-swap, bound to leases.
//!
//! One trait, [`Store`], and two engines: `embedded` (one file, no server) and `etcd` (several control planes share
//! it). What the keys mean is the business of whoever stores them. Both engines pass one suite (`tests/conformance`).
//!
//! Start with [`Store`].
#![forbid(unsafe_code)]

mod backup;
mod embedded;
mod etcd;
mod follow;
mod limits;
mod types;

pub use backup::{BackupError, Restore, Summary, export, import};
pub use embedded::{Embedded, EmbeddedOptions};
pub use etcd::{Etcd, EtcdOptions, EtcdTls};
pub use follow::{Follow, Following, Mirror};
pub use limits::*;
pub use types::*;
