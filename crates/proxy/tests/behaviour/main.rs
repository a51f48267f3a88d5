//! What the data plane promises, proven through sockets: real servers, real callers, a real sidecar.
//!
//! Each file is one subject, each test one promise. Sidecars run in this process; where memory, descriptors
//! or signals matter, the tests are in `process`.
mod answers;
mod drain;
mod dubbo;
mod forward;
mod http_exchange;
mod http_pool;
mod http_reload;
mod http_rules;
mod http_sides;
mod http_tls;
mod http_translated;
mod http_tunnel;
mod http_two;
mod large;
mod liveness;
mod loss;
mod malformed;
mod policies;
mod reload;
mod slow;
mod tcp;
