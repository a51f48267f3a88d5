//! Connections to the control plane for certificates, publishing and reporting, beside the xDS client's own.
use hyper_util::rt::TokioIo;
use raddle_model::{ControlAddress, ControlPlane};
use raddle_policy::Rng;
use raddle_xds::client::TlsSource;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint, Uri};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection on which nothing comes is asked whether it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
const FIRST: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(10);

/// Finds a replica that can be connected to, one after the other, with growing pauses of chance.
pub(crate) struct Dialer {
    addresses: Vec<ControlAddress>,
    tls: Option<TlsSource>,
    next: usize,
    failures: u32,
    rng: Rng,
}

impl Dialer {
    pub(crate) fn new(control: &ControlPlane, tls: Option<TlsSource>, seed: u64) -> Dialer {
        let mut rng = Rng::new(seed);
        let addresses = control.addresses.clone();
        let next = rng.below(addresses.len().max(1) as u32) as usize;
        Dialer { addresses, tls, next, failures: 0, rng }
    }

    /// A connection to the next replica.
    ///
    /// # Errors
    /// It cannot be had; as a sentence.
    pub(crate) async fn dial(&mut self) -> Result<Channel, String> {
        let n = self.addresses.len().max(1);
        let Some(address) = self.addresses.get(self.next % n).cloned() else {
            return Err("no address is configured".into());
        };
        self.next = (self.next + 1) % n;
        let endpoint = Endpoint::from_shared(format!("http://{}:{}", address.host, address.port))
            .map_err(|e| format!("{address}: {e}"))?
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
        let source = self.tls.clone();
        let connector = tower::service_fn(move |_: Uri| {
            let (address, tls) = (address.clone(), client_config(&address, source.as_ref()));
            async move { connect(address, tls?).await }
        });
        endpoint.connect_with_connector(connector).await.map_err(|e| sentence(&e))
    }

    /// How long to wait before the next attempt.
    pub(crate) fn pause(&mut self) -> Duration {
        let bound = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        // A quarter of it at least, so that replicas are not flooded by those with bad luck.
        bound.mul_f64(0.25 + 0.75 * self.rng.unit())
    }

    /// It worked: pauses begin small again, and the same replica is tried first.
    pub(crate) fn worked(&mut self) {
        let n = self.addresses.len().max(1);
        self.failures = 0;
        self.next = (self.next + n - 1) % n;
    }
}

/// What a connection to this address is made with; `None` = plaintext.
fn client_config(
    address: &ControlAddress,
    source: Option<&TlsSource>,
) -> io::Result<Option<Arc<ClientConfig>>> {
    if !address.tls {
        return Ok(None);
    }
    let config = source.and_then(|source| source());
    let none = || io::Error::other("there is nothing yet to check its certificate with");
    config.ok_or_else(none).map(Some)
}

/// Everything an error was caused by, in one line.
pub(crate) fn sentence(e: &dyn std::error::Error) -> String {
    let mut text = e.to_string();
    let mut cause = e.source();
    while let Some(c) = cause {
        let more = c.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = c.source();
    }
    text
}

/// A stream of bytes, of either kind.
pub(crate) trait Bytes: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin {}
impl<T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin> Bytes for T {}

/// A connection to this address, in TLS by `tls` if that is given.
pub(crate) async fn connect(
    address: ControlAddress,
    tls: Option<Arc<ClientConfig>>,
) -> io::Result<TokioIo<Box<dyn Bytes>>> {
    let host = address.host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let stream = TcpStream::connect((host.as_str(), address.port)).await?;
    stream.set_nodelay(true)?;
    let Some(config) = tls else { return Ok(TokioIo::new(Box::new(stream))) };
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await?;
    Ok(TokioIo::new(Box::new(stream)))
}
