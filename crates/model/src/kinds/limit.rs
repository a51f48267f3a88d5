//! `kind: AdaptiveLimit` and `kind: RateLimit`.
use super::Resource;
use super::reach::reach;
use super::route::when;
use crate::decode::{
    Choice, DurationIn, Fields, FilePath, HeaderName, Int, List, Number, Record, Spotted, Text,
};
use crate::resources::{
    AdaptiveLimit, AdaptiveSettings, Bound, InterfaceBy, KeyBy, LimitKey, LoadSignal, LoadTestMark, Metadata,
    Priority, PriorityRule, Rate, RateLimit, Reach, RuleMode, Side,
};
use std::collections::BTreeMap;

/// Most requests a second that a rule can say.
const MOST_RATE: f64 = 10_000_000.0;

pub(super) const MODES: Choice<RuleMode> =
    Choice(&[("enforce", RuleMode::Enforce), ("observe", RuleMode::Observe)]);
pub(super) const MODE_MEANING: &str = "`observe` = what it would refuse is counted and logged, and passes.";

impl Resource for AdaptiveLimit {
    const KIND: &'static str = "AdaptiveLimit";

    fn spec(fields: &mut Fields<'_>) -> Option<AdaptiveLimit> {
        let (scope, rollout) = reach(fields);
        let d = AdaptiveSettings::default();
        let settings = AdaptiveSettings {
            mode: fields.or("mode", MODES, d.mode, MODE_MEANING),
            threshold: fields.or(
                "threshold",
                Number::new(0.5, 0.95, "share"),
                d.threshold,
                "Share of the app's cores above which they are short.",
            ),
            memory_threshold: fields.or(
                "memoryThreshold",
                Number::new(0.5, 1.0, "share"),
                d.memory_threshold,
                "Share of the app's memory bound above which memory is short.",
            ),
            by: fields.or(
                "by",
                Choice(&[("method", InterfaceBy::Method), ("service", InterfaceBy::Service)]),
                d.by,
                "What is told apart: services, or their methods. HTTP: hosts, or method and path, where parts of a path \
                 that look like ids are taken for one another.",
            ),
            max_interfaces: fields.or(
                "maxInterfaces",
                Int::<u32>::new(1, 100_000, "interfaces"),
                d.max_interfaces,
                "Interfaces told apart at most; those that come later share one place.",
            ),
            signal: fields.or("signal", Record(signal), LoadSignal::Auto, "Where the app's load is read."),
            cores: fields.optional(
                "cores",
                Number::new(0.01, 4096.0, "cores"),
                "as the signal says",
                "Cores the app may use.",
            ),
            cost_header: fields.optional(
                "costHeader",
                HeaderName,
                "none",
                "Header of replies in which the app says what CPU time the request took, in microseconds.",
            ),
            load_test: fields.or(
                "loadTest",
                Record(mark),
                d.load_test,
                "What marks load-test traffic, which is held first. Absent = the header `shadowTest` with the value `T`, \
                 which is what `loadTest` in the conditions of rules goes by in any case.",
            ),
            priorities: fields.or(
                "priorities",
                List(Record(priority)),
                Vec::new(),
                "Classes of requests, for when everything is too much at once: the first whose conditions hold. What none \
                 takes is `normal`, what carries the load-test mark `loadTest`.",
            ),
        };
        Some(AdaptiveLimit { metadata: Metadata::default(), scope, rollout, settings })
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

fn signal(fields: &mut Fields<'_>) -> Option<LoadSignal> {
    let kind = fields.or(
        "from",
        Choice(&[("auto", true), ("latency", false)]),
        true,
        "`auto` = the cgroup of the process that has the app's port, else the process; `latency` = nothing is read, the \
         app's latency alone says whether it is short of something.",
    );
    let cgroup = fields.optional(
        "cgroup",
        FilePath { what: "a cgroup's folder" },
        "none",
        "The app's cgroup, version 1 or 2.",
    );
    let pid = fields.optional(
        "pidFile",
        FilePath { what: "a file's path" },
        "none",
        "File with the app's process id.",
    );
    let url = fields.optional(
        "url",
        Text::any("a URL"),
        "none",
        "URL of the app, `http://127.0.0.1:PORT/PATH`, that answers `{\"cpu\": SHARE, \"memory\": SHARE}`.",
    );
    if let Some(url) = url.as_deref()
        && !url.starts_with("http://")
    {
        fields.mistake("url", "is not a plain HTTP URL", "give http://HOST:PORT/PATH");
    }
    match (fields.has("from"), cgroup, pid, url) {
        (_, None, None, None) => Some(if kind { LoadSignal::Auto } else { LoadSignal::Latency }),
        (false, Some(folder), None, None) => Some(LoadSignal::Cgroup(folder)),
        (false, None, Some(file), None) => Some(LoadSignal::PidFile(file)),
        (false, None, None, Some(url)) => Some(LoadSignal::Http(url)),
        _ => {
            fields.whole("says more than one place", "keep one of from, cgroup, pidFile, url");
            None
        }
    }
}

fn mark(fields: &mut Fields<'_>) -> Option<LoadTestMark> {
    let d = LoadTestMark::default();
    let header = fields.or(
        "header",
        Text::name("a header's name"),
        d.header,
        "Name of the header (Dubbo: attachment; gRPC: metadata).",
    );
    let values =
        fields.or("values", List(Text::any("a value")), d.values, "Values of it, any of which marks.");
    if values.is_empty() {
        fields.mistake("values", "nothing would be marked", "give at least one value");
    }
    Some(LoadTestMark { header, values })
}

fn priority(fields: &mut Fields<'_>) -> Option<PriorityRule> {
    let when =
        fields.or("when", Record(when), Vec::new(), "All conditions must hold. Absent = every request.");
    let priority = fields.required(
        "priority",
        Choice(&[
            ("critical", Priority::Critical),
            ("normal", Priority::Normal),
            ("batch", Priority::Batch),
            ("loadTest", Priority::LoadTest),
        ]),
        "Their class. `loadTest` is held first, then `batch`, `normal`; of `critical` a tenth passes in any case.",
    );
    Some(PriorityRule { when, priority: priority? })
}

impl Resource for RateLimit {
    const KIND: &'static str = "RateLimit";

    fn spec(fields: &mut Fields<'_>) -> Option<RateLimit> {
        let (scope, rollout) = reach(fields);
        let side = fields.or(
            "side",
            Choice(&[("inbound", Side::Inbound), ("outbound", Side::Outbound)]),
            Side::Inbound,
            "Which way the requests go: to the app beside the sidecar, or from it.",
        );
        let mode = fields.or("mode", MODES, RuleMode::Enforce, MODE_MEANING);
        let when = fields.or(
            "when",
            Record(when),
            Vec::new(),
            "Which requests: all conditions must hold. Absent = every request. TCP connections are taken by `service` \
             (inbound `tcp:PORT`, the app's port) and `callerApp` alone.",
        );
        let bound = bound(fields);
        let key = fields.optional(
            "key",
            Record(key),
            "all together",
            "Counted for each value of a parameter by itself (a hotspot limit).",
        );
        let cluster = matches!(&bound, Some(Bound::Rate(r)) if r.reach == Reach::Cluster);
        if key.is_some() && cluster {
            fields.mistake(
                "key",
                "values are counted by each sidecar for itself",
                "leave key or reach: cluster out",
            );
        }
        if let (Some(_), Some(Bound::Rate(Rate { max_wait: Some(_), .. }))) = (&key, &bound) {
            fields.mistake("key", "requests counted by value do not wait", "leave key or maxWait out");
        }
        Some(RateLimit {
            metadata: Metadata::default(),
            scope,
            rollout,
            side,
            mode,
            when,
            bound: bound?,
            key,
        })
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

fn bound(fields: &mut Fields<'_>) -> Option<Bound> {
    let rate = fields.optional(
        "rate",
        Number::new(0.0, MOST_RATE, "requests per second"),
        "no bound on the rate",
        "Requests a second; 0 = none passes. Of several rules that take a request each must let it pass, so the lowest \
         holds.",
    );
    let concurrency = fields.optional(
        "concurrency",
        Int::<u32>::new(0, 10_000_000, "requests"),
        "no bound at once",
        "Requests at the same time. Give this or `rate`.",
    );
    let burst = fields.optional(
        "burst",
        Int::<u32>::new(1, 100_000_000, "requests"),
        "what `rate` gives in a second, at least 1",
        "With `rate`: requests that may come at once after a pause. With `warmUp` never more than the rate gives in a tenth \
         of a second, at least 1.",
    );
    let max_wait = fields.optional(
        "maxWait",
        DurationIn::millis(1, 60_000),
        "refused at once",
        "With `rate`: requests that come too early wait, at most this long, such that they leave evenly. One-way and \
         streamed requests do not wait.",
    );
    let warm_up = fields.optional(
        "warmUp",
        DurationIn::millis(100, 3_600_000),
        "the whole rate at once",
        "With `rate`: time in which the rate rises from a third to the whole after a pause. At once then come at most what \
         the rate gives in a tenth of a second (at least 1), whatever `burst` says.",
    );
    let reach = fields.or(
        "reach",
        Choice(&[("local", Reach::Local), ("cluster", Reach::Cluster)]),
        Reach::Local,
        "With `rate`: whether each sidecar counts for itself, or all that have the rule together, by the control plane's \
         quota server.",
    );
    match (rate, concurrency) {
        (Some(per_second), None) => {
            // Bounded by `MOST_RATE`.
            let second = (per_second.ceil() as u32).max(1);
            let burst = burst.unwrap_or(second);
            Some(Bound::Rate(Rate { per_second, burst, max_wait, warm_up, reach }))
        }
        (None, Some(most)) => {
            for name in ["burst", "maxWait", "warmUp", "reach"] {
                if fields.has(name) {
                    fields.mistake(name, "means nothing with concurrency", "leave it out, or give rate");
                }
            }
            Some(Bound::Concurrency(most))
        }
        (None, None) if fields.has("rate") || fields.has("concurrency") => None,
        (None, None) => {
            fields.whole("bounds nothing", "give rate or concurrency");
            None
        }
        (Some(_), Some(_)) => {
            fields.mistake("concurrency", "rate is given, too", "keep one of them; two rules can say both");
            None
        }
    }
}

fn key(fields: &mut Fields<'_>) -> Option<LimitKey> {
    const WORDS: Choice<KeyWord> = Choice(&[
        ("callerApp", KeyWord::CallerApp),
        ("callerIp", KeyWord::CallerIp),
        ("method", KeyWord::Method),
    ]);
    let header = fields.optional(
        "header",
        Text::name("a header's name"),
        "–",
        "Value of a header (Dubbo: attachment; gRPC: metadata).",
    );
    let query = fields.optional(
        "query",
        Text::name("a parameter's name"),
        "–",
        "Value of a parameter of an HTTP request's query.",
    );
    let part = fields.optional(
        "pathPart",
        Int::<u8>::new(0, 31, ""),
        "–",
        "Part of an HTTP request's path, counted from 0: of `/users/42`, 1 is `42`.",
    );
    let by = fields.optional("by", WORDS, "–", "An attribute of the request.");
    let most = fields.or(
        "most",
        Int::<u32>::new(1, 1_000_000, "values"),
        10_000,
        "Values kept at the same time; the rarest give way to others.",
    );
    let overrides =
        fields.or("values", List(Spotted(Record(value))), Vec::new(), "Values with a bound of their own.");
    let mut map = BTreeMap::new();
    for (i, ((value, bound), spot)) in overrides.into_iter().enumerate() {
        if map.insert(value, bound).is_some()
            && let Some((cx, at)) = fields.context()
        {
            let list = at.field("values");
            cx.mistake(spot, &list.item(i), "the value is there already".into(), "keep one of them".into());
        }
    }
    let word = by.map(|w| match w {
        KeyWord::CallerApp => KeyBy::CallerApp,
        KeyWord::CallerIp => KeyBy::CallerIp,
        KeyWord::Method => KeyBy::Method,
    });
    let given = [header.map(KeyBy::Header), query.map(KeyBy::Query), part.map(KeyBy::PathPart), word];
    let mut given = given.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(by), None) => Some(LimitKey { by, most, overrides: map }),
        _ => {
            fields.whole("must name one parameter", "give one of header, query, pathPart, by");
            None
        }
    }
}

/// What [`KeyBy`] is besides the kinds with names.
#[derive(Clone, Copy, PartialEq)]
enum KeyWord {
    CallerApp,
    CallerIp,
    Method,
}

fn value(fields: &mut Fields<'_>) -> Option<(String, f64)> {
    let value = fields.required("value", Text::any("a value"), "The value.");
    let bound = fields.required(
        "bound",
        Number::new(0.0, MOST_RATE, ""),
        "Its bound, in place of the rule's `rate` or `concurrency`; 0 = none passes.",
    );
    Some((value?, bound?))
}
