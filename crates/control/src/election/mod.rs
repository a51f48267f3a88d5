//! Which replica does the jobs that one must do, and proof of it.
//!
//! A [`Replica`] is one running control plane: it holds a lease in the store, and what it writes on behalf of others
//! (publications, its own address, its leaderships) is bound to that lease. It may [`Replica::lead`] named jobs: each
//! is led by one replica at a time, by compare-and-swap on `leader/JOB`.
//!
//! A leader that was paused (a long stall of its machine) may believe in its [`Term`] when another leads already. So
//! every transaction of a leader carries [`Term::fence`], and the store refuses the late one.
//!
//! [`replica`] keeps the lease, [`campaign`] wins and loses jobs, [`housekeeping`] forgets the store's history.
mod campaign;
mod housekeeping;
mod replica;

pub use campaign::Term;
pub use housekeeping::{HISTORY_JOB, housekeep};
pub use replica::{Announced, DEFAULT_TTL, Replica};
