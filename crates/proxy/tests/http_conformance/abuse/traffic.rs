//! Well-behaved callers, who check every answer and how long it took.
use raddle_testkit::PATIENCE;
use raddle_testkit::h1::Client;
use raddle_testkit::h2::{Peer, flag};
use raddle_testkit::h2_hpack::Block;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// One request and its answer.
type Ask = Box<dyn FnMut() -> Result<(), String>>;

/// Callers of both versions, each with one connection, until told to stop.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<Seen>>,
}

/// What they saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    answered: usize,
    slowest: Duration,
    wrong: Vec<String>,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} answers, the slowest in {:?}, {:?}", self.answered, self.slowest, self.wrong)
    }
}

impl Traffic {
    pub(crate) fn start(addr: SocketAddr) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let run = |ask: fn(SocketAddr) -> Ask| {
            let stop = stop.clone();
            std::thread::spawn(move || {
                let (mut ask, mut seen) = (ask(addr), Seen::default());
                // At least some, however soon it is over.
                while (!stop.load(Ordering::Relaxed) || seen.answered < 20) && seen.wrong.is_empty() {
                    let from = Instant::now();
                    match ask() {
                        Ok(()) => seen.answered += 1,
                        Err(e) => seen.wrong.push(e),
                    }
                    seen.slowest = seen.slowest.max(from.elapsed());
                    std::thread::sleep(Duration::from_millis(2));
                }
                seen
            })
        };
        let threads = vec![run(http1), run(http2)];
        Traffic { stop, threads }
    }

    pub(crate) fn finish(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Seen::default();
        for t in self.threads {
            let s = t.join().unwrap();
            all.answered += s.answered;
            all.slowest = all.slowest.max(s.slowest);
            all.wrong.extend(s.wrong);
        }
        all
    }
}

impl Seen {
    #[track_caller]
    pub(crate) fn expect_undisturbed(&self, what: &str) {
        assert!(self.wrong.is_empty(), "{what}: beside it {self}");
        assert!(self.slowest < PATIENCE / 4, "{what}: beside it {self}");
    }
}

fn http1(addr: SocketAddr) -> Ask {
    let mut c = Client::connect(addr);
    Box::new(move || {
        c.send("GET / HTTP/1.1\r\nHost: live.test\r\n\r\n");
        match c.response("GET")? {
            r if r.status() == 200 && r.body == b"ok" => Ok(()),
            r => Err(format!("HTTP/1.1: {}", r.status())),
        }
    })
}

fn http2(addr: SocketAddr) -> Ask {
    let mut p = Peer::connect(addr);
    let mut ready = p.greet(&[]);
    let mut stream = 1;
    Box::new(move || {
        std::mem::replace(&mut ready, Ok(()))?;
        p.headers(stream, flag::WHOLE, &Block::request("GET", "live.test", "/"));
        let r = p.response(stream)?;
        stream += 2;
        if r.status == 200 && r.body == b"ok" { Ok(()) } else { Err(format!("HTTP/2: {}", r.status)) }
    })
}
