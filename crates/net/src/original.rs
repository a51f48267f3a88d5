//! Captured connections: where they were going, and how ours are told from the application's.
//!
//! The kernel hands a connection of the application to a listener of the sidecar, by REDIRECT (the
//! destination is rewritten, and asked for with `SO_ORIGINAL_DST`) or by TPROXY (it is not rewritten: the
//! accepted socket's own address is the destination). The rules that do so are built by [`crate::capture`].
//!
//! What the sidecar itself opens must not be captured: that would be a loop. Three things keep it apart: the
//! owner of the socket, which the rules know; a mark on the socket, where the sidecar may set one; and
//! [`Opened`], which knows the sidecar's own connections when they come back in spite of both.
use crate::socket;
use rustix::net::sockopt;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The firewall mark of connections that a sidecar opens. Rules let it pass, whoever owns the socket.
pub const OWN_MARK: u32 = 0x5d3;

/// How connections come to a listener that captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Their destination was rewritten to the listener's.
    Redirect,
    /// They keep their destination; the listener is transparent.
    Tproxy,
}

impl Mode {
    /// As the command line and the configuration name it.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Redirect => "redirect",
            Mode::Tproxy => "tproxy",
        }
    }
}

/// Where a connection was going before REDIRECT, whatever family it is of. None if it was not redirected,
/// or the kernel does not say.
pub fn original_dst(fd: impl AsFd) -> Option<SocketAddr> {
    let local = socket::local_addr(&fd)?;
    let to = match local {
        SocketAddr::V4(_) => sockopt::ip_original_dst(&fd).ok().map(SocketAddr::V4),
        SocketAddr::V6(_) => sockopt::ipv6_original_dst(&fd).ok().map(SocketAddr::V6),
    }?;
    // A connection that is tracked but was not redirected says its own address.
    (!same(to, local)).then_some(to)
}

/// Where a connection that a listener of this mode took was going; None if it was going to the listener.
///
/// `listener` is the address the listener is bound to: a connection to its port, at any address of this
/// machine, came by itself and was not captured.
pub fn destination(fd: impl AsFd, mode: Mode, listener: SocketAddr) -> Option<SocketAddr> {
    let to = match mode {
        Mode::Redirect => original_dst(fd)?,
        Mode::Tproxy => socket::local_addr(fd)?,
    };
    let to = SocketAddr::new(to.ip(), to.port());
    let to_listener = to.port() == listener.port()
        && (to.ip() == listener.ip() || (listener.ip().is_unspecified() && is_local(to.ip())));
    (!to_listener).then_some(to)
}

/// Whether an address is one of this machine's: nothing else can be bound to.
pub fn is_local(ip: IpAddr) -> bool {
    if ip.is_loopback() || ip.is_unspecified() {
        return true;
    }
    let addr = SocketAddr::new(ip, 0);
    // UDP: no port of TCP is touched, and nothing is sent.
    Socket::new(Domain::for_address(addr), Type::DGRAM.cloexec(), Some(Protocol::UDP))
        .and_then(|s| s.bind(&SockAddr::from(addr)))
        .is_ok()
}

/// Has a listener take connections to any address, as TPROXY delivers them. Those it accepts are so too.
///
/// # Errors
/// `PermissionDenied` without the capability `CAP_NET_ADMIN` (or `CAP_NET_RAW`).
pub fn make_transparent(listener: impl AsFd) -> io::Result<()> {
    let s = SockRef::from(&listener);
    match s.domain()? {
        Domain::IPV6 => s.set_ip_transparent_v6(true),
        _ => s.set_ip_transparent_v4(true),
    }
}

/// Sets the firewall mark of a socket's packets.
///
/// # Errors
/// `PermissionDenied` without `CAP_NET_ADMIN` (or `CAP_NET_RAW`).
pub fn set_mark(fd: impl AsFd, mark: u32) -> io::Result<()> {
    SockRef::from(&fd).set_mark(mark)
}

/// The connections this process has opened, known by their own address: one that is captured shows it as its
/// peer's. It makes loops impossible even where owner and mark do not tell them from the application's.
///
/// A lock, because any worker may take what another has opened; it is held when a connection is opened,
/// accepted and closed, never for a request.
#[derive(Debug, Default)]
pub struct Opened {
    ours: Mutex<Ours>,
    /// Nothing was ever opened: nobody needs to look.
    used: AtomicBool,
}

/// When each was opened, and to where.
#[derive(Debug, Default)]
struct Ours {
    at: HashMap<(IpAddr, u16), (Instant, SocketAddr)>,
    /// With so many, those that are too old are looked for.
    look_at: usize,
}

/// A captured connection is accepted within moments; one that is older is not it, but another of the
/// application's with the same port.
const FRESH: Duration = Duration::from_secs(10);
/// Entries kept without a look at their age.
const FEW: usize = 64;

impl Opened {
    /// As [`socket::connect`], with the mark of a sidecar's own where that is allowed, and remembered for
    /// some seconds, or until [`Opened::closed`].
    ///
    /// # Errors
    /// As [`socket::connect`].
    pub fn connect(&self, addr: SocketAddr, dead_peer: Duration) -> io::Result<OwnedFd> {
        // Held over the call: it may be accepted by another thread before the call is back here.
        let mut ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner);
        let fd = socket::connect_with(addr, dead_peer, |s| {
            // Without the capability the socket's owner tells it apart.
            let _ = s.set_mark(OWN_MARK);
            Ok(())
        })?;
        self.used.store(true, Ordering::Release);
        if let Some(local) = socket::local_addr(&fd) {
            let now = Instant::now();
            ours.at.insert((local.ip(), local.port()), (now, addr));
            if ours.at.len() > ours.look_at.max(FEW) {
                ours.at.retain(|_, (at, _)| now.duration_since(*at) < FRESH);
                ours.look_at = ours.at.len() * 2;
            }
        }
        Ok(fd)
    }

    /// Whether `peer` is the near end of a connection this process has opened to `to`. The application may use
    /// the same port at the same time for a connection to elsewhere.
    pub fn has(&self, peer: SocketAddr, to: SocketAddr) -> bool {
        let ours = self.ours.lock().unwrap_or_else(PoisonError::into_inner);
        let canonical = |a: SocketAddr| (a.ip().to_canonical(), a.port());
        ours.at
            .get(&(peer.ip(), peer.port()))
            .is_some_and(|(at, opened)| at.elapsed() < FRESH && canonical(*opened) == canonical(to))
    }

    /// A connection is about to be closed: its port may be the application's next.
    pub fn closed(&self, fd: impl AsFd) {
        if !self.used.load(Ordering::Acquire) {
            return;
        }
        if let Some(local) = socket::local_addr(fd) {
            self.ours.lock().unwrap_or_else(PoisonError::into_inner).at.remove(&(local.ip(), local.port()));
        }
    }
}

/// The same address and port; scopes and flows of IPv6 say nothing here.
fn same(a: SocketAddr, b: SocketAddr) -> bool {
    a.ip() == b.ip() && a.port() == b.port()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn pair(addr: &str) -> (TcpListener, TcpStream) {
        let listener = TcpListener::bind(addr).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (served, _) = listener.accept().unwrap();
        (listener, served)
    }

    #[test]
    fn a_connection_that_nobody_captured_has_no_destination_of_its_own() {
        let (listener, served) = pair("127.0.0.1:0");
        let at = listener.local_addr().unwrap();
        assert_eq!(original_dst(&served), None);
        assert_eq!(destination(&served, Mode::Redirect, at), None);
        assert_eq!(destination(&served, Mode::Tproxy, at), None);
        // As when the listener is bound to all addresses.
        let any = SocketAddr::new([0, 0, 0, 0].into(), at.port());
        assert_eq!(destination(&served, Mode::Tproxy, any), None);
    }

    #[test]
    fn what_came_transparently_was_going_to_the_accepted_socket_s_address() {
        let (_listener, served) = pair("127.0.0.1:0");
        let elsewhere = "0.0.0.0:1".parse().unwrap();
        assert_eq!(destination(&served, Mode::Tproxy, elsewhere), Some(served.local_addr().unwrap()));
    }

    #[test]
    fn this_machine_s_addresses_are_known_from_others() {
        assert!(is_local("127.0.0.1".parse().unwrap()) && is_local("::".parse().unwrap()));
        // Documentation addresses (RFC 5737) are nobody's.
        assert!(!is_local("192.0.2.1".parse().unwrap()));
    }

    #[test]
    fn a_connection_of_our_own_is_known_until_it_is_closed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let opened = Opened::default();
        let fd = opened.connect(listener.local_addr().unwrap(), Duration::from_secs(1)).unwrap();
        let (_served, peer) = listener.accept().unwrap();
        let to = listener.local_addr().unwrap();
        assert!(opened.has(peer, to));
        // The application may go elsewhere from the same port at the same time.
        assert!(!opened.has(peer, "127.0.0.1:1".parse().unwrap()));
        opened.closed(&fd);
        assert!(!opened.has(peer, to));
        let stranger = TcpStream::connect(to).unwrap();
        assert!(!opened.has(stranger.local_addr().unwrap(), to));
    }
}
