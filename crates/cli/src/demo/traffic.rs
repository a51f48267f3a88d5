//! The demo's load: the app shop, calling order through its sidecars.
//!
//! An open loop: every request has a time to be sent at, and its latency counts from then. Replies are
//! checked against their requests. It is a small client of its own rather than the benchmark's generator,
//! because it must tell second by second what became of every request, by the sidecar's reject flag.
use hdrhistogram::Histogram;
use raddle_bench::bolt::{Head, Kind, Template, Version, has_token};
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Connections to each sidecar.
const LINKS: usize = 2;
const CONTENT: usize = 128;
/// What a request's frame says it may take, milliseconds.
const TIMEOUT_MS: i32 = 3000;
/// A request without an answer after this long has failed, whatever the sidecar does.
const LOST: Duration = Duration::from_secs(5);
/// How long after a kill connections lost in flight are put down to it.
const AFTERMATH: Duration = Duration::from_secs(2);

/// What became of the requests.
#[derive(Clone, Debug)]
pub(super) struct Tally {
    pub(super) sent: u64,
    pub(super) ok: u64,
    /// By reject flag, or by what was wrong.
    pub(super) failed: BTreeMap<String, u64>,
    /// Failures that a kill explains: in flight on the killed server's connections.
    pub(super) expected: u64,
    /// Latency of all requests answered well, microseconds.
    pub(super) latency: Histogram<u64>,
    last_kill: Option<Instant>,
    window: Window,
}

/// What happened since the last look.
#[derive(Clone, Debug)]
pub(super) struct Window {
    pub(super) ok: u64,
    pub(super) failed: u64,
    latency: Histogram<u64>,
}

impl Window {
    fn new() -> Window {
        Window { ok: 0, failed: 0, latency: histogram() }
    }

    /// The latency that this share of the requests did not exceed, milliseconds.
    pub(super) fn at(&self, share: f64) -> f64 {
        self.latency.value_at_quantile(share) as f64 / 1e3
    }
}

fn histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_bounds(1, 60_000_000, 3)
        .unwrap_or_else(|_| unreachable!("these bounds are within what the histogram documents"));
    histogram.auto(false);
    histogram
}

impl Tally {
    fn new() -> Tally {
        Tally {
            sent: 0,
            ok: 0,
            failed: BTreeMap::new(),
            expected: 0,
            latency: histogram(),
            last_kill: None,
            window: Window::new(),
        }
    }

    /// The shared tally, even if a thread panicked with it: counts are always whole.
    pub(super) fn lock(tally: &Mutex<Tally>) -> MutexGuard<'_, Tally> {
        tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An instance is being killed now.
    pub(super) fn killed(&mut self) {
        self.last_kill = Some(Instant::now());
    }

    /// What happened since the last call.
    pub(super) fn take_window(&mut self) -> Window {
        std::mem::replace(&mut self.window, Window::new())
    }

    /// All failures.
    pub(super) fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Failures that no kill explains.
    pub(super) fn unexpected(&self) -> u64 {
        self.failures() - self.expected
    }

    fn answered(&mut self, outcome: Outcome, latency: Duration) {
        match outcome {
            Outcome::Ok => {
                let us = latency.as_micros().min(u128::from(u64::MAX)) as u64;
                self.ok += 1;
                self.window.ok += 1;
                self.latency.saturating_record(us.max(1));
                self.window.latency.saturating_record(us.max(1));
            }
            Outcome::Failed(kind) => self.fail(kind, 1),
        }
    }

    fn fail(&mut self, kind: String, n: u64) {
        if n == 0 {
            return;
        }
        // UC is what the sidecar answers when the connection to an endpoint was lost with the request on it.
        if kind == "UC" && self.last_kill.is_some_and(|at| at.elapsed() < AFTERMATH) {
            self.expected += n;
        }
        self.window.failed += n;
        *self.failed.entry(kind).or_default() += n;
    }
}

enum Outcome {
    Ok,
    Failed(String),
}

/// The load while it runs.
pub(super) struct Traffic {
    tally: Arc<Mutex<Tally>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    /// Starts to send `rate` requests a second, evenly to all `targets`.
    pub(super) fn start(targets: &[SocketAddr], rate: f64) -> io::Result<Traffic> {
        let service = super::config::SERVICE;
        let template = Template::new(Version::V1, service, "create", &[], CONTENT, TIMEOUT_MS)
            .map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        let tally = Arc::new(Mutex::new(Tally::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let links = targets.len() * LINKS;
        let gap = Duration::from_secs_f64(links as f64 / rate);
        let start = Instant::now();
        let mut traffic = Traffic { tally, stop, threads: Vec::new() };
        for n in 0..links {
            let link = Link {
                target: targets[n % targets.len()],
                template: template.clone(),
                tally: traffic.tally.clone(),
                stop: traffic.stop.clone(),
                in_flight: Arc::default(),
                next_id: 1,
            };
            // Links take turns, so that the rate is even over all of them.
            let first = start + gap.mul_f64(n as f64 / links as f64);
            let thread = std::thread::Builder::new().name(format!("shop-{n}"));
            traffic.threads.push(thread.spawn(move || link.run(first, gap))?);
        }
        Ok(traffic)
    }

    /// The counts, shared.
    pub(super) fn tally(&self) -> Arc<Mutex<Tally>> {
        self.tally.clone()
    }

    /// Sends no more, waits for the answers, and returns the counts.
    pub(super) fn finish(mut self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // What a thread that panicked did not count is missing in the sum, which shows.
            let _ = thread.join();
        }
        Tally::lock(&self.tally).clone()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

type InFlight = Arc<Mutex<HashMap<u32, Instant>>>;

fn lock(in_flight: &InFlight) -> MutexGuard<'_, HashMap<u32, Instant>> {
    in_flight.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection to a sidecar: this thread writes, another one reads.
struct Link {
    target: SocketAddr,
    template: Template,
    tally: Arc<Mutex<Tally>>,
    stop: Arc<AtomicBool>,
    /// When each request was meant to be sent.
    in_flight: InFlight,
    next_id: u32,
}

impl Link {
    fn run(mut self, mut due: Instant, gap: Duration) {
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
            match in_flight.remove(&head.id) {
                Some(due) => tally.answered(outcome(&head, frame), now.saturating_duration_since(due)),
                // Its request was given up, which was counted then.
                None => continue,
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
fn header<'f>(head: &Head, frame: &'f [u8], name: &[u8]) -> Option<&'f [u8]> {
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
    use raddle_bench::{ServeOptions, Server};

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

    #[test]
    fn only_what_a_kill_cut_off_is_put_down_to_it() {
        let mut tally = Tally::new();
        tally.fail("UC".into(), 1);
        tally.killed();
        tally.fail("UC".into(), 2);
        tally.fail("UH".into(), 3);
        assert_eq!((tally.failures(), tally.expected, tally.unexpected()), (6, 2, 4));
    }

    #[test]
    fn every_request_sent_is_answered_and_counted_once() {
        let server = Server::bind(ServeOptions {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ..ServeOptions::default()
        })
        .unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| server.run(&stop).unwrap());
            let traffic = Traffic::start(&[server.local_addr().unwrap()], 2000.0).unwrap();
            let deadline = Instant::now() + Duration::from_secs(20);
            while Tally::lock(&traffic.tally()).ok < 100 && Instant::now() < deadline {
                std::thread::yield_now();
            }
            let tally = traffic.finish();
            stop.store(true, Ordering::Relaxed);
            assert!(tally.ok >= 100);
            assert_eq!((tally.sent, tally.failures()), (tally.ok, 0), "{:?}", tally.failed);
        });
    }
}
