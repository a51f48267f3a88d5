//! A hash that is the same in every process and release: stable shares and consistent hashing rest on it.

/// Hashes `bytes`; other seeds give unrelated hashes.
///
/// Eight bytes at a time multiplied in (as FNV-1a does single bytes), finished with MurmurHash3's `fmix64`.
/// Changing it moves every key of every consistent hash: don't.
pub fn stable(seed: u64, bytes: &[u8]) -> u64 {
    let mut h = seed ^ 0xcbf2_9ce4_8422_2325 ^ (bytes.len() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (chunks, rest) = bytes.as_chunks::<8>();
    for chunk in chunks {
        h = step(h, u64::from_le_bytes(*chunk));
    }
    let mut last = [0u8; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(step(h, u64::from_le_bytes(last)))
}

/// Where `id` stands among all ids, as `seed` shuffles them: 0..1_000_000, so that `share(seed, id) < ppm` holds for
/// `ppm` millionths of them, always the same ones, and a greater share has all that a smaller one has. Sidecars, control
/// planes and simulators ask this one function who is in a percentage.
pub fn share(seed: &str, id: &str) -> u32 {
    const WHOLE: u128 = 1_000_000;
    let hash = stable(stable(0, seed.as_bytes()), id.as_bytes());
    // The hash as a fraction of 2^64: no remainder, hence no bias.
    ((u128::from(hash) * WHOLE) >> 64) as u32
}

fn step(h: u64, word: u64) -> u64 {
    mix(h ^ word).wrapping_mul(0x0000_0100_0000_01b3)
}

/// Spreads every bit of `h` over all others (MurmurHash3 `fmix64`).
pub const fn mix(mut h: u64) -> u64 {
    h ^= h >> 33;
    h = h.wrapping_mul(0xff51_afd7_ed55_8ccd);
    h ^= h >> 33;
    h = h.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    h ^ (h >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_a_key_never_changes() {
        assert_eq!(
            [stable(0, b""), stable(7, b"order"), stable(0, b"a longer key than eight bytes")],
            [11_769_329_933_494_214_411, 4_057_886_664_644_151_238, 11_459_909_435_467_371_930]
        );
        assert_ne!(stable(0, b"a"), stable(1, b"a"));
        assert_ne!(stable(0, b"a"), stable(0, b"a\0"));
    }

    #[test]
    fn a_share_has_its_part_of_all_ids_and_keeps_them_as_it_grows() {
        let ids: Vec<String> = (0..20_000).map(|i| format!("shop-{i}")).collect();
        for (seed, ppm) in [("a", 10_000), ("a", 100_000), ("b", 100_000), ("b", 500_000)] {
            let of = ids.iter().filter(|id| share(seed, id) < ppm).count() as f64;
            let wanted = 20_000.0 * f64::from(ppm) / 1e6;
            assert!((of - wanted).abs() < 4.0 * wanted.sqrt(), "{of} of {wanted}");
        }
        assert!(ids.iter().all(|id| share("a", id) < 1_000_000));
        let both = ids.iter().filter(|id| share("a", id) < 100_000 && share("b", id) < 100_000).count();
        assert!((120..280).contains(&both), "other seeds choose others: {both}");
        assert_eq!(
            [share("", ""), share("rollout-1", "shop-1")],
            [share("", ""), share("rollout-1", "shop-1")]
        );
    }

    #[test]
    fn short_keys_spread_evenly() {
        let mut seen = [0u32; 16];
        for i in 0..16_000u32 {
            seen[(stable(9, i.to_string().as_bytes()) >> 60) as usize] += 1;
        }
        assert!(seen.iter().all(|&n| (880..1120).contains(&n)), "{seen:?}");
    }
}
