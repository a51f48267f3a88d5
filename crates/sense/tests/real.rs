//! This machine: real processes, cgroups and sockets.
use raddle_core::Time;
use raddle_model::LoadSignal;
use raddle_policy::limit::adaptive::Sample;
use raddle_sense::Sensor;
use raddle_sense::http::fetch;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Ends the child with the test.
struct Burner(Child);

impl Burner {
    /// A process that uses a core, or as much of one as it gets.
    fn start() -> Burner {
        let command = Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn();
        Burner(command.expect("a shell"))
    }
}

impl Drop for Burner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn clock() -> impl Fn() -> Time {
    let start = Instant::now();
    move || Time::from_millis(1000) + start.elapsed()
}

/// Samples until one is as wanted.
fn until(sensor: &mut Sensor, wanted: impl Fn(&Sample) -> bool) -> Sample {
    let now = clock();
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut last = None;
    while Instant::now() < deadline {
        match sensor.sample(now()) {
            Ok(Some(s)) if wanted(&s) => return s,
            other => last = Some(other),
        }
        std::thread::park_timeout(Duration::from_millis(150));
    }
    panic!("not as wanted within 30 s: {last:?}; {}", sensor.describe());
}

#[test]
fn a_process_that_burns_is_seen_to() {
    let burner = Burner::start();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("{}\n", burner.0.id())).expect("is written");
    let mut sensor = Sensor::open(&LoadSignal::PidFile(file.path().to_owned()), &[], None);
    // Other tests use the cores, too: it gets a part.
    let s = until(&mut sensor, |s| s.cpu > 0.05);
    assert!(s.cpu < 1.5 && s.cores >= 1.0, "{s:?}");
    assert!(s.memory.is_some_and(|m| m > 0.0 && m < 0.5), "{s:?}");
    let says = sensor.describe();
    assert!(says.contains(&burner.0.id().to_string()), "{says}");
}

#[test]
fn the_app_is_found_by_its_port() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let app = listener.local_addr().expect("an address");
    let mut sensor = Sensor::open(&LoadSignal::Auto, &[app], None);
    // This test is the app.
    let _ = until(&mut sensor, |s| s.cores >= 0.1);
    assert!(sensor.describe().contains(&std::process::id().to_string()), "{}", sensor.describe());
    assert!(sensor.sees());
}

#[test]
fn an_app_elsewhere_is_not_looked_for() {
    let app: SocketAddr = "192.0.2.7:80".parse().expect("an address");
    let mut sensor = Sensor::open(&LoadSignal::Auto, &[app], None);
    let why = sensor.sample(Time::from_millis(1)).expect_err("it is not here");
    assert!(why.to_string().contains("is not on this machine"), "{why}");
}

/// A cgroup of this test's own, gone with it.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new(hierarchy: &str) -> Option<Cgroup> {
        let path = Path::new(hierarchy).join(format!("raddle-sense-{}", std::process::id()));
        std::fs::create_dir(&path).ok()?;
        Some(Cgroup(path))
    }

    fn put(&self, file: &str, text: &str) {
        std::fs::write(self.0.join(file), text).expect("is written");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while std::fs::remove_dir(&self.0).is_err() && Instant::now() < deadline {
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_quota_is_seen_to_bind() {
    let v2 = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"];
    let v2 = v2.into_iter().find(|h| {
        let children = Path::new(h).join("cgroup.subtree_control");
        std::fs::read_to_string(children).is_ok_and(|t| t.split_whitespace().any(|c| c == "cpu"))
    });
    let group = v2.and_then(Cgroup::new);
    let group = group
        .or_else(|| Cgroup::new("/sys/fs/cgroup/cpu"))
        .or_else(|| Cgroup::new("/sys/fs/cgroup/cpu,cpuacct"));
    let Some(group) = group else {
        eprintln!(
            "skipped: no hierarchy of cgroups with `cpu` can be written here (interop/limits counts that)"
        );
        return;
    };
    // Version 1 may count usage in a hierarchy of its own, under the same name.
    let usage = match group.0.join("cpuacct.usage").exists() || group.0.join("cpu.max").exists() {
        true => None,
        false => Cgroup::new("/sys/fs/cgroup/cpuacct"),
    };
    if v2.is_some() && group.0.join("cpu.max").exists() {
        group.put("cpu.max", "20000 100000\n");
    } else {
        group.put("cpu.cfs_period_us", "100000\n");
        group.put("cpu.cfs_quota_us", "20000\n");
    }
    let burner = Burner::start();
    for group in [Some(&group), usage.as_ref()].into_iter().flatten() {
        group.put("cgroup.procs", &format!("{}\n", burner.0.id()));
    }
    let mut sensor = Sensor::open(&LoadSignal::Cgroup(group.0.clone()), &[], None);
    // All of its quota is used, and it is stopped in nearly every period.
    let s =
        until(&mut sensor, |s| s.throttled.is_some_and(|t| t > 0.3) && (0.7..1.3).contains(&(s.cpu / 0.2)));
    assert!((s.cores - 0.2).abs() < 1e-9, "{s:?}");
    eprintln!("{}: {s:?}", sensor.describe());
    // By process id the same is seen, if its cgroup is what bounds it.
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), burner.0.id().to_string()).expect("is written");
    let mut sensor = Sensor::open(&LoadSignal::PidFile(file.path().to_owned()), &[], None);
    let s =
        until(&mut sensor, |s| s.throttled.is_some_and(|t| t > 0.3) && (0.7..1.3).contains(&(s.cpu / 0.2)));
    assert!((s.cores - 0.2).abs() < 1e-9, "{s:?}");
    eprintln!("{}: {s:?}", sensor.describe());
    drop(burner);
}

/// Answers each connection with one of these, byte for byte.
fn answers(all: Vec<Vec<u8>>) -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/load", listener.local_addr().expect("an address"));
    let thread = std::thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in all {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut request = Vec::new();
            let mut chunk = [0; 512];
            while !request.ends_with(b"\r\n\r\n") {
                let n = stream.read(&mut chunk).expect("a request");
                request.extend_from_slice(&chunk[..n]);
            }
            asked.push(String::from_utf8_lossy(&request).into_owned());
            for piece in answer.chunks(7) {
                if stream.write_all(piece).is_err() {
                    break;
                }
            }
        }
        asked
    });
    (url, thread)
}

#[test]
fn an_apps_own_word_is_taken_however_it_is_framed() {
    let (url, app) = answers(vec![
        b"HTTP/1.1 200 OK\r\nContent-Length: 29\r\n\r\n{\"cpu\": 0.5, \"memory\": 0.25 }more".to_vec(),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n{\"cpu\"\r\n5\r\n:0.75\r\n1\r\n}\r\n0\r\n\r\n".to_vec(),
        b"HTTP/1.0 200 OK\r\n\r\n{\"cpu\": 1, \"cores\": 3}".to_vec(),
        b"HTTP/1.1 503 No\r\n\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\n\r\n{\"memory\": 1}".to_vec(),
        b"HTTP/1.1 200 OK\r\n\r\n{\"cpu\": -1}".to_vec(),
        [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b' '; 20_000]].concat(),
        b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(),
        b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{".to_vec(),
    ]);
    let ask = || fetch(&url, Duration::from_secs(5));
    let word = ask().expect("an answer");
    assert_eq!((word.cpu, word.memory, word.cores), (0.5, Some(0.25), None));
    assert_eq!(ask().map(|w| (w.cpu, w.memory)), Ok((0.75, None)));
    assert_eq!(ask().map(|w| w.cores), Ok(Some(3.0)));
    for why in ["503", "no cpu", "no share", "bytes", "no HTTP", "middle"] {
        let said = ask().expect_err(why);
        assert!(said.contains(why), "{said}");
    }
    let asked = app.join().expect("an app");
    assert!(asked[0].starts_with("GET /load HTTP/1.1\r\nHost: 127.0.0.1:"), "{asked:?}");
}

#[test]
fn an_app_that_hangs_delays_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    let mut sensor = Sensor::open(&LoadSignal::Http(url), &[], Some(2.0));
    let began = Instant::now();
    for second in 1..=3 {
        assert!(!matches!(sensor.sample(Time::from_millis(second * 1000)), Ok(Some(_))));
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let now = clock();
    let deadline = Instant::now() + Duration::from_secs(10);
    let why = loop {
        assert!(Instant::now() < deadline, "it is said in time");
        if let Err(why) = sensor.sample(now()) {
            break why.to_string();
        }
    };
    assert!(why.contains("took too long"), "{why}");
}

#[test]
fn an_apps_own_word_becomes_a_sample() {
    let answer = b"HTTP/1.1 200 OK\r\n\r\n{\"cpu\": 0.5, \"memory\": 0.25}".to_vec();
    let (url, app) = answers(vec![answer; 1]);
    let mut sensor = Sensor::open(&LoadSignal::Http(url), &[], Some(4.0));
    let s = until(&mut sensor, |_| true);
    assert_eq!((s.cpu, s.cores, s.memory), (2.0, 4.0, Some(0.25)));
    drop(sensor);
    let _ = app.join();
}
