//! `kind: Route`.
use super::common::{Attribute, free_names, retry, route_target};
use super::reach::reach;
use super::{Resource, actions};
use crate::decode::{
    At, Bool, Choice, Codec, Cx, DurationIn, Fields, Int, List, OneOrMany, Pattern, Percent, Record,
    Referent, Spotted, Text, TextMap,
};
use crate::reference::Page;
use crate::resources::{
    Condition, Destination, IfEmpty, Labels, Matcher, Metadata, Route, RouteRule, Subject, Target,
};
use crate::yaml::{Node, Spot, Value};
use std::collections::HashMap;

impl Resource for Route {
    const KIND: &'static str = "Route";

    fn spec(fields: &mut Fields<'_>) -> Option<Route> {
        let before = fields.mistakes();
        let (scope, rollout) = reach(fields);
        let to = fields.or(
            "to",
            Record(route_target),
            Target::default(),
            "Which callee; every given part must hold. Absent = all.",
        );
        let rules = fields.required(
            "rules",
            List(Spotted(Record(rule))),
            "Tried in order. A request that no rule takes goes to the default destination: group `default`.",
        )?;
        if rules.is_empty() {
            fields.warning("rules", "the route has no rules", "add one, or leave the route out");
        }
        check_names(fields, &rules);
        if fields.mistakes() == before {
            // A condition that could not be read would look like one that takes every request.
            check_reach(fields, &rules);
        }
        let rules = rules.into_iter().map(|(rule, _)| rule.rule).collect();
        Some(Route { metadata: Metadata::default(), scope, rollout, to, rules })
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

/// A rule, and whether its `ifEmpty` was written down.
struct Rule {
    rule: RouteRule,
    if_empty_given: bool,
}

fn rule(fields: &mut Fields<'_>) -> Option<Rule> {
    const IF_EMPTY: Choice<IfEmpty> =
        Choice(&[("next", IfEmpty::Next), ("fail", IfEmpty::Fail), ("any", IfEmpty::Any)]);
    let name = fields.optional(
        "name",
        Text::name("a name"),
        "its index",
        "Name of the rule in logs and metrics, unique in the route.",
    );
    let when = fields.or(
        "when",
        Record(when),
        Vec::new(),
        "Which requests: all conditions must hold. Absent = every request.",
    );
    let percent_ppm =
        fields.or("percent", Percent, 1_000_000, "Share of the matching requests that the rule takes.");
    let hash_on = fields.optional(
        "hashOn",
        Attribute,
        "exact counting",
        "Chooses that share by this attribute: the same value is always in or always out.",
    );
    let send = fields.or(
        "send",
        OneOrMany(Record(destination)),
        Vec::new(),
        "Where to: one destination, or several by weight. Absent = the default destination.",
    );
    check_weights(fields, &send);
    let if_empty = fields.or(
        "ifEmpty",
        IF_EMPTY,
        IfEmpty::Next,
        "If the destination has no usable endpoint: `next` = go on with the next rule; `fail` = the request \
         fails with `UH`; `any` = any endpoint of the service takes it.",
    );
    let timeout = fields.optional(
        "timeout",
        DurationIn::usual(),
        "the policy's",
        "Bound for the request, instead of the policy's.",
    );
    let retry = fields.optional("retry", Record(retry), "the policy's", "Retries, instead of the policy's.");
    if hash_on.is_some() && percent_ppm == 1_000_000 {
        fields.warning("hashOn", "has no effect at 100 percent", "give percent, or leave hashOn out");
    }
    let actions = actions::of(fields);
    let send = send.into_iter().map(|(destination, _)| destination).collect();
    let rule = RouteRule { name, when, percent_ppm, hash_on, send, if_empty, timeout, retry, actions };
    Some(Rule { rule, if_empty_given: fields.has("ifEmpty") })
}

/// A destination, and whether its weight was given.
fn destination(fields: &mut Fields<'_>) -> Option<(Destination, bool)> {
    fields.not_yet(&["app"]);
    fields.refuse("version", "a version is a label here", "write labels: {version: ...}");
    let group = fields.optional(
        "group",
        GroupName,
        "`default`",
        "Group of the endpoints; `same` = the sidecar's own.",
    );
    let unit = fields.optional(
        "unit",
        Text::name("a unit's name"),
        "by unit affinity",
        "Unit of the endpoints; `same` = the sidecar's own.",
    );
    let labels = fields.or("labels", TextMap, Labels::new(), "Labels the endpoints must have, all of them.");
    let weight = fields.or(
        "weight",
        Int::<u32>::new(0, 10_000, ""),
        100,
        "Share among the rule's destinations; needed if there are several; 0 gets exactly nothing.",
    );
    let min_healthy = fields.or(
        "minHealthy",
        Int::<u32>::new(0, 1_000_000, "endpoints"),
        1,
        "Fewer usable endpoints than this count as none.",
    );
    Some((Destination { group, unit, labels, weight, min_healthy }, fields.has("weight")))
}

/// A group's name, or `same`.
struct GroupName;

impl Codec for GroupName {
    type Out = String;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<String> {
        let name = Text::name("a group's name").decode(node, at, cx)?;
        if name != "same" {
            cx.refer(Referent::Group, &name, node.spot, at);
        }
        Some(name)
    }

    fn wanted(&self) -> String {
        "a group's name, or same".into()
    }

    fn kind(&self) -> String {
        "text".into()
    }
}

fn check_weights(fields: &mut Fields<'_>, send: &[(Destination, bool)]) {
    if send.len() > 1 && send.iter().any(|(_, weight_given)| !weight_given) {
        fields.mistake("send", "not every destination has a weight", "give each of them one");
    } else if !send.is_empty() && send.iter().all(|(destination, _)| destination.weight == 0) {
        fields.mistake("send", "every destination has weight 0", "give at least one a weight over 0");
    }
}

fn check_names(fields: &mut Fields<'_>, rules: &[(Rule, Spot)]) {
    let mut first = HashMap::new();
    for (i, (rule, spot)) in rules.iter().enumerate() {
        let Some(name) = &rule.rule.name else { continue };
        let earlier = *first.entry(name.as_str()).or_insert(i);
        if earlier != i
            && let Some((cx, at)) = fields.context()
        {
            let (at, problem) =
                (at.field("rules"), format!("{name} is the name of rules[{earlier}] already"));
            cx.mistake(*spot, &at.item(i).field("name"), problem, "give each rule its own name".into());
        }
    }
}

/// Rules that no request comes to, because one before them takes every request.
fn check_reach(fields: &mut Fields<'_>, rules: &[(Rule, Spot)]) {
    let catch_all = rules.iter().position(|(Rule { rule, if_empty_given }, _)| {
        let takes_all = rule.when.is_empty() && rule.percent_ppm == 1_000_000;
        // A written `ifEmpty: next` says that the rules after it are meant as fallbacks.
        takes_all && !(rule.if_empty == IfEmpty::Next && *if_empty_given)
    });
    let (Some(all), Some((cx, at))) = (catch_all, fields.context()) else { return };
    let at = at.field("rules");
    for (i, (_, spot)) in rules.iter().enumerate().skip(all + 1) {
        let problem = format!("unreachable: rules[{all}] takes every request");
        let remedy =
            format!("put it before rules[{all}], or write ifEmpty: next there if this is its fallback");
        cx.warning(*spot, &at.item(i), problem, remedy);
    }
}

/// `when`: conditions on a request.
pub(super) fn when(fields: &mut Fields<'_>) -> Option<Vec<Condition>> {
    const LOAD_TEST: Choice<Option<bool>> =
        Choice(&[("true", Some(true)), ("false", Some(false)), ("any", None)]);
    const HEADER: Named = Named { what: "header", subject: Subject::Header };
    const QUERY: Named = Named { what: "query parameter", subject: Subject::Query };
    let mut all = fields.or("header", HEADER, Vec::new(), "Conditions on headers, by header name.");
    all.extend(fields.or(
        "query",
        QUERY,
        Vec::new(),
        "Conditions on parameters of an HTTP request's query, by name, both as they were sent (not decoded); \
         the first counts if one occurs more than once.",
    ));
    let mut one = |subject, matcher: Option<Matcher>| {
        all.extend(matcher.map(|matcher| Condition { subject, matcher }));
    };
    one(
        Subject::Method,
        fields.optional(
            "method",
            MatcherForm,
            "any",
            "Condition on the method's name; operators as for a header. HTTP: the request method, such as `GET`. \
             gRPC and Triple: the RPC's method.",
        ),
    );
    one(
        Subject::Service,
        fields.optional(
            "service",
            MatcherForm,
            "any",
            "Condition on the service's name; operators as for a header.",
        ),
    );
    one(
        Subject::CallerApp,
        fields.optional(
            "callerApp",
            MatcherForm,
            "any",
            "Condition on the caller's app, as the request says it; operators as for a header.",
        ),
    );
    one(
        Subject::Path,
        fields.optional(
            "path",
            MatcherForm,
            "any",
            "Condition on the path of an HTTP request as it was sent, without the query; operators as for a \
             header. `prefix: /a` is a prefix of `/ab` too: write `/a/` or a regex for whole segments.",
        ),
    );
    one(
        Subject::Authority,
        fields.optional(
            "authority",
            MatcherForm,
            "any",
            "Condition on the host (with the port, if it has one) an HTTP request is for; operators as for a \
             header.",
        ),
    );
    let load_test = fields.or("loadTest", LOAD_TEST, None, "Whether the request carries the load-test mark.");
    one(Subject::LoadTest, load_test.map(|marked| Matcher::Equals(marked.to_string())));
    Some(all)
}

/// `header: {name: matcher}`, and the same of other things that have names.
pub(super) struct Named {
    pub(super) what: &'static str,
    pub(super) subject: fn(String) -> Subject,
}

impl Codec for Named {
    type Out = Vec<Condition>;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<Vec<Condition>> {
        let Value::Map(entries) = &node.value else {
            let found = if matches!(node.value, Value::List(_)) { "is a list" } else { "is a single value" };
            crate::decode::wrong(self, node, at, cx, found);
            return None;
        };
        crate::decode::report_duplicates(entries, at, cx);
        let mut all = Vec::with_capacity(entries.len());
        for (key, node) in entries {
            let at = at.field(&key.text);
            if key.text.is_empty() {
                let problem = format!("a {} without a name", self.what);
                cx.mistake(key.spot, &at, problem, "write NAME: matcher".into());
            }
            let subject = (self.subject)(key.text.clone().into_owned());
            all.extend(MatcherForm.decode(node, &at, cx).map(|matcher| Condition { subject, matcher }));
        }
        Some(all)
    }

    fn wanted(&self) -> String {
        format!("a mapping of {} names to matchers", self.what)
    }

    fn kind(&self) -> String {
        "map of matcher".into()
    }

    fn show(&self, _: &Vec<Condition>) -> String {
        "none".into()
    }

    fn document(&self, page: &mut Page) {
        let meaning = "What the value must be: a bare value to be equal to, or an object with one of these.";
        free_names(page, &MatcherForm.kind(), meaning, |page| Fields::write(page, operators));
    }
}

/// A bare value to be equal to, or one of the operators.
pub(super) struct MatcherForm;

impl Codec for MatcherForm {
    type Out = Matcher;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<Matcher> {
        match &node.value {
            Value::Map(_) => Fields::read(node, at, cx, operators),
            _ => crate::decode::scalar(self, node, at, cx).map(|(text, _)| Matcher::Equals(text.to_owned())),
        }
    }

    fn wanted(&self) -> String {
        "a value to be equal to, or {operator: value}".into()
    }

    fn kind(&self) -> String {
        "matcher".into()
    }
}

fn operators(fields: &mut Fields<'_>) -> Option<Matcher> {
    const NAMES: [&str; 8] = ["equals", "notEquals", "in", "notIn", "prefix", "regex", "range", "exists"];
    let value = || Text::any("a value");
    let values = || List(Text::any("a value"));
    let absent = "–";
    let given = [
        fields.optional("equals", value(), absent, "Equal.").map(Matcher::Equals),
        fields
            .optional("notEquals", value(), absent, "Not equal; an absent one is not equal.")
            .map(Matcher::NotEquals),
        fields.optional("in", values(), absent, "One of.").map(Matcher::In),
        fields
            .optional("notIn", values(), absent, "None of; an absent one is none of them.")
            .map(Matcher::NotIn),
        fields.optional("prefix", value(), absent, "Begins with.").map(Matcher::Prefix),
        fields
            .optional("regex", Pattern, absent, "The whole value matches (Rust's regex syntax).")
            .map(Matcher::Regex),
        fields
            .optional(
                "range",
                List(Int::<i64>::new(i64::MIN, i64::MAX, "")),
                absent,
                "An integer within `[low, high]`, both included.",
            )
            .and_then(|bounds| range(fields, &bounds)),
        fields.optional("exists", Bool, absent, "Present (`true`) or absent (`false`).").map(Matcher::Exists),
    ];
    let names: Vec<&str> = NAMES.into_iter().filter(|name| fields.has(name)).collect();
    match names.as_slice() {
        // What was given was wrong in itself and has been noted, or nothing was given.
        [_] => given.into_iter().flatten().next(),
        [] => {
            fields.whole("has no operator", format!("give one of {}", NAMES.join(", ")));
            None
        }
        [_, second, ..] => {
            let problem = format!("{} are given together", names.join(", "));
            fields.mistake(second, problem, "keep one; one regex can often say the rest");
            None
        }
    }
}

fn range(fields: &mut Fields<'_>, bounds: &[i64]) -> Option<Matcher> {
    match *bounds {
        [min, max] if min <= max => return Some(Matcher::Range { min, max }),
        [min, max] => fields.mistake("range", format!("{min} is over {max}"), "give [low, high]"),
        _ => fields.mistake("range", format!("has {} bounds", bounds.len()), "give [low, high]"),
    }
    None
}
