//! Dubbo 2 peers with framing and Hessian of their own, so that tests do not believe the codec they test.
mod client;
mod frame;
mod load;
mod server;

pub use client::DubboClient;
pub use frame::{DubboAsk, DubboFrame, DubboReader, Status};
pub use load::dubbo_load;
pub use server::{DubboCall, DubboServer};
