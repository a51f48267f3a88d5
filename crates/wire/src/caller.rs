//! How an app is told who calls it: the names, and who it is.
//!
//! Under these names stands what the sidecar vouches for, so nothing under them that came from outside may get past it.

/// Name of the caller's app.
pub const CALLER: &str = "x-raddle-caller";
/// Name of the caller's SPIFFE id.
pub const CALLER_ID: &str = "x-raddle-caller-id";
/// HTTP only: name of the caller's certificate, in the form that Envoy gave the field.
pub const CLIENT_CERT: &str = "x-forwarded-client-cert";

/// A caller whose certificate was verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller<'a> {
    /// Its app.
    pub app: &'a str,
    /// Its SPIFFE id.
    pub id: &'a str,
}

impl<'a> Caller<'a> {
    /// What stands under which name.
    pub(crate) const fn pairs(&self) -> [(&'static str, &'a str); 2] {
        [(CALLER, self.app), (CALLER_ID, self.id)]
    }
}

/// Whether nobody but the sidecar may say something under this name: one of the above, in any case, and with `_` for
/// `-`, which some frameworks take for the same.
#[inline]
pub fn is_reserved(name: &[u8]) -> bool {
    match name.len() {
        15 => alike(name, CALLER),
        18 => alike(name, CALLER_ID),
        23 => alike(name, CLIENT_CERT),
        _ => false,
    }
}

fn alike(name: &[u8], reserved: &str) -> bool {
    let fold = |b: &u8| if *b == b'_' { b'-' } else { b.to_ascii_lowercase() };
    name.iter().map(fold).eq(reserved.bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_are_known_however_they_are_written() {
        for name in ["x-raddle-caller", "X-Raddle-Caller-Id", "x_raddle_caller", "X-FORWARDED-CLIENT_CERT"] {
            assert!(is_reserved(name.as_bytes()), "{name}");
        }
        for name in ["", "x-raddle-calle", "x-raddle-caller2", "x-raddle-reason", "x-forwarded-for"] {
            assert!(!is_reserved(name.as_bytes()), "{name}");
        }
        for reserved in [CALLER, CALLER_ID, CLIENT_CERT] {
            assert!(is_reserved(reserved.as_bytes()), "{reserved}");
        }
    }
}
