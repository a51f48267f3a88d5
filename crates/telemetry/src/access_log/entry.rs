//! One request's line, in both formats.
use crate::{Direction, Format, TraceParent};
use raddle_core::{Protocol, Reason};
use std::io::Write;
use std::net::SocketAddr;

/// The longest text of the network's making a line holds, in bytes; the rest is cut off, and `…` put for it.
const MAX_TEXT: usize = 512;

/// What is known about a request when it is over.
///
/// # Text format
///
/// Seven columns, then `key=value` for what there is, in this order:
///
/// ```text
/// 2026-03-01T12:00:00.123456Z outbound bolt ok 0 - 1834us svc=com.example.Echo:1.0 method=echo listener=outbound caller=127.0.0.1:40312 endpoint=10.0.0.7:12200 id=42 conn=7 in=310 out=155
/// 2026-03-01T12:00:00.125001Z outbound bolt failed 7 UT 3000112us svc=com.example.Echo:1.0 … rule=echo-timeout retries=1 trace=00-4bf9…-01
/// ```
///
/// time (UTC) · direction · protocol · `ok` or `failed` · the protocol's own status number · the flag of
/// [`Reason`], or `-` · duration. A value with a space, a quote, `=` or a control character is in double
/// quotes, with JSON's escapes. A line is always one line.
///
/// # JSON format
///
/// One object a line. Names never change their meaning; what there is not is left out: `time` (text),
/// `direction`, `protocol`, `ok` (boolean), `status`, `flag`, `duration_us`, `service`, `method`,
/// `listener`, `caller`, `endpoint`, `rule`, `request_id`, `connection`, `request_bytes`,
/// `response_bytes`, `retries`, `traceparent`. Times are whole microseconds.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// When the request came, in nanoseconds since the Unix epoch.
    pub time: u64,
    /// Which way it went.
    pub direction: Direction,
    /// Its protocol.
    pub protocol: Protocol,
    /// The listener's name.
    pub listener: &'a str,
    /// The caller's address.
    pub caller: SocketAddr,
    /// The number of the caller's connection, within the process.
    pub connection: u64,
    /// The caller's own id of the request.
    pub request_id: u64,
    /// The service asked for.
    pub service: &'a str,
    /// The method asked for, if it is known.
    pub method: Option<&'a str>,
    /// The endpoint it was sent to last, if it was sent.
    pub endpoint: Option<SocketAddr>,
    /// Whether it was served: an application's own error is not, and neither is a rejection.
    pub ok: bool,
    /// The protocol's status number in the reply.
    pub status: u16,
    /// Why the sidecar answered itself, if it did.
    pub flag: Option<Reason>,
    /// The rule that was the cause.
    pub rule: Option<&'a str>,
    /// From the request's coming to its end, in nanoseconds.
    pub duration_ns: u64,
    /// The request's length.
    pub request_bytes: u64,
    /// The reply's length.
    pub response_bytes: u64,
    /// How often it was sent again.
    pub retries: u32,
    /// Its trace.
    pub traceparent: Option<TraceParent>,
}

impl Entry<'_> {
    /// Whether the request counts as failed: such a one is always logged.
    #[inline]
    pub fn failed(&self) -> bool {
        !self.ok || self.flag.is_some()
    }

    /// Appends the line, with its end.
    pub(super) fn write(&self, format: Format, stamp: &mut Stamp, out: &mut Vec<u8>) {
        let time = stamp.at(self.time);
        match format {
            Format::Text => self.write_text(time, out),
            Format::Json => self.write_json(time, out),
        }
    }

    fn write_text(&self, time: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(time);
        for column in
            [self.direction.name(), self.protocol.name(), if self.failed() { "failed" } else { "ok" }]
        {
            out.push(b' ');
            out.extend_from_slice(column.as_bytes());
        }
        out.push(b' ');
        put_number(out, u64::from(self.status));
        out.push(b' ');
        out.extend_from_slice(self.flag.map_or("-", Reason::flag).as_bytes());
        out.push(b' ');
        put_number(out, self.duration_ns / 1000);
        out.extend_from_slice(b"us");
        let mut pairs = Text(out);
        pairs.text("svc", self.service);
        pairs.optional("method", self.method);
        pairs.text("listener", self.listener);
        pairs.address("caller", self.caller);
        if let Some(endpoint) = self.endpoint {
            pairs.address("endpoint", endpoint);
        }
        pairs.number("id", self.request_id);
        pairs.number("conn", self.connection);
        pairs.number("in", self.request_bytes);
        pairs.number("out", self.response_bytes);
        pairs.optional("rule", self.rule);
        if self.retries > 0 {
            pairs.number("retries", u64::from(self.retries));
        }
        if let Some(trace) = self.traceparent {
            pairs.key("trace");
            out.extend_from_slice(&trace.format());
        }
        out.push(b'\n');
    }

    fn write_json(&self, time: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"time\":\"");
        out.extend_from_slice(time);
        out.push(b'"');
        let mut object = Json(out);
        object.text("direction", self.direction.name());
        object.text("protocol", self.protocol.name());
        object.key("ok");
        object.0.extend_from_slice(if self.failed() { b"false" } else { b"true" });
        object.number("status", u64::from(self.status));
        object.optional("flag", self.flag.map(Reason::flag));
        object.number("duration_us", self.duration_ns / 1000);
        object.text("service", self.service);
        object.optional("method", self.method);
        object.text("listener", self.listener);
        object.address("caller", self.caller);
        if let Some(endpoint) = self.endpoint {
            object.address("endpoint", endpoint);
        }
        object.optional("rule", self.rule);
        object.number("request_id", self.request_id);
        object.number("connection", self.connection);
        object.number("request_bytes", self.request_bytes);
        object.number("response_bytes", self.response_bytes);
        object.number("retries", u64::from(self.retries));
        if let Some(trace) = self.traceparent {
            object.key("traceparent");
            out.push(b'"');
            out.extend_from_slice(&trace.format());
            out.push(b'"');
        }
        out.extend_from_slice(b"}\n");
    }
}

/// Writes ` key=value`.
struct Text<'a>(&'a mut Vec<u8>);

impl Text<'_> {
    fn key(&mut self, key: &str) {
        self.0.push(b' ');
        self.0.extend_from_slice(key.as_bytes());
        self.0.push(b'=');
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '\\' | '=');
        if !value.is_empty() && value.len() <= MAX_TEXT && value.chars().all(plain) {
            self.0.extend_from_slice(value.as_bytes());
        } else {
            put_quoted(self.0, value);
        }
    }

    fn optional(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        put_number(self.0, value);
    }

    fn address(&mut self, key: &str, value: SocketAddr) {
        self.key(key);
        put_address(self.0, value);
    }
}

/// Writes `,"key":value`.
struct Json<'a>(&'a mut Vec<u8>);

impl Json<'_> {
    fn key(&mut self, key: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(key.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        put_quoted(self.0, value);
    }

    fn optional(&mut self, key: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(key, value);
        }
    }

    fn number(&mut self, key: &str, value: u64) {
        self.key(key);
        put_number(self.0, value);
    }

    fn address(&mut self, key: &str, value: SocketAddr) {
        self.key(key);
        self.0.push(b'"');
        put_address(self.0, value);
        self.0.push(b'"');
    }
}

/// Appends a JSON string, cut to what a line has room for.
fn put_quoted(out: &mut Vec<u8>, value: &str) {
    let mut end = value.len().min(MAX_TEXT);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    out.push(b'"');
    for c in value[..end].chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            // Control characters could move a terminal's cursor; the two separators end a line for some readers.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => put_escape(out, c as u32),
            c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    if end < value.len() {
        out.extend_from_slice("…".as_bytes());
    }
    out.push(b'"');
}

fn put_escape(out: &mut Vec<u8>, code: u32) {
    // Writing to a Vec cannot fail.
    let _ = write!(out, "\\u{code:04x}");
}

fn put_number(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

fn put_address(out: &mut Vec<u8>, address: SocketAddr) {
    match address {
        SocketAddr::V4(v4) => {
            for (i, octet) in v4.ip().octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                put_number(out, u64::from(octet));
            }
            out.push(b':');
            put_number(out, u64::from(v4.port()));
        }
        // Writing to a Vec cannot fail.
        SocketAddr::V6(v6) => drop(write!(out, "{v6}")),
    }
}

/// Writes times, keeping the text of the second it wrote last.
#[derive(Debug, Default)]
pub(super) struct Stamp {
    second: Option<u64>,
    text: Vec<u8>,
}

/// `2026-03-01T12:00:00` is so long.
const SECOND_LEN: usize = 19;

impl Stamp {
    /// The time as RFC 3339 in UTC with microseconds.
    fn at(&mut self, unix_ns: u64) -> &[u8] {
        let (second, micros) = (unix_ns / 1_000_000_000, unix_ns % 1_000_000_000 / 1000);
        if self.second != Some(second) {
            self.second = Some(second);
            self.text.clear();
            // Every second of a u64 of nanoseconds is before the year 2555, which jiff can say.
            let time = jiff::Timestamp::from_second(second as i64).unwrap_or_default();
            let _ = write!(self.text, "{}", time.strftime("%Y-%m-%dT%H:%M:%S"));
        }
        self.text.truncate(SECOND_LEN);
        let _ = write!(self.text, ".{micros:06}Z");
        &self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry() -> Entry<'static> {
        Entry {
            time: 1_772_366_400_123_456_789,
            direction: Direction::Outbound,
            protocol: Protocol::Bolt,
            listener: "outbound",
            caller: "127.0.0.1:40312".parse().expect("an address"),
            connection: 7,
            request_id: 42,
            service: "com.example.Echo:1.0",
            method: Some("echo"),
            endpoint: Some("[2001:db8::1]:12200".parse().expect("an address")),
            ok: true,
            status: 0,
            flag: None,
            rule: None,
            duration_ns: 1_834_567,
            request_bytes: 310,
            response_bytes: 155,
            retries: 0,
            traceparent: None,
        }
    }

    fn line(entry: &Entry<'_>, format: Format) -> String {
        let mut out = Vec::new();
        entry.write(format, &mut Stamp::default(), &mut out);
        String::from_utf8(out).expect("utf-8")
    }

    #[test]
    fn the_text_format_is_as_documented() {
        assert_eq!(
            line(&entry(), Format::Text),
            "2026-03-01T12:00:00.123456Z outbound bolt ok 0 - 1834us svc=com.example.Echo:1.0 method=echo \
             listener=outbound caller=127.0.0.1:40312 endpoint=[2001:db8::1]:12200 id=42 conn=7 in=310 out=155\n"
        );
        let trace = TraceParent::generate([1, 2, 3], true);
        let failed = Entry {
            ok: false,
            status: 7,
            flag: Some(Reason::Timeout),
            rule: Some("a rule"),
            method: None,
            endpoint: None,
            retries: 1,
            traceparent: Some(trace),
            ..entry()
        };
        assert_eq!(
            line(&failed, Format::Text),
            format!(
                "2026-03-01T12:00:00.123456Z outbound bolt failed 7 UT 1834us svc=com.example.Echo:1.0 \
                 listener=outbound caller=127.0.0.1:40312 id=42 conn=7 in=310 out=155 rule=\"a rule\" \
                 retries=1 trace={trace}\n"
            )
        );
    }

    #[test]
    fn the_json_fields_are_as_documented() {
        let trace = TraceParent::generate([1, 2, 3], true);
        let all = Entry {
            flag: Some(Reason::RateLimited),
            rule: Some("r"),
            retries: 2,
            traceparent: Some(trace),
            ..entry()
        };
        let expected = serde_json::json!({
            "time": "2026-03-01T12:00:00.123456Z", "direction": "outbound", "protocol": "bolt",
            "ok": false, "status": 0, "flag": "RL", "duration_us": 1834,
            "service": "com.example.Echo:1.0", "method": "echo", "listener": "outbound",
            "caller": "127.0.0.1:40312", "endpoint": "[2001:db8::1]:12200", "rule": "r",
            "request_id": 42, "connection": 7, "request_bytes": 310, "response_bytes": 155,
            "retries": 2, "traceparent": trace.to_string(),
        });
        let seen: serde_json::Value = serde_json::from_str(&line(&all, Format::Json)).expect("json");
        assert_eq!(seen, expected);
        let least = Entry { method: None, endpoint: None, ..entry() };
        let seen: serde_json::Value = serde_json::from_str(&line(&least, Format::Json)).expect("json");
        for absent in ["flag", "method", "endpoint", "rule", "traceparent"] {
            assert_eq!(seen.get(absent), None, "{absent}");
        }
    }

    #[test]
    fn a_stamp_changes_with_its_second() {
        let mut stamp = Stamp::default();
        assert_eq!(stamp.at(0), b"1970-01-01T00:00:00.000000Z");
        assert_eq!(stamp.at(999_999_999), b"1970-01-01T00:00:00.999999Z");
        assert_eq!(stamp.at(1_000_000_000), b"1970-01-01T00:00:01.000000Z");
        assert_eq!(stamp.at(u64::MAX), b"2554-07-21T23:34:33.709551Z");
    }

    proptest! {
        #[test]
        fn whatever_the_network_sends_stays_one_line_and_one_value(service in ".*", method in any::<String>()) {
            let hostile = Entry { service: &service, method: Some(&method), ..entry() };
            for format in [Format::Text, Format::Json] {
                let line = line(&hostile, format);
                prop_assert_eq!(line.lines().count(), 1);
                prop_assert!(!line.trim_end_matches('\n').chars().any(char::is_control));
            }
            let json: serde_json::Value = serde_json::from_str(&line(&hostile, Format::Json))?;
            prop_assert_eq!(json["service"].as_str(), Some(service.as_str()));
            prop_assert_eq!(json["method"].as_str(), Some(method.as_str()));
        }

        #[test]
        fn a_line_is_bounded_however_long_the_names(length in 0usize..70_000) {
            let name = "é".repeat(length);
            let long = Entry { service: &name, method: Some(&name), rule: Some(&name), ..entry() };
            prop_assert!(line(&long, Format::Text).len() < 2048);
            prop_assert!(line(&long, Format::Json).len() < 2560);
        }
    }
}
