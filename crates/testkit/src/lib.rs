//! Real servers, clients and sidecars for behaviour tests, on loopback and plain threads.
//!
//! Not for unit tests, and never a dependency of what is shipped. A test takes a [`BoltServer`] whose every
//! answer it decides, a [`Running`] sidecar in this process (or a [`Child`] in one of its own, where memory,
//! descriptors or signals matter), a [`BoltClient`] that checks what it gets, and [`Load`] as neighbours.
//! Start reading at [`server`] and [`sidecar`]. For HTTP there are
//! raw peers, which can say what no library would: [`h1`], [`h2`], [`h1_upstream`], [`h2_upstream`].
//!
//! Helpers panic with a sentence where a test could not go on.
#![forbid(unsafe_code)]

pub mod child;
pub mod client;
pub mod config;
pub mod dubbo;
pub mod frame;
pub mod h1;
pub mod h1_upstream;
pub mod h2;
pub mod h2_hpack;
pub mod h2_huffman;
pub mod h2_upstream;
pub mod http;
pub mod load;
pub mod peers;
pub mod ports;
pub mod server;
pub mod sidecar;
pub mod tcp;
pub mod wait;

pub use child::Child;
pub use client::BoltClient;
pub use config::Config;
pub use dubbo::{DubboAsk, DubboCall, DubboClient, DubboFrame, DubboServer, Status, dubbo_load};
pub use frame::{Ask, Frame, FrameReader};
pub use load::{Load, LoadReport};
pub use ports::{free_addr, refused_addr};
pub use raddle_wire::bolt::Variant;
pub use server::{BoltServer, Call};
pub use sidecar::{Admin, Running};
pub use tcp::TcpServer;
pub use wait::{PATIENCE, until, until_some};
