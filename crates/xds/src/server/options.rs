//! Bounds of the server.
use std::time::Duration;

/// Bounds of the server. The default fits a control plane for tens of thousands of sidecars.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// What one stream may ask for.
    pub limits: Limits,
    /// What all of them may.
    pub admission: Admission,
    /// Longest request, bytes.
    pub request_bytes: usize,
    /// Responses that wait for a slow client; changes coalesce beyond.
    pub queue: usize,
    /// Streams that are shed end within this time, spread over it.
    pub shed_over: Duration,
    /// Name of this replica, for clients' logs.
    pub identifier: String,
}

/// Bounds of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most names subscribed to, of all kinds together.
    pub names: usize,
    /// Longest name, bytes.
    pub name_bytes: usize,
    /// A delta response of more bytes is split (and a state-of-the-world one of a kind where absence means nothing).
    pub response_bytes: usize,
    /// Most delta responses of a kind that wait for their acknowledgement.
    pub in_flight: usize,
}

/// Load protection.
#[derive(Clone, Debug, PartialEq)]
pub struct Admission {
    /// New streams a second.
    pub rate: f64,
    /// New streams at once, after a quiet time.
    pub burst: f64,
    /// Most streams.
    pub streams: usize,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            limits: Limits::default(),
            admission: Admission::default(),
            request_bytes: 16 << 20,
            queue: 16,
            shed_over: Duration::from_secs(10),
            identifier: "raddle".into(),
        }
    }
}

impl Default for Limits {
    fn default() -> Limits {
        // gRPC's clients take messages of 4 MiB; the rest is room for the envelope.
        Limits { names: 100_000, name_bytes: 4096, response_bytes: (4 << 20) - (64 << 10), in_flight: 4 }
    }
}

impl Default for Admission {
    fn default() -> Admission {
        Admission { rate: 500.0, burst: 1000.0, streams: 20_000 }
    }
}
