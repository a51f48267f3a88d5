//! SOFA's dialect: the draft of Hessian 2 that hessian 3.x implements.
use super::Peek;

/// `SofaRequest.methodName` of a serialised request.
pub fn request_method(_content: &[u8]) -> Peek<'_> {
    Peek::Absent
}
