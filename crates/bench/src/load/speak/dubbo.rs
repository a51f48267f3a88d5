//! Dubbo: any number of requests in flight, replies by id.
use super::{Broken, Expect, InFlight, LoadOptions, Outcome, Recorder};
use crate::dubbo::{self, Head, Template};
use crate::stream::HIGH_WATER;

pub(super) struct Speaker {
    template: Template,
    expect: Expect,
}

impl Speaker {
    pub(super) fn new(opts: &LoadOptions) -> Speaker {
        let (service, method) = (opts.service(), &opts.method);
        let template = Template::new(service, method, &opts.headers, opts.size, opts.timeout_ms());
        Speaker { template, expect: Expect::new(opts) }
    }
}

impl super::Speaker for Speaker {
    fn session(&self) -> Box<dyn super::Session + '_> {
        Box::new(Session(self))
    }
}

struct Session<'a>(&'a Speaker);

impl super::Session for Session<'_> {
    fn fill(&mut self, out: &mut Vec<u8>, flight: &mut InFlight, rec: &Recorder, now: u64) {
        while out.len() < HIGH_WATER {
            let Some(ticket) = flight.take(&rec.schedule, now) else { break };
            self.0.template.write(out, widen(ticket.id), ticket.token);
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
        let mut used = 0;
        while let Some(head) = Head::parse(&input[used..]).map_err(|_| Broken)? {
            let Some(frame) = input.get(used..used + head.total()) else { break };
            used += frame.len();
            // A proxy may send heartbeats and events of its own.
            if head.is_request() || head.is_event() {
                continue;
            }
            let id = head.id as u32;
            if widen(id) != head.id {
                rec.wrong_id(now);
                continue;
            }
            flight.end(id, self.outcome(&head, frame, flight.token(id)), now, rec);
        }
        Ok(used)
    }
}

impl Session<'_> {
    fn outcome(&self, head: &Head, frame: &[u8], sent: Option<u64>) -> Outcome {
        if head.status != dubbo::OK {
            return Outcome::Status(head.status.into());
        }
        let sent = sent.map(dubbo::text_token);
        match dubbo::outcome(frame) {
            dubbo::Outcome::Exception => Outcome::Exception,
            dubbo::Outcome::Text(characters, text) => {
                self.0.expect.judge(characters, &text[..text.len().min(characters)], sent)
            }
            dubbo::Outcome::Other if self.0.expect.echo => Outcome::Mismatch,
            dubbo::Outcome::Other => Outcome::Good,
        }
    }
}

/// An id whose upper half is not zero: all 64 bits must come back.
fn widen(id: u32) -> u64 {
    u64::from(!id) << 32 | u64::from(id)
}
