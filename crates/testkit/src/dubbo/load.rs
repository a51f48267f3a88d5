//! Dubbo callers in the background, who check every reply.
use super::client::DubboClient;
use super::frame::{DubboAsk, Status};
use crate::load::{Load, LoadReport};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// What the callers send: the connection's number and the request's, to a request.
type Make = Arc<dyn Fn(usize, u64) -> DubboAsk + Send + Sync>;

/// A load of Dubbo requests: `connections` callers, `depth` requests in a batch; ids are set here, with high
/// bits that differ between callers.
pub fn dubbo_load(
    addr: SocketAddr,
    connections: usize,
    depth: u32,
    make: impl Fn(usize, u64) -> DubboAsk + Send + Sync + 'static,
) -> Load {
    let make: Make = Arc::new(make);
    Load::of(connections, move |c, stop, done| run(addr, c, depth, &make, stop, done))
}

fn run(
    addr: SocketAddr,
    c: usize,
    depth: u32,
    make: &Make,
    stop: &AtomicBool,
    done: &AtomicU64,
) -> LoadReport {
    let mut r = LoadReport::default();
    let mut client = match DubboClient::try_connect(addr) {
        Ok(c) => c,
        Err(e) => {
            r.sent += 1;
            r.fail(format!("connect: {:?}", e.kind()));
            return r;
        }
    };
    let mut n = 0u64;
    while !stop.load(Ordering::Acquire) {
        let mut waiting = HashMap::new();
        let mut out = Vec::new();
        let began = Instant::now();
        for _ in 0..depth {
            n += 1;
            let id = n | (c as u64 % 7) << 40;
            let ask = make(c, n).id(id);
            out.extend(ask.bytes());
            waiting.insert(id, ask);
        }
        r.sent += u64::from(depth);
        if let Err(e) = std::io::Write::write_all(&mut client.stream, &out) {
            r.fail(format!("send: {:?}", e.kind()));
            return r;
        }
        while !waiting.is_empty() {
            let f = match client.try_next() {
                Ok(Some(f)) => f,
                Ok(None) => {
                    r.fail(format!("end of stream with {} in flight", waiting.len()));
                    return r;
                }
                Err(e) => {
                    r.fail(format!("{:?} with {} in flight", e.kind(), waiting.len()));
                    return r;
                }
            };
            if f.is_event() {
                continue;
            }
            done.fetch_add(1, Ordering::Relaxed);
            r.slowest = r.slowest.max(began.elapsed());
            match waiting.remove(&f.id()) {
                None => r.fail("reply to a request that was not asked"),
                Some(_) if f.status() != Status::Ok as u8 => {
                    r.fail(format!("{}/{}", f.status(), f.flag().unwrap_or_default()));
                }
                Some(ask) if f.content().as_ref() == Some(&ask.content) => r.ok += 1,
                Some(_) => r.fail("wrong content"),
            }
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    r
}
