//! One connection's TLS, as bytes in and bytes out.
//!
//! A session owns no socket and, while nothing is half-way, no buffer: records are opened in the caller's read
//! buffer, and sealed into the caller's out-buffer. The order of a turn:
//!
//! 1. [`TlsSession::feed`] what was read. It appends what the peer's application said.
//! 2. [`TlsSession::take_handshake_output`]: append what TLS itself has to say to what will be written. Do so
//!    after an error too: it is the alert the peer is owed.
//! 3. [`TlsSession::seal`] what the application answers, in pieces as large as they come: each call makes
//!    records of up to 16 KiB.
mod turn;

use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, CommonState, Error, InvalidMessage, ServerConfig};
use std::fmt;
use std::sync::Arc;
use turn::{Next, Seal, Turn};

/// Type, version, length.
const HEADER: usize = 5;
/// A fatal alert in clear (RFC 8446, 6).
const DECODE_ERROR: [u8; 7] = [21, 3, 3, 0, 2, 2, 50];
/// The most that may wait for the rest of a handshake message; `rustls` has the same bound for its own buffers.
const MAX_PENDING: usize = 0xffff;

/// Why a session cannot go on. The connection has to be closed, after its alert is written.
#[derive(Debug)]
#[non_exhaustive]
pub enum TlsError {
    /// The peer's bytes are wrong, or the two could not agree.
    Tls(Error),
    /// The handshake is not over, so nothing can be sealed.
    NotReady,
    /// Nothing can be sealed any more: the session failed, or its end was announced.
    Ended,
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::Tls(e) => write!(f, "TLS: {e}"),
            TlsError::NotReady => f.write_str("TLS: the handshake is not over"),
            TlsError::Ended => f.write_str("TLS: the session has ended"),
        }
    }
}

impl std::error::Error for TlsError {}

impl From<Error> for TlsError {
    fn from(e: Error) -> TlsError {
        TlsError::Tls(e)
    }
}

/// One end of a TLS connection.
pub struct TlsSession {
    side: Side,
    /// What was read and is not used up: half a record, or records with parts of one handshake message.
    pending: Vec<u8>,
    /// How many bytes in front of `pending` are whole records that `rustls` has seen.
    seen: usize,
    /// What TLS itself has to say and nobody has taken.
    out: Vec<u8>,
    peer_closed: bool,
    /// `close_notify` was sealed.
    closed: bool,
    failed: bool,
}

// Boxed: a connection that is not TLS pays one pointer for having this.
enum Side {
    Server(Box<UnbufferedServerConnection>),
    Client(Box<UnbufferedClientConnection>),
}

impl TlsSession {
    /// The server's end of a new connection.
    ///
    /// # Errors
    /// Never for a configuration of [`crate::ServerIdentity`].
    pub fn server(config: Arc<ServerConfig>) -> Result<TlsSession, TlsError> {
        Ok(TlsSession::new(Side::Server(Box::new(UnbufferedServerConnection::new(config)?))))
    }

    /// The client's end of a new connection; its hello is there to take at once.
    ///
    /// # Errors
    /// The configuration cannot be used.
    pub fn client(config: Arc<ClientConfig>, name: ServerName<'static>) -> Result<TlsSession, TlsError> {
        let side = Side::Client(Box::new(UnbufferedClientConnection::new(config, name)?));
        let mut s = TlsSession::new(side);
        s.advance(&mut [], &mut Vec::new(), 0)?;
        Ok(s)
    }

    fn new(side: Side) -> TlsSession {
        TlsSession {
            side,
            pending: Vec::new(),
            seen: 0,
            out: Vec::new(),
            peer_closed: false,
            closed: false,
            failed: false,
        }
    }

    /// Takes bytes read from the peer, which are overwritten, and appends what they say to `plain`. Stops once
    /// `most` bytes or more were appended; one call appends less than `most` and a record of 16 KiB. Gives how
    /// many bytes were taken; the rest has to be fed again. What was taken is decrypted, or kept if a record
    /// (or a handshake message) is not whole: at most about 64 KiB.
    ///
    /// # Errors
    /// The peer broke the protocol or cannot be agreed with. There may be an alert to take and write.
    pub fn feed(&mut self, cipher: &mut [u8], plain: &mut Vec<u8>, most: usize) -> Result<usize, TlsError> {
        if self.failed {
            return Err(TlsError::Ended);
        }
        let stop = plain.len() + most;
        let mut taken = 0;
        // First what is half-way, record by record; then the rest where it lies.
        while !self.pending.is_empty() && taken < cipher.len() && plain.len() < stop {
            let more = missing(&self.pending[self.seen..], cipher.len() - taken);
            self.pending.extend_from_slice(&cipher[taken..taken + more]);
            taken += more;
            let mut buf = std::mem::take(&mut self.pending);
            let done = self.advance(&mut buf, plain, stop)?;
            self.keep(buf, done)?;
        }
        if self.peer_closed {
            // What follows a close_notify means nothing (RFC 8446, 6.1).
            self.pending = Vec::new();
            return Ok(cipher.len());
        }
        if self.pending.is_empty() && taken < cipher.len() && plain.len() < stop {
            let whole = whole_records(&cipher[taken..]);
            let done = self.advance(&mut cipher[taken..], plain, stop)?;
            if plain.len() >= stop && done < whole {
                return Ok(taken + done);
            }
            let rest = taken + done;
            self.seen = whole.saturating_sub(done);
            self.pending = cipher[rest..].to_vec();
            taken = cipher.len();
        }
        Ok(taken)
    }

    /// Keeps what of `buf` is not done; `self.seen` bytes of it were whole records before the last piece.
    fn keep(&mut self, mut buf: Vec<u8>, done: usize) -> Result<(), TlsError> {
        let whole = self.seen + whole_records(&buf[self.seen..]);
        self.seen = whole.saturating_sub(done);
        if done >= buf.len() {
            return Ok(());
        }
        if done > 0 {
            buf.drain(..done);
        }
        if self.seen > MAX_PENDING {
            self.failed = true;
            self.alert_at_least();
            return Err(Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge).into());
        }
        self.pending = buf;
        Ok(())
    }

    /// Lets `rustls` go on with `buf`; gives how many bytes of it are used up.
    fn advance(&mut self, buf: &mut [u8], plain: &mut Vec<u8>, stop: usize) -> Result<usize, TlsError> {
        let mut done = 0;
        loop {
            let mut turn = Turn { out: &mut self.out, plain: Some(plain), seal: None };
            let step = match &mut self.side {
                Side::Server(c) => turn.take(c.process_tls_records(&mut buf[done..])),
                Side::Client(c) => turn.take(c.process_tls_records(&mut buf[done..])),
            };
            match step {
                Ok((n, next)) => {
                    done += n;
                    match next {
                        Next::Again => {}
                        Next::Data if plain.len() < stop => {}
                        Next::Data | Next::Idle => return Ok(done),
                        Next::PeerClosed => self.peer_closed = true,
                    }
                }
                Err(e) => {
                    self.fail(&mut buf[done..]);
                    return Err(e);
                }
            }
        }
    }

    /// Takes over what `rustls` wants said about an error, which is an alert.
    fn fail(&mut self, buf: &mut [u8]) {
        self.failed = true;
        while self.state().wants_write() {
            let mut turn = Turn { out: &mut self.out, plain: None, seal: None };
            let step = match &mut self.side {
                Side::Server(c) => turn.take(c.process_tls_records(buf)),
                Side::Client(c) => turn.take(c.process_tls_records(buf)),
            };
            if !matches!(step, Ok((_, Next::Again))) {
                break;
            }
        }
        self.pending = Vec::new();
        self.alert_at_least();
    }

    /// For the few errors that `rustls` has no alert for. Once keys are agreed on, only it could seal one.
    fn alert_at_least(&mut self) {
        if self.out.is_empty() && self.state().protocol_version().is_none() {
            self.out.extend_from_slice(&DECODE_ERROR);
        }
    }

    /// Encrypts `plain` and appends the records to `cipher`.
    ///
    /// # Errors
    /// The handshake is not over, or the session is. Nothing was appended.
    pub fn seal(&mut self, plain: &[u8], cipher: &mut Vec<u8>) -> Result<(), TlsError> {
        if plain.is_empty() {
            return Ok(());
        }
        self.write(Seal::Data(plain), cipher)
    }

    /// Announces that nothing more will be sent, and appends that to `cipher`. Nothing can be sealed after it;
    /// the peer may still send. A second call appends nothing.
    ///
    /// # Errors
    /// The handshake is not over, or the session failed: close without it.
    pub fn close_notify(&mut self, cipher: &mut Vec<u8>) -> Result<(), TlsError> {
        if self.closed {
            return Ok(());
        }
        self.write(Seal::Close, cipher)?;
        self.closed = true;
        Ok(())
    }

    fn write(&mut self, what: Seal<'_>, cipher: &mut Vec<u8>) -> Result<(), TlsError> {
        if self.failed || self.closed {
            return Err(TlsError::Ended);
        }
        self.take_handshake_output(cipher);
        let mut plain = Vec::new();
        loop {
            let mut turn = Turn { out: cipher, plain: Some(&mut plain), seal: Some(what) };
            // Always with what is pending: rustls remembers places in it, and nothing of it is used up here.
            let step = match &mut self.side {
                Side::Server(c) => turn.take(c.process_tls_records(&mut self.pending)),
                Side::Client(c) => turn.take(c.process_tls_records(&mut self.pending)),
            };
            let sealed = turn.seal.is_none();
            match step {
                Ok((_, Next::Idle)) if sealed => return Ok(()),
                Ok((_, Next::Idle | Next::Data)) => return Err(TlsError::NotReady),
                Ok((_, Next::PeerClosed)) => self.peer_closed = true,
                Ok((_, Next::Again)) => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// Appends what TLS itself has to say: handshake messages, tickets, alerts.
    pub fn take_handshake_output(&mut self, cipher: &mut Vec<u8>) {
        if !self.out.is_empty() {
            cipher.extend_from_slice(&self.out);
            self.out = Vec::new();
        }
    }

    /// Whether the handshake is still going on.
    pub fn handshaking(&self) -> bool {
        self.state().is_handshaking()
    }

    /// The protocol the two agreed on by ALPN, if they did; known before the handshake is over.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.state().alpn_protocol()
    }

    /// Whether the peer has said that it will send nothing more. If its stream ends before, it may have been cut.
    pub fn peer_closed(&self) -> bool {
        self.peer_closed
    }

    /// Bytes kept because something is half-way, and those nobody has taken; zero while idle.
    pub fn buffered(&self) -> usize {
        self.pending.capacity() + self.out.capacity()
    }

    /// The version, suite and peer's certificates, in `rustls`' terms.
    pub fn state(&self) -> &CommonState {
        match &self.side {
            Side::Server(c) => c,
            Side::Client(c) => c,
        }
    }
}

impl fmt::Debug for TlsSession {
    /// No keys and no content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsSession")
            .field("handshaking", &self.handshaking())
            .field("alpn", &self.alpn().map(String::from_utf8_lossy))
            .field("peer_closed", &self.peer_closed)
            .finish_non_exhaustive()
    }
}

/// How many of `more` bytes complete the record that `part` begins with.
fn missing(part: &[u8], more: usize) -> usize {
    let want = match part {
        [_, _, _, hi, lo, ..] => HEADER + u16::from_be_bytes([*hi, *lo]) as usize,
        _ => HEADER,
    };
    // At least one: a record that is whole and could not be used needs the next.
    want.saturating_sub(part.len()).clamp(1, more)
}

/// The length of the whole records in front.
fn whole_records(bytes: &[u8]) -> usize {
    let mut whole = 0;
    while let Some([_, _, _, hi, lo]) = bytes.get(whole..whole + HEADER) {
        let end = whole + HEADER + u16::from_be_bytes([*hi, *lo]) as usize;
        if end > bytes.len() {
            break;
        }
        whole = end;
    }
    whole
}
