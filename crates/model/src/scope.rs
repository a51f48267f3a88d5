//! Which sidecars and services a rule reaches, and which of two rules is the more particular.
use crate::resources::{Labels, Scope, Sidecar, Target};

impl Scope {
    /// Whether this sidecar is in the scope.
    pub fn covers(&self, sidecar: &Sidecar) -> bool {
        let unit = sidecar.unit.as_deref();
        (self.apps.is_empty() || self.apps.contains(&sidecar.app))
            && (self.units.is_empty() || unit.is_some_and(|unit| self.units.iter().any(|u| u == unit)))
            && (self.groups.is_empty() || self.groups.contains(&sidecar.group))
            && self.labels.iter().all(|(k, v)| sidecar.labels.get(k) == Some(v))
    }

    /// How particular the scope is: the number of its parts that are given, each label counting as one.
    /// Of two policies for the same target the higher holds.
    pub fn specificity(&self) -> usize {
        usize::from(!self.apps.is_empty())
            + usize::from(!self.units.is_empty())
            + usize::from(!self.groups.is_empty())
            + self.labels.len()
    }

    /// Whether some sidecar can be in both scopes.
    pub fn overlaps(&self, other: &Scope) -> bool {
        meet(&self.apps, &other.apps)
            && meet(&self.units, &other.units)
            && meet(&self.groups, &other.groups)
            && agree(&self.labels, &other.labels)
    }
}

impl Target {
    /// How particular the target is: 0 = every service, 1 = an app's, 2 = named services, 3 = named services
    /// of an app. Of two policies for a service the higher holds, before [`Scope::specificity`] is looked at.
    pub fn specificity(&self) -> usize {
        2 * usize::from(!self.services.is_empty()) + usize::from(self.app.is_some())
    }

    /// Whether a service of that name and app is meant (methods are not looked at).
    pub fn covers(&self, service: &str, app: &str) -> bool {
        (self.services.is_empty() || self.services.iter().any(|s| s == service))
            && self.app.as_deref().is_none_or(|a| a == app)
    }
}

fn meet(a: &[String], b: &[String]) -> bool {
    a.is_empty() || b.is_empty() || a.iter().any(|x| b.contains(x))
}

fn agree(a: &Labels, b: &Labels) -> bool {
    a.iter().all(|(k, v)| b.get(k).is_none_or(|w| w == v))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(apps: &[&str], labels: &[(&str, &str)]) -> Scope {
        Scope {
            apps: apps.iter().map(ToString::to_string).collect(),
            labels: labels.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
            ..Scope::default()
        }
    }

    #[test]
    fn scopes_overlap_unless_a_part_excludes_it() {
        assert!(scope(&[], &[]).overlaps(&scope(&["a"], &[])));
        assert!(scope(&["a", "b"], &[]).overlaps(&scope(&["b"], &[])));
        assert!(!scope(&["a"], &[]).overlaps(&scope(&["b"], &[])));
        assert!(!scope(&[], &[("tier", "x")]).overlaps(&scope(&[], &[("tier", "y")])));
        assert!(scope(&[], &[("tier", "x")]).overlaps(&scope(&[], &[("zone", "y")])));
    }

    #[test]
    fn every_given_part_makes_a_scope_more_particular() {
        assert_eq!(scope(&[], &[]).specificity(), 0);
        assert_eq!(scope(&["a", "b"], &[("tier", "x"), ("zone", "y")]).specificity(), 3);
    }
}
