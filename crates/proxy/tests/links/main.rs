//! Links to endpoints: encrypted, switched on and off under traffic, and what happens where TLS cannot be had. Two real
//! sidecars, and between them a tap that keeps the bytes.
mod fallback;
mod http;
mod many;
mod mesh;
mod rpc;
mod streams;
mod trust;
