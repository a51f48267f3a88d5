//! Request lines, targets and hosts.
use super::{Case, Want, lines, passed, refused, refused_as, whole};

const HOST: &str = "\r\nHost: a\r\n\r\n";

pub(crate) fn cases() -> Vec<Case> {
    let mut all = request_lines();
    all.extend(targets());
    all.extend(hosts());
    all
}

fn either(name: &str, bytes: impl AsRef<[u8]>, statuses: &[u16], head: &str) -> Case {
    let want = Want::Either(statuses.to_vec(), vec![whole(head, "")]);
    Case { name: name.into(), bytes: bytes.as_ref().to_vec(), want }
}

fn request_lines() -> Vec<Case> {
    let line = |l: &str| [l, HOST].concat();
    vec![
        passed("line/plain", lines("GET / HTTP/1.1\nHost: a"), "GET / HTTP/1.1\nHost: a", ""),
        passed(
            "line/empty line before",
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\nHost: a",
            "",
        ),
        refused("line/LF before", "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
        refused("line/LF everywhere", "GET / HTTP/1.1\nHost: a\n\n"),
        refused("line/LF behind it", "GET / HTTP/1.1\nHost: a\r\n\r\n"),
        refused("line/CR everywhere", "GET / HTTP/1.1\rHost: a\r\r"),
        refused("line/CR behind it", "GET / HTTP/1.1\rHost: a\r\n\r\n"),
        refused("line/CR CR LF", "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"),
        refused("line/two spaces before the target", line("GET  / HTTP/1.1")),
        refused_as("line/two spaces behind the target", line("GET /  HTTP/1.1"), &[400, 505]),
        refused("line/tab for space", line("GET\t/ HTTP/1.1")),
        refused("line/tab behind the target", line("GET /\tHTTP/1.1")),
        refused("line/space behind it", line("GET / HTTP/1.1 ")),
        refused_as("line/space in the target", line("GET /a b HTTP/1.1"), &[400, 505]),
        refused("line/request in the target", line("GET /a HTTP/1.1 Host:a GET /b HTTP/1.1")),
        refused_as("line/HTTP/0.9", "GET /\r\n", &[400, 505]),
        refused_as("line/HTTP/0.9 by name", line("GET / HTTP/0.9"), &[400, 505]),
        refused_as("line/HTTP/1.2", line("GET / HTTP/1.2"), &[400, 505]),
        refused_as("line/HTTP/2.0", line("GET / HTTP/2.0"), &[400, 505]),
        refused_as("line/HTTP/1.10", line("GET / HTTP/1.10"), &[400, 505]),
        refused_as("line/HTTP/01.1", line("GET / HTTP/01.1"), &[400, 505]),
        refused_as("line/HTTP/11", line("GET / HTTP/11"), &[400, 505]),
        refused_as("line/lower-case version", line("GET / http/1.1"), &[400, 505]),
        refused_as("line/no version", line("GET /"), &[400, 505]),
        refused("line/method that is no token", line("G(T / HTTP/1.1")),
        refused("line/method of 100 letters", line(&format!("{} / HTTP/1.1", "A".repeat(100)))),
        refused("line/NUL in the method", line("GE\0T / HTTP/1.1")),
        refused("line/byte over 0x7f in the method", [b"GE\xe9T / HTTP/1.1", HOST.as_bytes()].concat()),
        either(
            "line/lower-case method",
            line("GET / HTTP/1.1").replace("GET", "get"),
            &[400, 501],
            "get / HTTP/1.1\nHost: a",
        ),
        passed("line/method of its own", line("PURGE / HTTP/1.1"), "PURGE / HTTP/1.1\nHost: a", ""),
        refused_as("line/PRI", line("PRI * HTTP/1.1"), &[400, 405, 501]),
        refused_as("line/target of 70 KiB", line(&format!("GET /{} HTTP/1.1", "a".repeat(70 << 10))), &[414]),
    ]
}

fn targets() -> Vec<Case> {
    let get = |t: &str| [&format!("GET {t} HTTP/1.1"), HOST].concat();
    vec![
        refused("target/fragment", get("/a#b")),
        refused("target/no slash", get("a")),
        refused("target/NUL", get("/\0")),
        refused("target/0x7f", get("/\x7f")),
        refused("target/empty", get("")),
        refused("target/star", get("*")),
        passed(
            "target/star for OPTIONS",
            get("*").replace("GET", "OPTIONS"),
            "OPTIONS * HTTP/1.1\nHost: a",
            "",
        ),
        passed("target/two slashes", get("//evil/x"), "GET //evil/x HTTP/1.1\nHost: a", ""),
        passed("target/dots", get("/a/../b/%2e%2e"), "GET /a/../b/%2e%2e HTTP/1.1\nHost: a", ""),
        passed("target/query", get("/?a=b&c=http://d/?e"), "GET /?a=b&c=http://d/?e HTTP/1.1\nHost: a", ""),
        passed("target/absolute", get("http://b.test/x"), "GET /x HTTP/1.1\nHost: b.test", ""),
        passed("target/absolute without path", get("http://b.test"), "GET / HTTP/1.1\nHost: b.test", ""),
        refused("target/absolute with credentials", get("http://u:p@b.test/")),
        refused("target/absolute with no host", get("http:///x")),
        refused("target/absolute with nothing", get("http://")),
        refused("target/absolute of another scheme", get("ftp://b.test/")),
        refused_as("target/absolute with a space in the host", get("http://b .test/"), &[400, 505]),
        refused("target/absolute with a fragment", get("http://b.test/#x")),
        refused("target/absolute with a backslash in the host", get("http://a\\b.test/")),
        refused("target/authority", get("b.test:80")),
    ]
}

fn hosts() -> Vec<Case> {
    let host = |h: &str| format!("GET / HTTP/1.1\r\n{h}\r\n\r\n");
    let empty = "GET / HTTP/1.1\r\nHost: \r\n\r\n";
    vec![
        refused("host/none", "GET / HTTP/1.1\r\nX: y\r\n\r\n"),
        refused("host/two", host("Host: a\r\nHost: b")),
        refused("host/two alike", host("Host: a\r\nHost: a")),
        refused("host/two in different case", host("Host: a\r\nhOST: b")),
        refused("host/two with an absolute target", "GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        refused("host/list", host("Host: a, b")),
        refused("host/space", host("Host: a b")),
        refused("host/path", host("Host: a/b")),
        refused("host/query", host("Host: a?b")),
        refused("host/fragment", host("Host: a#b")),
        refused("host/credentials", host("Host: u@a")),
        refused("host/backslash", host("Host: a\\b")),
        refused("host/quote", host("Host: \"a\"")),
        refused("host/space before the colon", host("Host : a")),
        refused("host/tab before the colon", host("Host\t: a")),
        refused("host/folded", host("Host:\r\n a")),
        refused("host/byte over 0x7f", [&b"GET / HTTP/1.1\r\nHost: \xe9\r\n\r\n"[..]].concat()),
        refused("host/first line begins with a space", "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
        passed("host/port", host("Host: a:81"), "GET / HTTP/1.1\nHost: a:81", ""),
        passed("host/space around", host("Host: \t a \t"), "GET / HTTP/1.1\nHost: a", ""),
        passed("host/IPv6", host("Host: [::1]:81"), "GET / HTTP/1.1\nHost: [::1]:81", ""),
        Case {
            name: "host/empty".into(),
            bytes: empty.into(),
            want: Want::Either(vec![400], vec![(empty.into(), vec![])]),
        },
        Case {
            name: "host/none in HTTP/1.0".into(),
            bytes: b"GET / HTTP/1.0\r\n\r\n".to_vec(),
            want: Want::Either(vec![400], vec![(empty.into(), vec![])]),
        },
    ]
}
