//! The request path allocates nothing.
use allocation_counter::measure;
use raddle_core::{Protocol, Reason};
use raddle_telemetry::{
    AccessLog, AccessLogOptions, AccessLogTarget, Direction, Entry, Events, Format, Malformed, Registry,
    TraceParent,
};

#[test]
fn counting_a_request_allocates_nothing() {
    let registry = Registry::new(1);
    let shard = registry.shard(0);
    let service = shard.service(Direction::Inbound, "com.example.Echo:1.0");
    let host = shard.host(([127, 0, 0, 1], 12200).into());
    let seen = measure(|| {
        for ns in 0..1000 {
            shard.caller_bytes_in.add(128);
            shard.caller_malformed[Malformed::BadMagic].inc();
            shard.turn_events.record(ns);
            service.in_flight.inc();
            host.requests.inc();
            service.latency.record(ns * 1_000_000);
            service.rejected[Reason::Overflow].inc();
            service.in_flight.dec();
        }
    });
    assert_eq!(seen.count_total, 0);
}

#[test]
fn reading_and_writing_trace_context_allocates_nothing() {
    let seen = measure(|| {
        let trace = TraceParent::generate([1, 2, 3], true);
        let next = TraceParent::parse(&trace.format()).map(|t| t.child(7).format());
        assert!(next.is_some());
    });
    assert_eq!(seen.count_total, 0);
}

#[test]
fn logging_a_request_allocates_nothing_into_a_buffer_that_is_there() {
    let registry = Registry::new(1);
    let target = AccessLogTarget::File("/dev/null".into());
    for format in [Format::Text, Format::Json] {
        let options = AccessLogOptions { target: target.clone(), format, sample: 1.0 };
        let log = AccessLog::start(options, &registry, Events::default()).expect("started");
        let mut logger = log.logger(&registry.shard(0));
        let entry = Entry {
            time: 1_772_366_400_000_000_000,
            direction: Direction::Outbound,
            protocol: Protocol::Bolt,
            listener: "outbound",
            caller: ([127, 0, 0, 1], 40312).into(),
            connection: 7,
            request_id: 42,
            service: "com.example.Echo:1.0",
            method: Some("a \"quoted\" name"),
            endpoint: Some(([10, 0, 0, 7], 12200).into()),
            ok: false,
            status: 7,
            flag: Some(Reason::Timeout),
            rule: Some("echo-timeout"),
            duration_ns: 3_000_112_000,
            request_bytes: 310,
            response_bytes: 0,
            retries: 1,
            traceparent: Some(TraceParent::generate([1, 2, 3], true)),
        };
        logger.record(&entry);
        let seen = measure(|| (0..64).for_each(|_| logger.record(&entry)));
        assert_eq!(seen.count_total, 0, "{format:?}");
    }
}
