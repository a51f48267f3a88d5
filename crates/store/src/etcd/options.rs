//! How etcd is reached.
use crate::types::StoreError;
use std::fmt;
use std::time::Duration;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};

/// How long connecting to a member may take.
const CONNECT: Duration = Duration::from_millis(1500);
/// etcd takes pings no closer than 5 s, and none on an idle connection.
const PING_EVERY: Duration = Duration::from_secs(6);
const PING_ANSWER: Duration = Duration::from_secs(3);

/// How etcd is reached.
#[derive(Clone)]
pub struct EtcdOptions {
    /// Its members: `http://HOST:PORT`, or `https://HOST:PORT`; without a scheme by whether there is `tls`.
    pub endpoints: Vec<String>,
    /// Put before all keys, so that others can use the same etcd; empty or ending in `/`.
    pub prefix: String,
    /// Certificates, for `https`.
    pub tls: Option<EtcdTls>,
    /// Name and password, if its authentication is on.
    pub user: Option<(String, String)>,
}

/// Certificates for a connection to etcd, all PEM.
#[derive(Clone)]
pub struct EtcdTls {
    /// Who may have signed its certificate.
    pub authority: Vec<u8>,
    /// Our certificate chain and its key, if it asks for one.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
    /// The name in its certificate, if it is not the one in the endpoint.
    pub server_name: Option<String>,
}

impl EtcdOptions {
    /// Members without TLS and user.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> EtcdOptions {
        let endpoints = endpoints.into_iter().map(Into::into).collect();
        EtcdOptions { endpoints, prefix: String::new(), tls: None, user: None }
    }

    /// The members as they are connected to.
    pub(super) fn members(&self) -> Result<Vec<Endpoint>, StoreError> {
        if self.endpoints.is_empty() {
            return Err(StoreError::Invalid("etcd: no endpoint is given".into()));
        }
        if !self.prefix.is_empty() && !self.prefix.ends_with('/') {
            return Err(StoreError::Invalid(format!(
                "etcd: the prefix {:?} does not end with a slash",
                self.prefix
            )));
        }
        self.endpoints.iter().map(|e| self.member(e)).collect()
    }

    fn member(&self, endpoint: &str) -> Result<Endpoint, StoreError> {
        let wrong =
            |why: &dyn fmt::Display| StoreError::Invalid(format!("etcd endpoint {endpoint:?}: {why}"));
        let url = match endpoint.split_once("://") {
            Some(_) => endpoint.to_owned(),
            None if self.tls.is_some() => format!("https://{endpoint}"),
            None => format!("http://{endpoint}"),
        };
        let member = Endpoint::from_shared(url).map_err(|e| wrong(&e))?;
        let uri = member.uri();
        if uri.host().is_none() || uri.port().is_none() {
            return Err(wrong(&"give scheme, host and port, as in http://10.0.0.1:2379"));
        }
        let member = match (uri.scheme_str(), &self.tls) {
            (Some("http"), _) => member,
            (Some("https"), Some(tls)) => member.tls_config(tls.config()).map_err(|e| wrong(&e))?,
            (Some("https"), None) => {
                return Err(wrong(&"https needs the authority that signed its certificate"));
            }
            _ => return Err(wrong(&"the scheme must be http or https")),
        };
        let member = member.connect_timeout(CONNECT).tcp_nodelay(true).keep_alive_while_idle(false);
        Ok(member.http2_keep_alive_interval(PING_EVERY).keep_alive_timeout(PING_ANSWER))
    }
}

impl EtcdTls {
    fn config(&self) -> ClientTlsConfig {
        let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.authority));
        if let Some((certificate, key)) = &self.identity {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        if let Some(name) = &self.server_name {
            config = config.domain_name(name);
        }
        config
    }
}

impl fmt::Debug for EtcdOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdOptions")
            .field("endpoints", &self.endpoints)
            .field("prefix", &self.prefix)
            .field("tls", &self.tls)
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdTls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}
