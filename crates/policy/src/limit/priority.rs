//! Which class a request is of, for when not all can be served.
use crate::route::Attributes;
use crate::route::matcher::Cond;
use raddle_model::{AdaptiveSettings, LoadTestMark, Priority};

/// The classes of an `AdaptiveLimit`, compiled.
#[derive(Debug, Default)]
pub struct Priorities {
    rules: Vec<(Vec<Cond>, Priority)>,
    /// What marks load-test traffic; absent = what every rule goes by.
    mark: Option<LoadTestMark>,
}

impl Priorities {
    /// Those of these settings.
    pub fn new(settings: &AdaptiveSettings) -> Priorities {
        let rules = settings.priorities.iter();
        let mark = Some(&settings.load_test).filter(|mark| **mark != LoadTestMark::default());
        Priorities {
            rules: rules.map(|r| (r.when.iter().map(Cond::new).collect(), r.priority)).collect(),
            mark: mark.cloned(),
        }
    }

    /// The class of a request: load test if it is marked so, whatever the rules say; else that of the first rule that
    /// takes it; else [`Priority::Normal`].
    pub fn of(&self, req: &impl Attributes) -> Priority {
        if self.marked(req) {
            return Priority::LoadTest;
        }
        let takes = |(when, _): &&(Vec<Cond>, Priority)| when.iter().all(|c| c.holds(req));
        self.rules.iter().find(takes).map_or(Priority::Normal, |(_, p)| *p)
    }

    fn marked(&self, req: &impl Attributes) -> bool {
        let Some(mark) = &self.mark else { return req.load_test() };
        req.header(&mark.header).is_some_and(|said| mark.values.iter().any(|v| v.as_bytes() == said))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Asked;
    use crate::route::LOAD_TEST;
    use raddle_model::{Condition, Matcher, PriorityRule, Subject};

    #[test]
    fn the_first_rule_that_takes_a_request_decides_unless_it_is_marked() {
        let method = |m: &str| Condition { subject: Subject::Method, matcher: Matcher::Equals(m.into()) };
        let priorities = vec![
            PriorityRule { when: vec![method("pay")], priority: Priority::Critical },
            PriorityRule { when: vec![], priority: Priority::Batch },
        ];
        let with = Priorities::new(&AdaptiveSettings { priorities, ..AdaptiveSettings::default() });
        let none = Priorities::default();
        let asked = |m: &str, headers: &[(&str, &str)]| Asked {
            method: Some(m.into()),
            headers: headers.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
            ..Asked::default()
        };
        let (pay, list) = (asked("pay", &[]), asked("list", &[]));
        let marked = asked("pay", &[LOAD_TEST]);
        assert_eq!(
            (with.of(&pay), with.of(&list), with.of(&marked)),
            (Priority::Critical, Priority::Batch, Priority::LoadTest)
        );
        assert_eq!((none.of(&pay), none.of(&marked)), (Priority::Normal, Priority::LoadTest));
        // Another mark takes the usual one's place.
        let load_test = LoadTestMark { header: "x-load".into(), values: vec!["1".into(), "yes".into()] };
        let own = Priorities::new(&AdaptiveSettings { load_test, ..AdaptiveSettings::default() });
        let of = |value| own.of(&asked("pay", &[("x-load", value)]));
        assert_eq!(
            (of("1"), of("yes"), of("no")),
            (Priority::LoadTest, Priority::LoadTest, Priority::Normal)
        );
        assert_eq!(own.of(&marked), Priority::Normal);
    }
}
