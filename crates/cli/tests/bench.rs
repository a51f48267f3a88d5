//! `raddle bench` as a user runs it.
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

struct Server {
    child: Child,
    address: String,
}

/// An echo server on a free port, which ends with its standard input.
fn serve(args: &[&str]) -> Server {
    let mut child = Command::new(env!("CARGO_BIN_EXE_raddle"))
        .args(["bench", "serve", "--listen", "127.0.0.1:0", "--exit-with-stdin"])
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let mut line = String::new();
    let out = child.stdout.as_mut().expect("it was piped");
    BufReader::new(out).read_line(&mut line).expect("it says where it listens");
    let address = line.split(' ').find_map(|w| w.strip_suffix(';')).expect("an address").to_owned();
    Server { child, address }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_load_against_the_echo_server_is_measured() {
    let server = serve(&[]);
    let pid = format!("server={}", server.child.id());
    let mut args =
        vec!["bench", "load", "--target", &server.address, "--duration", "300ms", "--warmup", "50ms"];
    args.extend(["--rate", "500", "--size", "1KiB", "--pid", &pid, "-o", "json"]);
    let output = Command::new(env!("CARGO_BIN_EXE_raddle")).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "no progress where nobody looks");
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(result["requests"].as_u64() > Some(50), "{result}");
    assert_eq!(result["failures"]["mismatch"], 0);
    assert_eq!(result["processes"][0]["name"], "server");
}

#[test]
fn every_protocol_is_served_and_loaded_by_name() {
    for protocol in ["dubbo", "http", "http2", "grpc", "tcp"] {
        let server = serve(&["--protocol", protocol]);
        let mut args = vec!["bench", "load", "--target", &server.address, "--protocol", protocol];
        args.extend(["--duration", "200ms", "--warmup", "0s", "--rate", "100", "-o", "json"]);
        let output = Command::new(env!("CARGO_BIN_EXE_raddle")).args(args).output().unwrap();
        let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&result["protocol"], &result["requests"]), (&protocol.into(), &20.into()), "{result}");
    }
}

#[test]
fn a_mix_is_told_path_by_path_and_second_by_second() {
    let server = serve(&["--burn", "--burn-scale", "0.05"]);
    let mut args = vec!["bench", "load", "--target", &server.address, "--mix", "--rate", "100"];
    args.extend(["--duration", "2s", "--surge", "/cart/get=5@1s..2s", "-o", "json"]);
    let output = Command::new(env!("CARGO_BIN_EXE_raddle")).args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(result["paths"].as_array().map(Vec::len), Some(100), "{result}");
    let offered: Vec<u64> = serde_json::from_value(result["paths"][0]["offered"].clone()).unwrap();
    assert!(offered.len() == 2 && offered[1] > 2 * offered[0], "{offered:?}");
    assert!(result["total"]["good"].as_u64() > Some(100), "{}", result["total"]);
}

#[test]
fn a_server_does_not_outlive_the_pipe_it_was_given() {
    let mut server = serve(&[]);
    drop(server.child.stdin.take());
    // Ends when the process does: its output is then closed.
    let mut rest = String::new();
    server.child.stdout.take().unwrap().read_to_string(&mut rest).unwrap();
    assert!(server.child.wait().unwrap().code().is_some(), "it ended by itself");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let server = serve(&[]);
    let output = Command::new(env!("CARGO_BIN_EXE_raddle"))
        .args(["bench", "serve", "--listen", &server.address])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains(&server.address) && text.contains("--listen"), "{text}");
}
