//! HTTP/1.1: one request in flight, the connection kept.
use super::{After, Broken, Expect, InFlight, LoadOptions, Outcome, Recorder};
use crate::{http1, token};

pub(super) struct Speaker {
    head: Vec<u8>,
    content: Vec<u8>,
    expect: Expect,
}

impl Speaker {
    pub(super) fn new(opts: &LoadOptions) -> Speaker {
        let verb = if opts.size == 0 { "GET" } else { "POST" };
        let mut head = format!("{verb} {} HTTP/1.1\r\nhost: {}\r\n", opts.path(), opts.service());
        if opts.size > 0 {
            head += &format!("content-type: application/octet-stream\r\ncontent-length: {}\r\n", opts.size);
        }
        for (name, value) in &opts.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head += "\r\n";
        Speaker { head: head.into_bytes(), content: super::pattern(opts.size), expect: Expect::new(opts) }
    }
}

impl super::Speaker for Speaker {
    fn session(&self) -> Box<dyn super::Session + '_> {
        Box::new(Session { speaker: self, waits_for: None, over: false })
    }
}

struct Session<'a> {
    speaker: &'a Speaker,
    waits_for: Option<u32>,
    over: bool,
}

impl super::Session for Session<'_> {
    fn open(&mut self, _: &mut Vec<u8>) {
        (self.waits_for, self.over) = (None, false);
    }

    fn fill(&mut self, out: &mut Vec<u8>, flight: &mut InFlight, rec: &Recorder, now: u64) {
        if self.over || self.waits_for.is_some() {
            return;
        }
        let Some(ticket) = flight.take(&rec.schedule, now) else { return };
        self.waits_for = Some(ticket.id);
        out.extend_from_slice(&self.speaker.head);
        let start = out.len();
        out.extend_from_slice(&self.speaker.content);
        token::put(&mut out[start..], ticket.token);
    }

    fn take_in(
        &mut self,
        input: &[u8],
        _: &mut Vec<u8>,
        flight: &mut InFlight,
        rec: &mut Recorder,
        now: u64,
    ) -> Result<usize, Broken> {
        let mut used = 0;
        while let Some(message) = http1::message(&input[used..]).map_err(|_| Broken)? {
            used += message.total;
            let outcome = match message.head.status {
                0 => return Err(Broken),
                // An interim response.
                100..=199 => continue,
                200..=299 => {
                    let sent = self.waits_for.and_then(|id| flight.token(id));
                    self.speaker.expect.judge(message.body.len(), &message.body, sent)
                }
                status => Outcome::Status(status),
            };
            self.over |= message.head.close;
            flight.end(self.waits_for.take().ok_or(Broken)?, outcome, now, rec);
        }
        Ok(used)
    }

    fn give_up(&mut self, _: &[u32], _: &mut Vec<u8>) -> After {
        // The reply could still come, and would be taken for that of the next request.
        After::Close
    }

    fn is_over(&self) -> bool {
        self.over
    }
}
