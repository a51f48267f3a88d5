//! A bounded look into Hessian bodies, and the little writer that replies need.
//!
//! Two dialects are met: SOFA's, the draft of Hessian 2 that hessian 3.x implements ([`draft`]), and Dubbo's,
//! the finished Hessian 2.0 of hessian 4.x ([`v2`]). They share strings and numbers in part, and differ in
//! lists, maps and objects.
//!
//! Reading never allocates, never recurses deeper than a small constant, and does work linear in the bytes
//! it is given; give it a window, not a body.
mod cursor;
pub mod draft;
mod text;
pub mod v2;

pub use cursor::Stop;

/// The outcome of a peek.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peek<'a> {
    /// What was looked for.
    Found(&'a [u8]),
    /// The bytes end before it.
    Cut,
    /// It is not there, or the bytes are not what they should be.
    Absent,
}
