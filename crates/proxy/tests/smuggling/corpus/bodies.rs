//! Lengths, chunks, and what follows a message.
use super::{Case, Want, passed, refused, refused_as, whole};

/// A POST with these framing fields and this body.
fn post(fields: &str, body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{body}").into_bytes()
}

const CHUNKED: &str = "POST / HTTP/1.1\nHost: a\ntransfer-encoding: chunked";
const EMPTY: &str = "0\r\n\r\n";

pub(crate) fn framing() -> Vec<Case> {
    let mut all = lengths();
    all.extend(both());
    all.extend(codings());
    all
}

fn lengths() -> Vec<Case> {
    let bad = |name: &str, value: &str| {
        refused(&format!("length/{name}"), post(&format!("Content-Length: {value}"), "hello"))
    };
    let mut all = vec![
        bad("plus", "+5"),
        bad("minus", "-5"),
        bad("minus zero", "-0"),
        bad("hexadecimal", "0x5"),
        bad("exponent", "5e0"),
        bad("fraction", "5.0"),
        bad("two numbers", "5 5"),
        bad("list of equal", "5, 5"),
        bad("list of different", "5, 6"),
        bad("comma", "5,"),
        bad("semicolon", "5;"),
        bad("quoted", "\"5\""),
        bad("letter", "5a"),
        bad("nothing", ""),
        bad("underscore", "1_0"),
        bad("arabic digit", "\u{665}"),
        bad("2^64 + 5", "18446744073709551621"),
        bad("20 nines", "99999999999999999999"),
        bad("40 nines", "9999999999999999999999999999999999999999"),
        refused("length/two different", post("Content-Length: 5\r\nContent-Length: 6", "hello!")),
        refused("length/two equal", post("Content-Length: 5\r\nContent-Length: 5", "hello")),
        refused("length/two in different case", post("Content-Length: 5\r\ncONTENT-lENGTH: 0", "hello")),
        refused("length/space before the colon", post("Content-Length : 5", "hello")),
        refused("length/space in the name", post("Content Length: 5", "hello")),
        refused("length/folded", post("Content-Length:\r\n 5", "hello")),
        refused("length/NUL", post("Content-Length: 5\0", "hello")),
        refused("length/0x0b", post("Content-Length: \x0b5", "hello")),
    ];
    let one = "POST / HTTP/1.1\nHost: a\nContent-Length: 5";
    all.push(passed("length/space and tab around", post("Content-Length: \t5 ", "hello"), one, "hello"));
    all.push(passed("length/zeros before", post("Content-Length: 0005", "hello"), one, "hello"));
    all.push(Case {
        name: "length/another name".into(),
        bytes: post("Content_Length: 5", "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"),
        want: Want::Passed(vec![
            whole("POST / HTTP/1.1\nHost: a\nContent_Length: 5\ncontent-length: 0", ""),
            whole("GET /2 HTTP/1.1\nHost: a", ""),
        ]),
    });
    all.push(Case {
        name: "length/none for POST".into(),
        bytes: post("X: y", "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n"),
        want: Want::Passed(vec![
            whole("POST / HTTP/1.1\nHost: a\nX: y\ncontent-length: 0", ""),
            whole("GET /2 HTTP/1.1\nHost: a", ""),
        ]),
    });
    all
}

/// A length and chunks.
fn both() -> Vec<Case> {
    let te = "Transfer-Encoding: chunked";
    let mut all = vec![
        refused("both/length first", post(&format!("Content-Length: 6\r\n{te}"), "0\r\n\r\nG")),
        refused("both/chunks first", post(&format!("{te}\r\nContent-Length: 4"), "5c\r\nGPOST")),
        refused("both/length 0", post(&format!("Content-Length: 0\r\n{te}"), EMPTY)),
        refused("both/equal ends", post(&format!("Content-Length: 5\r\n{te}"), EMPTY)),
        refused(
            "both/in HTTP/1.0",
            "POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
    ];
    // Spellings that one reader takes for chunked and another does not.
    for (name, line) in SPELLINGS {
        let bytes = post(&format!("Content-Length: 5\r\n{line}"), EMPTY);
        all.push(refused_as(&format!("both/{name}"), bytes, &[400, 501]));
    }
    all
}

const SPELLINGS: [(&str, &str); 27] = [
    ("x before chunked", "Transfer-Encoding: xchunked"),
    ("x behind chunked", "Transfer-Encoding: chunkedx"),
    ("upper case", "Transfer-Encoding: CHUNKED"),
    ("upper-case name", "TRANSFER-ENCODING: chunked"),
    ("space before the colon", "Transfer-Encoding : chunked"),
    ("tab before the colon", "Transfer-Encoding\t: chunked"),
    ("tab", "Transfer-Encoding:\tchunked"),
    ("no space", "Transfer-Encoding:chunked"),
    ("0x0b", "Transfer-Encoding:\x0bchunked"),
    ("0x0c", "Transfer-Encoding:\x0cchunked"),
    ("NUL", "Transfer-Encoding: chunked\0"),
    ("quoted", "Transfer-Encoding: \"chunked\""),
    ("in single quotes", "Transfer-Encoding: 'chunked'"),
    ("comma before", "Transfer-Encoding: ,chunked"),
    ("comma behind", "Transfer-Encoding: chunked,"),
    ("parameter", "Transfer-Encoding: chunked;q=1"),
    ("identity", "Transfer-Encoding: identity"),
    ("identity and chunked", "Transfer-Encoding: identity, chunked"),
    ("chunked and identity", "Transfer-Encoding: chunked, identity"),
    ("two lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding: x"),
    ("two lines, chunked last", "Transfer-Encoding: x\r\nTransfer-Encoding: chunked"),
    ("space first in the line", " Transfer-Encoding: chunked"),
    ("behind LF", "X: y\nTransfer-Encoding: chunked"),
    ("behind CR", "X: y\rTransfer-Encoding: chunked"),
    ("name on two lines", "Transfer-Encoding\r\n : chunked"),
    ("value on two lines", "Transfer-Encoding:\r\n chunked"),
    ("no value", "Transfer-Encoding:"),
];

fn codings() -> Vec<Case> {
    let bad = |name: &str, value: &str| {
        let bytes = post(&format!("Transfer-Encoding: {value}"), EMPTY);
        refused_as(&format!("coding/{name}"), bytes, &[400, 501])
    };
    vec![
        bad("unknown", "cow"),
        bad("gzip", "gzip"),
        bad("gzip and chunked", "gzip, chunked"),
        bad("chunked and gzip", "chunked, gzip"),
        bad("chunked twice", "chunked, chunked"),
        bad("identity", "identity"),
        bad("nothing", ""),
        bad("byte over 0x7f", "\u{e9}chunked"),
        refused(
            "coding/in HTTP/1.0",
            "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        passed("coding/space and tab around", post("Transfer-Encoding: \tchunked \t", EMPTY), CHUNKED, ""),
        passed("coding/in upper case", post("TRANSFER-ENCODING: Chunked", EMPTY), CHUNKED, ""),
        passed(
            "coding/another name",
            post("Content-Length: 5\r\nTransfer_Encoding: chunked", EMPTY),
            "POST / HTTP/1.1\nHost: a\nContent-Length: 5\nTransfer_Encoding: chunked",
            EMPTY,
        ),
        passed(
            "coding/chunked GET",
            "GET / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\ntransfer-encoding: chunked",
            "ab",
        ),
    ]
}

pub(crate) fn chunks() -> Vec<Case> {
    let chunked = |body: &str| post("Transfer-Encoding: chunked", body);
    let cut = |name: &str, body: &str| Case {
        name: format!("chunk/{name}"),
        bytes: chunked(body),
        want: Want::Cut,
    };
    let taken = |name: &str, body: &str| passed(&format!("chunk/{name}"), chunked(body), CHUNKED, "hello");
    vec![
        taken("plain", "5\r\nhello\r\n0\r\n\r\n"),
        taken("upper and lower case", "00005\r\nhello\r\n000\r\n\r\n"),
        taken("extension", "5;a=b\r\nhello\r\n0;c\r\n\r\n"),
        taken("quoted extension", "5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n"),
        taken("small ones", "1\r\nh\r\n4\r\nello\r\n0\r\n\r\n"),
        taken("trailer", "5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n"),
        taken(
            "trailers that frame or route",
            "5\r\nhello\r\n0\r\nContent-Length: 3\r\nTransfer-Encoding: x\r\nHost: b\r\n\r\n",
        ),
        cut("LF behind the size", "5\nhello\r\n0\r\n\r\n"),
        cut("LF behind the data", "5\r\nhello\n0\r\n\r\n"),
        cut("CR behind the size", "5\rhello\r\n0\r\n\r\n"),
        cut("CR behind the data", "5\r\nhello\rX0\r\n\r\n"),
        cut("LF behind the last", "5\r\nhello\r\n0\n\r\n"),
        cut("LF for the empty line", "5\r\nhello\r\n0\r\n\n"),
        cut("LF behind an extension", "5;a\nhello\r\n0\r\n\r\n"),
        cut("CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        cut("NUL in an extension", "5;a\0\r\nhello\r\n0\r\n\r\n"),
        cut("extension of 20 KiB", &format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(20 << 10))),
        cut("plus", "+5\r\nhello\r\n0\r\n\r\n"),
        cut("minus", "-5\r\nhello\r\n0\r\n\r\n"),
        cut("0x", "0x5\r\nhello\r\n0\r\n\r\n"),
        cut("space before", " 5\r\nhello\r\n0\r\n\r\n"),
        cut("space behind", "5 \r\nhello\r\n0\r\n\r\n"),
        cut("tab behind", "5\t\r\nhello\r\n0\r\n\r\n"),
        cut("underscore", "0_5\r\nhello\r\n0\r\n\r\n"),
        cut("no hexadecimal", "g\r\nhello\r\n0\r\n\r\n"),
        cut("no size", "\r\nhello\r\n0\r\n\r\n"),
        cut("2^64 + 5", "10000000000000005\r\nhello\r\n0\r\n\r\n"),
        cut("2^64 - 1", "ffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        cut("100 digits", &format!("{}5\r\nhello\r\n0\r\n\r\n", "0".repeat(99))),
        cut("longer than it says", "3\r\nhello\r\n0\r\n\r\n"),
        cut("shorter than it says", "6\r\nhello\r\n0\r\n\r\n"),
        cut("no end of data", "5\r\nhello0\r\n\r\n"),
        cut("trailer with space before the colon", "5\r\nhello\r\n0\r\nX : y\r\n\r\n"),
        cut("folded trailer", "5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n"),
        cut("trailer with CR", "5\r\nhello\r\n0\r\nX: y\rz\r\n\r\n"),
        cut("trailer with LF", "5\r\nhello\r\n0\r\nX: y\nZ: 1\r\n\r\n"),
        cut("trailer without colon", "5\r\nhello\r\n0\r\nX\r\n\r\n"),
        cut("trailers of 70 KiB", &format!("5\r\nhello\r\n0\r\nX: {}\r\n\r\n", "y".repeat(70 << 10))),
    ]
}

pub(crate) fn pipelines() -> Vec<Case> {
    let second = "GET /2 HTTP/1.1\r\nHost: a\r\n\r\n";
    let both = |name: &str, first: &str, head: &str, body: &str| Case {
        name: format!("pipeline/{name}"),
        bytes: [first, second].concat().into_bytes(),
        want: Want::Passed(vec![whole(head, body), whole("GET /2 HTTP/1.1\nHost: a", "")]),
    };
    vec![
        both("two", "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\nHost: a", ""),
        both(
            "GET with a body",
            "GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 28\r\n\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\nHost: a\nContent-Length: 28",
            "GET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        both(
            "DELETE with a body",
            "DELETE / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nab",
            "DELETE / HTTP/1.1\nHost: a\nContent-Length: 2",
            "ab",
        ),
        both(
            "chunks",
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1c\r\nGET /3 HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\n\r\n",
            CHUNKED,
            "GET /3 HTTP/1.1\r\nHost: a\r\n\r\n",
        ),
        both(
            "length 0",
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n",
            "POST / HTTP/1.1\nHost: a\nContent-Length: 0",
            "",
        ),
        both("empty lines between", "GET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n", "GET / HTTP/1.1\nHost: a", ""),
        Case {
            name: "pipeline/close".into(),
            bytes: ["GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", second].concat().into_bytes(),
            want: Want::Passed(vec![whole("GET / HTTP/1.1\nHost: a", "")]),
        },
        Case {
            name: "pipeline/HTTP/1.0".into(),
            bytes: ["GET / HTTP/1.0\r\nHost: a\r\n\r\n", second].concat().into_bytes(),
            want: Want::Passed(vec![whole("GET / HTTP/1.1\nHost: a", "")]),
        },
    ]
}
