//! Cluster quota: one rate for all sidecars that have a rule together, without asking anybody for most requests.
//!
//! A sidecar tells the quota server once a second what its requests would need ([`Item`]), and gets a *rate lease* that
//! holds for [`LEASE`]; where the limit is too small to be divided, or a sidecar needs too little of it, it asks for
//! *tokens* when requests come. What is not leased out is what tokens are made of, so both together never pass the limit.
//!
//! **Why the sum of leases never passes the limit.** The server counts for every sidecar the greatest lease it may still
//! believe in: all that it was given and that has not ended, from the one it says it holds on. A lease that shrinks is
//! given to somebody else only after the smaller one was acknowledged ([`Item::held`]), or the greater one ended. The
//! sidecar counts a lease's time from when it *sent* the report that the lease answers, so it ends there before it ends
//! at the server, whatever the network does.
//!
//! **Without the server.** Every sidecar holds a *safe share*, given in advance; the sum of them never passes the limit
//! either. When its lease has ended a sidecar uses the smaller of lease and safe share for [`GAP`], then the safe share.
//! By then every lease of a dead server has ended; and a server that lives has missed the sidecar for long enough to have
//! taken its safe share out of what others get, acknowledged or expired.
//!
//! A server that begins (restart, or a shard that moved here) confirms for [`LEARN`] what sidecars say they hold, and
//! gives nothing new: whatever its predecessor gave has ended then. Who uses tokens does meanwhile as if there were no
//! server. It does not know that a limit was lowered just before its time: then each has less as soon as all have said
//! what they hold.
//!
//! [`Server`] is the server's side, [`Client`] the sidecar's, [`Pot`] what its workers share and [`Tap`] a worker's own.
mod client;
mod holder;
mod pot;
mod safe;
mod server;
mod share;
mod token;

pub use client::{Client, Wanted};
pub use pot::{Pot, PotView, Take, Tap};
pub use server::{ClientId, Limit, RuleView, Server};
pub use share::level;

use std::sync::Arc;
use std::time::Duration;

/// How long a lease holds.
pub const LEASE: Duration = Duration::from_secs(3);
/// How often a sidecar reports.
pub const REPORT: Duration = Duration::from_secs(1);
/// How long a server that begins only confirms; not less than [`LEASE`].
pub const LEARN: Duration = Duration::from_secs(3);
/// How long after its lease a sidecar uses no more than it did before, even if its safe share is greater.
pub const GAP: Duration = Duration::from_secs(3);
/// A sidecar that is not known to hold a lease younger than this may be about to use its safe share: it is silent, or does
/// not hear. [`SILENT`] + [`LEASE`] ≤ [`LEASE`] + [`GAP`]: what others must give back for it has ended before it begins.
/// Who is well says so of one of one second ago at least every other.
pub const SILENT: Duration = Duration::from_secs(3);
/// How long the safe share of a silent sidecar is kept for it. One that was cut off for longer uses it beside the others.
pub const KEEP: Duration = Duration::from_secs(60);
/// How long the share of a sidecar whose connection ended is kept: it comes back, or has ended.
pub const CLOSED: Duration = Duration::from_secs(5);
/// How long tokens are good for.
pub const TOKEN: Duration = Duration::from_millis(300);
/// How long a request waits for tokens at most, where answers come at once; where they take longer, twice as long as they
/// do of late, but no longer than [`HELD_MOST`].
pub const HELD: Duration = Duration::from_millis(8);
/// See [`HELD`].
pub const HELD_MOST: Duration = Duration::from_millis(150);
/// How often the server divides anew.
pub const TICK: Duration = Duration::from_millis(250);
/// Requests a second and active sidecar from which leases are given.
pub const LEASED_FROM: f64 = 20.0;
/// What a sidecar that never met a server may use of a limit: it does not know among how many it is.
pub const STRANGER: f64 = 0.01;

/// What a sidecar says of one rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The rule's name.
    pub rule: Arc<str>,
    /// Requests a second that come, those refused among them.
    pub demand: f64,
    /// Requests let through since the last report.
    pub used: u64,
    /// The report whose answer's lease is held; 0 = none.
    pub held: u64,
    /// Requests a second that it lets through at most now, by lease or safe share; 0 if it uses tokens.
    pub holding: f64,
    /// The safe share it holds.
    pub safe: f64,
    /// Tokens it asks for now; 0 = none, and the report is for a lease.
    pub ask: u32,
}

/// What the server gives for one rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// The rule's name.
    pub rule: Arc<str>,
    /// A lease; absent = the one before stays as it is.
    pub lease: Option<Lease>,
    /// Tokens, good for [`TOKEN`].
    pub tokens: u32,
    /// There are no tokens for so long: do not ask.
    pub retry: Duration,
}

/// A lease, for [`LEASE`] from when the report it answers was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lease {
    /// Requests a second; 0 = by tokens only.
    pub rate: f64,
    /// Requests a second without a server.
    pub safe: f64,
}
