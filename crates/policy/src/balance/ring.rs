//! Consistent hashing: a key finds the same endpoint in every sidecar, and few keys move when endpoints
//! come and go.
use crate::hash;
use crate::snapshot::service::Endpoint;
use std::net::SocketAddr;

/// Points of an endpoint of mean weight, as long as there are not too many of all.
const POINTS_EACH: u64 = 160;
/// Bounds memory (8 bytes a point) and the time to build; beyond 1,600 endpoints each has fewer points.
const POINTS_MAX: u64 = 1 << 18;

/// Points a slice of the look-up table spans on average: the table stays in the cache.
const SLICE_POINTS: usize = 4;

/// A ring of points, by ketama's idea (Jones, *libketama*, 2007): each endpoint owns points in proportion
/// to its weight, placed by hashes of its address alone; a key belongs to the next point.
#[derive(Debug)]
pub(crate) struct Ring {
    /// Ascending: where on the ring in the upper half, index of the owner in its service in the lower.
    points: Box<[u64]>,
    /// First point of each equal slice of the ring, so that finding is O(1).
    slices: Box<[u32]>,
    shift: u32,
}

impl Ring {
    pub(crate) fn new(members: &[u32], endpoints: &[Endpoint]) -> Ring {
        let total: u64 = members.iter().map(|&i| u64::from(endpoints[i as usize].weight)).sum();
        let budget = (members.len() as u64 * POINTS_EACH).min(POINTS_MAX);
        let mut points: Vec<u64> = Vec::with_capacity(budget as usize + members.len());
        for &i in members {
            let endpoint = &endpoints[i as usize];
            let count = (u64::from(endpoint.weight) * budget / total.max(1)).max(1);
            let seed = address_hash(endpoint.host.addr);
            let at = (0..count).map(|n| hash::mix(seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))));
            points.extend(at.map(|at| at & 0xffff_ffff_0000_0000 | u64::from(i)));
        }
        points.sort_unstable();
        let bits = ((points.len() / SLICE_POINTS).max(2) as u32).ilog2();
        let shift = 64 - bits;
        let mut slices = vec![0u32; 1 << bits].into_boxed_slice();
        let mut next = 0;
        for (slice, first) in (0u64..).zip(&mut slices) {
            while next < points.len() && points[next] >> shift < slice {
                next += 1;
            }
            *first = next as u32;
        }
        Ring { points: points.into_boxed_slice(), slices, shift }
    }

    /// The endpoints a key belongs to, in order of preference, with repetitions, once around.
    pub(crate) fn walk(&self, key: u64) -> impl Iterator<Item = u32> {
        let at = hash::mix(key) & 0xffff_ffff_0000_0000;
        let mut i = self.slices[(at >> self.shift) as usize] as usize;
        while i < self.points.len() && self.points[i] < at {
            i += 1;
        }
        self.points[i..].iter().chain(&self.points[..i]).map(|point| *point as u32)
    }
}

/// Hash of an address that does not depend on its position or on the process.
fn address_hash(addr: SocketAddr) -> u64 {
    let mut bytes = [0u8; 18];
    match addr {
        SocketAddr::V4(a) => bytes[..4].copy_from_slice(&a.ip().octets()),
        SocketAddr::V6(a) => bytes[..16].copy_from_slice(&a.ip().octets()),
    }
    bytes[16..].copy_from_slice(&addr.port().to_be_bytes());
    hash::stable(0x7261_6464_6c65, &bytes)
}
