//! An authority for one run, and certificates of two apps in files: what TLS between sidecars is measured with.
use super::process::Bench;
use raddle_identity::{Identity, Issuer, PeerRule, PrivateKey, SpiffeId, TrustBundle, chain_pem};
use rustls::ClientConfig;
use rustls::client::Resumption;
use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const TRUST_DOMAIN: &str = "bench.local";
/// The callee's app.
pub(super) const CALLEE: &str = "echo";
/// The caller's.
pub(super) const CALLER: &str = "bench";
const DAY: Duration = Duration::from_hours(24);

/// Certificate, key and roots of an app, as files name them.
#[derive(Clone, Debug)]
pub(super) struct Files {
    /// Name of the `Certificate`, which is the app's.
    pub(super) app: &'static str,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    pub(super) roots: PathBuf,
}

impl Files {
    /// What a sidecar's `spec` says of them.
    pub(super) fn identity(&self) -> String {
        format!("identity: {{certificate: {}, rootsFile: \"{}\"}}", self.app, self.roots.display())
    }

    /// The document it names.
    pub(super) fn document(&self) -> String {
        format!(
            "---\napiVersion: raddle.io/v1\nkind: Certificate\nmetadata: {{name: {}}}\nspec: {{certificate: \"{}\", key: \"{}\"}}\n",
            self.app,
            self.certificate.display(),
            self.key.display()
        )
    }
}

/// Both apps, and the caller as this process plays it.
pub(super) struct Pki {
    pub(super) caller: Files,
    pub(super) callee: Files,
    identity: Identity,
}

impl Pki {
    /// Makes an authority, and certificates into the scratch directory.
    pub(super) fn make(bench: &Bench) -> io::Result<Pki> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() as i64;
        let issuer = Issuer::generate(TRUST_DOMAIN, 30 * DAY, now).map_err(other)?;
        let roots = bench.write("roots.pem", &chain_pem(issuer.roots()))?;
        let sign = |app: &'static str| -> io::Result<(Files, Identity)> {
            let id = SpiffeId::app(TRUST_DOMAIN, "", app).map_err(other)?;
            let key = PrivateKey::generate().map_err(other)?;
            let request = key.request().map_err(other)?;
            let signed = issuer.sign_request(&request, &id, DAY, now).map_err(other)?;
            let files = Files {
                app,
                certificate: bench.write(&format!("{app}.pem"), &chain_pem(&signed.chain))?,
                key: bench.write(&format!("{app}.key"), &key.pem())?,
                roots: roots.clone(),
            };
            let trust =
                TrustBundle::from_pem(TRUST_DOMAIN, chain_pem(issuer.roots()).as_bytes()).map_err(other)?;
            let identity = Identity::new(signed.chain, Arc::new(key), Arc::new(trust), now).map_err(other)?;
            Ok((files, identity))
        };
        let (callee, _) = sign(CALLEE)?;
        let (caller, identity) = sign(CALLER)?;
        Ok(Pki { caller, callee, identity })
    }

    /// What this process connects to the callee with. Nothing is resumed: every handshake is a whole one.
    pub(super) fn client(&self) -> io::Result<Arc<ClientConfig>> {
        let rule = PeerRule::App { app: CALLEE.into(), unit: None };
        let mut config = self.identity.client_config(rule).map_err(other)?;
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

fn other(error: impl Display) -> io::Error {
    io::Error::other(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_made_and_good_for_a_client() {
        let dir = tempfile::tempdir().unwrap();
        let bench = Bench { dir: dir.path().to_owned(), stop: Arc::default(), proxy_cpu: None };
        let pki = Pki::make(&bench).unwrap();
        assert!(pki.client().is_ok());
        assert!(pki.callee.certificate.is_file() && pki.caller.key.is_file());
    }
}
