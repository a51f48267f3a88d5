//! One answer of `rustls`, carried out.
use super::TlsError;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus, WriteTraffic};

/// Room a record takes beyond its content: header, explicit nonce, tag, content type, and some.
const RECORD_EXTRA: usize = 64;
/// What `rustls` puts into a record.
const FRAGMENT: usize = 16 * 1024;

#[derive(Clone, Copy)]
pub(super) enum Seal<'a> {
    Data(&'a [u8]),
    Close,
}

/// What to do after one answer of `rustls`.
pub(super) enum Next {
    /// Ask again.
    Again,
    /// There was data.
    Data,
    /// Nothing more without more bytes.
    Idle,
    /// The peer announced its end; ask again.
    PeerClosed,
}

/// Where one answer of `rustls` goes.
pub(super) struct Turn<'a, 'p> {
    pub(super) out: &'a mut Vec<u8>,
    pub(super) plain: Option<&'a mut Vec<u8>>,
    /// What is to be sealed once that can be; taken when it was.
    pub(super) seal: Option<Seal<'p>>,
}

impl Turn<'_, '_> {
    /// How many bytes in front are used up, and what to do next.
    pub(super) fn take<D>(&mut self, status: UnbufferedStatus<'_, '_, D>) -> Result<(usize, Next), TlsError> {
        let UnbufferedStatus { mut discard, state } = status;
        let next = match state? {
            ConnectionState::EncodeTlsData(mut data) => {
                append(self.out, 512, |room| data.encode(room).map_err(encode_room))?;
                Next::Again
            }
            ConnectionState::TransmitTlsData(transmit) => {
                transmit.done();
                Next::Again
            }
            ConnectionState::ReadTraffic(mut read) => {
                while let Some(record) = read.next_record() {
                    let record = record?;
                    discard += record.discard;
                    if let Some(plain) = &mut self.plain {
                        plain.extend_from_slice(record.payload);
                    }
                }
                Next::Data
            }
            ConnectionState::WriteTraffic(mut write) => {
                if let Some(seal) = self.seal {
                    self.seal(&mut write, seal)?;
                    self.seal = None;
                }
                Next::Idle
            }
            ConnectionState::PeerClosed => Next::PeerClosed,
            // Early data is never accepted; a closed session has nothing more.
            _ => Next::Idle,
        };
        Ok((discard, next))
    }

    fn seal<D>(&mut self, write: &mut WriteTraffic<'_, D>, what: Seal<'_>) -> Result<(), TlsError> {
        match what {
            Seal::Data(plain) => {
                let room = plain.len() + (plain.len() / FRAGMENT + 2) * RECORD_EXTRA;
                append(self.out, room, |room| write.encrypt(plain, room).map_err(encrypt_room))
            }
            Seal::Close => {
                append(self.out, RECORD_EXTRA, |room| write.queue_close_notify(room).map_err(encrypt_room))
            }
        }
    }
}

/// The room that was needed, or `None` if no room would do.
fn encrypt_room(e: EncryptError) -> Option<usize> {
    match e {
        EncryptError::InsufficientSize(e) => Some(e.required_size),
        EncryptError::EncryptExhausted => None,
    }
}

fn encode_room(e: EncodeError) -> Option<usize> {
    match e {
        EncodeError::InsufficientSize(e) => Some(e.required_size),
        EncodeError::AlreadyEncoded => None,
    }
}

/// Appends what `put` writes into the room it is given, with more room if it asks for it.
fn append(
    out: &mut Vec<u8>,
    room: usize,
    mut put: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> Result<(), TlsError> {
    let start = out.len();
    let mut room = room;
    loop {
        out.resize(start + room, 0);
        match put(&mut out[start..]) {
            Ok(n) => {
                out.truncate(start + n);
                return Ok(());
            }
            Err(Some(needed)) if needed > room => room = needed,
            Err(_) => {
                out.truncate(start);
                return Err(TlsError::Ended);
            }
        }
    }
}
