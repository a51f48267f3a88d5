//! The rules that bring an application's connections to its sidecar.
//!
//! Read it in this order: [`Options`] says what is wanted; [`program`] turns it into rules, once, whatever
//! tool they are for; [`iptables`] and [`nft`] write them as text; [`plan`] compares with what is there
//! ([`state`]) and gives the commands; [`apply`] runs them. All but [`apply`] is pure: the same options and
//! state give the same text.
//!
//! Rules stand in chains whose names begin with `RADDLE_`. What had to be made for them (a base chain, a
//! table) is noted by an empty chain `RADDLE_MADE_…` beside them, so that the note is where the rules are and
//! goes when they go; nothing is written to disk.
pub mod apply;
pub mod iptables;
pub mod nft;
pub mod options;
pub mod plan;
pub mod program;
pub mod state;

pub use apply::{Error, Machine};
pub use options::{Backend, Cidr, Families, Family, Options, PortRange, Side};
pub use plan::{Step, install, remove};
pub use state::{Found, State, summary};
