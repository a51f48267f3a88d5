//! A non-blocking socket with the bytes that did not fit: shared by server and generator.
//!
//! A read fills the loop's own buffer, not one of the connection: an idle connection holds no memory.
use crate::poll::Interest;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

/// Bytes asked for in one read.
pub(crate) const READ: usize = 256 << 10;
/// Unsent bytes from which on nothing more is read or made.
pub(crate) const HIGH_WATER: usize = 1 << 20;

/// A socket, what of its last frame has come, and what is not sent yet.
pub(crate) struct Stream {
    pub(crate) tcp: TcpStream,
    /// What epoll watches it for now.
    pub(crate) watched: Interest,
    partial: Vec<u8>,
    unsent: Vec<u8>,
}

impl Stream {
    /// Takes over a non-blocking socket.
    pub(crate) fn new(tcp: TcpStream, watched: Interest) -> Stream {
        Stream { tcp, watched, partial: Vec::new(), unsent: Vec::new() }
    }

    /// What it should be watched for.
    pub(crate) fn interest(&self) -> Interest {
        match self.unsent.len() {
            0 => Interest::Read,
            n if n < HIGH_WATER => Interest::Both,
            _ => Interest::Write,
        }
    }

    /// Whether so much is unsent that no more should be made.
    pub(crate) fn is_full(&self) -> bool {
        self.unsent.len() >= HIGH_WATER
    }

    /// Whether everything is sent.
    pub(crate) fn is_flushed(&self) -> bool {
        self.unsent.is_empty()
    }

    /// Reads once, behind what of a frame came before. Returns how much of `input` is filled, 0 if there
    /// was nothing to read.
    ///
    /// Give back with [`Stream::keep`] what was not used. The end of the stream is an error.
    pub(crate) fn read(&mut self, input: &mut Vec<u8>) -> io::Result<usize> {
        let have = self.partial.len();
        // Asking for as much again as there is keeps the copying of a huge frame linear.
        let end = have + READ.max(have);
        if input.len() < end {
            input.resize(end, 0);
        }
        let n = match self.tcp.read(&mut input[have..end]) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(n) => n,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(0),
            Err(e) => return Err(e),
        };
        input[..have].copy_from_slice(&self.partial);
        Ok(have + n)
    }

    /// Keeps the start of a frame for the next read.
    pub(crate) fn keep(&mut self, rest: &[u8]) {
        if rest.is_empty() {
            self.partial = Vec::new();
        } else {
            self.partial.clear();
            self.partial.extend_from_slice(rest);
        }
    }

    /// Writes `bytes` behind whatever is still unsent.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            return Ok(());
        }
        let n = write_some(&self.tcp, bytes)?;
        self.unsent.extend_from_slice(&bytes[n..]);
        Ok(())
    }

    /// Writes what is unsent.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let n = write_some(&self.tcp, &self.unsent)?;
        self.unsent.drain(..n);
        if self.unsent.is_empty() {
            self.unsent = Vec::new();
        }
        Ok(())
    }
}

/// Writes until done or the socket is full; returns how much went out.
fn write_some(mut tcp: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match tcp.write(&bytes[sent..]) {
            Ok(n) => sent += n,
            Err(e) if e.kind() == ErrorKind::WouldBlock => break,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(sent)
}
