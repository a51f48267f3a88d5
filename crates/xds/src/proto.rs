//! Raddle's own messages and services, package `raddle.v1`, generated from `proto/` (`RADDLE_BLESS=1 cargo test -p
//! raddle-xds --test proto` writes them anew; no protoc is needed, neither to build nor for that).
#![allow(missing_docs, clippy::all, clippy::pedantic, unreachable_pub, rust_2018_idioms)]
include!("proto/raddle.v1.rs");
