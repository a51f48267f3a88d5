//! Relays between sidecars that look at what passes, as somebody on the network could.
use super::wire::Wire;
use crate::exit::Failure;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

const CHUNK: usize = 16 << 10;

/// One relay: what connects to it is connected to an instance.
pub(super) struct Tap {
    stop: Arc<AtomicBool>,
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Tap {
    /// Listens at `address` for connections to `to`.
    ///
    /// # Errors
    /// The address is taken.
    pub(super) fn start(address: SocketAddr, to: SocketAddr, wire: Arc<Wire>) -> Result<Tap, Failure> {
        let failed = |e: std::io::Error| Failure::new(format!("the relay at {address}: {e}"));
        let listener = TcpListener::bind(address).map_err(failed)?;
        let stop = Arc::new(AtomicBool::new(false));
        let ended = stop.clone();
        let run = move || {
            for caller in listener.incoming().map_while(Result::ok) {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                relay(caller, to, &wire);
            }
        };
        let thread = Builder::new().name("tap".into()).spawn(run).map_err(failed)?;
        Ok(Tap { stop, address, thread: Some(thread) })
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread up; if nothing listens any more, it has ended already.
        drop(TcpStream::connect_timeout(&self.address, Duration::from_millis(200)));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Passes everything on in both directions until either end closes; whoever cannot be reached is not relayed to.
fn relay(caller: TcpStream, to: SocketAddr, wire: &Arc<Wire>) {
    let Ok(callee) = TcpStream::connect_timeout(&to, Duration::from_secs(1)) else { return };
    let _ = (caller.set_nodelay(true), callee.set_nodelay(true));
    let (Ok(from_caller), Ok(from_callee)) = (caller.try_clone(), callee.try_clone()) else { return };
    let sight = Arc::new(wire.connected());
    let seen = sight.clone();
    let forth = move || pump(from_caller, callee, |bytes| seen.forth(bytes));
    let back = move || pump(from_callee, caller, |bytes| sight.back(bytes));
    // Without a thread for each direction the connection is dropped, which its ends notice.
    let _ = Builder::new().name("tap-forth".into()).spawn(forth);
    let _ = Builder::new().name("tap-back".into()).spawn(back);
}

fn pump(mut from: TcpStream, mut to: TcpStream, look: impl Fn(&[u8])) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(n @ 1..) = from.read(&mut chunk) {
        look(&chunk[..n]);
        if to.write_all(&chunk[..n]).is_err() {
            let _ = from.shutdown(Shutdown::Read);
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[cfg(test)]
mod tests {
    use super::super::wire::MARKER;
    use super::*;
    use std::time::Instant;

    fn until(what: &str, holds: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !holds() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn what_passes_arrives_and_is_seen() {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let callee = TcpListener::bind(any).unwrap();
        let free = TcpListener::bind(any).unwrap().local_addr().unwrap();
        let wire = Arc::new(Wire::default());
        let tap = Tap::start(free, callee.local_addr().unwrap(), wire.clone()).unwrap();
        let mut caller = TcpStream::connect(free).unwrap();
        caller.write_all(format!("pay with {MARKER} now").as_bytes()).unwrap();
        caller.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        let mut accepted = callee.accept().unwrap().0;
        accepted.read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("pay with {MARKER} now"));
        assert_eq!((wire.look().readable, wire.look().plain), (1, 1));
        accepted.write_all(b"done").unwrap();
        drop(accepted);
        caller.read_to_string(&mut text).unwrap();
        assert!(text.ends_with("done"));
        until("the connection is gone", || wire.look().plain == 0);
        drop(tap);
    }
}
