//! A bounded look into Hessian bodies.
pub mod draft;

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
