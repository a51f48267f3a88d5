//! How the control plane is trusted over TLS.
use raddle_model::ControlPlane;
use raddle_xds::client::TlsSource;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use std::path::Path;
use std::sync::Arc;

/// HTTP/2, which gRPC needs.
const ALPN: &[u8] = b"h2";

/// TLS by the roots in the configured file, read anew for every connection.
pub(crate) fn source(control: &ControlPlane) -> TlsSource {
    let file = control.roots_file.clone();
    Arc::new(move || match config(file.as_deref()?) {
        Ok(config) => Some(Arc::new(config)),
        Err(e) => {
            tracing::error!("controlPlane.rootsFile: {e}");
            None
        }
    })
}

/// # Errors
/// The file cannot be read or holds no certificate, as a sentence.
fn config(file: &Path) -> Result<ClientConfig, String> {
    let say = |e: &dyn std::fmt::Display| format!("{}: {e}", file.display());
    let mut roots = RootCertStore::empty();
    for cert in CertificateDer::pem_file_iter(file).map_err(|e| say(&e))? {
        roots.add(cert.map_err(|e| say(&e))?).map_err(|e| say(&e))?;
    }
    if roots.is_empty() {
        return Err(say(&"no certificate is in it"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| say(&e))?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}
