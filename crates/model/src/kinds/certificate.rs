//! `kind: Certificate`.
use super::Resource;
use crate::decode::{Fields, FilePath};
use crate::resources::{Certificate, Metadata};

impl Resource for Certificate {
    const KIND: &'static str = "Certificate";

    fn spec(fields: &mut Fields<'_>) -> Option<Certificate> {
        let certificate = fields.required(
            "certificate",
            FilePath { what: "a file's path" },
            "PEM file with the certificate, followed by those that vouch for it. A relative path begins at the \
             folder of this YAML file.",
        );
        let key = fields.required(
            "key",
            FilePath { what: "a file's path" },
            "PEM file with its private key; relative as above.",
        );
        Some(Certificate { metadata: Metadata::default(), certificate: certificate?, key: key? })
    }

    fn metadata_mut(&mut self) -> &mut Metadata {
        &mut self.metadata
    }
}
