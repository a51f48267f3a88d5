//! Parts of a service, and their names.
use super::super::EndpointView;
use std::collections::BTreeMap;

/// A subset of a service's endpoints. For peers that cannot make subsets by themselves (gRPC's clients), each has a
/// cluster and endpoints of its own, named [`Subset::name`].
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subset {
    /// Only this group; `None` = all of them.
    pub group: Option<String>,
    /// Only this unit.
    pub unit: Option<String>,
    /// Labels they must carry; `version` is the instance's version if it has no such label.
    pub labels: BTreeMap<String, String>,
}

const DEFAULT: &str = "default";

impl Subset {
    /// The group everybody gets who has no rule: `default`.
    pub fn default_group() -> Subset {
        Subset { group: Some(DEFAULT.into()), ..Subset::default() }
    }

    /// The name of a service's subset: the service's own for the default group, else `SERVICE|group=G|unit=U|l.L=V`
    /// (`group=*` for all of them). `|`, `=` and `%` within a part are written `%7C`, `%3D`, `%25`.
    pub fn name(&self, service: &str) -> String {
        if *self == Subset::default_group() {
            return service.to_owned();
        }
        let mut name = format!("{service}|group={}", self.group.as_deref().map_or("*".into(), escape));
        if let Some(unit) = &self.unit {
            name.push_str(&format!("|unit={}", escape(unit)));
        }
        for (key, value) in &self.labels {
            name.push_str(&format!("|l.{}={}", escape(key), escape(value)));
        }
        name
    }

    /// The service and subset that [`Subset::name`] made a name of. A name that it did not make is a service's.
    pub fn parse(name: &str) -> (&str, Subset) {
        let read = || {
            let (service, rest) = name.split_once("|group=")?;
            let mut parts = rest.split('|');
            let group = parts.next().filter(|g| *g != "*").map(unescape);
            let mut subset = Subset { group, ..Subset::default() };
            for part in parts {
                let (key, value) = part.split_once('=')?;
                match (key, key.strip_prefix("l.")) {
                    ("unit", _) => subset.unit = Some(unescape(value)),
                    (_, Some(label)) => drop(subset.labels.insert(unescape(label), unescape(value))),
                    _ => return None,
                }
            }
            Some((service, subset))
        };
        read().unwrap_or_else(|| (name, Subset::default_group()))
    }

    /// Whether an endpoint is in it.
    pub fn covers(&self, endpoint: &EndpointView<'_>) -> bool {
        let label = |key: &str| match endpoint.labels.get(key) {
            Some(value) => Some(value.as_str()),
            None if key == "version" && !endpoint.version.is_empty() => Some(endpoint.version),
            None => None,
        };
        self.group.as_deref().is_none_or(|g| g == group(endpoint))
            && self.unit.as_deref().is_none_or(|u| u == endpoint.unit)
            && self.labels.iter().all(|(k, v)| label(k) == Some(v))
    }
}

/// The group an endpoint is in.
pub(super) fn group<'a>(endpoint: &EndpointView<'a>) -> &'a str {
    if endpoint.group.is_empty() { DEFAULT } else { endpoint.group }
}

fn escape(part: &str) -> String {
    part.replace('%', "%25").replace('|', "%7C").replace('=', "%3D")
}

fn unescape(part: &str) -> String {
    part.replace("%3D", "=").replace("%7C", "|").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_subset_says_which_it_is() {
        let labels = [("version".to_owned(), "a=b|c%7C".to_owned())].into_iter().collect();
        let all = [
            Subset::default_group(),
            Subset::default(),
            Subset { group: Some("canary".into()), unit: Some("u1".into()), labels },
        ];
        for subset in all {
            let name = subset.name("com.x.Pay:1.0");
            assert_eq!(Subset::parse(&name), ("com.x.Pay:1.0", subset));
        }
        assert_eq!(Subset::default_group().name("pay"), "pay");
        assert_eq!(Subset::parse("a|b"), ("a|b", Subset::default_group()));
    }
}
