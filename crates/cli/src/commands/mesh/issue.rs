//! `raddle ca issue`: a certificate for software that has no sidecar.
//!
//! Nothing new is asked of the control plane: this does once what a sidecar's agent does, with a bootstrap token that an
//! administrator made for the app. The key is made here, and only here; what is signed is noted by the control plane, as
//! `raddle ca signed` shows.
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::output::print;
use clap::Args;
use raddle_identity::{Identity, chain_pem};
use raddle_model::ControlAddress;
use raddle_proxy::mesh::agent::{Agent, AgentOptions, TokenSource};
use raddle_xds::proto::Node;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// How long it may take.
const PATIENCE: Duration = Duration::from_secs(15);
/// Ends the name of the instance that the control plane notes it for.
const INSTANCE: &str = "issued";

/// Get a certificate for software without a sidecar
///
/// Makes a key, has the control plane sign a certificate for it, and writes cert.pem, key.pem and roots.pem to a new
/// folder that only you can read. A bootstrap token proves that the app may have it. Files are easier to steal than a
/// sidecar's memory, and nobody renews them: where SDS or a sidecar will do, prefer those.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle token create --app ledger --unit u1 --once --out ledger.token
  raddle ca roots > mesh-ca.pem
  raddle ca issue --app ledger --unit u1 --token-file ledger.token --roots-file mesh-ca.pem --out ledger-tls
  openssl s_client -connect 10.0.0.7:15006 -cert ledger-tls/cert.pem -key ledger-tls/key.pem -CAfile ledger-tls/roots.pem")]
pub(crate) struct IssueArgs {
    /// The app it is for, as the token says
    #[arg(long)]
    app: String,
    /// Its unit, as the token says
    #[arg(long, default_value = "")]
    unit: String,
    /// The instance it is for, if the token is bound to one [default: APP-issued]
    #[arg(long)]
    instance: Option<String>,
    /// File with the bootstrap token
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// PEM file with the mesh's roots, as `raddle ca roots` prints them
    #[arg(long, value_name = "FILE")]
    roots_file: PathBuf,
    /// Where the control plane is joined by TLS
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:15012", value_parser = address)]
    control: ControlAddress,
    /// The folder, which must not be there yet
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

fn address(text: &str) -> Result<ControlAddress, String> {
    let bare = text.strip_prefix("https://").unwrap_or(text);
    let wrong = || format!("{text:?} is not HOST:PORT, such as control.example.com:15012");
    let (host, port) = bare.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    if host.is_empty() || host.contains('/') {
        return Err(wrong());
    }
    Ok(ControlAddress { tls: true, host: host.to_owned(), port })
}

pub(super) fn run(args: &IssueArgs) -> Done {
    // Before anything is signed: a certificate that cannot be kept must not be made.
    let failed = |e: std::io::Error| Failure::new(format!("{}: {e}", args.out.display()));
    fs::create_dir(&args.out).map_err(failed)?;
    fs::set_permissions(&args.out, Permissions::from_mode(0o700)).map_err(failed)?;
    let written = obtain(args).and_then(|identity| {
        keep(&args.out, &identity).map_err(failed)?;
        Ok(identity)
    });
    let identity = written.inspect_err(|_| {
        // Files of a half-written folder are of no use to anybody.
        let _ = fs::remove_dir_all(&args.out);
    })?;
    print(&format!(
        "{} is in {}, serial {}; nobody renews it\n",
        identity.id(),
        args.out.display(),
        identity.leaf().serial
    ))?;
    Ok(Exit::Ok)
}

fn obtain(args: &IssueArgs) -> Result<Arc<Identity>, Failure> {
    let id = args.instance.clone().unwrap_or_else(|| format!("{}-{INSTANCE}", args.app));
    let node = Node { id, app: args.app.clone(), unit: args.unit.clone(), ..Node::default() };
    let options = AgentOptions {
        roots_file: Some(args.roots_file.clone()),
        token: TokenSource::File(args.token_file.clone()),
        ..AgentOptions::new(node, vec![args.control.clone()], 1)
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::new(format!("no runtime: {e}")))?;
    runtime.block_on(async {
        let agent = Agent::spawn(options);
        agent.begun(PATIENCE).await;
        let got = agent.identity().borrow().clone();
        got.ok_or_else(|| {
            let why = agent.status().borrow().error.clone();
            Failure::new(
                why.unwrap_or_else(|| format!("no answer from {} within {PATIENCE:?}", args.control)),
            )
        })
    })
}

fn keep(folder: &Path, identity: &Identity) -> std::io::Result<()> {
    let file = |name: &str, text: &str| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join(name))?;
        file.write_all(text.as_bytes())
    };
    file("key.pem", &identity.key().pem())?;
    file("cert.pem", &chain_pem(identity.chain()))?;
    file("roots.pem", &identity.trust().pem())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        let at = address("https://control.example.com:15012").unwrap();
        assert_eq!((at.tls, at.host.as_str(), at.port), (true, "control.example.com", 15012));
        assert_eq!(address("[::1]:1").unwrap().host, "[::1]");
        for wrong in ["", "host", ":1", "host:", "host:70000", "http://host:1"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
