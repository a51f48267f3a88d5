//! Chunks of one size, echoed in order: they have no id.
use super::{After, Broken, Expect, InFlight, LoadOptions, Recorder};
use crate::stream::HIGH_WATER;
use crate::token;
use std::collections::VecDeque;

pub(super) struct Speaker {
    content: Vec<u8>,
    expect: Expect,
}

impl Speaker {
    pub(super) fn new(opts: &LoadOptions) -> Speaker {
        // A chunk is as long as it was, and its token is its only sign.
        let expect = Expect { echo: true, length: opts.size, ..Expect::new(opts) };
        Speaker { content: super::pattern(opts.size), expect }
    }
}

impl super::Speaker for Speaker {
    fn session(&self) -> Box<dyn super::Session + '_> {
        Box::new(Session { speaker: self, order: VecDeque::new() })
    }
}

struct Session<'a> {
    speaker: &'a Speaker,
    /// Ids in flight, as they were sent.
    order: VecDeque<u32>,
}

impl super::Session for Session<'_> {
    fn open(&mut self, _: &mut Vec<u8>) {
        self.order.clear();
    }

    fn fill(&mut self, out: &mut Vec<u8>, flight: &mut InFlight, rec: &Recorder, now: u64) {
        while out.len() < HIGH_WATER {
            let Some(ticket) = flight.take(&rec.schedule, now) else { break };
            self.order.push_back(ticket.id);
            let start = out.len();
            out.extend_from_slice(&self.speaker.content);
            token::put(&mut out[start..], ticket.token);
        }
    }

    fn take_in(
        &mut self,
        input: &[u8],
        _: &mut Vec<u8>,
        flight: &mut InFlight,
        rec: &mut Recorder,
        now: u64,
    ) -> Result<usize, Broken> {
        let chunks = input.chunks_exact(self.speaker.content.len());
        let used = input.len() - chunks.remainder().len();
        for chunk in chunks {
            let id = self.order.pop_front().ok_or(Broken)?;
            let outcome = self.speaker.expect.judge(chunk.len(), chunk, flight.token(id));
            flight.end(id, outcome, now, rec);
        }
        Ok(used)
    }

    fn give_up(&mut self, _: &[u32], _: &mut Vec<u8>) -> After {
        // A reply that is missing shifts every later one.
        After::Close
    }
}
