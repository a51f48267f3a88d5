//! The eight bytes every request begins with, and every echo must.

/// Writes as much of `token` as fits at the front of `content`.
pub(crate) fn put(content: &mut [u8], token: u64) {
    let n = content.len().min(8);
    content[..n].copy_from_slice(&token.to_be_bytes()[..n]);
}

/// Whether `content` begins with as much of `token` as fits.
pub fn begins(content: &[u8], token: u64) -> bool {
    let n = content.len().min(8);
    content[..n] == token.to_be_bytes()[..n]
}
