//! What a user of the generator and the echo server may rely on, over real sockets.
mod common;

use common::{run, server, short};
use raddle_bench::bolt::{Head, Version};
use raddle_bench::{LoadOptions, Protocol, ServeOptions, load};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

/// A server that treats the `n`-th frame of a connection as told: the reply's bytes, or `None` to hang up.
fn scripted(reply: impl Fn(usize, &Head) -> Option<Vec<u8>> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let reply = Arc::new(reply);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let reply = reply.clone();
            std::thread::spawn(move || script(stream, &*reply));
        }
    });
    address
}

fn script(mut stream: TcpStream, reply: &dyn Fn(usize, &Head) -> Option<Vec<u8>>) {
    let (mut buf, mut chunk, mut n) = (Vec::new(), [0; 4096], 0);
    while let Ok(got @ 1..) = stream.read(&mut chunk) {
        buf.extend_from_slice(&chunk[..got]);
        while let Some(head) = Head::parse(&buf).unwrap().filter(|h| h.total() <= buf.len()) {
            buf.drain(..head.total());
            let Some(bytes) = reply(n, &head) else { return };
            n += 1;
            if stream.write_all(&bytes).is_err() {
                return;
            }
        }
    }
}

/// A version 1 response without class and header map.
fn response(id: u32, status: u16, content: &[u8]) -> Vec<u8> {
    let mut out = vec![1, 0, 0, 2, 1];
    out.extend_from_slice(&id.to_be_bytes());
    out.push(11);
    out.extend_from_slice(&status.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(content.len() as u32).to_be_bytes());
    out.extend_from_slice(content);
    out
}

#[test]
fn every_bolt_version_is_echoed_without_a_failure() {
    let server = server(ServeOptions { threads: 2, ..ServeOptions::default() });
    for bolt in [Version::V1, Version::V2, Version::V2Crc] {
        let result = run(LoadOptions { bolt, threads: 2, ..short(server.address) });
        assert!(result.requests > 100, "{result}");
        assert_eq!(result.failures.kinds(), [], "{result}");
        assert!(result.generator_us_per_request > 0.0);
    }
}

#[test]
fn frames_larger_than_a_read_and_tiny_ones_are_echoed() {
    let server = server(ServeOptions::default());
    for size in [0, 3, 1 << 20] {
        let result = run(LoadOptions { size, ..short(server.address) });
        assert!(result.requests > 0 && result.failures.total() == 0, "{size}: {result}");
    }
}

#[test]
fn tcp_chunks_are_echoed_in_order() {
    let server = server(ServeOptions { protocol: Protocol::Tcp, ..ServeOptions::default() });
    let result = run(LoadOptions { protocol: Protocol::Tcp, ..short(server.address) });
    assert!(result.requests > 100 && result.failures.total() == 0, "{result}");
}

#[test]
fn open_loop_sends_what_the_schedule_says() {
    let server = server(ServeOptions::default());
    let result = run(LoadOptions { rate: Some(1000.0), ..short(server.address) });
    assert_eq!((result.requests, result.failures.total()), (200, 0), "{result}");
}

#[test]
fn latency_counts_from_the_intended_time_when_the_server_cannot_keep_up() {
    // One request in flight and 20 ms a reply: 50 a second of the 500 that are due.
    let delay = Duration::from_millis(20);
    let server = server(ServeOptions { delay, ..ServeOptions::default() });
    let opts = LoadOptions { connections: 1, depth: 1, rate: Some(500.0), ..short(server.address) };
    let result = run(LoadOptions { timeout: Duration::from_secs(2), ..opts });
    assert!(result.latency.min_us > 20_000.0, "{result}");
    assert!(result.latency.max_us > 500_000.0, "waiting for a slot must count: {result}");
}

#[test]
fn the_server_holds_replies_back_and_sizes_them() {
    let delay = Duration::from_millis(5);
    let server = server(ServeOptions { delay, size: Some(100), ..ServeOptions::default() });
    let result = run(LoadOptions { reply_size: Some(100), ..short(server.address) });
    assert_eq!(result.failures.total(), 0, "{result}");
    assert!(result.latency.min_us >= 5_000.0, "{result}");
    let wrong = run(short(server.address));
    assert!(wrong.requests == 0 && wrong.failures.mismatch > 0, "a reply of another length is seen: {wrong}");
}

#[test]
fn a_reply_with_a_status_is_counted_under_it() {
    let target = scripted(|n, head| Some(response(head.id, if n % 2 == 0 { 7 } else { 4 }, b"")));
    let failures = run(short(target)).failures;
    assert!(failures.status[&7] > 0 && failures.status[&4] > 0, "{failures:?}");
}

#[test]
fn a_foreign_id_and_a_foreign_token_are_seen() {
    let target = scripted(|n, head| {
        let mut out = if n == 0 { response(head.id ^ 0x4000_0000, 0, &[0; 300]) } else { Vec::new() };
        out.extend(response(head.id, 0, &[0; 300]));
        Some(out)
    });
    let result = run(LoadOptions { warmup: Duration::ZERO, ..short(target) });
    assert_eq!(result.failures.wrong_id, 4, "one a connection: {result}");
    assert!(result.failures.mismatch > 0 && result.requests == 0, "{result}");
}

#[test]
fn lost_connections_are_counted_and_made_again() {
    let target = scripted(|n, head| (n < 3).then(|| response(head.id, 0, &[0; 300])));
    let result = run(LoadOptions { check_echo: false, ..short(target) });
    assert!(result.failures.reconnects > 4 && result.failures.connection_lost > 4, "{result}");
    assert!(result.requests > 4, "{result}");
}

#[test]
fn a_late_reply_is_a_timeout_and_is_not_mistaken_for_a_foreign_one() {
    let server = server(ServeOptions { delay: Duration::from_millis(120), ..ServeOptions::default() });
    let opts =
        LoadOptions { warmup: Duration::ZERO, duration: Duration::from_millis(400), ..short(server.address) };
    let result = run(LoadOptions { timeout: Duration::from_millis(40), ..opts });
    assert!(result.failures.timeout > 0 && result.failures.late > 0, "{result}");
    assert_eq!((result.requests, result.failures.wrong_id), (0, 0), "{result}");
}

#[test]
fn bytes_that_are_not_the_protocol_close_the_connection() {
    let target = scripted(|_, _| Some(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()));
    let result = run(short(target));
    assert!(result.failures.malformed > 0 && result.requests == 0, "{result}");
}

#[test]
fn a_target_that_is_not_there_is_an_error_that_names_it() {
    let target = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let error = load(short(target), |_| {}).unwrap_err().to_string();
    assert!(error.contains(&target.to_string()), "{error}");
}

#[test]
fn the_cpu_of_a_watched_process_is_reported() {
    let server = server(ServeOptions::default());
    let pids = vec![("all".to_owned(), std::process::id())];
    let result = run(LoadOptions { pids, ..short(server.address) });
    assert!(result.processes[0].us_per_request > 0.0, "{result}");
}

#[test]
fn a_timeline_has_every_request_and_names_those_that_failed() {
    // The tenth request of every connection is answered with a status, the rest well.
    let address = scripted(|n, head| {
        let status = if n == 9 { 3 } else { 0 };
        Some(response(head.id, status, &[]))
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("timeline");
    let opts = LoadOptions {
        connections: 2,
        rate: Some(200.0),
        check_echo: false,
        warmup: Duration::ZERO,
        timeline: Some(path.clone()),
        ..short(address)
    };
    let result = run(opts);
    let text = std::fs::read_to_string(path).unwrap();
    let lines: Vec<serde_json::Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let sum = |key: &str| lines.iter().filter_map(|l| l[key].as_u64()).sum::<u64>();
    let failed: Vec<_> = lines.iter().filter_map(|l| l["failed"].as_str()).collect();
    assert_eq!((sum("good"), sum("bad")), (result.requests, result.failures.total()), "{text}");
    assert_eq!(failed, ["status 3", "status 3"], "{text}");
}
