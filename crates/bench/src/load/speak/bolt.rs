//! Bolt: any number of requests in flight, replies by id.
use super::{Broken, Expect, InFlight, LoadOptions, Outcome, Recorder, invalid};
use crate::bolt::{self, Head, Kind, Template};
use crate::stream::HIGH_WATER;
use std::io;

pub(super) struct Speaker {
    template: Template,
    expect: Expect,
}

impl Speaker {
    pub(super) fn new(opts: &LoadOptions) -> io::Result<Speaker> {
        let (service, method) = (opts.service(), &opts.method);
        let template = Template::new(opts.bolt, service, method, &opts.headers, opts.size, opts.timeout_ms())
            .map_err(invalid)?;
        Ok(Speaker { template, expect: Expect::new(opts) })
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
            self.0.template.write(out, ticket.id, ticket.token);
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
            if !bolt::checksum_ok(&head, frame) {
                return Err(Broken);
            }
            // A proxy may send heartbeats and goaways of its own.
            if head.kind != Kind::Response || head.command != 2 {
                continue;
            }
            let content = &frame[head.content()];
            let outcome = match head.status {
                0 => self.0.expect.judge(content.len(), content, flight.token(head.id)),
                status => Outcome::Status(status),
            };
            flight.end(head.id, outcome, now, rec);
        }
        Ok(used)
    }
}
