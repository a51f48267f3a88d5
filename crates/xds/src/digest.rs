//! One hash over the rules a sidecar runs, so that both sides can tell whether they mean the same.
use crate::resource::fnv;

/// Hash over pairs of rule (KIND/NAME) and revision, in any order: 16 hexadecimal digits.
///
/// Computed by the sidecar over what it runs, and by the control plane over what it should run.
pub fn digest<R: AsRef<str>, V: AsRef<str>>(running: impl IntoIterator<Item = (R, V)>) -> String {
    let mut lines: Vec<String> =
        // Names of kinds and resources hold no control characters, so a line is one pair only.
        running.into_iter().map(|(rule, revision)| format!("{}\t{}\n", rule.as_ref(), revision.as_ref())).collect();
    lines.sort_unstable();
    format!("{:016x}", fnv(lines.concat().as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_does_not_matter_and_every_part_does() {
        let a = digest([("Route/a", "1"), ("Route/b", "2")]);
        assert_eq!(a, digest([("Route/b", "2"), ("Route/a", "1")]));
        assert_eq!(a.len(), 16);
        let others = [
            digest([("Route/a", "2"), ("Route/b", "1")]),
            digest([("Route/a", "1")]),
            digest([("Route/a", "12"), ("Route/b", "")]),
            digest::<&str, &str>([]),
        ];
        assert!(others.iter().all(|other| *other != a));
    }
}
