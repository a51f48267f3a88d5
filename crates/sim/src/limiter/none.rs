//! No limiter at all: what happens then.
use super::{Call, End, Limiter};

/// Admits everything.
#[derive(Debug)]
pub struct Unlimited;

impl Limiter for Unlimited {
    fn admit(&mut self, _: &Call, _: f64) -> bool {
        true
    }

    fn complete(&mut self, _: &Call, _: &End, _: f64) {}
}
