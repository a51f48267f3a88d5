//! A real etcd for tests: one member or more on loopback, gone when dropped.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How fast members find that their leader is gone.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    pub heartbeat_ms: u64,
    pub election_ms: u64,
}

/// Quick, so that tests are, and leases may be of a second.
pub const QUICK: Pace = Pace { heartbeat_ms: 20, election_ms: 200 };
/// etcd's own defaults.
pub const DEFAULT: Pace = Pace { heartbeat_ms: 100, election_ms: 1000 };

/// Files for a cluster that takes TLS only, from clients with a certificate only.
#[derive(Clone, Debug)]
pub struct Tls {
    pub authority: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Members of one cluster.
#[derive(Debug)]
pub struct Cluster {
    pub endpoints: Vec<String>,
    /// Plain HTTP, for health only.
    health: Vec<String>,
    members: Vec<Member>,
    _folder: TempDir,
}

#[derive(Debug)]
struct Member {
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
}

/// Whether there is an etcd to test with. Without one tests are skipped, and say so; in CI they fail.
pub fn available() -> bool {
    let found = Command::new("etcd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if found.is_ok_and(|status| status.success()) {
        return true;
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "CI must have etcd (Debian: etcd-server)");
    eprintln!("SKIPPED: there is no `etcd` on this machine (Debian: apt install etcd-server)");
    false
}

impl Cluster {
    /// Starts members and waits until they have a leader.
    pub fn start(size: usize, pace: Pace) -> Cluster {
        Cluster::start_with(size, pace, None)
    }

    /// The same, with TLS between it and its clients.
    pub fn start_with(size: usize, pace: Pace, tls: Option<&Tls>) -> Cluster {
        // A port may be taken between its choice and its use.
        let tries = (0..3).map(|_| Cluster::try_start(size, pace, tls));
        let mut failures = Vec::new();
        for outcome in tries {
            match outcome {
                Ok(cluster) => return cluster,
                Err(why) => failures.push(why),
            }
        }
        panic!("etcd does not start: {failures:#?}");
    }

    fn try_start(size: usize, pace: Pace, tls: Option<&Tls>) -> Result<Cluster, String> {
        let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
        let ports = free_ports(size * 3);
        let url = |port: &u16| format!("http://127.0.0.1:{port}");
        let client =
            |port: &u16| format!("{}://127.0.0.1:{port}", if tls.is_some() { "https" } else { "http" });
        let (clients, others) = ports.split_at(size);
        let (peers, health) = others.split_at(size);
        let initial: Vec<String> =
            peers.iter().enumerate().map(|(i, p)| format!("m{i}={}", url(p))).collect();
        let members = (0..size).map(|i| {
            let data = folder.path().join(format!("m{i}"));
            let options = [
                ("name", format!("m{i}")),
                ("data-dir", data.display().to_string()),
                ("listen-client-urls", client(&clients[i])),
                ("advertise-client-urls", client(&clients[i])),
                ("listen-metrics-urls", url(&health[i])),
                ("listen-peer-urls", url(&peers[i])),
                ("initial-advertise-peer-urls", url(&peers[i])),
                ("initial-cluster", initial.join(",")),
                ("heartbeat-interval", pace.heartbeat_ms.to_string()),
                ("election-timeout", pace.election_ms.to_string()),
                ("logger", "zap".into()),
            ];
            let mut arguments: Vec<String> =
                options.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect();
            for (name, file) in tls.iter().flat_map(|tls| tls.options()) {
                arguments.extend([format!("--{name}"), file.display().to_string()]);
            }
            arguments.extend(tls.map(|_| "--client-cert-auth".to_owned()));
            Member { arguments, log: folder.path().join(format!("m{i}.log")), child: None }
        });
        let members = members.collect();
        let (endpoints, health) = (clients.iter().map(client).collect(), health.iter().map(url).collect());
        let mut cluster = Cluster { endpoints, health, members, _folder: folder };
        for i in 0..size {
            cluster.run(i);
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while !cluster.health.iter().all(|e| healthy(e)) {
            for member in &mut cluster.members {
                if member.child.as_mut().is_some_and(|c| c.try_wait().is_ok_and(|ended| ended.is_some())) {
                    return Err(std::fs::read_to_string(&member.log).unwrap_or_default());
                }
            }
            if Instant::now() > deadline {
                return Err("no leader in 20 s".into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(cluster)
    }

    /// Starts a member, anew if it was killed.
    pub fn run(&mut self, member: usize) {
        let member = &mut self.members[member];
        let log = || std::fs::File::options().create(true).append(true).open(&member.log).expect("a log");
        let mut command = Command::new("etcd");
        command.args(&member.arguments).stdin(Stdio::null()).stdout(log()).stderr(log());
        member.child = Some(command.spawn().expect("etcd runs"));
    }

    /// `kill -9`.
    pub fn kill(&mut self, member: usize) {
        if let Some(mut child) = self.members[member].child.take() {
            child.kill().expect("killed");
            child.wait().expect("reaped");
        }
    }

    /// The member hangs: it holds its connections and answers nobody.
    pub fn pause(&self, member: usize) {
        self.signal(member, "-STOP");
    }

    /// It goes on.
    pub fn resume(&self, member: usize) {
        self.signal(member, "-CONT");
    }

    fn signal(&self, member: usize, signal: &str) {
        let pid = self.members[member].child.as_ref().expect("it runs").id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().expect("kill runs");
        assert!(sent.success(), "kill {signal} {pid}");
    }

    /// Whether a member says that it is well.
    pub fn healthy(&self, member: usize) -> bool {
        healthy(&self.health[member])
    }
}

impl Tls {
    fn options(&self) -> [(&'static str, &PathBuf); 3] {
        [("trusted-ca-file", &self.authority), ("cert-file", &self.certificate), ("key-file", &self.key)]
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for i in 0..self.members.len() {
            self.kill(i);
        }
    }
}

fn free_ports(count: usize) -> Vec<u16> {
    let sockets: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
    sockets.iter().map(|s| s.local_addr().expect("bound").port()).collect()
}

fn healthy(endpoint: &str) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(endpoint.trim_start_matches("http://"))?;
        stream.set_read_timeout(Some(Duration::from_secs(2)))?;
        stream.write_all(b"GET /health HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains("\"true\""))
}
