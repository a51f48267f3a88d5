//! Field lines, and fields about the connection.
use super::{Case, Want, passed, refused, refused_as, whole};

/// A GET with more field lines.
fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")
}

const BARE: &str = "GET / HTTP/1.1\nHost: a";

pub(crate) fn cases() -> Vec<Case> {
    let mut all = shapes();
    all.extend(connection());
    all.extend(upgrades());
    all.extend(expectations());
    all
}

fn shapes() -> Vec<Case> {
    let raw = |f: &[u8]| [b"GET / HTTP/1.1\r\nHost: a\r\n", f, b"\r\n\r\n"].concat();
    let many = |n: usize| get(&(0..n).map(|i| format!("x{i}: y")).collect::<Vec<_>>().join("\r\n"));
    vec![
        refused("field/space before the colon", get("X-A : b")),
        refused("field/tab before the colon", get("X-A\t: b")),
        refused("field/space in the name", get("X A: b")),
        refused("field/no name", get(": b")),
        refused("field/no colon", get("X-A")),
        refused("field/folded", get("X-A: b\r\n c")),
        refused("field/folded with tab", get("X-A: b\r\n\tc")),
        refused("field/folded emptiness", get("X-A: b\r\n ")),
        refused("field/NUL in the name", raw(b"X\0A: b")),
        refused("field/CR in the name", raw(b"X\rA: b")),
        refused("field/byte over 0x7f in the name", raw(b"X-\xe9: b")),
        refused("field/parenthesis in the name", get("X(A): b")),
        refused("field/NUL in the value", raw(b"X-A: b\0c")),
        refused("field/CR in the value", raw(b"X-A: b\rc")),
        refused("field/CR and a field in the value", raw(b"X-A: b\rContent-Length: 5")),
        refused("field/LF in the value", raw(b"X-A: b\nX-B: c")),
        refused("field/CR before CRLF", raw(b"X-A: b\r")),
        refused("field/0x01 in the value", raw(b"X-A: b\x01")),
        refused("field/0x0b in the value", raw(b"X-A: b\x0bc")),
        refused("field/0x7f in the value", raw(b"X-A: b\x7f")),
        refused("field/LF before the empty line", b"GET / HTTP/1.1\r\nHost: a\n\r\n"),
        refused("field/LF for the empty line", b"GET / HTTP/1.1\r\nHost: a\r\n\n"),
        refused("field/CR for the empty line", b"GET / HTTP/1.1\r\nHost: a\r\n\rX"),
        passed("field/bytes over 0x7f in the value", get("X-A: \u{e9}"), &format!("{BARE}\nX-A: \u{e9}"), ""),
        passed("field/no value", get("X-A:"), &format!("{BARE}\nX-A: "), ""),
        passed("field/space and tab around the value", get("X-A: \t b \t"), &format!("{BARE}\nX-A: b"), ""),
        passed("field/twice", get("X-A: b\r\nx-a: c"), &format!("{BARE}\nX-A: b\nx-a: c"), ""),
        refused_as("field/200", many(200), &[400, 431]),
        refused_as("field/value of 70 KiB", get(&format!("X-A: {}", "b".repeat(70 << 10))), &[431]),
        refused_as("field/name of 70 KiB", get(&format!("{}: b", "x".repeat(70 << 10))), &[400, 431]),
        refused_as(
            "field/head of 70 KiB without end",
            format!("GET / HTTP/1.1\r\nX: {}", "y".repeat(70 << 10)),
            &[431],
        ),
    ]
}

fn connection() -> Vec<Case> {
    let post = |f: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{f}\r\nContent-Length: 1\r\n\r\nx");
    vec![
        refused("connection/names Content-Length", post("Connection: Content-Length")),
        refused("connection/names Transfer-Encoding", post("Connection: close, transfer-encoding")),
        refused("connection/names Host", post("Connection: keep-alive, Host")),
        refused("connection/names no token", post("Connection: a b")),
        passed(
            "connection/names a field",
            get("X-Hop: 1\r\nConnection: X-Hop\r\nX-A: b"),
            &format!("{BARE}\nX-A: b"),
            "",
        ),
        passed(
            "connection/names several",
            get("Connection: a, ,X-b\r\nA: 1\r\nConnection: c\r\nX-B: 2\r\nC: 3"),
            BARE,
            "",
        ),
        passed(
            "connection/old fields",
            get("Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive"),
            BARE,
            "",
        ),
        passed("connection/TE other than trailers", get("TE: gzip\r\nConnection: TE"), BARE, ""),
    ]
}

fn upgrades() -> Vec<Case> {
    let settings = "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA";
    let twice = |first: &str, bytes: String| Case {
        name: first.into(),
        bytes: [bytes.as_bytes(), b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"].concat(),
        want: Want::Passed(vec![whole(BARE, ""), whole("GET /2 HTTP/1.1\nHost: a", "")]),
    };
    vec![
        twice(
            "upgrade/h2c",
            get(&format!("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n{settings}")),
        ),
        twice("upgrade/h2c without HTTP2-Settings", get("Connection: Upgrade\r\nUpgrade: h2c")),
        twice("upgrade/h2c beside another", get("Connection: Upgrade\r\nUpgrade: websocket, h2c")),
        twice("upgrade/h2c in two lines", get("Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c")),
        twice("upgrade/h2c in upper case", get("Connection: upgrade\r\nUpgrade: H2C")),
        twice("upgrade/not named in Connection", get("Upgrade: websocket")),
        twice("upgrade/named and not there", get("Connection: Upgrade")),
        twice("upgrade/HTTP2-Settings alone", get(settings)),
    ]
}

fn expectations() -> Vec<Case> {
    let post = |f: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{f}\r\nContent-Length: 1\r\n\r\nx");
    vec![
        refused_as("expect/something else", post("Expect: 200-ok"), &[417]),
        refused_as("expect/a list", post("Expect: 100-continue, x"), &[417]),
        refused_as("expect/empty", post("Expect:"), &[400, 417]),
        Case {
            name: "expect/with the body at once".into(),
            bytes: post("Expect: 100-continue").into_bytes(),
            want: Want::Passed(vec![whole(
                "POST / HTTP/1.1\nHost: a\nContent-Length: 1\nExpect: 100-continue",
                "x",
            )]),
        },
        Case {
            name: "expect/in upper case".into(),
            bytes: post("EXPECT: 100-CONTINUE").into_bytes(),
            want: Want::Passed(vec![whole(
                "POST / HTTP/1.1\nHost: a\nContent-Length: 1\nExpect: 100-continue",
                "x",
            )]),
        },
        passed(
            "expect/without a body",
            get("Expect: 100-continue"),
            &format!("{BARE}\nExpect: 100-continue"),
            "",
        ),
    ]
}
