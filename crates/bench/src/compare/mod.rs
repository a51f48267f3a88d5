//! `raddle bench compare`: Raddle and other proxies in one run on one machine.
//!
//! Every table starts an echo server and the proxies, each with one worker, and measures them in turn,
//! round after round (A B C A B C ...), so that what drifts on the machine drifts for all. Figures are
//! medians; goals are ratios within a round. A peer that is not installed or does not start is reported
//! as missing with the reason.
//!
//! Tables: [`throughput`], [`latency`], [`memory`], for each protocol; [`sweep`], [`foreign`], [`encryption`], [`storm`].
mod encryption;
mod foreign;
mod latency;
mod links;
mod machine;
mod memory;
pub(crate) mod peers;
mod pki;
pub(crate) mod process;
mod report;
mod storm;
mod svg;
mod sweep;
mod table;
mod throughput;

pub use machine::Machine;
pub use peers::{Kind as PeerKind, PeerInfo};
pub use table::{Figure, Goal, Metric, Row, Table};

use crate::bolt::{Template, Version};
use crate::{LoadOptions, LoadResult, Protocol, dubbo, load};
use peers::{Echo, Peer, Program};
use process::Bench;
use serde::Serialize;
use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// A table of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableKind {
    /// CPU for a request and requests a second, closed loop.
    Throughput,
    /// What two proxies in a chain add, open loop.
    Latency,
    /// Resident memory: idle, by connection, by cluster.
    Memory,
    /// CPU for a request by number of endpoints, rules, services, connections.
    Sweep,
    /// CPU for a request and requests a second by load generators of others.
    Foreign,
    /// What TLS between two sidecars costs over plaintext.
    Encryption,
    /// What established callers feel of thousands of handshakes.
    Storm,
}

impl TableKind {
    /// All of them.
    pub const ALL: [TableKind; 7] = [
        TableKind::Throughput,
        TableKind::Latency,
        TableKind::Memory,
        TableKind::Sweep,
        TableKind::Foreign,
        TableKind::Encryption,
        TableKind::Storm,
    ];

    /// Its name on the command line and of its files.
    pub const fn name(self) -> &'static str {
        match self {
            TableKind::Throughput => "throughput",
            TableKind::Latency => "latency",
            TableKind::Memory => "memory",
            TableKind::Sweep => "sweep",
            TableKind::Foreign => "foreign",
            TableKind::Encryption => "encryption",
            TableKind::Storm => "storm",
        }
    }

    /// Whether there is such a table of a protocol.
    pub const fn is_of(self, protocol: Protocol) -> bool {
        match self {
            TableKind::Throughput | TableKind::Latency | TableKind::Memory => {
                !matches!(protocol, Protocol::Tcp)
            }
            TableKind::Sweep | TableKind::Storm => matches!(protocol, Protocol::Bolt),
            TableKind::Encryption => matches!(protocol, Protocol::Bolt | Protocol::Http2),
            TableKind::Foreign => matches!(protocol, Protocol::Http | Protocol::Http2 | Protocol::Grpc),
        }
    }
}

impl FromStr for TableKind {
    type Err = String;

    fn from_str(text: &str) -> Result<TableKind, String> {
        let found = TableKind::ALL.into_iter().find(|t| t.name() == text);
        found.ok_or_else(|| {
            "expected one of throughput, latency, memory, sweep, foreign, encryption, storm".to_owned()
        })
    }
}

/// What [`compare`] measures.
#[derive(Clone, Debug)]
pub struct CompareOptions {
    /// The `raddle` binary to measure.
    pub raddle: PathBuf,
    /// The command of the echo server, up to its `--listen` argument; empty = `raddle bench serve`.
    pub echo: Vec<OsString>,
    /// Which tables; those that a protocol has not got are left out.
    pub tables: Vec<TableKind>,
    /// Of which protocols.
    pub protocols: Vec<Protocol>,
    /// Which proxies.
    pub peers: Vec<PeerKind>,
    /// Rounds; medians want at least five.
    pub rounds: usize,
    /// Time measured in each run of a round.
    pub seconds: Duration,
    /// Pins each one-worker proxy to the last CPU.
    pub pin: bool,
    /// Directory the JSON and SVG files go into; made if it is not there.
    pub out: PathBuf,
    /// Set it to end early: children are ended, and [`compare`] returns `Interrupted`.
    pub stop: Arc<AtomicBool>,
}

impl CompareOptions {
    /// The usual comparison with this binary.
    pub fn new(raddle: PathBuf) -> CompareOptions {
        CompareOptions {
            raddle,
            echo: Vec::new(),
            tables: TableKind::ALL.to_vec(),
            protocols: vec![Protocol::Bolt],
            peers: PeerKind::ALL.to_vec(),
            rounds: 5,
            seconds: Duration::from_secs(2),
            pin: true,
            out: PathBuf::from("bench/results"),
            stop: Arc::default(),
        }
    }
}

/// What a comparison found. `Display` is the table for people.
#[derive(Clone, Debug, Serialize)]
pub struct CompareReport {
    /// What it was measured on.
    pub machine: Machine,
    /// Rounds of each table.
    pub rounds: usize,
    /// Time measured in each run, seconds.
    pub seconds: f64,
    /// Whether proxies were pinned to one CPU.
    pub pinned: bool,
    /// The proxies, found and missing.
    pub peers: Vec<PeerInfo>,
    /// The results.
    pub tables: Vec<Table>,
    /// Files written.
    #[serde(skip)]
    pub files: Vec<PathBuf>,
}

/// Measures, and writes `TABLE.json` and its charts into [`CompareOptions::out`]; `say` gets a line after
/// every run.
///
/// # Errors
/// When the echo server cannot be started, files cannot be written, or it was stopped. Children are ended
/// in every case.
pub fn compare(opts: CompareOptions, mut say: impl FnMut(&str)) -> io::Result<CompareReport> {
    let pairs = opts.protocols.iter().flat_map(|p| opts.tables.iter().map(|t| (*t, *p)));
    let wanted: Vec<_> = pairs.filter(|(table, protocol)| table.is_of(*protocol)).collect();
    if wanted.is_empty() {
        let why = "there is no such table of this protocol";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let open_files = process::raise_open_files();
    let scratch = tempfile::Builder::new().prefix("raddle-bench-").tempdir()?;
    let raddle = std::path::absolute(&opts.raddle)?;
    let found: Vec<_> = opts.peers.iter().map(|kind| peers::look_for(*kind, &raddle)).collect();
    let (infos, programs): (Vec<PeerInfo>, Vec<Option<Program>>) = found.into_iter().unzip();
    let proxy_cpu = process::cpus().last().copied().filter(|_| opts.pin);
    let echo = if opts.echo.is_empty() {
        vec![raddle.into_os_string(), "bench".into(), "serve".into()]
    } else {
        opts.echo
    };
    let mut setup = Setup {
        bench: Bench { dir: scratch.path().to_owned(), stop: opts.stop, proxy_cpu },
        echo,
        programs: programs.into_iter().flatten().collect(),
        rounds: opts.rounds.max(1),
        seconds: opts.seconds,
        open_files,
        infos,
        say: &mut say,
    };
    let mut report = CompareReport {
        machine: Machine::describe(open_files),
        rounds: setup.rounds,
        seconds: opts.seconds.as_secs_f64(),
        pinned: proxy_cpu.is_some(),
        peers: Vec::new(),
        tables: Vec::new(),
        files: Vec::new(),
    };
    for (kind, protocol) in wanted {
        let table = match kind {
            TableKind::Throughput => throughput::measure(&mut setup, protocol),
            TableKind::Latency => latency::measure(&mut setup, protocol),
            TableKind::Memory => memory::measure(&mut setup, protocol),
            TableKind::Sweep => sweep::measure(&mut setup),
            TableKind::Foreign => foreign::measure(&mut setup, protocol),
            TableKind::Encryption => encryption::measure(&mut setup, protocol),
            TableKind::Storm => storm::measure(&mut setup, protocol),
        }?;
        report.peers.clone_from(&setup.infos);
        report.tables.push(table);
        // Written after each table: a run that is stopped keeps what it has.
        report.write_last(&opts.out)?;
    }
    report.peers = setup.infos;
    Ok(report)
}

/// What the tables share.
struct Setup<'a> {
    bench: Bench,
    echo: Vec<OsString>,
    programs: Vec<Program>,
    rounds: usize,
    seconds: Duration,
    open_files: u64,
    infos: Vec<PeerInfo>,
    say: &'a mut dyn FnMut(&str),
}

impl Setup<'_> {
    fn say(&mut self, line: &str) {
        (self.say)(line);
    }

    fn program(&self, kind: PeerKind) -> Option<Program> {
        self.programs.iter().find(|p| p.kind == kind).cloned()
    }

    /// The programs that carry a protocol, and what results call them.
    fn able(&self, protocol: Protocol) -> Vec<(Program, &'static str)> {
        let able = |p: &Program| Some((p.clone(), p.kind.name(protocol)?));
        self.programs.iter().filter_map(able).collect()
    }

    fn start_echo(&self, protocol: Protocol, ip: IpAddr, size: Option<usize>) -> io::Result<Peer> {
        peers::start_echo(&self.bench, Echo { command: &self.echo, protocol, ip, size })
    }

    /// Reports a proxy that is there but could not be measured at `what`.
    fn leave_out(&mut self, kind: PeerKind, what: &str, why: &io::Error) {
        self.say(&format!("{what}: {}: {why}", kind.program()));
        if let Some(info) = self.infos.iter_mut().find(|i| i.name == kind.program()) {
            info.failed.push(format!("{what}: {why}"));
        }
    }

    /// A load of 1 KiB: whole frames, or bodies where the head is of no fixed size.
    fn load_options(&self, protocol: Protocol) -> LoadOptions {
        LoadOptions {
            protocol,
            size: content_of_one_kib(protocol),
            warmup: (self.seconds / 4).max(Duration::from_millis(200)),
            duration: self.seconds,
            stop: self.bench.stop.clone(),
            ..LoadOptions::default()
        }
    }
}

/// Content bytes that make a request's frame 1 KiB, or its body.
fn content_of_one_kib(protocol: Protocol) -> usize {
    let service = protocol.usual_service();
    let overhead = match protocol {
        Protocol::Bolt => {
            Template::new(Version::V1, service, "echo", &[], 0, 0).map_or(0, |template| template.overhead())
        }
        // With the length of a string of some hundred bytes, and the load's usual timeout.
        Protocol::Dubbo => dubbo::Template::new(service, "echo", &[], 500, 5000).len() - 500,
        _ => 0,
    };
    1024 - overhead
}

/// Cores used by others from which on a figure is called disturbed.
const DISTURBED: f64 = 0.2;
/// The metric every table with loads has beside its own.
const OTHERS: Metric = Metric { key: "other_cores", title: "others, cores", digits: 2, chart: false };

/// Runs a load, or says that the user wants to stop.
fn run_load(bench: &Bench, opts: LoadOptions) -> io::Result<LoadResult> {
    bench.check_stop()?;
    let result = load(opts, |_| {})?;
    bench.check_stop()?;
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_the_load_are_one_kib() {
        let size = content_of_one_kib(Protocol::Dubbo);
        let service = Protocol::Dubbo.usual_service();
        assert_eq!(dubbo::Template::new(service, "echo", &[], size, 5000).len(), 1024);
        assert_eq!(content_of_one_kib(Protocol::Http), 1024);
    }

    #[test]
    fn a_table_that_a_protocol_has_not_got_is_said_so() {
        let mut opts = CompareOptions::new(PathBuf::from("raddle"));
        (opts.tables, opts.protocols) = (vec![TableKind::Sweep], vec![Protocol::Http]);
        assert_eq!(compare(opts, |_| {}).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
