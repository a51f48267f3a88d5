//! `raddle control`: runs the control plane.
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::{output, parse, sources};
use clap::{Args, ValueEnum};
use raddle_control::ca::CaOptions;
use raddle_control::plane::{self, Addresses, Keep, Options, StartError};
use raddle_control::registry::Protection;
use raddle_identity::GivenCa;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// Run the control plane: registry, rules, certificates, xDS, REST
///
/// Sidecars, Envoy and gRPC's own clients get everything from it by xDS. It keeps what it knows in one file, or in an
/// etcd cluster that several replicas share. When it is away, the mesh goes on with what it has.
#[derive(Debug, Args)]
#[command(after_help = "\
Beside the store are the first administrator's token (.admin-token) and the authority's roots (.roots.pem), which
sidecars (rootsFile) and the command line (--ca-file) check the control plane with.

Signals:
  SIGTERM, SIGINT   tell the sidecars to go elsewhere, then end; a second one ends at once

Examples:
  raddle control                                     everything on this machine, kept in one file
  raddle control --resources services/               with services that nobody publishes
  raddle control --etcd http://10.0.0.1:2379,http://10.0.0.2:2379 --id control-1
  curl -s 127.0.0.1:7070/metrics                     what is it doing?")]
pub(crate) struct ControlArgs {
    /// File that everything is kept in [default: $XDG_STATE_HOME/raddle/control.db, or ./raddle-control.db]
    #[arg(long, value_name = "FILE", conflicts_with = "etcd")]
    store: Option<PathBuf>,
    /// Keep everything in this etcd cluster instead: its URLs
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    etcd: Vec<String>,
    /// Name of this replica, its own among all [default: made of host and process]
    #[arg(long, value_name = "NAME")]
    id: Option<String>,
    /// xDS and registry in plaintext; loopback only, unless --insecure-listen is given; `off` for none
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:15010", value_parser = listen)]
    grpc_listen: Listen,
    /// The same over TLS; `off` for none
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:15012", value_parser = listen)]
    tls_listen: Listen,
    /// REST API and metrics; `off` for none
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:7070", value_parser = listen)]
    rest_listen: Listen,
    /// REST demands no token; allowed if it listens on loopback
    #[arg(long)]
    no_auth: bool,
    /// File for the first administrator's token, made at the first start [default: beside the store, .admin-token]
    #[arg(long, value_name = "FILE", conflicts_with = "no_auth")]
    admin_token_file: Option<PathBuf>,
    /// The mesh's trust domain, the first part of every identity; it never changes
    #[arg(long, value_name = "NAME", default_value = "mesh.local")]
    trust_domain: String,
    /// File with the key that seals the authority's key in the store; made at the first start, except with --etcd, where
    /// all replicas must share one [default: beside the store, .seal-key]
    #[arg(long, value_name = "FILE")]
    seal_key: Option<PathBuf>,
    /// Certificate chain of an authority to use instead of one made here, PEM
    #[arg(long, value_name = "FILE", requires = "ca_key")]
    ca_cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "ca_cert")]
    ca_key: Option<PathBuf>,
    /// How long sidecars' certificates live
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = parse::duration)]
    cert_lifetime: Duration,
    /// Further name or address in the control plane's own certificate; may be given more than once
    #[arg(long, value_name = "HOST")]
    tls_host: Vec<String>,
    /// Let plaintext listen elsewhere than on loopback: whoever reaches it is believed
    #[arg(long)]
    insecure_listen: bool,
    /// File or directory with services that are there without being published; may be given more than once
    #[arg(long, value_name = "PATH")]
    resources: Vec<PathBuf>,
    /// How long a publication stays after its sidecar's stream has ended
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = parse::duration)]
    grace: Duration,
    /// If a larger share of instances vanishes at once, in percent, all of them are kept; 100 = never
    #[arg(long, value_name = "PERCENT", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100))]
    protect: u32,
    /// Most streams at once
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    max_streams: usize,
    /// Endpoints of a group that one sidecar gets of a large service; 0 = all
    #[arg(long, value_name = "N", default_value_t = 0)]
    slice: usize,
    /// What is logged: error, warn, info, debug, trace, or rules such as info,raddle_control=debug
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log: String,
    /// Form of the log's lines
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
    /// Allow core dumps, and debuggers of this process's user: both see private keys
    #[arg(long)]
    core_dumps: bool,
    /// End when standard input ends
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// An address to listen on, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Listen(Option<SocketAddr>);

fn listen(text: &str) -> Result<Listen, String> {
    if text == "off" {
        return Ok(Listen(None));
    }
    let address =
        text.parse().map_err(|_| "neither an address such as 127.0.0.1:15010 nor `off`".to_owned())?;
    Ok(Listen(Some(address)))
}

pub(crate) fn run(args: ControlArgs) -> Done {
    if args.exit_with_stdin {
        super::exit_with_stdin();
    }
    if !args.core_dumps {
        super::hide_memory();
    }
    let format = match args.log_format {
        LogFormat::Text => raddle_telemetry::Format::Text,
        LogFormat::Json => raddle_telemetry::Format::Json,
    };
    raddle_telemetry::init_log(&args.log, format).map_err(|e| Failure::usage(e.to_string()))?;
    give_memory_back();
    let resources = if args.resources.is_empty() { Vec::new() } else { sources::read(&args.resources)? };
    let store = keep(args.store, args.etcd)?;
    let seal_key = match (args.seal_key, &store) {
        (Some(file), _) => file,
        (None, Keep::File(store)) => store.with_extension("seal-key"),
        (None, _) => "raddle-control.seal-key".into(),
    };
    let ca = CaOptions {
        trust_domain: args.trust_domain,
        lifetime: args.cert_lifetime,
        given: args.ca_cert.zip(args.ca_key).map(|(cert, key)| GivenCa {
            cert,
            key,
            chain: None,
            roots: None,
        }),
        seal_key,
        create_seal_key: matches!(store, Keep::File(_)),
        hosts: args.tls_host,
        ..CaOptions::default()
    };
    let options = Options {
        store,
        ca: Some(ca),
        id: args.id,
        grpc: args.grpc_listen.0,
        tls: args.tls_listen.0,
        rest: args.rest_listen.0,
        no_auth: args.no_auth,
        admin_token_file: args.admin_token_file,
        insecure_listen: args.insecure_listen,
        resources,
        grace: args.grace,
        protection: Protection { percent: args.protect, grace: args.grace, ..Protection::default() },
        max_streams: args.max_streams,
        slice: args.slice,
    };
    plane::run(options, serving).map(|()| Exit::Ok).map_err(|e| match e {
        StartError::Resources(_) => Failure::mistakes(e.to_string()),
        StartError::Plaintext(..) | StartError::Option(_) => Failure::usage(e.to_string()),
        StartError::Store(raddle_store::StoreError::Unavailable(_)) => Failure::unreachable(e.to_string()),
        StartError::Store(_) | StartError::Listen(..) => Failure::new(e.to_string()),
    })
}

/// Gives freed memory back to the system whenever much was needed: after a thousand sidecars connected at once, most of
/// what that took is free, and the allocator would keep it.
fn give_memory_back() {
    const EVERY: Duration = Duration::from_secs(10);
    const GROWN: u64 = 32 << 20;
    let run = || {
        let mut settled = raddle_net::memory::resident();
        loop {
            std::thread::sleep(EVERY);
            if raddle_net::memory::resident() > settled + GROWN {
                raddle_net::memory::give_back();
                settled = raddle_net::memory::resident();
            }
        }
    };
    // Without it the control plane works as well, and is larger.
    let _ = std::thread::Builder::new().name("memory".into()).spawn(run);
}

/// Where the store is.
fn keep(store: Option<PathBuf>, etcd: Vec<String>) -> Result<Keep, Failure> {
    if !etcd.is_empty() {
        return Ok(Keep::Etcd(etcd));
    }
    if let Some(file) = store {
        return Ok(Keep::File(file));
    }
    let Some(state) = std::env::var_os("XDG_STATE_HOME").filter(|s| !s.is_empty()) else {
        return Ok(Keep::File("raddle-control.db".into()));
    };
    let directory = PathBuf::from(state).join("raddle");
    std::fs::create_dir_all(&directory).map_err(|e| Failure::new(format!("{}: {e}", directory.display())))?;
    Ok(Keep::File(directory.join("control.db")))
}

/// Says where it serves: a line for each, for people and for whoever started it on port 0.
fn serving(addresses: &Addresses) {
    let all = [("grpc", addresses.grpc), ("tls", addresses.tls), ("rest", addresses.rest)];
    let words: Vec<String> = all.iter().filter_map(|(what, a)| Some(format!("{what}={}", (*a)?))).collect();
    // Whoever closed standard output does not want to know.
    let _ = output::print(&format!("serving {}\n", words.join(" ")));
}
