//! Frames of the protocols that share connections: what the way of a request and of its reply needs of each,
//! under one name. A `match` for each question and nothing else: the codecs are in crate `wire`.
use crate::caller::CAPABILITIES;
use crate::lane::Lane;
use crate::pending::HEARTBEAT_ID;
use raddle_core::Reason;
use raddle_model::RetryOn;
use raddle_telemetry::Malformed as Label;
use raddle_wire::bolt::{self, Limits};
use raddle_wire::dubbo::{self, ResponseKind};
use std::fmt;

/// Milliseconds a heartbeat says it waits; nobody looks.
const HEARTBEAT_TIMEOUT_MS: i32 = 3000;

/// Dubbo's status of a service that failed, where an exception travels as a result.
const DUBBO_SERVICE_ERROR: u16 = 70;

/// The head of a frame.
#[derive(Clone, Copy, Debug)]
pub enum Head {
    /// SOFARPC's Bolt.
    Bolt(bolt::Head),
    /// Dubbo 2.
    Dubbo(dubbo::Head),
}

/// What a frame is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A call, with a reply wanted or without.
    Request,
    /// The reply to a call.
    Reply,
    /// A heartbeat that wants an answer.
    Ping,
    /// The answer to a heartbeat.
    Pong,
    /// Its sender takes no more requests on this connection.
    GoAway,
    /// Nothing that anybody knows.
    Other,
}

/// Bytes that are no frame.
#[derive(Clone, Copy, Debug)]
pub enum Malformed {
    /// Not Bolt.
    Bolt(bolt::Malformed),
    /// Not Dubbo 2.
    Dubbo(dubbo::Malformed),
}

impl Head {
    /// The head of the frame that `bytes` begin with; `None` if more of it has to come.
    ///
    /// # Errors
    /// The bytes are none of this lane's; the connection cannot be read on.
    #[inline]
    pub fn parse(lane: Lane, bytes: &[u8], limits: Limits) -> Result<Option<Head>, Malformed> {
        match lane {
            Lane::Dubbo => match dubbo::Head::parse(bytes, &limits) {
                Ok(dubbo::Parsed::Head(h)) => Ok(Some(Head::Dubbo(h))),
                Ok(dubbo::Parsed::Incomplete) => Ok(None),
                Err(e) => Err(Malformed::Dubbo(e)),
            },
            // The other lanes are not framed, and never come here.
            Lane::Bolt(_) | Lane::Http1 | Lane::Http2 => match bolt::Head::parse(bytes, &limits) {
                Ok(bolt::Parsed::Head(h)) => Ok(Some(Head::Bolt(h))),
                Ok(bolt::Parsed::Incomplete) => Ok(None),
                Err(e) => Err(Malformed::Bolt(e)),
            },
        }
    }

    /// What a connection that carries this frame carries.
    #[inline]
    pub const fn lane(&self) -> Lane {
        match self {
            Head::Bolt(h) => Lane::Bolt(h.variant),
            Head::Dubbo(_) => Lane::Dubbo,
        }
    }

    /// What the frame is for. `frame` is all of it, or its beginning if it is large.
    #[inline]
    pub fn what(&self, frame: &[u8]) -> What {
        use bolt::{Command, Kind};
        match self {
            Head::Bolt(h) => match (h.command, h.kind) {
                (Command::Request, Kind::Request | Kind::OneWay) => What::Request,
                (Command::Response, Kind::Response) => What::Reply,
                (Command::Heartbeat, Kind::Request) => What::Ping,
                (Command::Heartbeat, Kind::Response) => What::Pong,
                (Command::GoAway, _) => What::GoAway,
                _ => What::Other,
            },
            Head::Dubbo(h) => match (h.event, h.kind) {
                (false, dubbo::Kind::Response) => What::Reply,
                (false, _) => What::Request,
                (true, dubbo::Kind::Response) => What::Pong,
                (true, _) if dubbo::is_readonly(h, frame) => What::GoAway,
                (true, dubbo::Kind::Request) => What::Ping,
                (true, dubbo::Kind::OneWay) => What::Other,
            },
        }
    }

    /// The request's id.
    #[inline]
    pub const fn id(&self) -> u64 {
        match self {
            Head::Bolt(h) => h.id as u64,
            Head::Dubbo(h) => h.id,
        }
    }

    /// The body's serialiser, as the protocol numbers them.
    #[inline]
    pub const fn codec(&self) -> u8 {
        match self {
            Head::Bolt(h) => h.codec,
            Head::Dubbo(h) => h.serializer,
        }
    }

    /// Whether somebody waits for a reply.
    #[inline]
    pub const fn wants_reply(&self) -> bool {
        match self {
            Head::Bolt(h) => h.wants_reply(),
            Head::Dubbo(h) => h.wants_reply(),
        }
    }

    /// Bytes of the whole frame.
    #[inline]
    pub const fn frame_len(&self) -> usize {
        match self {
            Head::Bolt(h) => h.frame_len(),
            Head::Dubbo(h) => h.frame_len(),
        }
    }

    /// Bytes of a request too large to be held that must be there to route it.
    pub fn request_opening(&self) -> usize {
        match self {
            // The rest holds the checksum, whole.
            Head::Bolt(h) => (h.head_len() + bolt::PEEK_MAX).min(h.frame_len() - 4),
            Head::Dubbo(h) => (h.head_len() + dubbo::PEEK_MAX).min(h.frame_len()),
        }
    }

    /// Bytes of a reply too large to be held that must be there to tell what it says.
    pub fn reply_opening(&self) -> usize {
        match self {
            Head::Bolt(h) => h.head_len().min(h.frame_len() - 4),
            // And the beginning of the body, which tells a result from an exception.
            Head::Dubbo(h) => (h.head_len() + 16).min(h.frame_len()),
        }
    }

    /// Gives a whole frame another id, and the checksum that goes with it. The frame's own id need not be the
    /// head's: it may have been rewritten before.
    #[inline]
    pub fn write_id(&self, frame: &mut [u8], id: u64) {
        match self {
            Head::Bolt(h) if h.variant.crc() => write_bolt_id(h, frame, id as u32),
            Head::Bolt(h) => write_at(frame, h.id_offset(), &(id as u32).to_be_bytes()),
            Head::Dubbo(_) => dubbo::patch_id(frame, id),
        }
    }

    /// The same for a frame of which only the beginning is there. Returns what its last four bytes are to be
    /// XORed with.
    pub fn write_id_ahead(&self, opening: &mut [u8], id: u64) -> u32 {
        match self {
            Head::Bolt(h) => {
                let at = h.id_offset();
                let was = read_u32(opening, at);
                write_at(opening, at, &(id as u32).to_be_bytes());
                match h.variant.crc() {
                    true => bolt::crc_mask(was, id as u32, h.frame_len() - 4 - at - 4),
                    false => 0,
                }
            }
            Head::Dubbo(_) => {
                dubbo::patch_id(opening, id);
                0
            }
        }
    }

    /// The status of a reply, and whether it is a result. An exception of the app's travels as a success and
    /// is marked otherwise; here it has the status of an error.
    #[inline]
    pub fn outcome(&self, frame: &[u8]) -> (u16, bool) {
        match self {
            Head::Bolt(h) => {
                let exception = h.header_len > 0
                    && h.status == bolt::STATUS_SUCCESS
                    && h.headers(frame).get(bolt::HEADER_RESPONSE_ERROR) == Some(b"true");
                let status = if exception { bolt::STATUS_SERVER_EXCEPTION } else { h.status };
                (status, status == bolt::STATUS_SUCCESS)
            }
            Head::Dubbo(h) if dubbo::response_kind(h, frame) == ResponseKind::Exception => {
                (DUBBO_SERVICE_ERROR, false)
            }
            Head::Dubbo(h) => (u16::from(h.status), h.status == dubbo::STATUS_OK),
        }
    }

    /// Whether a reply says that the app was asked and has answered, if only with an exception of its own.
    pub const fn answered(&self) -> bool {
        match self {
            Head::Bolt(h) => h.status == bolt::STATUS_SUCCESS,
            Head::Dubbo(h) => h.status == dubbo::STATUS_OK,
        }
    }

    /// How a reply says that the request was not served, where it may be sent to another endpoint by policy: a
    /// server too busy to take it, a sidecar whose app is not there, or was lost while it may have run it.
    #[inline]
    pub fn not_served(&self, frame: &[u8]) -> Option<RetryOn> {
        match self {
            Head::Bolt(h) if h.status == bolt::STATUS_SUCCESS => None,
            Head::Bolt(h) => self.unserved(frame, h.status),
            Head::Dubbo(h) if h.status == dubbo::STATUS_OK => None,
            Head::Dubbo(h) => self.unserved(frame, u16::from(h.status)),
        }
    }

    fn unserved(&self, frame: &[u8], status: u16) -> Option<RetryOn> {
        let busy = self.lane().status_of(Reason::Overflow);
        match self.said_by_sidecar(frame).map(|(reason, _)| reason) {
            Some(Reason::ConnectFailure | Reason::NoHealthy | Reason::Draining) => {
                Some(RetryOn::ConnectFailure)
            }
            Some(Reason::ConnectionLost) => Some(RetryOn::ConnectionLost),
            Some(r) if r.not_processed() && self.lane().status_of(r) == busy => Some(RetryOn::Overloaded),
            Some(_) => None,
            None if status == busy => Some(RetryOn::Overloaded),
            None => None,
        }
    }

    /// Why another sidecar made this reply itself, and by which rule, if one did.
    #[inline]
    pub fn said_by_sidecar<'a>(&self, frame: &'a [u8]) -> Option<(Reason, Option<&'a str>)> {
        let text = |b: Option<&'a [u8]>| b.and_then(|b| std::str::from_utf8(b).ok());
        match self {
            Head::Bolt(h) if h.status != bolt::STATUS_SUCCESS && h.header_len > 0 => {
                let names = [bolt::HEADER_REASON, bolt::HEADER_RULE];
                let [reason, rule] = h.headers(frame).get_all(&names);
                Some((Reason::from_flag(text(reason)?)?, text(rule)))
            }
            Head::Bolt(_) => None,
            Head::Dubbo(h) if h.status == dubbo::STATUS_OK => None,
            Head::Dubbo(h) => dubbo::reason_of(h, frame),
        }
    }

    /// A number in a header of a reply; of Dubbo in an attachment, which is found behind values of a bounded length.
    pub fn reply_number(&self, frame: &[u8], name: &str) -> Option<f64> {
        match self {
            Head::Bolt(h) if h.header_len > 0 => number(h.headers(frame).get(name.as_bytes())?),
            Head::Bolt(_) => None,
            Head::Dubbo(h) => match dubbo::response_attachments(h, frame)?.value(name.as_bytes())? {
                dubbo::Value::Text(text) => number(text),
                dubbo::Value::Number(n) => Some(n as f64),
                _ => None,
            },
        }
    }

    /// Whether a heartbeat says that its sender understands GOAWAY.
    pub fn announces_goaway(&self, frame: &[u8]) -> bool {
        match self {
            Head::Bolt(h) => {
                h.header_len > 0
                    && h.headers(frame).get(CAPABILITIES.0.as_bytes()) == Some(CAPABILITIES.1.as_bytes())
            }
            Head::Dubbo(_) => false,
        }
    }

    /// Appends the answer to this heartbeat.
    pub fn pong(&self, frame: &[u8], out: &mut Vec<u8>) {
        match self {
            Head::Bolt(h) => bolt::encode::heartbeat_ack(out, h),
            Head::Dubbo(h) => dubbo::encode::heartbeat_ack(out, h, frame),
        }
    }
}

impl Malformed {
    /// The metric label.
    pub const fn label(self) -> Label {
        match self {
            Malformed::Bolt(e) => match e.reason {
                bolt::MalformedKind::UnknownProtocol => Label::BadMagic,
                bolt::MalformedKind::UnknownVersion => Label::BadVersion,
                bolt::MalformedKind::UnknownType => Label::BadType,
                bolt::MalformedKind::HeaderTooLarge => Label::HeaderTooLarge,
                bolt::MalformedKind::FrameTooLarge => Label::TooLarge,
            },
            Malformed::Dubbo(e) => match e.reason {
                dubbo::MalformedKind::UnknownProtocol => Label::BadMagic,
                dubbo::MalformedKind::FrameTooLarge => Label::TooLarge,
            },
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::Bolt(e) => e.fmt(f),
            Malformed::Dubbo(e) => e.fmt(f),
        }
    }
}

/// Appends a heartbeat; in Bolt it tells a sidecar at the other end that GOAWAY is understood.
pub fn ping(out: &mut Vec<u8>, lane: Lane) {
    match lane {
        Lane::Bolt(v) => {
            let codec = bolt::CODEC_HESSIAN;
            bolt::encode::heartbeat(out, v, HEARTBEAT_ID, codec, HEARTBEAT_TIMEOUT_MS, &[CAPABILITIES]);
        }
        Lane::Dubbo => dubbo::encode::heartbeat(out, u64::from(HEARTBEAT_ID)),
        Lane::Http1 | Lane::Http2 => {}
    }
}

/// Appends the notice that no more requests are wanted on the connection.
pub fn goaway(out: &mut Vec<u8>, lane: Lane) {
    match lane {
        Lane::Bolt(v) => bolt::encode::goaway(out, v, 0),
        Lane::Dubbo => dubbo::encode::readonly(out, 0),
        Lane::Http1 | Lane::Http2 => {}
    }
}

/// A request as the app gets it.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    /// Its head.
    pub head: Head,
    /// What its last four bytes are to be XORed with that are still to come.
    pub crc_mask: u32,
    /// It says who calls.
    pub added: bool,
}

/// What a reply of the sidecar's own must know of its request.
#[derive(Clone, Copy, Debug)]
pub struct Asker {
    /// What its connection carries.
    pub lane: Lane,
    /// The id it gave the request.
    pub id: u64,
    /// Serialiser of the request.
    pub codec: u8,
    /// The request was SOFARPC's.
    pub sofa: bool,
}

/// What a reply of the sidecar's own says.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    /// Why.
    pub reason: Reason,
    /// The rule that caused it.
    pub rule: Option<&'a str>,
    /// What exactly, for a person; may be empty.
    pub detail: &'a str,
    /// In the form that people can read; else by the reason's own status.
    pub readable: bool,
}

/// Appends a reply of the sidecar's own.
pub fn reply(out: &mut Vec<u8>, to: &Asker, said: &Said<'_>) {
    let Said { reason, rule, detail, readable } = *said;
    match to.lane {
        Lane::Bolt(variant) => {
            let form = match (readable, to.sofa) {
                (true, true) => bolt::Form::SofaException,
                (true, false) => bolt::Form::ServerException,
                (false, _) => bolt::Form::Status,
            };
            let head = bolt::Head {
                variant,
                kind: bolt::Kind::Request,
                command: bolt::Command::Request,
                id: to.id as u32,
                codec: to.codec,
                timeout_ms: 0,
                status: 0,
                class_len: 0,
                header_len: 0,
                content_len: 0,
            };
            bolt::encode::reply(out, &head, &bolt::Reply { reason, rule, detail, form });
        }
        Lane::Dubbo => {
            let form = if readable { dubbo::Form::Exception } else { dubbo::Form::Status };
            let head = dubbo::Head {
                kind: dubbo::Kind::Request,
                event: false,
                serializer: to.codec,
                status: 0,
                id: to.id,
                body_len: 0,
            };
            dubbo::encode::reply(out, &head, &dubbo::Reply { reason, rule, detail, form });
        }
        Lane::Http1 | Lane::Http2 => {}
    }
}

/// Not inlined: few frames have a checksum, and all others are spared the code.
#[inline(never)]
fn write_bolt_id(h: &bolt::Head, frame: &mut [u8], id: u32) {
    let was = bolt::Head { id: read_u32(frame, h.id_offset()), ..*h };
    bolt::patch_id(frame, &was, id);
}

#[inline]
fn read_u32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes)
}

#[inline]
fn write_at(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(slot) = bytes.get_mut(at..at + value.len()) {
        slot.copy_from_slice(value);
    }
}
/// A decimal number as text.
pub(crate) fn number(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}
