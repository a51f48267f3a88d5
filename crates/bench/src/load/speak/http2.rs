//! HTTP/2 and gRPC: any number of streams in flight, as many as the peer takes.
use super::{After, Broken, Expect, InFlight, LoadOptions, Outcome, Recorder};
use crate::http2::hpack::{self, Decoder, NameAs};
use crate::http2::{
    self, CANCEL, Conn, END_HEADERS, END_STREAM, Event, HEADERS, PREFACE, Streams, Then, grpc, put_frame,
};
use crate::stream::HIGH_WATER;
use crate::{Protocol, token};
use std::borrow::Cow;

const AUTHORITY: usize = 1;
const PATH: usize = 4;
const CONTENT_LENGTH: usize = 28;
const CONTENT_TYPE: usize = 31;
const METHOD_GET: u8 = 0x82;
const METHOD_POST: u8 = 0x83;
const SCHEME_HTTP: u8 = 0x86;
/// Where the peer's dynamic table begins.
const DYNAMIC: usize = 62;
/// A change of the table's size, to nothing.
const NO_TABLE: u8 = 0x20;
/// The last stream a client may open.
const LAST_STREAM: u32 = (1 << 31) - 1;
/// gRPC's own code for a reply without a status.
const UNKNOWN: u16 = 2;

pub(super) struct Speaker {
    grpc: bool,
    /// The headers of the first request, which the peer keeps in its table.
    first: Vec<u8>,
    /// Those of the others, by their place there.
    again: Vec<u8>,
    /// Written out in full, for a peer with a table too small.
    plain: Vec<u8>,
    /// What they take of the table.
    table: usize,
    body: Vec<u8>,
    /// Where the content begins in a request's body, and in a reply's.
    content_at: usize,
    reply_content_at: usize,
    expect: Expect,
    /// Bytes the peer may send on a stream: a whole reply, so that it never has to be told of more.
    window: u32,
}

impl Speaker {
    pub(super) fn new(opts: &LoadOptions) -> Speaker {
        let grpc = opts.protocol == Protocol::Grpc;
        let content = super::pattern(opts.size);
        let body = if grpc { grpc::message(&content) } else { content };
        let expect = Expect::new(opts);
        let length = body.len().to_string();
        let path = opts.path();
        let mut headers =
            vec![(NameAs::Static(PATH), path.as_str()), (NameAs::Static(AUTHORITY), opts.service())];
        if grpc {
            headers.push((NameAs::Static(CONTENT_TYPE), "application/grpc"));
            headers.push((NameAs::Text("te"), "trailers"));
        } else if !body.is_empty() {
            headers.push((NameAs::Static(CONTENT_TYPE), "application/octet-stream"));
            headers.push((NameAs::Static(CONTENT_LENGTH), &length));
        }
        let extra: Vec<_> = opts.headers.iter().map(|(k, v)| (k.to_ascii_lowercase(), v.as_str())).collect();
        headers.extend(extra.iter().map(|(k, v)| (NameAs::Text(k), *v)));
        let method = if body.is_empty() { METHOD_GET } else { METHOD_POST };
        let [mut first, mut again, mut plain] = [(); 3].map(|()| vec![method, SCHEME_HTTP]);
        let mut table = 0;
        for (i, (name, value)) in headers.iter().enumerate() {
            hpack::put_literal(&mut first, *name, value, true);
            hpack::put_literal(&mut plain, *name, value, false);
            // The newest entry comes first.
            hpack::put_integer(&mut again, 0x80, 7, DYNAMIC + headers.len() - 1 - i);
            let name_length = if let NameAs::Text(text) = name { text.len() } else { CONTENT_LENGTH };
            table += name_length + value.len() + 32;
        }
        let reply_content_at = if grpc { envelope(expect.length) } else { 0 };
        let message = expect.length + reply_content_at;
        Speaker {
            grpc,
            first,
            again,
            plain,
            table,
            content_at: body.len() - opts.size,
            reply_content_at,
            body,
            expect,
            window: (message as u32).clamp(1 << 20, LAST_STREAM),
        }
    }
}

/// Bytes of a gRPC message around a content of `length`.
fn envelope(length: usize) -> usize {
    grpc::message(&vec![0; length]).len() - length
}

impl super::Speaker for Speaker {
    fn session(&self) -> Box<dyn super::Session + '_> {
        Box::new(Session {
            speaker: self,
            conn: Conn::default(),
            decoder: Decoder::default(),
            streams: Streams::default(),
            next: 1,
            kept: Kept::Not,
            last: LAST_STREAM,
            body: self.body.clone(),
        })
    }
}

/// Whether the peer has the headers in its table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// Not yet.
    Not,
    Yes,
    /// Its table is too small, which is to be acknowledged.
    TooSmall,
    Never,
}

/// A stream whose reply is not all here.
#[derive(Debug, Default)]
struct Reply {
    id: u32,
    status: Option<u16>,
    grpc: Option<u16>,
    length: usize,
    /// The first bytes of the body: as many as the envelope and the token take.
    start: [u8; 24],
}

struct Session<'a> {
    speaker: &'a Speaker,
    conn: Conn,
    decoder: Decoder,
    streams: Streams<Reply>,
    next: u32,
    kept: Kept,
    /// The last stream the peer looks at.
    last: u32,
    /// The speaker's, with a token in it.
    body: Vec<u8>,
}

impl super::Session for Session<'_> {
    fn open(&mut self, out: &mut Vec<u8>) {
        self.conn = Conn::default();
        self.decoder = Decoder::default();
        self.streams.clear();
        (self.next, self.kept, self.last) = (1, Kept::Not, LAST_STREAM);
        out.extend_from_slice(PREFACE);
        Conn::open(out, self.speaker.window, true);
    }

    fn fill(&mut self, out: &mut Vec<u8>, flight: &mut InFlight, rec: &Recorder, now: u64) {
        self.conn.pump(out);
        let most = self.conn.peer.max_streams as usize;
        while !self.is_over()
            && self.streams.len() < most
            && self.conn.sender.is_open()
            && out.len() < HIGH_WATER
        {
            let Some(ticket) = flight.take(&rec.schedule, now) else { break };
            self.request(out, ticket.id, ticket.token);
        }
    }

    fn take_in(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        flight: &mut InFlight,
        rec: &mut Recorder,
        now: u64,
    ) -> Result<usize, Broken> {
        let mut used = 0;
        while let Some((bytes, event)) = self.conn.take_in(&input[used..], out).map_err(|_| Broken)? {
            used += bytes;
            if let Some(event) = event {
                self.on(event, out, flight, rec, now)?;
            }
        }
        Ok(used)
    }

    fn give_up(&mut self, ids: &[u32], out: &mut Vec<u8>) -> After {
        let given_up: Vec<u32> = self
            .streams
            .iter()
            .filter(|(_, reply)| ids.contains(&reply.id))
            .map(|(stream, _)| *stream)
            .collect();
        for stream in given_up {
            self.streams.remove(&stream);
            self.conn.sender.forget(stream);
            http2::put_reset(out, stream, CANCEL);
        }
        After::GoOn
    }

    fn is_over(&self) -> bool {
        self.last < LAST_STREAM || self.next > LAST_STREAM
    }
}

impl Session<'_> {
    fn request(&mut self, out: &mut Vec<u8>, id: u32, token: u64) {
        let stream = self.next;
        self.next += 2;
        self.streams.insert(stream, Reply { id, ..Reply::default() });
        let speaker = self.speaker;
        let end = if speaker.body.is_empty() { END_STREAM } else { 0 };
        let flags = END_HEADERS | end;
        if self.kept != Kept::Never && (self.conn.peer.header_table as usize) < speaker.table {
            self.kept = Kept::TooSmall;
        }
        match self.kept {
            Kept::Not => {
                put_frame(out, HEADERS, flags, stream, &speaker.first);
                self.kept = Kept::Yes;
            }
            Kept::Yes => put_frame(out, HEADERS, flags, stream, &speaker.again),
            Kept::TooSmall => {
                put_frame(out, HEADERS, flags, stream, &[&[NO_TABLE], &*speaker.plain].concat());
                self.kept = Kept::Never;
            }
            Kept::Never => put_frame(out, HEADERS, flags, stream, &speaker.plain),
        }
        if end != 0 {
            return;
        }
        token::put(&mut self.body[speaker.content_at..], token);
        self.conn.send(out, stream, 0, Cow::Borrowed(&self.body), Then::End);
    }

    fn on(
        &mut self,
        event: Event<'_>,
        out: &mut Vec<u8>,
        flight: &mut InFlight,
        rec: &mut Recorder,
        now: u64,
    ) -> Result<(), Broken> {
        match event {
            Event::Headers { stream, block, end } => {
                // Even of a stream that was given up: the table must be kept.
                let found = self.decoder.decode(&block).map_err(|_| Broken)?;
                if let Some(reply) = self.reply(stream)? {
                    // An interim response is followed by another.
                    reply.status = found.status.or(reply.status);
                    reply.grpc = found.grpc.or(reply.grpc);
                }
                if end {
                    self.end(stream, out, flight, rec, now);
                }
            }
            Event::Data { stream, bytes, end } => {
                if let Some(reply) = self.reply(stream)? {
                    if let Some(room) = reply.start.get_mut(reply.length..) {
                        let n = room.len().min(bytes.len());
                        room[..n].copy_from_slice(&bytes[..n]);
                    }
                    reply.length += bytes.len();
                }
                if end {
                    self.end(stream, out, flight, rec, now);
                }
            }
            Event::Reset { stream } => {
                self.conn.sender.forget(stream);
                if let Some(reply) = self.streams.remove(&stream) {
                    flight.end(reply.id, Outcome::Reset, now, rec);
                }
            }
            Event::GoAway { last } => {
                self.last = last.min(LAST_STREAM - 1);
                let refused: Vec<u32> = self.streams.keys().copied().filter(|s| *s > last).collect();
                for stream in refused {
                    self.conn.sender.forget(stream);
                    if let Some(reply) = self.streams.remove(&stream) {
                        flight.end(reply.id, Outcome::Reset, now, rec);
                    }
                }
            }
            Event::Window { stream, by } => self.conn.sender.widen_stream(stream, by),
        }
        Ok(())
    }

    /// The reply of a stream; `None` if it was given up.
    fn reply(&mut self, stream: u32) -> Result<Option<&mut Reply>, Broken> {
        if stream >= self.next || stream.is_multiple_of(2) {
            return Err(Broken);
        }
        Ok(self.streams.get_mut(&stream))
    }

    fn end(&mut self, stream: u32, out: &mut Vec<u8>, flight: &mut InFlight, rec: &mut Recorder, now: u64) {
        let Some(reply) = self.streams.remove(&stream) else { return };
        if self.conn.sender.forget(stream) {
            // Answered before the request was all sent: nobody wants the rest.
            http2::put_reset(out, stream, CANCEL);
        }
        let outcome = self.outcome(&reply, flight.token(reply.id));
        flight.end(reply.id, outcome, now, rec);
    }

    fn outcome(&self, reply: &Reply, sent: Option<u64>) -> Outcome {
        let speaker = self.speaker;
        match (reply.status, speaker.grpc, reply.grpc) {
            (Some(200..=299), false, _) | (Some(200), true, Some(0)) => {}
            (Some(200), true, status) => return Outcome::Status(status.unwrap_or(UNKNOWN)),
            (status, ..) => return Outcome::Status(status.unwrap_or(0)),
        }
        let at = speaker.reply_content_at;
        match reply.length.checked_sub(at) {
            Some(length) => speaker.expect.judge(length, &reply.start[at..at + length.min(8)], sent),
            None => speaker.expect.judge(usize::MAX, &[], None),
        }
    }
}
