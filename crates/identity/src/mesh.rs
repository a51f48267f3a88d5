//! TLS between members of the mesh: who is at the other end is its SPIFFE id, not the host name.
use crate::bundle::TrustBundle;
use crate::key::{KeyError, PrivateKey};
use crate::leaf::Leaf;
use crate::spiffe::SpiffeId;
use crate::uri::one_uri;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    CertificateError, CipherSuite, ClientConfig, DigitallySignedStruct, DistinguishedName, Error,
    ServerConfig, SignatureScheme,
};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Whom one expects at the other end. Its certificate must lead to the bundle's roots in any case.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum PeerRule {
    /// Any app of the bundle's trust domain, or the control plane.
    Member,
    /// An app of the bundle's trust domain, in this unit if one is named.
    App {
        /// The app.
        app: Arc<str>,
        /// The unit; `None` = any.
        unit: Option<Arc<str>>,
    },
    /// The control plane of the bundle's trust domain.
    Control,
    /// The control plane of whatever trust domain, or a server whose certificate has the name it is called by: for the
    /// first connection, made with pinned roots, before one knows one's trust domain.
    FirstContact,
    /// One of these ids, to the letter; they may be of other systems' forms (Istio's, SPIRE's).
    Ids(Arc<[Arc<str>]>),
}

impl PeerRule {
    fn allows(&self, trust_domain: &str, uri: &str) -> bool {
        if let PeerRule::Ids(ids) = self {
            return ids.iter().any(|id| **id == *uri);
        }
        let Ok(id) = uri.parse::<SpiffeId>() else { return false };
        if *self == PeerRule::FirstContact {
            return id.is_control();
        }
        if id.trust_domain() != trust_domain {
            return false;
        }
        match self {
            PeerRule::Member => true,
            PeerRule::App { app, unit } => {
                !id.is_control() && id.app_name() == &**app && unit.as_ref().is_none_or(|u| **u == *id.unit())
            }
            PeerRule::Control => id.is_control(),
            PeerRule::FirstContact | PeerRule::Ids(_) => false,
        }
    }
}

/// Says of a certificate that leads to the roots whether it is refused nonetheless.
pub type Refuses = Arc<dyn Fn(&Leaf) -> bool + Send + Sync>;

/// Whether a server needs certificates of its clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clients {
    /// Who shows none is not served.
    Required,
    /// Who shows none is anonymous; one that is shown must be good.
    Optional,
}

/// Who one is in the mesh: certificate, key, and whom one trusts.
#[derive(Clone)]
pub struct Identity {
    chain: Arc<[CertificateDer<'static>]>,
    key: Arc<PrivateKey>,
    trust: Arc<TrustBundle>,
    leaf: Leaf,
    certified: Arc<CertifiedKey>,
}

impl Identity {
    /// Puts one together, and checks that the certificate is the key's, has an id, and leads to the roots at this time
    /// (seconds since 1970).
    ///
    /// # Errors
    /// The parts do not belong together.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: Arc<PrivateKey>,
        trust: Arc<TrustBundle>,
        now: i64,
    ) -> Result<Identity, BadIdentity> {
        let leaf = chain.first().and_then(|c| Leaf::read(c)).ok_or(BadIdentity::NoId)?;
        verify_chain(&chain, &trust, now).map_err(|e| BadIdentity::Untrusted(e.to_string()))?;
        let certified = CertifiedKey::new(chain.clone(), key.signing_key()?);
        certified.keys_match().map_err(|_| BadIdentity::Mismatch)?;
        Ok(Identity { chain: chain.into(), key, trust, leaf, certified: Arc::new(certified) })
    }

    /// The same, trusting others.
    pub fn with_trust(&self, trust: Arc<TrustBundle>) -> Identity {
        Identity { trust, ..self.clone() }
    }

    /// Whether the certificates and whom it trusts are the same; then the key is, too.
    pub fn same(&self, other: &Identity) -> bool {
        self.chain == other.chain && *self.trust == *other.trust
    }

    /// The certificate, then what vouches for it, without the root.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// The key.
    pub fn key(&self) -> &Arc<PrivateKey> {
        &self.key
    }

    /// Whom it trusts.
    pub fn trust(&self) -> &Arc<TrustBundle> {
        &self.trust
    }

    /// What the certificate says.
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// Who it is.
    pub fn id(&self) -> &SpiffeId {
        &self.leaf.id
    }

    /// Until when it is valid, seconds since 1970.
    pub fn not_after(&self) -> i64 {
        self.leaf.not_after
    }

    /// What connections to a peer are made with, showing one's certificate. No ALPN: the protocol's business.
    ///
    /// # Errors
    /// rustls refuses the choices.
    pub fn client_config(&self, expected: PeerRule) -> Result<ClientConfig, Error> {
        client_config(&self.trust, expected, Some(self.certified.clone()))
    }

    /// What connections are taken with. No ALPN: the protocol's business. `refuses` is asked about every certificate
    /// that is good otherwise.
    ///
    /// # Errors
    /// rustls refuses the choices.
    pub fn server_config(
        &self,
        expected: PeerRule,
        clients: Clients,
        refuses: Option<Refuses>,
    ) -> Result<ServerConfig, Error> {
        let verifier = client_verifier(&self.trust, expected, clients, refuses)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(self.certified.clone())));
        // A resumed session asks for no certificate, so that who was denied since would still be let in; see
        // [`Tickets`](crate::Tickets).
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(config)
    }
}

impl fmt::Debug for Identity {
    /// Nothing of the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("leaf", &self.leaf)
            .field("trust", &self.trust)
            .finish_non_exhaustive()
    }
}

/// What connections to a peer are made with by who has no certificate (yet).
///
/// # Errors
/// rustls refuses the choices.
pub fn anonymous_client_config(trust: &TrustBundle, expected: PeerRule) -> Result<ClientConfig, Error> {
    client_config(trust, expected, None)
}

fn client_config(
    trust: &TrustBundle,
    expected: PeerRule,
    certified: Option<Arc<CertifiedKey>>,
) -> Result<ClientConfig, Error> {
    let provider = Arc::new(provider());
    let verifier = ServerVerifier { trust: trust.clone(), expected, provider: provider.clone() };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(match certified {
        Some(certified) => {
            let resolver: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(certified));
            config.with_client_cert_resolver(resolver)
        }
        None => config.with_no_client_auth(),
    })
}

/// What looks at callers' certificates.
pub(crate) fn client_verifier(
    trust: &TrustBundle,
    expected: PeerRule,
    clients: Clients,
    refuses: Option<Refuses>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let provider = Arc::new(provider());
    let chain = WebPkiClientVerifier::builder_with_provider(trust.store().clone(), provider)
        .build()
        .map_err(|e| Error::General(e.to_string()))?;
    let trust_domain = trust.trust_domain().into();
    Ok(Arc::new(ClientVerifier { chain, trust_domain, expected, clients, refuses }))
}

/// aws-lc-rs, with AES-128 before AES-256: both are beyond reach, and the shorter key's fewer rounds are what links spend
/// most of their time on. The client's order is the one that counts.
fn provider() -> CryptoProvider {
    let mut provider = aws_lc_rs::default_provider();
    provider.cipher_suites.sort_by_key(|s| s.suite() != CipherSuite::TLS13_AES_128_GCM_SHA256);
    provider
}

/// Verifies that a chain leads to the bundle's roots and is valid at this time (seconds since 1970).
///
/// # Errors
/// It does not.
pub fn verify_chain(chain: &[CertificateDer<'_>], trust: &TrustBundle, now: i64) -> Result<(), Error> {
    let (leaf, rest) = chain.split_first().ok_or(Error::NoCertificatesPresented)?;
    let now = UnixTime::since_unix_epoch(Duration::from_secs(now.max(0) as u64));
    let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms.all;
    let leaf = ParsedCertificate::try_from(leaf)?;
    verify_server_cert_signed_by_trust_anchor(&leaf, trust.store(), rest, now, algorithms)
}

/// Checks the id of a certificate whose chain is good.
fn check_id(certificate: &[u8], trust_domain: &str, expected: &PeerRule) -> Result<(), Error> {
    let uri = one_uri(certificate).ok_or(Error::InvalidCertificate(CertificateError::BadEncoding))?;
    match expected.allows(trust_domain, &uri) {
        true => Ok(()),
        false => Err(CertificateError::ApplicationVerificationFailure.into()),
    }
}

struct ServerVerifier {
    trust: TrustBundle,
    expected: PeerRule,
    provider: Arc<CryptoProvider>,
}

impl fmt::Debug for ServerVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServerVerifier({:?} of {:?})", self.expected, self.trust)
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        let leaf = ParsedCertificate::try_from(end_entity)?;
        verify_server_cert_signed_by_trust_anchor(&leaf, self.trust.store(), intermediates, now, algorithms)?;
        let first = self.expected == PeerRule::FirstContact;
        if !(first && verify_server_name(&leaf, server_name).is_ok()) {
            check_id(end_entity, self.trust.trust_domain(), &self.expected)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

struct ClientVerifier {
    chain: Arc<dyn ClientCertVerifier>,
    trust_domain: Arc<str>,
    expected: PeerRule,
    clients: Clients,
    refuses: Option<Refuses>,
}

impl fmt::Debug for ClientVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientVerifier({:?} of {}, {:?})", self.expected, self.trust_domain, self.clients)
    }
}

impl ClientCertVerifier for ClientVerifier {
    fn client_auth_mandatory(&self) -> bool {
        self.clients == Clients::Required
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(end_entity, intermediates, now)?;
        check_id(end_entity, &self.trust_domain, &self.expected)?;
        if let Some(refuses) = &self.refuses
            && Leaf::read(end_entity).is_some_and(|leaf| refuses(&leaf))
        {
            return Err(CertificateError::Revoked.into());
        }
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Why parts are no identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BadIdentity {
    /// The certificate cannot be read, or has not exactly one SPIFFE id.
    NoId,
    /// It does not lead to the roots, or is not valid now.
    Untrusted(String),
    /// The certificate is not the key's.
    Mismatch,
    /// The key cannot be used.
    Key,
}

impl From<KeyError> for BadIdentity {
    fn from(_: KeyError) -> BadIdentity {
        BadIdentity::Key
    }
}

impl fmt::Display for BadIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadIdentity::NoId => f.write_str("the certificate has not exactly one SPIFFE id"),
            BadIdentity::Untrusted(why) => write!(f, "the certificate does not lead to the roots: {why}"),
            BadIdentity::Mismatch => f.write_str("the certificate is not the key's"),
            BadIdentity::Key => KeyError.fmt(f),
        }
    }
}

impl std::error::Error for BadIdentity {}
