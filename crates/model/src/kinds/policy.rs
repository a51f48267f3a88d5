//! `kind: TrafficPolicy`.
use super::Resource;
use super::common::{Attribute, policy_target, retry};
use super::reach::reach;
use crate::decode::{
    At, Choice, Codec, Cx, DurationIn, Fields, Int, Record, Share, Text, UriPath, quote, scalar,
};
use crate::reference::Page;
use crate::resources::{
    Balancer, CheckKind, HealthCheck, Metadata, PolicySettings, Pool, SlowStart, Target, Timeouts,
    TrafficPolicy, UnitAffinity,
};
use crate::yaml::{Node, Value};
use std::time::Duration;

impl Resource for TrafficPolicy {
    const KIND: &'static str = "TrafficPolicy";

    fn spec(fields: &mut Fields<'_>) -> Option<TrafficPolicy> {
        fields.not_yet(&["outlierDetection", "slice"]);
        let (scope, rollout) = reach(fields);
        let to = fields.or(
            "to",
            Record(policy_target),
            Target::default(),
            "Which services; every given part must hold. Absent = all.",
        );
        let settings = settings(fields);
        Some(TrafficPolicy { metadata: Metadata::default(), scope, rollout, to, settings })
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}

fn settings(fields: &mut Fields<'_>) -> PolicySettings {
    const AFFINITIES: Choice<UnitAffinity> = Choice(&[
        ("prefer", UnitAffinity::Prefer),
        ("require", UnitAffinity::Require),
        ("none", UnitAffinity::None),
    ]);
    let d = PolicySettings::default();
    PolicySettings {
        balancer: fields.or(
            "balancer",
            BalancerName,
            d.balancer,
            "How an endpoint is picked: in turn (`roundRobin`); the one with the lower expected latency of two \
             (`p2cEwma`); the one with fewer requests in flight of two (`leastRequest`); by chance (`random`); \
             or the same endpoint for the same attribute (`{consistentHash: ATTRIBUTE}`). All keep to weights.",
        ),
        unit_affinity: fields.or(
            "unitAffinity",
            AFFINITIES,
            d.unit_affinity,
            "Endpoints of the caller's unit: `prefer` = while there is a healthy one; `require` = only those; \
             `none` = all units alike.",
        ),
        pool: fields.or("pool", Record(pool), d.pool, "Connections to endpoints, and bounds."),
        timeouts: fields.or("timeouts", Record(timeouts), d.timeouts, "Time bounds."),
        retry: fields.optional("retry", Record(retry), "no retries", "When a request is sent again."),
        health_check: fields.optional(
            "healthCheck",
            Record(health_check),
            "none",
            "Active check of every endpoint.",
        ),
        slow_start: fields.optional(
            "slowStart",
            Record(slow_start),
            "full weight at once",
            "Ramp for endpoints that are new or back.",
        ),
        panic_threshold: fields.or(
            "panicThreshold",
            Share,
            d.panic_threshold,
            "If fewer endpoints than this share are healthy, health is ignored and all are used.",
        ),
    }
}

fn pool(fields: &mut Fields<'_>) -> Option<Pool> {
    let d = Pool::default();
    let most = Int::<u16>::new(1, 1024, "connections");
    let pool = Pool {
        connections: fields.or(
            "connections",
            Int::<u16>::new(1, 1024, "connections"),
            d.connections,
            "Connections kept to an endpoint, per worker.",
        ),
        max_connections: fields.or(
            "maxConnections",
            most,
            d.max_connections,
            "Most connections to an endpoint, per worker, when a queue builds.",
        ),
        max_outstanding: fields.or(
            "maxOutstanding",
            Int::<u32>::new(0, 10_000_000, "requests"),
            d.max_outstanding,
            "Most requests in flight to the service from this sidecar; 0 = no bound.",
        ),
        max_pending: fields.or(
            "maxPending",
            Int::<u32>::new(0, 10_000_000, "requests"),
            d.max_pending,
            "Most requests that wait for a connection, per worker.",
        ),
        idle_timeout: fields.optional(
            "idleTimeout",
            DurationIn::millis(1000, 7 * 86_400_000),
            "never",
            "A connection with nothing in flight is closed after this long without a request.",
        ),
        max_streams: fields.or(
            "maxStreams",
            Int::<u32>::new(1, 1_000_000, "streams"),
            d.max_streams,
            "Most HTTP/2 streams open at once on a connection to an endpoint; the endpoint's own bound holds too.",
        ),
        http1_connections: fields.or(
            "http1Connections",
            Int::<u16>::new(1, 65_535, "connections"),
            d.http1_connections,
            "Most HTTP/1.1 connections to an endpoint, per worker: each carries one request at a time, so that \
             `connections` and `maxConnections` are not for them.",
        ),
    };
    if pool.max_connections < pool.connections {
        let name = if fields.has("maxConnections") { "maxConnections" } else { "connections" };
        let problem =
            format!("maxConnections ({}) is under connections ({})", pool.max_connections, pool.connections);
        fields.mistake(name, problem, "give maxConnections at least as many as connections");
    }
    Some(pool)
}

fn timeouts(fields: &mut Fields<'_>) -> Option<Timeouts> {
    let d = Timeouts::default();
    Some(Timeouts {
        connect: fields.or("connect", DurationIn::millis(1, 60_000), d.connect, "To establish a connection."),
        request: fields.optional(
            "request",
            DurationIn::usual(),
            "its own; else 60s, none for HTTP and gRPC",
            "For a whole request. If it carries a timeout of its own (a Bolt or Dubbo frame's, gRPC's \
             `grpc-timeout`), the shorter holds. HTTP and gRPC exchanges may be streams: without this and without \
             one of their own, only `streamIdle` bounds them.",
        ),
        stream_idle: fields.or(
            "streamIdle",
            DurationIn::millis(1, 7 * 86_400_000),
            d.stream_idle,
            "An HTTP or gRPC exchange in which no byte moved either way for this long is ended with `UT`.",
        ),
        dead_peer: fields.or(
            "deadPeer",
            DurationIn::millis(500, 600_000),
            d.dead_peer,
            "Unacknowledged bytes or unanswered probes make a peer dead after this long.",
        ),
    })
}

fn health_check(fields: &mut Fields<'_>) -> Option<HealthCheck> {
    let check = HealthCheck {
        kind: check_kind(fields),
        interval: fields.or(
            "interval",
            DurationIn::millis(100, 3_600_000),
            Duration::from_secs(5),
            "Time between checks of an endpoint.",
        ),
        timeout: fields.or(
            "timeout",
            DurationIn::millis(1, 600_000),
            Duration::from_secs(1),
            "Bound of one check.",
        ),
        unhealthy_after: fields.or(
            "unhealthyAfter",
            Int::<u8>::new(1, 100, "checks"),
            3,
            "Failures in a row that make an endpoint unhealthy.",
        ),
        healthy_after: fields.or(
            "healthyAfter",
            Int::<u8>::new(1, 100, "checks"),
            2,
            "Successes in a row that make it healthy again.",
        ),
    };
    if check.timeout > check.interval {
        let name = if fields.has("timeout") { "timeout" } else { "interval" };
        fields.mistake(name, "timeout is over interval", "give a timeout no longer than the interval");
    }
    Some(check)
}

/// How endpoints are asked, and what about.
fn check_kind(fields: &mut Fields<'_>) -> CheckKind {
    #[derive(Clone, Copy, PartialEq)]
    enum Word {
        Tcp,
        Bolt,
        Dubbo,
        Http,
        Grpc,
    }
    const KINDS: Choice<Word> = Choice(&[
        ("tcp", Word::Tcp),
        ("bolt", Word::Bolt),
        ("dubbo", Word::Dubbo),
        ("http", Word::Http),
        ("grpc", Word::Grpc),
    ]);
    let word = fields.or(
        "kind",
        KINDS,
        Word::Tcp,
        "`tcp` = a connection can be made; `bolt`, `dubbo` = a heartbeat is answered; `http` = a GET over \
         HTTP/1.1 is answered with a status of 200 to 399; `grpc` = `grpc.health.v1.Health/Check` answers \
         `SERVING`.",
    );
    let path = fields.optional(
        "path",
        UriPath { query: true },
        "`/`",
        "What `kind: http` asks for; a query may follow.",
    );
    let service = fields.optional(
        "service",
        Text::name("a gRPC service's full name"),
        "the server as a whole",
        "The service `kind: grpc` asks about.",
    );
    for (name, kind, fits) in [("path", "http", word == Word::Http), ("service", "grpc", word == Word::Grpc)]
    {
        if fields.has(name) && !fits {
            fields.mistake(
                name,
                format!("belongs to kind: {kind}"),
                format!("leave it out, or write kind: {kind}"),
            );
        }
    }
    match word {
        Word::Tcp => CheckKind::Tcp,
        Word::Bolt => CheckKind::Bolt,
        Word::Dubbo => CheckKind::Dubbo,
        Word::Http => CheckKind::Http { path: path.unwrap_or_else(|| "/".into()) },
        Word::Grpc => CheckKind::Grpc { service: service.unwrap_or_default() },
    }
}

fn slow_start(fields: &mut Fields<'_>) -> Option<SlowStart> {
    Some(SlowStart {
        window: fields.or(
            "window",
            DurationIn::millis(100, 3_600_000),
            Duration::from_secs(30),
            "Length of the ramp.",
        ),
        floor: fields.or("floor", Share, 0.1, "Weight at its start, as a share of the full weight."),
    })
}

/// A balancer's name, or `{consistentHash: ATTRIBUTE}`.
struct BalancerName;

impl BalancerName {
    const WORDS: [(&str, Balancer); 4] = [
        ("roundRobin", Balancer::RoundRobin),
        ("p2cEwma", Balancer::P2cEwma),
        ("leastRequest", Balancer::LeastRequest),
        ("random", Balancer::Random),
    ];
}

impl Codec for BalancerName {
    type Out = Balancer;

    fn decode(&self, node: &Node<'_>, at: &At<'_>, cx: &mut Cx) -> Option<Balancer> {
        if let Value::Map(_) = node.value {
            return Fields::read(node, at, cx, consistent_hash);
        }
        let (text, _) = scalar(self, node, at, cx)?;
        if let Some((_, balancer)) = BalancerName::WORDS.iter().find(|(word, _)| *word == text) {
            return Some(balancer.clone());
        }
        let words = BalancerName::WORDS.iter().map(|(word, _)| *word);
        let (problem, remedy) = match crate::suggest::nearest(text, words.chain(["consistentHash"])) {
            Some("consistentHash") => (
                "consistentHash needs to know what is hashed".into(),
                "write {consistentHash: method}".into(),
            ),
            Some(meant) => (format!("unknown balancer {}", quote(text)), format!("did you mean {meant}?")),
            None => (format!("unknown balancer {}", quote(text)), format!("give {}", self.wanted())),
        };
        cx.mistake(node.spot, at, problem, remedy);
        None
    }

    fn wanted(&self) -> String {
        let words: Vec<&str> = BalancerName::WORDS.iter().map(|(word, _)| *word).collect();
        format!("{} or {{consistentHash: ATTRIBUTE}}", words.join(", "))
    }

    fn kind(&self) -> String {
        let words: Vec<String> = BalancerName::WORDS.iter().map(|(word, _)| format!("`{word}`")).collect();
        format!("{} \\| object", words.join(" \\| "))
    }

    fn show(&self, out: &Balancer) -> String {
        let word = BalancerName::WORDS.iter().find(|(_, balancer)| balancer == out);
        word.map_or_else(String::new, |(word, _)| format!("`{word}`"))
    }

    fn document(&self, page: &mut Page) {
        Fields::write(page, consistent_hash);
    }
}

fn consistent_hash(fields: &mut Fields<'_>) -> Option<Balancer> {
    let meaning = "The attribute; requests that are alike in it go to the same endpoint while it is healthy.";
    fields.required("consistentHash", Attribute, meaning).map(|on| Balancer::ConsistentHash { on })
}
