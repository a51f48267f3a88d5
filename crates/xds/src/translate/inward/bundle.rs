//! SDS: roots of trust. Keys are refused: a sidecar makes its own and asks for signatures.
use super::Faults;
use envoy_types::pb::envoy::config::core::v3::data_source::Specifier;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::{Secret, secret};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Most roots of a bundle.
const MOST: usize = 1024;

pub(super) fn read(secret: Secret, faults: &mut Faults) -> Option<Vec<Vec<u8>>> {
    let Some(secret::Type::ValidationContext(context)) = secret.r#type else {
        faults.add("type", "is not supported; only a validation_context is taken, never a key");
        return None;
    };
    let pem = match context.trusted_ca.and_then(|source| source.specifier) {
        Some(Specifier::InlineBytes(bytes)) => bytes,
        Some(Specifier::InlineString(text)) => text.into_bytes(),
        _ => {
            faults.add("validation_context.trusted_ca", "is not inline; give inline_bytes");
            return None;
        }
    };
    let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).take(MOST + 1).collect();
    match roots {
        Ok(roots) if roots.is_empty() => faults.add("validation_context.trusted_ca", "holds no certificate"),
        Ok(roots) if roots.len() > MOST => {
            faults.add("validation_context.trusted_ca", format_args!("holds over {MOST} certificates"));
        }
        Ok(roots) => return Some(roots.into_iter().map(|der| der.as_ref().to_vec()).collect()),
        Err(e) => faults.add("validation_context.trusted_ca", format_args!("is no PEM: {e:?}")),
    }
    None
}
