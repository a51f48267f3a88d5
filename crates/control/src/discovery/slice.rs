//! Which endpoints of a large service one sidecar gets.
use raddle_xds::resource::fnv;
use std::collections::BTreeMap;

/// At most `n` of the endpoints, by rendezvous hashing: the same node always gets the same ones, whatever their order;
/// one that comes or goes changes at most one in each slice; and each is in about as many slices as every other.
///
/// `of` gives an endpoint's id and its class (its group): of each class there are `n`, so that no slice lacks a group.
pub fn slice<'a, E, C: Ord>(
    node: &str,
    endpoints: &'a [E],
    n: usize,
    of: impl Fn(&'a E) -> (&'a str, C),
) -> Vec<&'a E> {
    let mut classes: BTreeMap<C, Vec<(u64, &'a str, usize)>> = BTreeMap::new();
    let seed = fnv(node.as_bytes());
    for (i, endpoint) in endpoints.iter().enumerate() {
        let (id, class) = of(endpoint);
        classes.entry(class).or_default().push((mix(seed ^ mix(fnv(id.as_bytes()))), id, i));
    }
    let mut chosen = Vec::new();
    for scored in classes.values_mut() {
        if scored.len() > n && n > 0 {
            scored.select_nth_unstable(n - 1);
        }
        chosen.extend(scored.iter().take(n).map(|(_, _, i)| *i));
    }
    // The order in which they came: content hashes are over it.
    chosen.sort_unstable();
    chosen.into_iter().filter_map(|i| endpoints.get(i)).collect()
}

/// Spreads a hash over all its bits (the finalizer of SplitMix64).
fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn ids(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("shop-{i}")).collect()
    }

    fn chosen(node: &str, endpoints: &[String], n: usize) -> BTreeSet<String> {
        slice(node, endpoints, n, |e| (e.as_str(), ())).into_iter().cloned().collect()
    }

    #[test]
    fn one_that_comes_or_goes_changes_at_most_one_in_a_slice() {
        let all = ids(300);
        for node in 0..50 {
            let node = format!("node-{node}");
            let whole = chosen(&node, &all, 20);
            assert_eq!(whole.len(), 20);
            for gone in 0..all.len() {
                let mut fewer = all.clone();
                let name = fewer.remove(gone);
                let now = chosen(&node, &fewer, 20);
                let lost: Vec<_> = whole.difference(&now).collect();
                assert!(lost.is_empty() || lost == [&name], "{lost:?}");
                assert!(now.difference(&whole).count() <= 1);
            }
        }
    }

    #[test]
    fn order_does_not_matter_and_what_is_small_is_whole() {
        let mut all = ids(100);
        let before = chosen("n", &all, 10);
        all.reverse();
        assert_eq!(before, chosen("n", &all, 10));
        assert_eq!(chosen("n", &all[..5], 10).len(), 5);
        assert_eq!(chosen("n", &[], 10).len(), 0);
    }

    #[test]
    fn the_load_is_even() {
        let all = ids(100);
        let mut load = BTreeMap::<String, u32>::new();
        for node in 0..2000 {
            for e in chosen(&format!("node-{node}"), &all, 10) {
                *load.entry(e).or_default() += 1;
            }
        }
        // 200 on average, with a standard deviation of 13.4: five of them either way.
        assert!(load.values().all(|n| (133..267).contains(n)), "{load:?}");
        assert_eq!(load.len(), 100);
    }

    #[test]
    fn every_group_has_its_share() {
        let all: Vec<(String, &str)> =
            ids(100).into_iter().zip(["a", "b", "b", "b"].into_iter().cycle()).collect();
        let got = slice("n", &all, 5, |(id, group)| (id.as_str(), *group));
        assert_eq!(got.iter().filter(|(_, g)| *g == "a").count(), 5);
        assert_eq!(got.len(), 10);
    }
}
