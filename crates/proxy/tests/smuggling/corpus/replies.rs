//! Responses.

/// A response, and what the caller is told.
pub(crate) struct Reply {
    /// Its name.
    pub(crate) name: String,
    /// The request's method.
    pub(crate) method: &'static str,
    /// Its bytes.
    pub(crate) bytes: Vec<u8>,
    /// The server closes behind it.
    pub(crate) close: bool,
    /// What the caller is told.
    pub(crate) told: Told,
}

/// What a caller is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// 502, and nothing of the response.
    BadGateway,
    /// This status, body, and these fields (others may be there).
    This(u16, Vec<u8>, Vec<(&'static str, &'static str)>),
    /// The response's head at most; its end is seen to be no proper one.
    Cut,
}

impl Told {
    /// For the page.
    pub(crate) fn text(&self) -> String {
        match self {
            Told::BadGateway => "502".into(),
            Told::This(status, ..) => format!("{status}, canonical"),
            Told::Cut => "cut: never whole".into(),
        }
    }
}

fn lines(text: &str) -> String {
    text.replace('\n', "\r\n")
}

fn bad(name: &str, bytes: impl AsRef<[u8]>) -> Reply {
    let bytes = bytes.as_ref().to_vec();
    Reply { name: format!("reply/{name}"), method: "GET", bytes, close: false, told: Told::BadGateway }
}

fn cut(name: &str, bytes: impl AsRef<[u8]>, close: bool) -> Reply {
    Reply { close, told: Told::Cut, ..bad(name, bytes) }
}

fn good(name: &str, bytes: impl AsRef<[u8]>, status: u16, body: &str) -> Reply {
    Reply { told: Told::This(status, body.into(), vec![]), ..bad(name, bytes) }
}

/// Every response.
pub(crate) fn replies() -> Vec<Reply> {
    let mut all = framing();
    all.extend(heads());
    all.extend(bodies());
    all.extend(extra());
    all
}

fn framing() -> Vec<Reply> {
    let ok = |f: &str, body: &str| lines(&format!("HTTP/1.1 200 OK\n{f}\n\n")) + body;
    vec![
        bad("length and chunks", ok("Content-Length: 5\nTransfer-Encoding: chunked", "0\r\n\r\n")),
        bad("chunks and length", ok("Transfer-Encoding: chunked\nContent-Length: 5", "0\r\n\r\n")),
        bad("two lengths", ok("Content-Length: 5\nContent-Length: 6", "hello!")),
        bad("two equal lengths", ok("Content-Length: 5\nContent-Length: 5", "hello")),
        bad("list of lengths", ok("Content-Length: 5, 5", "hello")),
        bad("length with plus", ok("Content-Length: +5", "hello")),
        bad("negative length", ok("Content-Length: -5", "hello")),
        bad("length 2^64 + 5", ok("Content-Length: 18446744073709551621", "hello")),
        bad("length with space before the colon", ok("Content-Length : 5", "hello")),
        bad("coding x", ok("Transfer-Encoding: xchunked", "0\r\n\r\n")),
        bad("coding gzip, chunked", ok("Transfer-Encoding: gzip, chunked", "0\r\n\r\n")),
        bad("two codings", ok("Transfer-Encoding: chunked\nTransfer-Encoding: chunked", "0\r\n\r\n")),
        bad("chunks in HTTP/1.0", lines("HTTP/1.0 200 OK\nTransfer-Encoding: chunked\n\n") + "0\r\n\r\n"),
    ]
}

fn heads() -> Vec<Reply> {
    let ok = |f: &str| lines(&format!("HTTP/1.1 200 OK\n{f}\nContent-Length: 2\n\n")) + "ok";
    vec![
        bad("LF everywhere", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok"),
        bad("LF behind the status line", "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok"),
        bad("LF in a field", ok("X: y").replace("X: y\r", "X: y")),
        bad("CR in a field", ok("X: y\rZ: 1")),
        bad("NUL in a field", ok("X: y\0")),
        bad("folded field", ok("X: y\n z")),
        bad("space before the colon", ok("X : y")),
        bad("no colon", ok("X")),
        bad("no name", ok(": y")),
        bad("space in a name", ok("X Y: z")),
        bad("byte over 0x7f in a name", ok("X\u{e9}: z")),
        bad("first line begins with a space", ok(" X: y")),
        bad("status of two digits", "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok"),
        bad("status of four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok"),
        bad("status 99", "HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok"),
        bad("status with a letter", "HTTP/1.1 20x OK\r\nContent-Length: 2\r\n\r\nok"),
        bad("no status", "HTTP/1.1\r\nContent-Length: 2\r\n\r\nok"),
        bad("version 2.0", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        bad("version 1.2", "HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok"),
        bad("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n"),
        bad("HTTP/2 frames", [0, 0, 0, 4, 0, 0, 0, 0, 0, 13, 10, 13, 10]),
        bad(
            "101 that nobody asked for",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
        ),
        bad("head of 70 KiB", ok(&format!("X: {}", "y".repeat(70 << 10)))),
        bad("200 fields", ok(&(0..200).map(|i| format!("x{i}: y")).collect::<Vec<_>>().join("\n"))),
        good("no phrase", "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
        good("no phrase and no space", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", 200, "ok"),
        good("unknown status", "HTTP/1.1 299 Fine\r\nContent-Length: 2\r\n\r\nok", 299, "ok"),
        good(
            "interim responses",
            "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            200,
            "ok",
        ),
        good(
            "interim response with a length",
            "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            200,
            "ok",
        ),
    ]
}

fn bodies() -> Vec<Reply> {
    let ok = |f: &str, body: &str| lines(&format!("HTTP/1.1 200 OK\n{f}\n\n")) + body;
    let chunked = |body: &str| ok("Transfer-Encoding: chunked", body);
    vec![
        good("chunks", chunked("2\r\nok\r\n0\r\n\r\n"), 200, "ok"),
        good("chunks with extensions", chunked("2;a=b\r\nok\r\n0;c\r\n\r\n"), 200, "ok"),
        good(
            "trailers that frame or route",
            chunked("2\r\nok\r\n0\r\nContent-Length: 7\r\nX-A: b\r\n\r\n"),
            200,
            "ok",
        ),
        Reply { close: true, ..good("until the end", ok("X: y", "ok"), 200, "ok") },
        Reply { close: true, ..good("HTTP/1.0", lines("HTTP/1.0 200 OK\n\n") + "ok", 200, "ok") },
        cut("length not reached", ok("Content-Length: 10", "ok"), true),
        cut("chunk not reached", chunked("a\r\nok"), true),
        cut("no last chunk", chunked("2\r\nok\r\n"), true),
        cut("chunk with LF", chunked("2\nok\r\n0\r\n\r\n"), false),
        cut("chunk with plus", chunked("+2\r\nok\r\n0\r\n\r\n"), false),
        cut("chunk longer than it says", chunked("1\r\nok\r\n0\r\n\r\n"), false),
        cut("chunk 2^64 + 2", chunked("10000000000000002\r\nok\r\n0\r\n\r\n"), false),
        cut("trailer with LF", chunked("2\r\nok\r\n0\r\nX: y\nZ: 1\r\n\r\n"), false),
        Reply { method: "HEAD", ..good("HEAD with a length", ok("Content-Length: 10", ""), 200, "") },
        Reply { method: "HEAD", ..good("HEAD with chunks", chunked(""), 200, "") },
        good("304 with a length", lines("HTTP/1.1 304 Not Modified\nContent-Length: 10\n\n"), 304, ""),
        good("204 with length 0", lines("HTTP/1.1 204 No Content\nContent-Length: 0\n\n"), 204, ""),
        good("204 with chunks", lines("HTTP/1.1 204 No Content\nTransfer-Encoding: chunked\n\n"), 204, ""),
    ]
}

/// More bytes than the response has: a second one, for the next caller.
fn extra() -> Vec<Reply> {
    let evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let with = |first: &str| lines(first) + evil;
    vec![
        good("a second response", with("HTTP/1.1 200 OK\nContent-Length: 2\n\nok"), 200, "ok"),
        good(
            "a second response behind chunks",
            with("HTTP/1.1 200 OK\nTransfer-Encoding: chunked\n\n2\nok\n0\n\n"),
            200,
            "ok",
        ),
        good("204 with a body", with("HTTP/1.1 204 No Content\nContent-Length: 41\n\n"), 204, ""),
        good("304 with a body", with("HTTP/1.1 304 Not Modified\nContent-Length: 41\n\n"), 304, ""),
        Reply {
            method: "HEAD",
            ..good("HEAD with a body", with("HTTP/1.1 200 OK\nContent-Length: 41\n\n"), 200, "")
        },
        good("garbage behind", lines("HTTP/1.1 200 OK\nContent-Length: 2\n\nok") + "garbage", 200, "ok"),
    ]
}
