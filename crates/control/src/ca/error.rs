//! Why the authority does not open, or does not do what it was told.
use super::state::RotationError;
use raddle_identity::{IssuerError, SealError};
use raddle_store::StoreError;
use std::fmt;

/// Why the authority does not open, or does not do what it was told.
#[derive(Debug)]
#[non_exhaustive]
pub enum CaError {
    /// Something that was given is wrong.
    Option(String),
    /// The authority cannot be one, or does not sign.
    Issuer(IssuerError),
    /// The seal key is not good.
    Seal(SealError),
    /// What is in the store cannot be used.
    State(String),
    /// A rotation does not do that.
    Rotation(RotationError),
    /// The authority has vanished from the store.
    Gone,
    /// Others changed the state all the time.
    Contended,
    /// The store did not do it.
    Store(StoreError),
    /// TLS does not take the own certificate.
    Tls(String),
}

impl From<IssuerError> for CaError {
    fn from(e: IssuerError) -> CaError {
        CaError::Issuer(e)
    }
}

impl From<SealError> for CaError {
    fn from(e: SealError) -> CaError {
        CaError::Seal(e)
    }
}

impl From<RotationError> for CaError {
    fn from(e: RotationError) -> CaError {
        CaError::Rotation(e)
    }
}

impl From<StoreError> for CaError {
    fn from(e: StoreError) -> CaError {
        CaError::Store(e)
    }
}

impl fmt::Display for CaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CaError::Option(why) | CaError::State(why) => f.write_str(why),
            CaError::Issuer(e) => e.fmt(f),
            CaError::Seal(e) => e.fmt(f),
            CaError::Rotation(e) => e.fmt(f),
            CaError::Gone => f.write_str("the authority has vanished from the store; restore a backup"),
            CaError::Contended => f.write_str("others change the authority at the same time; try again"),
            CaError::Store(e) => e.fmt(f),
            CaError::Tls(why) => {
                write!(f, "the control plane's own certificate cannot be served with: {why}")
            }
        }
    }
}

impl std::error::Error for CaError {}
