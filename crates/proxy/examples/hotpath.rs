//! The request path without its sockets, for counting instructions: `scripts/icount` runs it under
//! callgrind with two numbers of requests and divides the difference.
use raddle_core::Time;
use raddle_model::{LoadOptions, Source, load};
use raddle_net::Key;
use raddle_policy::{BalanceState, Decision, Load, Readiness, Rng, RouteState, Snapshot, pick};
use raddle_proxy::call::{Call, CallAttributes};
use raddle_proxy::conn::Direction;
use raddle_proxy::frame::{Head, What};
use raddle_proxy::lane::Lane;
use raddle_proxy::pending::{Claimed, InFlight, Pending};
use raddle_wire::bolt::{self, Limits, Variant};
use raddle_wire::dubbo;
use raddle_wire::hessian::v2;
use std::hint::black_box;

const CONFIG: &str = r#"
apiVersion: raddle.io/v1
kind: Sidecar
metadata: {name: hot}
spec: {app: hot, unit: u1, outbound: [{listen: 127.0.0.1:12221}]}
---
apiVersion: raddle.io/v1
kind: Service
metadata: {name: "bench.Echo:1.0"}
spec:
  app: echo
  endpoints:
  - {address: 127.0.0.1:1201, unit: u1}
  - {address: 127.0.0.1:1202, unit: u1}
  - {address: 127.0.0.1:1203, unit: u1}
---
apiVersion: raddle.io/v1
kind: Route
metadata: {name: marked}
spec:
  to: {app: echo}
  rules:
  - when: {header: {type: transfer}}
    send: {labels: {version: v2}}
"#;

struct AllReady;

impl Load for AllReady {
    fn ready(&self, _: u32) -> Readiness {
        Readiness::Ready
    }
    fn active(&self, i: u32) -> u32 {
        i
    }
    fn ewma_ns(&self, i: u32) -> f64 {
        1e6 + f64::from(i)
    }
}

fn main() {
    let n: u32 = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(1000);
    let source = Source { name: "hot.yaml".into(), text: CONFIG.into() };
    let Ok((resources, _)) = load(&[source], LoadOptions::default()) else {
        return eprintln!("bad configuration");
    };
    let snapshot = Snapshot::compile(resources, None);
    let (mut state, mut rng) = (RouteState::default(), Rng::new(7));
    let mut balance = BalanceState::new();
    let mut pending = Pending::default();
    let limits = Limits::default();
    let (lane, frame, reply) = match std::env::args().nth(2).as_deref() {
        Some("dubbo") => (Lane::Dubbo, dubbo_request(), dubbo_reply()),
        _ => (Lane::Bolt(Variant::V1), bolt_request(), bolt_reply()),
    };
    let mut name = Vec::new();
    let (mut out, mut back) = (Vec::with_capacity(64 << 10), Vec::with_capacity(64 << 10));
    for i in 0..n {
        let Ok(Some(head)) = Head::parse(lane, black_box(&frame), limits) else { return };
        if head.what(&frame) != What::Request {
            return;
        }
        name.clear();
        let call = Call::open(&head, &frame, &mut name, None);
        let Some(service) = call.named else { return };
        let request = CallAttributes { call: &call, service, ip: None };
        let Some(s) = snapshot.service(service) else { return };
        let Decision::Send { subset, .. } = s.route(&request, &mut state, &mut rng) else { return };
        black_box(call.timeout_ms());
        let now = Time::from_millis(u64::from(i));
        let picked = pick(subset, s, &mut balance, &AllReady, None, now, &mut rng, None);
        let in_flight = InFlight {
            caller: Key::NONE,
            caller_id: head.id(),
            start: now,
            service: Key::NONE,
            endpoint: picked.map_or(0, |p| p.index),
            cells: 0,
            lane: head.lane(),
            direction: Direction::Outbound,
            listener: 0,
            method: 0,
            codec: head.codec(),
            sofa: call.sofa(),
            out_at: 0,
            len: frame.len() as u32,
            permit: None,
            ticket: None,
            extra: None,
        };
        let id = pending.insert(in_flight, Time::MAX);
        out.clear();
        out.extend_from_slice(&frame);
        head.write_id(&mut out, u64::from(id));
        let Ok(Some(head)) = Head::parse(lane, black_box(&reply), limits) else { return };
        if head.what(&reply) != What::Reply || head.not_served(&reply).is_some() || !head.outcome(&reply).1 {
            return;
        }
        let Claimed::Live(r) = pending.claim(id) else { return };
        back.clear();
        back.extend_from_slice(&reply);
        head.write_id(&mut back, r.caller_id);
        black_box((&out, &back));
    }
}

fn bolt_request() -> Vec<u8> {
    let headers: [(&[u8], &[u8]); 3] =
        [(b"service", b"bench.Echo:1.0"), (b"sofa_head_method_name", b"echo"), (b"type", b"plain")];
    let mut out = Vec::new();
    bolt::encode::request(
        &mut out,
        Variant::V1,
        1,
        1,
        3000,
        false,
        bolt::CLASS_REQUEST,
        &headers,
        &[7; 1024],
    );
    out
}

fn bolt_reply() -> Vec<u8> {
    let mut out = Vec::new();
    bolt::encode::response(&mut out, Variant::V1, 1, 1, 0, bolt::CLASS_RESPONSE, &[], &[7; 1024]);
    out
}

/// One byte array as argument, and the attachments that Java clients send.
fn dubbo_request() -> Vec<u8> {
    let mut body = Vec::new();
    for text in ["2.0.2", "bench.Echo", "1.0", "echo", "[B"] {
        v2::push_string(&mut body, text);
    }
    body.extend(b"B\x04\x00");
    body.extend([7; 1024]);
    body.push(b'H');
    for (key, value) in [
        ("path", "bench.Echo"),
        ("interface", "bench.Echo"),
        ("version", "1.0"),
        ("timeout", "3000"),
        ("type", "plain"),
    ] {
        v2::push_string(&mut body, key);
        v2::push_string(&mut body, value);
    }
    body.push(b'Z');
    let mut out = Vec::new();
    dubbo::encode::request(&mut out, 1, dubbo::SERIALIZER_HESSIAN2, false, &body);
    out
}

fn dubbo_reply() -> Vec<u8> {
    let body = [&b"\x94B\x04\x00"[..], &[7; 1024], b"H\x05dubbo\x052.0.2Z"].concat();
    let mut out = Vec::new();
    dubbo::encode::response(&mut out, 1, dubbo::SERIALIZER_HESSIAN2, dubbo::STATUS_OK, &body);
    out
}
