//! Which sidecars and services a rule reaches, and which of two rules is the more particular.
use crate::resources::{Labels, Member, Scope, Sidecar, Target};
use raddle_core::share;
use std::net::IpAddr;

impl Member for Sidecar {
    fn id(&self) -> &str {
        &self.metadata.name
    }

    fn app(&self) -> &str {
        &self.app
    }

    fn unit(&self) -> Option<&str> {
        self.unit.as_deref()
    }

    fn group(&self) -> &str {
        &self.group
    }

    fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    fn label(&self, name: &str) -> Option<&str> {
        self.labels.get(name).map(String::as_str)
    }

    fn address(&self) -> Option<IpAddr> {
        self.address.or_else(|| self.publish.as_ref()?.address)
    }
}

/// What a scope's percentage is shuffled by: the same for all rules, so that rules of equal percentages reach the same
/// sidecars and can be made for each other.
const SEED: &str = "scope";

impl Scope {
    /// Whether this sidecar is in the scope.
    pub fn covers(&self, member: &(impl Member + ?Sized)) -> bool {
        one_of(&self.apps, Some(member.app()))
            && one_of(&self.units, member.unit())
            && one_of(&self.groups, Some(member.group()))
            && one_of(&self.versions, member.version())
            && self.labels.iter().all(|(k, v)| member.label(k) == Some(v))
            && (self.addresses.is_empty()
                || member.address().is_some_and(|ip| self.addresses.iter().any(|block| block.contains(ip))))
            && self.percent_ppm.is_none_or(|ppm| share(SEED, member.id()) < ppm)
    }

    /// How particular the scope is: the number of its parts that are given, each label counting as one.
    /// Of two policies for the same target the higher holds.
    pub fn specificity(&self) -> usize {
        usize::from(!self.apps.is_empty())
            + usize::from(!self.units.is_empty())
            + usize::from(!self.groups.is_empty())
            + usize::from(!self.versions.is_empty())
            + usize::from(!self.addresses.is_empty())
            + usize::from(self.percent_ppm.is_some())
            + self.labels.len()
    }

    /// Whether some sidecar can be in both scopes.
    pub fn overlaps(&self, other: &Scope) -> bool {
        meet(&self.apps, &other.apps)
            && meet(&self.units, &other.units)
            && meet(&self.groups, &other.groups)
            && meet(&self.versions, &other.versions)
            && agree(&self.labels, &other.labels)
            && (self.addresses.is_empty()
                || other.addresses.is_empty()
                || self.addresses.iter().any(|a| other.addresses.iter().any(|b| a.overlaps(b))))
            // The sidecars of a smaller share are in the greater one, too.
            && self.percent_ppm != Some(0)
            && other.percent_ppm != Some(0)
    }
}

fn one_of(wanted: &[String], given: Option<&str>) -> bool {
    wanted.is_empty() || given.is_some_and(|given| wanted.iter().any(|w| w == given))
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
    fn blocks_of_addresses_hold_what_they_say() {
        let block = |text: &str| text.parse::<crate::Cidr>();
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        let c = block("10.0.0.77/24").expect("a block");
        assert_eq!(c.to_string(), "10.0.0.0/24");
        assert!(c.contains(ip("10.0.0.255")) && !c.contains(ip("10.0.1.0")) && !c.contains(ip("::a00:1")));
        assert!(c.contains(ip("::ffff:10.0.0.1")), "a mapped address is the IPv4 one");
        let all = block("0.0.0.0/0").expect("a block");
        assert!(
            all.contains(ip("255.1.2.3")) && !all.contains(ip("::1")) && all.overlaps(&c) && c.overlaps(&all)
        );
        assert!(block("2001:db8::/32").expect("a block").contains(ip("2001:db8:1::1")));
        assert!(block("::/0").expect("a block").contains(ip("2001:db8:1::1")));
        assert!(block("10.0.0.1").expect("a block").contains(ip("10.0.0.1")));
        assert!(!block("10.1.0.0/16").expect("a block").overlaps(&c));
        for bad in ["", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/", "10.0.0.0/+8", "10.0.0.0/-1", "a/8"]
        {
            assert!(block(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_given_part_makes_a_scope_more_particular() {
        assert_eq!(scope(&[], &[]).specificity(), 0);
        assert_eq!(scope(&["a", "b"], &[("tier", "x"), ("zone", "y")]).specificity(), 3);
    }
}
