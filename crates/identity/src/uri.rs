//! The one URI of a certificate.
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

/// The URI of a certificate that has exactly one and is no authority's (X509-SVID, sections 2 and 4).
pub(crate) fn one_uri(der: &[u8]) -> Option<String> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    if !rest.is_empty() {
        return None;
    }
    uri_of(&certificate)
}

pub(crate) fn uri_of(certificate: &X509Certificate<'_>) -> Option<String> {
    if certificate.is_ca() {
        return None;
    }
    let mut uris = Vec::new();
    for extension in certificate.extensions() {
        if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
            uris.extend(names.general_names.iter().filter_map(|n| match n {
                GeneralName::URI(uri) => Some(*uri),
                _ => None,
            }));
        }
    }
    match uris[..] {
        [uri] => Some(uri.to_owned()),
        _ => None,
    }
}
