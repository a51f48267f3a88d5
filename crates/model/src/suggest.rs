//! "Did you mean": the known name nearest to a misspelt one.

/// Longest name worth comparing; longer ones are not typing slips, and comparing costs their square.
const LONGEST: usize = 48;

/// The candidate a person most likely meant by `given`, if one is near enough.
pub(crate) fn nearest<'c>(given: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if given.len() > LONGEST {
        return None;
    }
    let folded = fold(given);
    candidates
        .into_iter()
        .map(|candidate| (distance(&folded, &fold(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= (candidate.len().max(3) / 3))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `unit_affinity`, `unit-affinity` and `UnitAffinity` are the same slip of habit.
fn fold(name: &str) -> Vec<char> {
    name.chars().filter(|c| !matches!(c, '_' | '-' | ' ')).flat_map(char::to_lowercase).collect()
}

/// Optimal string alignment distance: insertions, deletions, substitutions, swapped neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = Vec::with_capacity(b.len() + 1);
        row.push(i);
        for j in 1..=b.len() {
            let changed = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + changed);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_find_the_name_that_was_meant() {
        let known = ["address", "unit", "group", "weight", "labels", "unitAffinity"];
        assert_eq!(nearest("wieght", known), Some("weight"));
        assert_eq!(nearest("adress", known), Some("address"));
        assert_eq!(nearest("unit_affinity", known), Some("unitAffinity"));
        assert_eq!(nearest("GROUP", known), Some("group"));
    }

    #[test]
    fn a_name_unlike_all_others_gets_no_suggestion() {
        assert_eq!(nearest("zone", ["address", "weight"]), None);
        assert_eq!(nearest(&"w".repeat(10_000), ["weight"]), None);
    }
}
