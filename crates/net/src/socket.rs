//! TCP sockets: listen, accept, connect, read, write; all non-blocking.
use rustix::net::{RecvFlags, SendFlags, Shutdown};
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Listens on `addr`. IPv6 listeners take IPv6 only.
///
/// # Errors
/// What `bind` says; see [`who_listens`] to name the holder of a taken port.
pub fn listen(addr: SocketAddr) -> io::Result<OwnedFd> {
    let s =
        Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    s.set_reuse_address(true)?;
    if addr.is_ipv6() {
        s.set_only_v6(true)?;
    }
    s.bind(&SockAddr::from(addr))?;
    s.listen(4096)?;
    Ok(s.into())
}

/// The address a socket is bound to.
pub fn local_addr(fd: impl AsFd) -> Option<SocketAddr> {
    SockRef::from(&fd).local_addr().ok()?.as_socket()
}

/// Accepts one connection; no Nagle delay, keep-alive probes that notice a dead caller.
pub fn accept(listener: impl AsFd) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
    let flags = rustix::net::SocketFlags::NONBLOCK | rustix::net::SocketFlags::CLOEXEC;
    let (fd, peer) = rustix::net::acceptfrom_with(listener, flags)?;
    let s = SockRef::from(&fd);
    // Both are refinements: a connection without them still works.
    let _ = s.set_tcp_nodelay(true);
    let _ = s.set_tcp_keepalive(&keepalive(Duration::from_secs(30)));
    Ok((fd, peer.and_then(|p| SocketAddr::try_from(p).ok())))
}

fn keepalive(idle: Duration) -> TcpKeepalive {
    TcpKeepalive::new().with_time(idle).with_interval(Duration::from_secs(2)).with_retries(3)
}

/// Starts to connect to `addr`. It is connected, or has failed, when the socket becomes writable
/// (see [`take_error`]). A peer that leaves bytes unacknowledged, or probes unanswered, for `dead_peer`
/// is given up by the kernel.
pub fn connect(addr: SocketAddr, dead_peer: Duration) -> io::Result<OwnedFd> {
    connect_with(addr, dead_peer, |_| Ok(()))
}

/// As [`connect`], with more set before the first packet leaves.
pub(crate) fn connect_with(
    addr: SocketAddr,
    dead_peer: Duration,
    set: impl FnOnce(&Socket) -> io::Result<()>,
) -> io::Result<OwnedFd> {
    let s =
        Socket::new(Domain::for_address(addr), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))?;
    s.set_tcp_nodelay(true)?;
    set(&s)?;
    let _ = s.set_tcp_user_timeout(Some(dead_peer));
    let _ = s.set_tcp_keepalive(&keepalive(dead_peer.max(Duration::from_secs(1))));
    match s.connect(&SockAddr::from(addr)) {
        Ok(()) => {}
        Err(e) if e.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(e) => return Err(e),
    }
    Ok(s.into())
}

/// The pending error of a socket, taken: how a connect attempt ended.
pub fn take_error(fd: impl AsFd) -> io::Result<()> {
    match rustix::net::sockopt::socket_error(fd)? {
        Ok(()) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Reads what is there; `Ok(0)` is the end of the stream.
#[inline]
pub fn recv(fd: impl AsFd, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        match rustix::net::recv(&fd, &mut *buf, RecvFlags::empty()) {
            Ok((n, _)) => return Ok(n),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Whether the peer has ended the stream or broken it, as far as is known here: one call of the kernel.
pub fn has_ended(fd: impl AsFd) -> bool {
    let mut byte = [0; 1];
    loop {
        match rustix::net::recv(&fd, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT) {
            Ok((n, _)) => return n == 0,
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return e != rustix::io::Errno::AGAIN,
        }
    }
}

/// Writes as much as the socket takes at once.
#[inline]
pub fn send(fd: impl AsFd, buf: &[u8]) -> io::Result<usize> {
    loop {
        match rustix::net::send(&fd, buf, SendFlags::NOSIGNAL) {
            Ok(n) => return Ok(n),
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return Err(e.into()),
        }
    }
}

/// Ends our side of the stream; the peer's side stays open.
pub fn shutdown_write(fd: impl AsFd) {
    // Fails only if the peer is gone already, which the next read will tell.
    let _ = rustix::net::shutdown(fd, Shutdown::Write);
}

/// Makes the close that follows a reset, so that the peer sees an error and no orderly end.
pub fn reset_on_close(fd: impl AsFd) {
    let _ = SockRef::from(&fd).set_linger(Some(Duration::ZERO));
}

/// Raises the soft limit of open files to the hard one and returns it.
pub fn raise_open_files() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// The process that listens on a TCP port of this machine, as `pid (name)`, if `/proc` tells.
pub fn who_listens(port: u16) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        std::fs::read_to_string(table).ok()?.lines().skip(1).find_map(|l| {
            let f: Vec<&str> = l.split_whitespace().collect();
            let listening = f.get(3) == Some(&"0A");
            let local = f.get(1)?.rsplit(':').next()?;
            (listening && u16::from_str_radix(local, 16) == Ok(port))
                .then(|| f.get(9).map(ToString::to_string))?
        })
    })?;
    let want = format!("socket:[{inode}]");
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let pid = entry.file_name().to_string_lossy().into_owned();
        if !pid.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        let Ok(fds) = std::fs::read_dir(entry.path().join("fd")) else { continue };
        let holds =
            fds.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|l| l.to_string_lossy() == want));
        if holds {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(format!("{pid} ({})", name.trim()));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_names_its_holder() {
        let l = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = local_addr(&l).unwrap().port();
        let who = who_listens(port).unwrap();
        assert!(who.starts_with(&std::process::id().to_string()), "{who}");
        assert_eq!(
            listen(SocketAddr::from(([127, 0, 0, 1], port))).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
    }

    #[test]
    fn an_ended_stream_is_known_before_it_is_read() {
        let l = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = std::net::TcpStream::connect(l.local_addr().unwrap()).unwrap();
        let (mut theirs, _) = l.accept().unwrap();
        assert!(!has_ended(&ours), "nothing has come");
        std::io::Write::write_all(&mut theirs, b"x").unwrap();
        // Loopback delivers before `write` returns.
        assert!(!has_ended(&ours), "bytes are there, and stay there");
        let mut byte = [0];
        assert_eq!(recv(&ours, &mut byte).unwrap(), 1);
        drop(theirs);
        assert!(has_ended(&ours));
    }

    #[test]
    fn a_refused_connect_is_told_by_take_error() {
        let l = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = local_addr(&l).unwrap();
        drop(l);
        let p = crate::Poller::new().unwrap();
        match connect(addr, Duration::from_secs(1)) {
            Err(e) => assert_eq!(e.kind(), io::ErrorKind::ConnectionRefused),
            Ok(fd) => {
                p.add(&fd, 7, crate::Interest::WRITE).unwrap();
                let mut ev = Vec::new();
                p.wait(&mut crate::EventBuf::new(8), &mut ev, Some(Duration::from_secs(5))).unwrap();
                assert!(ev[0].writable && ev[0].token == 7);
                assert_eq!(take_error(&fd).unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
            }
        }
    }
}
