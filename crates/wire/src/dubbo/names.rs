//! Keys that may be reserved names ([`crate::caller`]), as lenient readers take them.
use crate::caller::{CALLER, is_reserved};
use crate::hessian::v2::{Value, ascii};

/// Whether a key may be a reserved name: it is one, or is written such that only a closer look tells.
#[inline]
pub(super) fn suspicious(key: Value<'_>) -> bool {
    match key {
        Value::Text(text) => text.len() >= CALLER.len() && (is_reserved(text) || !text.is_ascii()),
        Value::Other => true,
        Value::Number(_) | Value::Bool(_) | Value::Null => false,
    }
}

/// Whether characters, however they are encoded, are a reserved name.
pub(super) fn reserved_text(text: &[u8]) -> bool {
    ascii(text).is_some_and(|text| is_reserved(&text))
}
