//! The sockets, opened before anything else; and the signals.
use super::options::{Addresses, Options, StartError};
use std::net::SocketAddr;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// What is listened on.
pub(super) struct Sockets {
    pub(super) grpc: Option<TcpListener>,
    pub(super) tls: Option<TcpListener>,
    pub(super) rest: Option<TcpListener>,
}

impl Sockets {
    /// Opens what the options name.
    pub(super) async fn open(options: &Options) -> Result<(Sockets, Addresses), StartError> {
        if let Some(address) = options.grpc
            && !address.ip().is_loopback()
            && !options.insecure_listen
        {
            return Err(StartError::Plaintext("gRPC", address));
        }
        // REST has the authority's TLS off loopback, if there is one.
        if let Some(address) = options.rest
            && !address.ip().is_loopback()
            && (options.ca.is_none() || options.tls.is_none())
            && !options.insecure_listen
        {
            return Err(StartError::Plaintext("REST", address));
        }
        if let Some(address) = options.rest
            && options.no_auth
            && !address.ip().is_loopback()
        {
            let why = format!(
                "--no-auth is for REST on loopback only, and {address} is not: leave one of them out"
            );
            return Err(StartError::Option(why));
        }
        let (grpc, plain) = open("gRPC", options.grpc, "--grpc-listen").await?;
        let (tls, secure) = open("gRPC over TLS", options.tls, "--tls-listen").await?;
        let (rest, web) = open("REST", options.rest, "--rest-listen").await?;
        Ok((Sockets { grpc, tls, rest }, Addresses { grpc: plain, tls: secure, rest: web }))
    }
}

async fn open(
    what: &'static str,
    address: Option<SocketAddr>,
    flag: &'static str,
) -> Result<(Option<TcpListener>, Option<SocketAddr>), StartError> {
    let Some(address) = address else { return Ok((None, None)) };
    let failed = |e| StartError::Listen(what, address, flag, e);
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((Some(listener), Some(bound)))
}

/// Waits for SIGTERM or SIGINT.
pub(super) async fn told_to_end() {
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        // Without handlers the signals end the process by themselves.
        _ => std::future::pending().await,
    }
}
