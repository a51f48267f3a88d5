//! The roots in force, for discovery and in a file: whoever comes first needs them before they can ask.
use raddle_identity::TrustBundle;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// The roots as discovery wants them; kept in a file too, if one is given.
pub(super) fn follow(
    mut trust: watch::Receiver<Arc<TrustBundle>>,
    file: Option<PathBuf>,
) -> watch::Receiver<Arc<Vec<Vec<u8>>>> {
    let der = |bundle: &TrustBundle| Arc::new(bundle.roots().iter().map(|r| r.to_vec()).collect());
    let now = trust.borrow_and_update().clone();
    let (tell, told) = watch::channel(der(&now));
    keep(file.as_deref(), &now);
    tokio::spawn(async move {
        while trust.changed().await.is_ok() {
            let now = trust.borrow_and_update().clone();
            tell.send_replace(der(&now));
            keep(file.as_deref(), &now);
        }
    });
    told
}

/// Replaces the file as a whole. It is small and rarely written; without it the control plane works as well.
fn keep(file: Option<&Path>, bundle: &TrustBundle) {
    let Some(file) = file else { return };
    if let Err(e) = write(file, &bundle.pem()) {
        tracing::warn!("the authority's roots are not written to {}: {e}", file.display());
    }
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    let draft = file.with_extension("pem.new");
    std::fs::write(&draft, text)?;
    std::fs::rename(&draft, file)
}
