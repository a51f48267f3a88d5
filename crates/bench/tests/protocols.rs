//! Every protocol of generator and echo server, over real sockets, and what becomes of each kind of failure.
mod common;

use common::{run, server, short};
use raddle_bench::{LoadOptions, Protocol, ServeOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

const ALL: [Protocol; 4] = [Protocol::Dubbo, Protocol::Http, Protocol::Http2, Protocol::Grpc];

#[test]
fn every_protocol_is_echoed_at_every_size() {
    for protocol in ALL {
        let server = server(ServeOptions { protocol, ..ServeOptions::default() });
        for size in [0, 5, 300, 70_000, 1 << 20] {
            // Open loop: every request that is due is waited for, however slow the machine is.
            let rate = Some(if size > 1000 { 50.0 } else { 1000.0 });
            let result = run(LoadOptions { protocol, size, rate, ..short(server.address) });
            assert_eq!(result.requests, if size > 1000 { 10 } else { 200 }, "{protocol} {size}: {result}");
            assert_eq!(result.failures.kinds(), [], "{protocol} {size}: {result}");
        }
    }
}

#[test]
fn a_reply_of_another_size_is_seen_and_one_that_is_expected_is_good() {
    for protocol in ALL {
        for size in [0, 100, 200_000] {
            let server = server(ServeOptions { protocol, size: Some(size), ..ServeOptions::default() });
            let opts = LoadOptions { protocol, reply_size: Some(size), ..short(server.address) };
            for size in [0, 4, 300] {
                let result = run(LoadOptions { size, ..opts.clone() });
                assert_eq!(
                    (result.requests > 2, result.failures.kinds()),
                    (true, vec![]),
                    "{protocol}: {result}"
                );
            }
            let result = run(LoadOptions { reply_size: Some(size + 1), ..opts });
            assert!(result.requests == 0 && result.failures.mismatch > 0, "{protocol}: {result}");
        }
    }
}

#[test]
fn one_request_is_in_flight_on_an_http_connection() {
    let delay = Duration::from_millis(10);
    let server = server(ServeOptions { protocol: Protocol::Http, delay, ..ServeOptions::default() });
    let result = run(LoadOptions { protocol: Protocol::Http, ..short(server.address) });
    assert_eq!(result.depth, 1);
    // Four connections, 200 ms, 10 ms each.
    assert!((1..=84).contains(&result.requests), "{result}");
}

#[test]
fn a_late_reply_fails_its_own_request_only() {
    let delay = Duration::from_millis(120);
    for protocol in ALL {
        let server = server(ServeOptions { protocol, delay, ..ServeOptions::default() });
        let result = run(LoadOptions {
            protocol,
            warmup: Duration::ZERO,
            duration: Duration::from_millis(400),
            timeout: Duration::from_millis(40),
            ..short(server.address)
        });
        assert!(result.failures.timeout > 0, "{protocol}: {result}");
        assert_eq!((result.requests, result.failures.wrong_id), (0, 0), "{protocol}: {result}");
        let lost = result.failures.reconnects > 0;
        assert_eq!(
            lost,
            protocol == Protocol::Http,
            "{protocol}: only there a late reply has no id: {result}"
        );
    }
}

/// A server that says `greeting` and answers every read with what `reply` makes of it.
fn scripted(
    greeting: &'static [u8],
    reply: impl Fn(&[u8]) -> Option<Vec<u8>> + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let reply = Arc::new(reply);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let reply = reply.clone();
            std::thread::spawn(move || converse(stream, greeting, &*reply));
        }
    });
    address
}

fn converse(mut stream: TcpStream, greeting: &[u8], reply: &dyn Fn(&[u8]) -> Option<Vec<u8>>) -> Option<()> {
    let mut chunk = vec![0; 64 << 10];
    stream.write_all(greeting).ok()?;
    while let Ok(n @ 1..) = stream.read(&mut chunk) {
        stream.write_all(&reply(&chunk[..n])?).ok()?;
    }
    None
}

fn one_at_a_time(protocol: Protocol, target: SocketAddr) -> LoadOptions {
    LoadOptions {
        protocol,
        connections: 2,
        depth: 1,
        warmup: Duration::ZERO,
        check_echo: false,
        ..short(target)
    }
}

#[test]
fn an_http_status_and_a_connection_that_ends_with_its_response_are_told() {
    let target = scripted(b"", |_| Some(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\n\r\n".to_vec()));
    let result = run(one_at_a_time(Protocol::Http, target));
    assert!(result.failures.status[&503] > 10 && result.failures.reconnects == 0, "{result}");
    let target = scripted(b"", |_| {
        let reply =
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        Some(reply.as_bytes().to_vec())
    });
    let result = run(one_at_a_time(Protocol::Http, target));
    assert!(result.requests > 10 && result.failures.total() == 0, "not a failure: {result}");
    assert!(result.failures.reconnects > 2, "{result}");
    let target = scripted(b"", |_| None);
    assert!(run(one_at_a_time(Protocol::Http, target)).failures.connection_lost > 0);
}

#[test]
fn a_dubbo_status_and_an_exception_are_told() {
    fn reply(request: &[u8], status: u8, body: &[u8]) -> Option<Vec<u8>> {
        let mut out = vec![0xda, 0xbb, 2, status];
        out.extend_from_slice(&request[4..12]);
        out.extend_from_slice(&(body.len() as u32).to_be_bytes());
        out.extend_from_slice(body);
        Some(out)
    }
    let target = scripted(b"", |request| reply(request, 100, b"\x04busy"));
    let result = run(one_at_a_time(Protocol::Dubbo, target));
    assert!(result.failures.status[&100] > 10 && result.requests == 0, "{result}");
    let target = scripted(b"", |request| reply(request, 20, b"\x93\x04boomHZ"));
    let result = run(one_at_a_time(Protocol::Dubbo, target));
    assert!(result.failures.exception > 10 && result.requests == 0, "{result}");
    // Half of the id does not come back.
    let target = scripted(b"", |request| {
        let mut request = request.to_vec();
        request[4..8].fill(0);
        reply(&request, 20, b"\x91\x04echo")
    });
    let result =
        run(LoadOptions { timeout: Duration::from_millis(50), ..one_at_a_time(Protocol::Dubbo, target) });
    assert!(result.failures.wrong_id > 0 && result.requests == 0, "{result}");
}

const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";

/// The streams whose headers are in `input`.
fn streams(mut input: &[u8]) -> Vec<[u8; 4]> {
    if input.starts_with(b"PRI") {
        input = &input[24..];
    }
    let mut streams = Vec::new();
    while let [l0, l1, l2, kind, _, id @ ..] = input {
        if *kind == 1 {
            streams.push([id[0], id[1], id[2], id[3]]);
        }
        input = &input[9 + u32::from_be_bytes([0, *l0, *l1, *l2]) as usize..];
    }
    streams
}

/// A frame for each stream in `input`.
fn frames(input: &[u8], kind: u8, flags: u8, payload: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    for stream in streams(input) {
        out.extend_from_slice(&[0, 0, payload.len() as u8, kind, flags]);
        out.extend_from_slice(&stream);
        out.extend_from_slice(payload);
    }
    Some(out)
}

#[test]
fn http2_statuses_resets_and_goodbyes_are_told() {
    // Headers that end the stream: `:status: 500` by index, then as text.
    let target = scripted(SETTINGS, |input| frames(input, 1, 5, b"\x8e"));
    assert!(run(one_at_a_time(Protocol::Http2, target)).failures.status[&500] > 10);
    let target = scripted(SETTINGS, |input| frames(input, 1, 5, b"\x08\x03429"));
    assert!(run(one_at_a_time(Protocol::Http2, target)).failures.status[&429] > 10);
    let target = scripted(SETTINGS, |input| frames(input, 3, 0, &[0, 0, 0, 7]));
    let result = run(one_at_a_time(Protocol::Http2, target));
    assert!(result.failures.reset > 10 && result.failures.reconnects == 0, "{result}");
    // GOAWAY that names the first stream as the last, then its response: the next request needs a new connection.
    let target = scripted(SETTINGS, |input| {
        let mut out = b"\0\0\x08\x07\0\0\0\0\0\0\0\0\x01\0\0\0\0".to_vec();
        out.extend(frames(input, 1, 5, b"\x88")?);
        Some(out)
    });
    let result = run(one_at_a_time(Protocol::Http2, target));
    assert!(result.requests > 10 && result.failures.total() == 0, "{result}");
    assert!(result.failures.reconnects > 2, "{result}");
}

#[test]
fn the_status_of_a_call_counts_not_that_of_its_transport() {
    // `:status: 200`, `grpc-status: 8`, at once.
    let target = scripted(SETTINGS, |input| frames(input, 1, 5, b"\x88\x00\x0bgrpc-status\x018"));
    let result = run(one_at_a_time(Protocol::Grpc, target));
    assert!(result.failures.status[&8] > 10 && result.requests == 0, "{result}");
    let target = scripted(SETTINGS, |input| frames(input, 1, 5, b"\x88"));
    assert!(run(one_at_a_time(Protocol::Grpc, target)).failures.status[&2] > 2, "no status is UNKNOWN");
    let target = scripted(SETTINGS, |input| frames(input, 1, 5, b"\x08\x03503"));
    assert!(run(one_at_a_time(Protocol::Grpc, target)).failures.status[&503] > 10);
}

#[test]
fn bytes_of_another_protocol_close_the_connection() {
    for protocol in ALL {
        let target = scripted(b"", |_| Some(b"\x01what is this\r\n\r\n".to_vec()));
        let result = run(one_at_a_time(protocol, target));
        assert!(result.failures.malformed > 0 && result.requests == 0, "{protocol}: {result}");
    }
}
