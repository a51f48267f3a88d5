//! A case: what is sent, and what may come back.
use raddle_testkit::h2::{Event, Peer, brief, code, flag, kind};
use raddle_testkit::h2_hpack::{Block, shown};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// How long an answer may take. Far more than it does; a failing case waits for all of it.
const SOON: Duration = Duration::from_secs(3);

/// One case.
pub(crate) struct Case {
    /// As h2spec numbers it; ours begin with `more/`.
    pub(crate) name: &'static str,
    /// What is done.
    pub(crate) what: &'static str,
    /// What may come back.
    pub(crate) want: Want,
    /// Whether the connection is set up before.
    pub(crate) greet: bool,
    /// Does it.
    pub(crate) send: fn(&mut Ctx) -> Result<(), String>,
}

/// What may come back.
#[derive(Clone, Copy)]
pub(crate) enum Want {
    /// What the case itself looked at.
    Seen,
    /// A response on this stream, of status 200.
    Ok(u32),
    /// The connection lives on: PING is answered, and then a request on a new stream.
    Lives,
    /// GOAWAY with one of these codes, or the connection's end.
    Connection(&'static [u32]),
    /// RST_STREAM or GOAWAY with one of these codes, or the connection's end.
    Stream(&'static [u32]),
    /// A malformed request: RST_STREAM or GOAWAY with PROTOCOL_ERROR, the connection's end, or status 400
    /// (RFC 9113, 8.1.1).
    Malformed,
    /// Either it is refused like a stream error, or nothing happens and the connection lives.
    StreamOrNothing(&'static [u32]),
}

impl Want {
    /// For the page.
    pub(crate) fn text(self) -> String {
        let names = |codes: &[u32]| codes.iter().map(|c| code_name(*c)).collect::<Vec<_>>().join(" or ");
        match self {
            Want::Seen => "see there".into(),
            Want::Ok(_) => "status 200".into(),
            Want::Lives => "accepted".into(),
            Want::Connection(c) => format!("GOAWAY {}", names(c)),
            Want::Stream(c) => format!("RST_STREAM {}", names(c)),
            Want::Malformed => "RST_STREAM PROTOCOL_ERROR, or 400".into(),
            Want::StreamOrNothing(c) => format!("ignored, or RST_STREAM {}", names(c)),
        }
    }
}

fn code_name(c: u32) -> &'static str {
    match c {
        code::PROTOCOL_ERROR => "PROTOCOL_ERROR",
        code::FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR",
        code::STREAM_CLOSED => "STREAM_CLOSED",
        code::FRAME_SIZE_ERROR => "FRAME_SIZE_ERROR",
        code::REFUSED_STREAM => "REFUSED_STREAM",
        code::COMPRESSION_ERROR => "COMPRESSION_ERROR",
        code::ENHANCE_YOUR_CALM => "ENHANCE_YOUR_CALM",
        code::CANCEL => "CANCEL",
        _ => "another code",
    }
}

/// A connection to the one that is looked at.
pub(crate) struct Ctx {
    /// Frames.
    pub(crate) p: Peer,
}

impl Ctx {
    pub(crate) fn new(addr: SocketAddr) -> Ctx {
        Ctx { p: Peer::connect(addr) }
    }

    /// A GET's block.
    pub(crate) fn get() -> Block {
        Block::request("GET", "conform.test", "/")
    }

    /// A POST's block.
    pub(crate) fn post() -> Block {
        Block::request("POST", "conform.test", "/")
    }

    /// A whole GET.
    pub(crate) fn ask(&mut self, stream: u32) {
        self.p.headers(stream, flag::WHOLE, &Ctx::get());
    }

    /// The head of a POST whose body is to come.
    pub(crate) fn open(&mut self, stream: u32) {
        self.p.headers(stream, flag::END_HEADERS, &Ctx::post());
    }

    /// A whole GET and its 200.
    pub(crate) fn exchange(&mut self, stream: u32) -> Result<(), String> {
        self.ask(stream);
        self.ok(stream)
    }

    fn ok(&mut self, stream: u32) -> Result<(), String> {
        let r = self.p.response(stream)?;
        if r.status == 200 { Ok(()) } else { Err(format!("status {}", r.status)) }
    }

    /// Judges what comes.
    pub(crate) fn judge(&mut self, want: Want) -> Result<(), String> {
        match want {
            Want::Seen => Ok(()),
            Want::Ok(stream) => self.ok(stream),
            Want::Lives => self.lives(),
            Want::Connection(codes) => self.refused(codes, false, false),
            Want::Stream(codes) => self.refused(codes, true, false),
            Want::Malformed => self.refused(&[code::PROTOCOL_ERROR], true, true),
            Want::StreamOrNothing(codes) => self.refused_or_not(codes),
        }
    }

    /// RST_STREAM may come before or behind the answer to PING, or not at all.
    fn refused_or_not(&mut self, codes: &[u32]) -> Result<(), String> {
        for _ in 0..2 {
            self.p.frame(kind::PING, 0, 0, b"nothing?");
            loop {
                match self.next() {
                    Event::Frame(f) if f.kind == kind::PING => break,
                    Event::Frame(f) if matches!(f.kind, kind::HEADERS | kind::DATA) => {}
                    Event::Frame(f) if f.kind == kind::RST_STREAM && codes.contains(&f.code()) => {}
                    Event::Frame(f) if f.kind == kind::GOAWAY && codes.contains(&f.code()) => return Ok(()),
                    other => return Err(brief(&other)),
                }
            }
        }
        self.exchange(99)
    }

    /// PING is answered, and a request afterwards.
    pub(crate) fn lives(&mut self) -> Result<(), String> {
        self.p.ping()?;
        self.exchange(99)
    }

    /// The next frame that is not about windows, settings or our own PING.
    pub(crate) fn next(&mut self) -> Event {
        let end = Instant::now() + SOON;
        loop {
            match self.p.next(end) {
                Event::Frame(f) if f.kind == kind::WINDOW_UPDATE || f.kind == kind::SETTINGS => {}
                other => return other,
            }
        }
    }

    fn refused(&mut self, codes: &[u32], stream: bool, status: bool) -> Result<(), String> {
        let mut before = Vec::new();
        loop {
            match self.next() {
                Event::Closed => return Ok(()),
                Event::Frame(f)
                    if f.kind == kind::GOAWAY && f.code() == code::NO_ERROR && before.len() < 9 =>
                {
                    before.push(f.brief());
                }
                Event::Frame(f) if f.kind == kind::GOAWAY || (stream && f.kind == kind::RST_STREAM) => {
                    return match codes.contains(&f.code()) {
                        true => Ok(()),
                        false => Err(f.brief()),
                    };
                }
                Event::Frame(f) if status && f.kind == kind::HEADERS => {
                    let fields = self.p.decoder.read(f.body())?;
                    match fields.iter().any(|(n, v)| n == b":status" && v == b"400") {
                        true => return Ok(()),
                        false => before.push(format!("{:?}", shown(&fields))),
                    }
                }
                // Earlier streams may be answered meanwhile.
                Event::Frame(f) if matches!(f.kind, kind::HEADERS | kind::DATA) && before.len() < 9 => {
                    before.push(f.brief());
                }
                other => return Err(format!("{}, before that {before:?}", brief(&other))),
            }
        }
    }
}
