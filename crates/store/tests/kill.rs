//! `kill -9` at random points: what was acknowledged is there, and revisions never go back.
//!
//! Each round a child process (this same test program) opens the file and commits as fast as it can, from several
//! tasks at once, and says so on a pipe; it is killed within milliseconds, in some rounds while it opens, recovers or
//! compacts the file. 25 rounds by default, `RADDLE_KILL_ROUNDS` sets how many.
use bytes::Bytes;
use raddle_store::{Embedded, EmbeddedOptions, Op, Outcome, Revision, Store, Txn};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const FILE: &str = "RADDLE_KILL_FILE";
const WRITERS: u64 = 8;
/// Keys that each writer goes round.
const ROWS: u64 = 40;

fn options() -> EmbeddedOptions {
    // So small that files are compacted again and again.
    EmbeddedOptions { compact_over: 256 * 1024, ..EmbeddedOptions::default() }
}

fn rounds() -> u32 {
    std::env::var("RADDLE_KILL_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(25)
}

/// Value number `n` of a writer: of any size up to some pages, and of known content.
fn content(writer: u64, n: u64) -> Vec<u8> {
    let mut content = format!("{writer} {n} ").into_bytes();
    content.resize(content.len() + (n * 977 % 9_000) as usize, b'.');
    content
}

/// What a writer does as its `n`th commit: its count, a row anew, and every third time a row less.
fn step(writer: u64, n: u64) -> Vec<Op> {
    let key = |n: u64| format!("row/{writer}/{:02}", n % ROWS).into();
    let put = |key, value: Vec<u8>| Op::Put { key, value: Bytes::from(value), lease: None };
    let mut ops = vec![
        put(format!("count/{writer}").into(), n.to_string().into_bytes()),
        put(key(n), content(writer, n)),
    ];
    if n.is_multiple_of(3) {
        ops.push(Op::Delete { key: key(n + ROWS / 2) });
    }
    ops
}

fn say(line: &str) {
    // One write a line; who does not read any more is about to kill.
    let _ = std::io::stdout().write_all(line.as_bytes());
    let _ = std::io::stdout().flush();
}

/// Not a test of its own: what the child runs.
#[test]
fn child() {
    let Ok(file) = std::env::var(FILE) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let store = match Embedded::open(&file, options()) {
        Ok(store) => std::sync::Arc::new(store),
        Err(why) => return say(&format!("\nerror {why}\n")),
    };
    say("\nopen\n");
    let writers = (0..WRITERS).map(|writer| {
        let store = std::sync::Arc::clone(&store);
        runtime.spawn(async move {
            let count = store.get(&format!("count/{writer}")).await.expect("answered");
            let mut n =
                count.map_or(0, |e| std::str::from_utf8(&e.value).expect("text").parse().expect("a number"));
            loop {
                n += 1;
                // The last writer's may be lost, but not its revisions come twice.
                let relaxed = writer == WRITERS - 1;
                let txn = Txn { ops: step(writer, n), relaxed, ..Txn::default() };
                let Ok(Outcome::Done(revision)) = store.commit(txn).await else { panic!("not done") };
                say(&format!("ack {writer} {n} {}\n", revision.0));
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    // One ends only if it panicked.
    let _ = runtime.block_on(futures_util::future::select_all(writers));
}

fn start(file: &Path) -> (Child, mpsc::Receiver<String>) {
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(FILE, file)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child");
    let out = child.stdout.take().expect("piped");
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut out = BufReader::new(out);
        let mut line = String::new();
        // Half a line at the end was not said.
        while out.read_line(&mut line).is_ok_and(|n| n > 0) && line.ends_with('\n') {
            if tell.send(std::mem::take(&mut line)).is_err() {
                return;
            }
        }
    });
    (child, told)
}

fn kill(child: &mut Child) {
    child.kill().expect("killed");
    child.wait().expect("reaped");
}

/// A simple generator: which points are hit must be said to be repeated.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn wait(&mut self, from_us: u64, to_us: u64) {
        let until = Instant::now() + Duration::from_micros(from_us + self.below(to_us - from_us));
        // A moment to be killed in, not something to wait for.
        while Instant::now() < until {
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}

/// What children said, over all rounds.
#[derive(Default)]
struct Said {
    /// Each writer's last acknowledged count.
    counts: BTreeMap<u64, u64>,
    highest: u64,
    acks: u64,
    opened: u32,
    /// Kills since all was looked at: each can take one commit of a writer before it is acknowledged.
    kills: u64,
}

impl Said {
    /// Everything until the end of a child that was killed.
    fn hear_all(&mut self, told: &mpsc::Receiver<String>) {
        self.kills += 1;
        for line in told {
            self.hear(&line);
        }
    }

    fn hear(&mut self, line: &str) {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("open") => self.opened += 1,
            Some("error") => panic!("the child could not open the file: {line}"),
            Some("ack") => {
                let mut number = || words.next().and_then(|w| w.parse::<u64>().ok()).expect("a number");
                let (writer, n, revision) = (number(), number(), number());
                assert!(self.counts.get(&writer).is_none_or(|last| writer == WRITERS - 1 || *last < n));
                self.counts.insert(writer, n);
                self.highest = self.highest.max(revision);
                self.acks += 1;
            }
            _ => {}
        }
    }
}

/// Opens the file and looks for everything that was said.
fn verify(file: &Path, said: &mut Said) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let store = Embedded::open(file, options()).expect("opened after a kill");
        for writer in 0..WRITERS {
            let entry = store.get(&format!("count/{writer}")).await.expect("answered");
            let count = entry
                .as_ref()
                .map_or(0, |e| std::str::from_utf8(&e.value).expect("text").parse().expect("a number"));
            let acked = said.counts.get(&writer).copied().unwrap_or(0);
            if writer < WRITERS - 1 {
                assert!(count >= acked, "writer {writer}: {acked} was acknowledged, {count} is there");
                assert!(
                    count <= acked + said.kills,
                    "writer {writer}: {count} is there, only {acked} was acknowledged before {} kills",
                    said.kills
                );
            }
            // Whole transactions only: the rows are as that many steps left them.
            let mut rows: BTreeMap<String, Vec<u8>> = BTreeMap::new();
            for n in count.saturating_sub(3 * ROWS) + 1..=count {
                for op in step(writer, n) {
                    match op {
                        Op::Put { key, value, .. } => drop(rows.insert(key.to_string(), value.to_vec())),
                        Op::Delete { key } => drop(rows.remove(&*key)),
                    }
                }
            }
            rows.remove(&format!("count/{writer}"));
            let listed = store.list(&format!("row/{writer}/")).await.expect("listed").entries;
            let listed: BTreeMap<String, Vec<u8>> =
                listed.into_iter().map(|e| (e.key.to_string(), e.value.to_vec())).collect();
            assert!(rows == listed, "writer {writer} at {count}: rows are {:?}", listed.keys());
            said.counts.insert(writer, count);
        }
        let op = Op::Put { key: "round".into(), value: Bytes::new(), lease: None };
        let outcome = store.commit(Txn { ops: vec![op], ..Txn::default() }).await.expect("answered");
        let Outcome::Done(Revision(revision)) = outcome else { panic!("{outcome:?}") };
        assert!(revision > said.highest, "revision {revision} after {}", said.highest);
        said.highest = revision;
    });
    said.kills = 0;
}

#[test]
fn nothing_acknowledged_is_lost_and_revisions_never_go_back_whenever_the_process_is_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("store");
    let seed = std::time::UNIX_EPOCH.elapsed().map_or(1, |d| d.as_nanos() as u64) | 1;
    let mut chance = Chance(seed);
    let (mut said, mut during_open, mut largest) = (Said::default(), 0, 0);
    let begun = Instant::now();
    for round in 0..rounds() {
        let (mut child, told) = start(&file);
        let first = told.iter().find(|line| line.starts_with("open") || line.starts_with("error"));
        said.hear(&first.unwrap_or_else(|| panic!("round {round}, seed {seed}: the child ended")));
        chance.wait(1_000, 15_000);
        kill(&mut child);
        said.hear_all(&told);
        // Recovery itself is killed too, at any point of it.
        while chance.below(3) == 0 {
            let (mut child, told) = start(&file);
            chance.wait(500, 12_000);
            kill(&mut child);
            said.hear_all(&told);
            during_open += 1;
        }
        largest = largest.max(std::fs::metadata(&file).map_or(0, |m| m.len()));
        verify(&file, &mut said);
    }
    println!(
        "{} rounds in {:?}, and {during_open} kills from 0.5 ms after the start on; {} commits acknowledged, none lost; \
         revision {}; the file had {largest} bytes at most; seed {seed}",
        rounds(),
        begun.elapsed(),
        said.acks,
        said.highest,
    );
    assert!(said.acks > u64::from(rounds()), "children were killed before they did anything");
}

#[test]
fn a_second_process_is_told_which_file_is_in_use() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("in-use");
    let _store = Embedded::open(&file, options()).expect("opened");
    let (mut child, told) = start(&file);
    let error = told.iter().find(|line| line.starts_with("error")).expect("refused");
    assert!(error.contains("in-use is open in another process"), "{error}");
    child.wait().expect("ended");
}
