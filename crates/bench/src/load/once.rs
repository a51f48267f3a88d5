//! One request over a connection that is then held open: for what idle connections cost.
use super::flight::{InFlight, Recorder};
use super::schedule::Schedule;
use super::{LoadOptions, speak, worker};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Connects, sends one request and waits for its reply, so that the connection is fully made on every hop.
///
/// # Errors
/// When it cannot connect, or the request fails.
pub(crate) fn once(opts: &LoadOptions) -> io::Result<TcpStream> {
    let mut stream = TcpStream::connect(opts.target)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(opts.timeout))?;
    // A window that nothing leaves.
    let whole =
        LoadOptions { warmup: Duration::ZERO, duration: Duration::from_secs(1), rate: None, ..opts.clone() };
    let mut rec = Recorder::new(Schedule::new(&whole, 1), worker::histogram());
    let mut flight = InFlight::new(0, 1, 0);
    let speaker = speak::speaker(opts)?;
    let mut session = speaker.session();
    let mut out = Vec::new();
    session.open(&mut out);
    session.fill(&mut out, &mut flight, &rec, 0);
    let (mut input, mut have) = (vec![0; 16 << 10], 0);
    while flight.busy() > 0 {
        stream.write_all(&out)?;
        out.clear();
        if have == input.len() {
            input.resize(2 * have, 0);
        }
        match stream.read(&mut input[have..])? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            n => have += n,
        }
        let used = session
            .take_in(&input[..have], &mut out, &mut flight, &mut rec, 0)
            .map_err(|_| io::Error::new(ErrorKind::InvalidData, "the peer speaks another protocol"))?;
        input.copy_within(used..have, 0);
        have -= used;
    }
    stream.write_all(&out)?;
    match rec.failures.kinds().first() {
        Some((kind, _)) => Err(io::Error::other(format!("the request failed: {kind}"))),
        None => Ok(stream),
    }
}
