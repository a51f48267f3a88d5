//! Addresses nobody listens on.
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Ports below the range that the kernel takes outgoing ports from, so that no connection of a test running
/// beside this one can have taken it meanwhile.
const FIRST: u32 = 14_000;
const COUNT: u32 = 18_000;

/// An address to listen on, different from every other one this process was given.
pub fn free_addr() -> SocketAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Processes start apart, so that test binaries may run side by side.
    let start = std::process::id().wrapping_mul(977);
    loop {
        let n = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, (FIRST + n) as u16));
        if TcpListener::bind(addr).is_ok() {
            return addr;
        }
    }
}

/// An address that refuses connections.
pub fn refused_addr() -> SocketAddr {
    free_addr()
}
