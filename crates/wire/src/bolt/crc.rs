//! Rewriting a frame's id, and its CRC with it.
//!
//! A CRC is linear: two messages of one length, different in four bytes only, have CRCs whose difference
//! depends on those four bytes and on how many follow, on nothing else. So the id of a frame can be changed
//! without reading its content, and before the content has arrived.
use super::head::Head;

/// The CRC-32 polynomial (IEEE 802.3), bit-reversed: bit 31 is the coefficient of x^0.
const POLY: u32 = 0xEDB8_8320;

/// `POWERS[p][v]` is x^(8·v·16^p) modulo the polynomial: one lookup for each hex digit of a distance in bytes.
static POWERS: [[u32; 16]; 8] = powers();

/// The product of two polynomials modulo [`POLY`].
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut bit = 31;
    loop {
        product ^= b & 0u32.wrapping_sub((a >> bit) & 1);
        if bit == 0 {
            return product;
        }
        b = (b >> 1) ^ (POLY & 0u32.wrapping_sub(b & 1));
        bit -= 1;
    }
}

const fn powers() -> [[u32; 16]; 8] {
    let mut table = [[0; 16]; 8];
    // x^8: what one byte of distance multiplies by.
    let mut step = 0x8000_0000 >> 8;
    let mut digit = 0;
    while digit < 8 {
        table[digit][0] = 0x8000_0000;
        let mut v = 1;
        while v < 16 {
            table[digit][v] = multiply(table[digit][v - 1], step);
            v += 1;
        }
        step = multiply(table[digit][15], step);
        digit += 1;
    }
    table
}

/// What to XOR a frame's CRC with when its id changes from `old_id` to `new_id` and `bytes_after_id` bytes
/// lie between the id and the CRC.
///
/// Takes time in the logarithm of the distance and touches half a kilobyte of table; for streamed frames,
/// whose CRC comes last. Distances from 4 GiB on (no frame has one) wrap.
#[inline]
pub fn crc_mask(old_id: u32, new_id: u32, bytes_after_id: usize) -> u32 {
    // The id's own four bytes count: a CRC register takes its input that many bytes early.
    shift((old_id ^ new_id).swap_bytes(), (bytes_after_id as u32).wrapping_add(4))
}

/// What to XOR the CRC of a whole message with when its beginning changes, be it to another length: `change` is the
/// CRCs of the two beginnings, XORed, and `bytes_after` bytes stay as they are behind.
///
/// Distances from 4 GiB on (no frame has one) wrap.
pub(super) fn crc_shift(change: u32, bytes_after: usize) -> u32 {
    shift(change, bytes_after as u32)
}

/// The product of `mask` and x^(8·distance).
#[inline]
fn shift(mut mask: u32, mut distance: u32) -> u32 {
    let mut digit = 0;
    while distance != 0 {
        let v = (distance & 15) as usize;
        if v != 0 {
            mask = multiply(POWERS[digit][v], mask);
        }
        distance >>= 4;
        digit += 1;
    }
    mask
}

/// Gives the whole frame `frame` a new id. Its CRC, where it has one, stays as right or as wrong as it was.
///
/// `head` is what the frame parsed to and still says the old id. Does nothing when `frame` is shorter than
/// the head says.
#[inline]
pub fn patch_id(frame: &mut [u8], head: &Head, new_id: u32) {
    let len = head.frame_len();
    let Some(frame) = frame.get_mut(..len) else { return };
    let at = head.id_offset();
    frame[at..at + 4].copy_from_slice(&new_id.to_be_bytes());
    if head.variant.crc() {
        let mask = crc_mask(head.id, new_id, len - 4 - (at + 4)).to_be_bytes();
        for (byte, mask) in frame[len - 4..].iter_mut().zip(mask) {
            *byte ^= mask;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_is_the_difference_of_two_whole_crcs() {
        for len in (0..600).chain([4_095, 4_096, 65_535, 1 << 20]) {
            let mut a = vec![0x5A; 9 + len];
            let mut b = a.clone();
            a[5..9].copy_from_slice(&0xDEAD_BEEFu32.to_be_bytes());
            b[5..9].copy_from_slice(&0x0000_0007u32.to_be_bytes());
            assert_eq!(
                crc32fast::hash(&a) ^ crc32fast::hash(&b),
                crc_mask(0xDEAD_BEEF, 7, len),
                "{len} bytes behind the id"
            );
        }
    }

    #[test]
    fn a_beginning_of_another_length_changes_the_crc_by_its_own_crc_shifted() {
        let (old, new, rest) = (&b"a beginning"[..], &b"another, longer beginning"[..], [0xA5; 300]);
        for len in [0, 1, 17, 300] {
            let whole = |beginning: &[u8]| crc32fast::hash(&[beginning, &rest[..len]].concat());
            let change = crc32fast::hash(old) ^ crc32fast::hash(new);
            assert_eq!(whole(old) ^ whole(new), crc_shift(change, len), "{len} bytes behind");
        }
    }

    #[test]
    fn an_unchanged_id_has_an_empty_mask() {
        assert_eq!(crc_mask(42, 42, 1_000), 0);
    }
}
