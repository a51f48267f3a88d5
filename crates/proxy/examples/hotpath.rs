//! The request path without its sockets, for counting instructions: `scripts/icount` runs it under
//! callgrind with two numbers of requests and divides the difference.
use raddle_core::Time;
use raddle_model::{LoadOptions, Source, load};
use raddle_net::Key;
use raddle_policy::{Attributes, BalanceState, Decision, Load, Readiness, Rng, RouteState, Snapshot, pick};
use raddle_proxy::conn::Direction;
use raddle_proxy::lane::Lane;
use raddle_proxy::pending::{Claimed, InFlight, Pending};
use raddle_wire::bolt::{self, Head, HeaderMap, Limits, Parsed, Variant};
use std::hint::black_box;
use std::net::IpAddr;

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

struct Request<'a> {
    headers: HeaderMap<'a>,
    service: &'a [u8],
}

impl Attributes for Request<'_> {
    fn service(&self) -> &[u8] {
        self.service
    }
    fn method(&self) -> Option<&[u8]> {
        None
    }
    fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.get(name.as_bytes())
    }
    fn caller_app(&self) -> Option<&[u8]> {
        None
    }
    fn caller_ip(&self) -> Option<IpAddr> {
        None
    }
    fn load_test(&self) -> bool {
        false
    }
}

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
    let headers: [(&[u8], &[u8]); 3] =
        [(b"service", b"bench.Echo:1.0"), (b"sofa_head_method_name", b"echo"), (b"type", b"plain")];
    let mut frame = Vec::new();
    bolt::encode::request(
        &mut frame,
        Variant::V1,
        1,
        1,
        3000,
        false,
        bolt::CLASS_REQUEST,
        &headers,
        &[7; 1024],
    );
    let mut reply = Vec::new();
    bolt::encode::response(&mut reply, Variant::V1, 1, 1, 0, bolt::CLASS_RESPONSE, &[], &[7; 1024]);
    let (mut out, mut back) = (Vec::with_capacity(64 << 10), Vec::with_capacity(64 << 10));
    for i in 0..n {
        let Ok(Parsed::Head(head)) = Head::parse(black_box(&frame), &limits) else { return };
        let headers = head.headers(&frame);
        let [service, _] = headers.get_all(&[&b"service"[..], &b"sofa_head_target_service"[..]]);
        let Some(service) = service else { return };
        let request = Request { headers, service };
        let Some(s) = snapshot.service(service) else { return };
        let Decision::Send { subset, .. } = s.route(&request, &mut state, &mut rng) else { return };
        let now = Time::from_millis(u64::from(i));
        let picked = pick(subset, s, &mut balance, &AllReady, None, now, &mut rng, None);
        let in_flight = InFlight {
            caller: Key::NONE,
            caller_id: u64::from(head.id),
            start: now,
            service: Key::NONE,
            endpoint: picked.map_or(0, |p| p.index),
            cells: 0,
            lane: Lane::Bolt(head.variant),
            direction: Direction::Outbound,
            listener: 0,
            method: 0,
            codec: head.codec,
            sofa: head.class(&frame) == bolt::CLASS_REQUEST,
            out_at: 0,
            len: frame.len() as u32,
            permit: None,
            extra: None,
        };
        let id = pending.insert(in_flight, Time::MAX);
        out.clear();
        out.extend_from_slice(&frame);
        bolt::patch_id(&mut out, &head, id);
        let Ok(Parsed::Head(head)) = Head::parse(black_box(&reply), &limits) else { return };
        let Claimed::Live(r) = pending.claim(id) else { return };
        back.clear();
        back.extend_from_slice(&reply);
        bolt::patch_id(&mut back, &head, r.caller_id as u32);
        black_box((&out, &back));
    }
}
