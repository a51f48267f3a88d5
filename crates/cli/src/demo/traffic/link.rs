//! One connection of the load: a thread that writes, and one that reads.
use super::{CONTENT, LOST, Outcome, Tally};
use raddle_bench::bolt::{Head, Kind, Template, has_token};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// When each request was meant to be sent, by id.
pub(super) type InFlight = Arc<Mutex<HashMap<u32, Instant>>>;

fn lock(in_flight: &InFlight) -> MutexGuard<'_, HashMap<u32, Instant>> {
    in_flight.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection to a sidecar.
pub(super) struct Link {
    pub(super) target: SocketAddr,
    pub(super) template: Template,
    pub(super) tally: Arc<Mutex<Tally>>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) in_flight: InFlight,
    pub(super) next_id: u32,
}

impl Link {
    /// Sends a request every `gap` from `due` on, until it is stopped and all are answered.
    pub(super) fn run(mut self, mut due: Instant, gap: Duration) {
        while !self.stopped() {
            match self.connect() {
                Ok((tcp, reader)) => {
                    self.send_until_broken(&tcp, &reader, &mut due, gap);
                    // Both ends of the stream: the reader wakes up and ends.
                    let _ = tcp.shutdown(Shutdown::Both);
                    let _ = reader.join();
                    let lost = std::mem::take(&mut *lock(&self.in_flight)).len() as u64;
                    Tally::lock(&self.tally).fail("connection to the sidecar lost".into(), lost);
                }
                Err(_) => self.skip(&mut due, gap),
            }
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    fn connect(&self) -> io::Result<(TcpStream, JoinHandle<()>)> {
        let tcp = TcpStream::connect_timeout(&self.target, Duration::from_secs(1))?;
        tcp.set_nodelay(true)?;
        tcp.set_write_timeout(Some(Duration::from_secs(2)))?;
        let reader = Reader {
            tcp: tcp.try_clone()?,
            in_flight: self.in_flight.clone(),
            tally: self.tally.clone(),
            buffer: Vec::new(),
        };
        Ok((tcp, std::thread::Builder::new().spawn(move || reader.run())?))
    }

    /// Sends what is due, when it is due.
    fn send_until_broken(
        &mut self,
        tcp: &TcpStream,
        reader: &JoinHandle<()>,
        due: &mut Instant,
        gap: Duration,
    ) {
        let mut out = Vec::new();
        while !self.stopped() && !reader.is_finished() {
            let now = Instant::now();
            if *due > now {
                std::thread::sleep((*due - now).min(Duration::from_millis(50)));
                continue;
            }
            out.clear();
            let mut sent = 0;
            let mut in_flight = lock(&self.in_flight);
            while *due <= now {
                self.template.write(&mut out, self.next_id, u64::from(self.next_id));
                in_flight.insert(self.next_id, *due);
                self.next_id = self.next_id.wrapping_add(1);
                *due += gap;
                sent += 1;
            }
            drop(in_flight);
            Tally::lock(&self.tally).sent += sent;
            let mut stream = tcp;
            if stream.write_all(&out).is_err() {
                return;
            }
        }
        // The answers of what was sent.
        let patience = Instant::now() + LOST;
        while !reader.is_finished() && !lock(&self.in_flight).is_empty() && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The sidecar cannot be connected to: what is due meanwhile has failed.
    fn skip(&mut self, due: &mut Instant, gap: Duration) {
        std::thread::sleep(Duration::from_millis(100));
        let mut skipped = 0;
        while *due <= Instant::now() {
            *due += gap;
            skipped += 1;
        }
        let mut tally = Tally::lock(&self.tally);
        tally.sent += skipped;
        tally.fail("no connection to the sidecar".into(), skipped);
    }
}

struct Reader {
    tcp: TcpStream,
    in_flight: InFlight,
    tally: Arc<Mutex<Tally>>,
    buffer: Vec<u8>,
}

impl Reader {
    fn run(mut self) {
        let mut chunk = vec![0; 64 << 10];
        let mut swept = Instant::now();
        if self.tcp.set_read_timeout(Some(Duration::from_millis(200))).is_err() {
            return;
        }
        loop {
            match self.tcp.read(&mut chunk) {
                Ok(0) => return,
                Ok(n) => {
                    self.buffer.extend_from_slice(&chunk[..n]);
                    if self.replies().is_none() {
                        return;
                    }
                }
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
            if swept.elapsed() > Duration::from_secs(1) {
                swept = Instant::now();
                self.sweep();
            }
        }
    }

    /// Takes the whole replies out of the buffer; `None` if they are not Bolt.
    fn replies(&mut self) -> Option<()> {
        let now = Instant::now();
        let mut used = 0;
        let mut in_flight = lock(&self.in_flight);
        let mut tally = Tally::lock(&self.tally);
        while let Some(head) = Head::parse(&self.buffer[used..]).ok()? {
            let Some(frame) = self.buffer.get(used..used + head.total()) else { break };
            used += frame.len();
            if head.kind != Kind::Response || head.command == 0 {
                continue;
            }
            // None: its request was given up, which was counted then.
            if let Some(due) = in_flight.remove(&head.id) {
                tally.answered(outcome(&head, frame), now.saturating_duration_since(due));
            }
        }
        drop((in_flight, tally));
        self.buffer.drain(..used);
        Some(())
    }

    /// Gives up requests that nobody answers.
    fn sweep(&self) {
        let mut in_flight = lock(&self.in_flight);
        let before = in_flight.len();
        in_flight.retain(|_, due| due.elapsed() < LOST);
        let lost = (before - in_flight.len()) as u64;
        drop(in_flight);
        Tally::lock(&self.tally).fail("no answer".into(), lost);
    }
}

/// Whether a reply is the request's own content, or else what the sidecar says is wrong.
fn outcome(head: &Head, frame: &[u8]) -> Outcome {
    if let Some(flag) = header(head, frame, b"raddle-reason") {
        return Outcome::Failed(String::from_utf8_lossy(flag).into_owned());
    }
    let content = &frame[head.content()];
    if head.status != 0 {
        Outcome::Failed(format!("status {}", head.status))
    } else if content.len() != CONTENT || !has_token(content, u64::from(head.id)) {
        Outcome::Failed("another request's reply".into())
    } else {
        Outcome::Ok
    }
}

/// A value of the header map of a version 1 response.
pub(super) fn header<'f>(head: &Head, frame: &'f [u8], name: &[u8]) -> Option<&'f [u8]> {
    const FIXED: usize = 20;
    let class = usize::from(u16::from_be_bytes([*frame.get(12)?, *frame.get(13)?]));
    let mut map = frame.get(FIXED + class..head.content().start)?;
    let mut text = || -> Option<&'f [u8]> {
        let (length, rest) = map.split_first_chunk::<4>()?;
        let length = u32::from_be_bytes(*length) as usize;
        let text = rest.get(..length)?;
        map = &rest[length..];
        Some(text)
    };
    loop {
        let (key, value) = (text()?, text()?);
        if key == name {
            return Some(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(headers: &[(&str, &str)], status: u16, content: &[u8]) -> Vec<u8> {
        let mut map = Vec::new();
        for text in headers.iter().flat_map(|(k, v)| [k, v]) {
            map.extend_from_slice(&(text.len() as u32).to_be_bytes());
            map.extend_from_slice(text.as_bytes());
        }
        let mut frame = vec![1, 0, 0, 2, 1, 0, 0, 0, 7, 11];
        frame.extend_from_slice(&status.to_be_bytes());
        frame.extend_from_slice(&1_u16.to_be_bytes());
        frame.extend_from_slice(&(map.len() as u16).to_be_bytes());
        frame.extend_from_slice(&(content.len() as u32).to_be_bytes());
        frame.push(b'C');
        frame.extend_from_slice(&map);
        frame.extend_from_slice(content);
        frame
    }

    fn kind(frame: &[u8]) -> String {
        let head = Head::parse(frame).unwrap().unwrap();
        assert_eq!(head.total(), frame.len());
        match outcome(&head, frame) {
            Outcome::Ok => "ok".into(),
            Outcome::Failed(kind) => kind,
        }
    }

    #[test]
    fn a_reply_is_good_only_if_it_is_the_requests_own() {
        let mut content = vec![0; CONTENT];
        content[7] = 7;
        assert_eq!(kind(&response(&[], 0, &content)), "ok");
        content[7] = 8;
        assert_eq!(kind(&response(&[], 0, &content)), "another request's reply");
        assert_eq!(kind(&response(&[("a", "b")], 4, &[])), "status 4");
        assert_eq!(kind(&response(&[("a", "b"), ("raddle-reason", "UH")], 6, &[])), "UH");
    }
}
