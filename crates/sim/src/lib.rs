//! The simulator: models of servers and their callers, in simulated time, driving the code that ships.
//!
//! A [`Scenario`] says what an app is made of (cores, threads, interfaces with their costs), what befalls it and when.
//! [`run`] plays it with one [`Limiter`] between callers and app and gives a [`Run`]: what happened in each second.
//! [`Measures`] are the figures taken from it, [`bars`] what is asked of them.
//!
//! Everything is decided by the seed: nothing here reads a clock, a file or chance from outside. The same seed gives
//! every limiter the same arrivals with the same demands.
//!
//! Start reading at [`mod@scenario`], then [`server`], then `world`, which plays.
#![forbid(unsafe_code)]
// Times are compared with the very values they were taken from, and unit vectors are exact.
#![allow(clippy::float_cmp)]

pub mod bars;
mod chance;
pub mod limiter;
pub mod measure;
pub mod plot;
pub mod scenario;
pub mod server;
mod world;

pub use limiter::{Limiter, Scheme};
pub use measure::{Measures, Run, Second};
pub use scenario::Scenario;
pub use world::run;
