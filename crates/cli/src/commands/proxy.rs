//! `raddle proxy`: runs the sidecar.
use crate::Done;
use crate::exit::Exit;
use clap::{Args, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Run the sidecar beside one application instance
///
/// The configuration is one or more YAML files, or directories of them. It is checked whole before
/// anything is opened. Field reference: docs/reference/fields.md.
#[derive(Debug, Args)]
#[command(after_help = "\
Signals:
  SIGTERM, SIGINT   finish the requests in flight, then end; a second one ends at once
  SIGHUP            read the configuration again; if it has mistakes, the running one stays

Examples:
  raddle check shop.yaml && raddle proxy --config shop.yaml
  raddle proxy --config /etc/raddle/ --log-format json
  raddle proxy --config shop.yaml --config routes.yaml --admin 127.0.0.1:15001")]
pub(crate) struct ProxyArgs {
    /// Configuration file or directory; may be given more than once
    #[arg(short, long, value_name = "PATH", num_args = 1.., required_unless_present = "paths")]
    config: Vec<PathBuf>,
    /// The same, without the flag
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Admin address, over the one of the Sidecar document
    #[arg(long, value_name = "IP:PORT")]
    admin: Option<SocketAddr>,
    /// What is logged: error, warn, info, debug, trace, or rules such as info,raddle_proxy=debug
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

pub(crate) fn run(args: ProxyArgs) -> Done {
    if args.exit_with_stdin {
        super::exit_with_stdin();
    }
    if !args.core_dumps {
        super::hide_memory();
    }
    let mut paths = args.config;
    paths.extend(args.paths);
    let log_json = args.log_format == LogFormat::Json;
    let options = raddle_proxy::Options { paths, admin: args.admin, log_level: args.log, log_json };
    let code = raddle_proxy::Sidecar::run(options);
    Ok(Exit::Code(u8::try_from(code).unwrap_or(1)))
}
