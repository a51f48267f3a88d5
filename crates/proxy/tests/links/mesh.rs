//! A caller's and a callee's sidecar with certificates of one mesh, and the tap between them.
use raddle_identity::{Identity, Issuer, PrivateKey, SpiffeId, TrustBundle, chain_pem};
use raddle_testkit::{Config, PATIENCE, Running, TcpServer, free_addr, until};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tempfile::TempDir;

const DAY: Duration = Duration::from_secs(86_400);
/// What every request and reply carries, to be looked for on the wire.
pub(crate) const SECRET: &[u8] = b"the-number-is-4711";

pub(crate) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64
}

pub(crate) fn ca() -> Issuer {
    Issuer::generate("mesh.local", 365 * DAY, now() - 3 * 86_400).unwrap()
}

/// Who runs `app`, by `issuer`, trusting these; as of a time.
pub(crate) fn identity_at(
    issuer: &Issuer,
    trust: &[&Issuer],
    app: &str,
    life: Duration,
    at: i64,
) -> Identity {
    let id = SpiffeId::app("mesh.local", "", app).unwrap();
    let key = PrivateKey::generate().unwrap();
    let signed = issuer.sign_request(&key.request().unwrap(), &id, life, at).unwrap();
    let roots = trust.iter().flat_map(|i| i.roots().to_vec());
    let trust = TrustBundle::new("mesh.local", roots).unwrap();
    Identity::new(signed.chain, Arc::new(key), Arc::new(trust), at).unwrap()
}

pub(crate) fn identity(issuer: &Issuer, app: &str) -> Identity {
    identity_at(issuer, &[issuer], app, DAY, now())
}

pub(crate) fn take_on(sidecar: &Running, identity: Option<Identity>) {
    sidecar.sidecar().shared().set_identity(identity.map(Arc::new), None).unwrap();
}

/// What went over one connection.
#[derive(Default)]
pub(crate) struct Tapped {
    pub(crate) up: Vec<u8>,
    pub(crate) down: Vec<u8>,
    pub(crate) open: bool,
}

impl Tapped {
    pub(crate) fn is_tls(&self) -> bool {
        self.up.first() == Some(&0x16)
    }

    pub(crate) fn tells(&self) -> bool {
        [&self.up, &self.down].iter().any(|b| b.windows(SECRET.len()).any(|w| w == SECRET))
    }
}

/// A relay that keeps what passes.
pub(crate) struct Tap {
    pub(crate) server: TcpServer,
    pub(crate) seen: Arc<Mutex<Vec<Arc<Mutex<Tapped>>>>>,
    /// TLS goes no further than here until it is opened.
    pub(crate) holds: Arc<Mutex<Option<Gate>>>,
}

impl Tap {
    pub(crate) fn to(target: SocketAddr) -> Tap {
        let seen: Arc<Mutex<Vec<Arc<Mutex<Tapped>>>>> = Arc::default();
        let all = seen.clone();
        let holds: Arc<Mutex<Option<Gate>>> = Arc::default();
        let held = holds.clone();
        let server = TcpServer::start(move |from| {
            let Ok(to) = TcpStream::connect(target) else { return };
            let _ = (from.set_nodelay(true), to.set_nodelay(true));
            let tapped = Arc::new(Mutex::new(Tapped { open: true, ..Tapped::default() }));
            all.lock().unwrap().push(tapped.clone());
            let (from2, to2) = (from.try_clone().unwrap(), to.try_clone().unwrap());
            let gate = held.lock().unwrap().clone();
            if let Some(gate) = gate {
                let mut first = [0];
                if matches!(from.peek(&mut first), Ok(1)) && first == [0x16] {
                    gate.pass();
                }
            }
            let down = tapped.clone();
            let back = std::thread::spawn(move || pump(to2, from2, |b| down.lock().unwrap().down.extend(b)));
            pump(from, to, |b| tapped.lock().unwrap().up.extend(b));
            let _ = back.join();
            tapped.lock().unwrap().open = false;
        });
        Tap { server, seen, holds }
    }

    pub(crate) fn count(&self, f: impl Fn(&Tapped) -> bool) -> usize {
        self.seen.lock().unwrap().iter().filter(|t| f(&t.lock().unwrap())).count()
    }

    /// Connections that carry anything, by whether they are TLS.
    pub(crate) fn open(&self, tls: bool) -> usize {
        self.count(|t| t.open && !t.up.is_empty() && t.is_tls() == tls)
    }

    /// Nothing that was said can be read on TLS connections, and all of it on others.
    #[track_caller]
    pub(crate) fn expect_unreadable(&self) {
        assert_eq!(self.count(|t| t.is_tls() && t.tells()), 0, "bytes can be read on the wire");
        assert!(self.count(|t| !t.is_tls() && t.tells()) > 0, "the tap sees nothing at all");
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream, mut keep: impl FnMut(&[u8])) {
    let mut room = vec![0; 64 << 10];
    while let Ok(n @ 1..) = from.read(&mut room) {
        keep(&room[..n]);
        if to.write_all(&room[..n]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Caller, tap, callee, app.
pub(crate) struct Pair {
    pub(crate) caller: Running,
    pub(crate) callee: Running,
    pub(crate) tap: Tap,
    pub(crate) listen: SocketAddr,
    pub(crate) ca: Issuer,
    config: Box<dyn Fn(&str) -> Config + Send + Sync>,
    _dir: TempDir,
}

/// The service all of them call.
pub(crate) const SERVICE: &str = "com.test.Pay:1.0";

impl Pair {
    /// In front of an app; both ends hold certificates, links are in plaintext.
    pub(crate) fn new(protocol: &str, app: SocketAddr) -> Pair {
        Pair::started(protocol, app, |ca| Some(identity(ca, "callee")), true)
    }

    pub(crate) fn started(
        protocol: &str,
        app: SocketAddr,
        who: impl FnOnce(&Issuer) -> Option<Identity>,
        caller_has: bool,
    ) -> Pair {
        let ca = ca();
        let (inbound, listen) = (free_addr(), free_addr());
        let callee = Running::start(
            &Config::new().workers(1).inbound(inbound, app).sidecar("limits: {detectTimeout: 100ms}"),
        );
        take_on(&callee, who(&ca));
        let tap = Tap::to(inbound);
        let dir = tempfile::tempdir().unwrap();
        let own = identity(&ca, "caller");
        let path = |n: &str| dir.path().join(n).display().to_string();
        std::fs::write(path("cert"), chain_pem(own.chain())).unwrap();
        std::fs::write(path("key"), own.key().pem().as_bytes()).unwrap();
        std::fs::write(path("roots"), own.trust().pem()).unwrap();
        let certificate = format!("{{certificate: \"{}\", key: \"{}\"}}", path("cert"), path("key"));
        let roots = path("roots");
        let (protocol, at, admin) = (protocol.to_owned(), tap.server.addr, free_addr());
        let config = move |tls: &str| {
            let protocol =
                if protocol.is_empty() { String::new() } else { format!("protocol: {protocol}, ") };
            let mut c = Config::new()
                .workers(1)
                .document(
                    "Service",
                    SERVICE,
                    &format!("{{app: callee, {protocol}hosts: [shop], endpoints: [{{address: \"{at}\", tls: {tls}}}]}}"),
                )
                .sidecar("limits: {detectTimeout: 100ms}")
                .sidecar(&format!("outbound: [{{listen: \"{listen}\", service: \"{SERVICE}\"}}]"));
            if caller_has {
                c = c
                    .document("Certificate", "own", &certificate)
                    .sidecar(&format!("identity: {{certificate: own, rootsFile: \"{roots}\"}}"));
            }
            c.admin = admin;
            c
        };
        let caller = Running::start(&config("false"));
        Pair { caller, callee, tap, listen, ca, config: Box::new(config), _dir: dir }
    }

    /// Says what links are wanted.
    #[track_caller]
    pub(crate) fn want(&self, tls: &str) {
        self.caller.apply(&(self.config)(tls));
    }

    #[track_caller]
    pub(crate) fn want_with(&self, tls: &str, more: impl FnOnce(Config) -> Config) {
        self.caller.apply(&more((self.config)(tls)));
    }

    /// Turns encryption on or off, and waits until every open connection is as wanted.
    #[track_caller]
    pub(crate) fn switch(&self, tls: bool) {
        let began = Instant::now();
        self.want(if tls { "true" } else { "false" });
        until(PATIENCE, "the switch", || self.tap.open(tls) > 0 && self.tap.open(!tls) == 0);
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }

    /// On, off, on, off, with `goes_on` after each.
    #[track_caller]
    pub(crate) fn toggle(&self, mut goes_on: impl FnMut()) {
        goes_on();
        for tls in [true, false, true, false] {
            self.switch(tls);
            goes_on();
        }
        self.tap.expect_unreadable();
        self.caller.admin.until_metric("raddle_link_stale_connections", &[], |n| n == 0);
        let switches = self.caller.admin.metric("raddle_link_switches_total", &[]);
        assert!(switches >= 4, "{switches}");
        for s in [&self.caller, &self.callee] {
            assert_eq!(s.admin.metric("raddle_panics_total", &[]), 0);
        }
        assert_eq!(self.caller.admin.metric("raddle_upstream_connections_lost_total", &[]), 0);
    }
}

/// Holds threads back until it is opened.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    pub(crate) fn pass(&self) {
        let mut open = self.0.0.lock().unwrap();
        while !*open {
            open = self.0.1.wait(open).unwrap();
        }
    }

    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

/// Requests in the background, one after the other on each thread; every failure is kept.
pub(crate) struct Work {
    stop: Arc<Mutex<bool>>,
    done: Arc<Mutex<u64>>,
    threads: Vec<std::thread::JoinHandle<Vec<String>>>,
}

impl Work {
    pub(crate) fn start<C>(
        threads: usize,
        connect: impl Fn() -> C + Send + Sync + 'static,
        ask: impl Fn(&mut C, u64) -> Result<(), String> + Send + Sync + 'static,
    ) -> Work {
        let (stop, done): (Arc<Mutex<bool>>, Arc<Mutex<u64>>) = Default::default();
        let both = Arc::new((connect, ask));
        let threads = (0..threads)
            .map(|_| {
                let (stop, done, both) = (stop.clone(), done.clone(), both.clone());
                std::thread::spawn(move || {
                    let (mut c, mut failed, mut n) = (both.0(), Vec::new(), 0);
                    while !*stop.lock().unwrap() {
                        n += 1;
                        match both.1(&mut c, n) {
                            Ok(()) => *done.lock().unwrap() += 1,
                            Err(e) => {
                                failed.push(e);
                                c = both.0();
                            }
                        }
                    }
                    failed
                })
            })
            .collect();
        Work { stop, done, threads }
    }

    #[track_caller]
    pub(crate) fn goes_on(&self, n: u64) {
        let from = *self.done.lock().unwrap();
        until(PATIENCE, "the work goes on", || *self.done.lock().unwrap() >= from + n);
    }

    #[track_caller]
    pub(crate) fn expect_none_failed(self) {
        *self.stop.lock().unwrap() = true;
        for t in self.threads {
            assert_eq!(t.join().unwrap(), Vec::<String>::new());
        }
    }
}
