//! A caller without a sidecar: one request, in plaintext, straight to an instance.
use super::Call;
use super::link::header;
use raddle_bench::bolt::{Head, Kind};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::demo) enum Answered {
    /// Its own reply.
    Well,
    /// The sidecar's: reject flag, and the rule.
    Refused(String, String),
}

/// Sends a request and waits for its reply.
///
/// # Errors
/// The connection ended, or it is not Bolt that came back.
pub(in crate::demo) fn ask(to: SocketAddr, call: Call<'_>) -> io::Result<Answered> {
    let mut request = Vec::new();
    call.template()?.write(&mut request, 1, 1);
    let mut tcp = TcpStream::connect_timeout(&to, PATIENCE)?;
    tcp.set_read_timeout(Some(PATIENCE))?;
    tcp.write_all(&request)?;
    let mut got = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let n = tcp.read(&mut chunk)?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        got.extend_from_slice(&chunk[..n]);
        let head = Head::parse(&got).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
        let Some(head) = head else { continue };
        let Some(frame) = got.get(..head.total()) else { continue };
        if head.kind != Kind::Response || head.command == 0 {
            got.drain(..head.total());
            continue;
        }
        let text = |name: &[u8]| header(&head, frame, name).map(|v| String::from_utf8_lossy(v).into_owned());
        return Ok(match text(b"raddle-reason") {
            Some(flag) => Answered::Refused(flag, text(b"raddle-rule").unwrap_or_default()),
            None => Answered::Well,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use raddle_bench::{ServeOptions, Server};
    use std::sync::atomic::{AtomicBool, Ordering};

    #[test]
    fn a_plaintext_request_is_answered_by_a_server() {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::bind(ServeOptions { listen, ..ServeOptions::default() }).unwrap();
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| server.run(&stop).unwrap());
            let call = Call { service: "any:1.0", method: "pay", headers: &[] };
            let answered = ask(server.local_addr().unwrap(), call);
            stop.store(true, Ordering::Relaxed);
            assert_eq!(answered.unwrap(), Answered::Well);
        });
    }
}
