//! One request and its response, and what is known of both.
use crate::conn::Direction;
use crate::lane::Lane;
use crate::limits::ticket::Ticket;
use bytes::Bytes;
use http::HeaderMap;
use raddle_core::{Protocol, Reason, Time};
use raddle_net::Key;
use raddle_policy::permits::Permit;
use raddle_wire::http::Request;
use raddle_wire::http::h1::Framing;
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

/// One request and its response.
pub(crate) struct Exchange {
    /// The caller's connection.
    pub down: Key,
    /// The caller's stream, over HTTP/2.
    pub caller: Option<Box<CallerStream>>,
    /// Which way it goes.
    pub direction: Direction,
    /// The listener it came by.
    pub listener: u16,
    /// The request's head as the caller sent it.
    pub request: Request,
    /// How its body comes.
    pub framing: Framing,
    /// It waits for `100 Continue`.
    pub expects_continue: bool,
    /// It asks to change the protocol.
    pub upgrade: bool,
    /// Its caller speaks HTTP/1.0.
    pub old: bool,
    /// `http`, `http2` or `grpc`.
    pub protocol: Protocol,
    /// When its head was read.
    pub start: Time,
    /// When its time is over.
    pub deadline: Time,
    /// When this try's time is over.
    pub try_deadline: Time,
    /// When a byte of it last moved.
    pub active_at: Time,
    /// The service's state.
    pub service: Key,
    /// Row of its metrics.
    pub row: u32,
    /// What was decided about it.
    pub plan: HttpPlan,
    /// The endpoint's side.
    pub up: Up,
    /// The host it was sent to.
    pub host: Key,
    /// A place under `maxOutstanding`.
    pub permit: Option<Permit>,
    /// What it holds of limits, once they were asked.
    pub ticket: Option<Ticket>,
    /// The endpoint that failed it last.
    pub avoid: Option<u32>,
    /// Tries made before this one.
    pub tried: u8,
    /// Tries left; `None` until a policy said.
    pub tries_left: Option<u8>,
    /// How often it was moved without having been sent.
    pub moves: u8,
    /// The body so far, to be sent when there is a connection or once more.
    pub kept: Vec<u8>,
    /// `kept` is the whole body so far.
    pub kept_all: bool,
    /// The caller's trailers, if they have come.
    pub trailers: Option<Box<raddle_wire::http::Fields>>,
    /// All of the request has been received.
    pub request_over: bool,
    /// All of the request has been given to the endpoint's side.
    pub request_sent: bool,
    /// The framing used towards the endpoint.
    pub up_framing: Framing,
    /// The framing used towards the caller, once the response's head is out.
    pub down_framing: Option<Framing>,
    /// The response is complete.
    pub response_over: bool,
    /// The response's status.
    pub status: u16,
    /// gRPC's status, once it has come.
    pub grpc_status: Option<u16>,
    /// Why another sidecar answered in the endpoint's place.
    pub said: Option<Reason>,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the response's body.
    pub bytes_out: u64,
    /// It is counted as in flight.
    pub counted: bool,
    /// A copy whose response nobody gets.
    pub mirror: bool,
    /// A rule's actions have been carried out on it.
    pub acted: bool,
    /// The head as it came, where rules changed `request`: routes look at this one.
    pub original: Option<Box<Request>>,
    /// The service that gets a copy when all of the request is here.
    pub mirror_to: Option<std::sync::Arc<str>>,
    /// Changes of the response's fields.
    pub response_ops: Option<Box<raddle_model::HeaderOps>>,
    /// The failure made on purpose it meets.
    pub abort: Option<raddle_model::AbortStatus>,
    /// It was sent on a connection that had carried others.
    pub reused: bool,
    /// Its connection is gone and the kernel had taken nothing of it.
    pub unsent: bool,
    /// It has been sent again because of that.
    pub stale: bool,
    /// Wakes it.
    pub waker: Option<Waker>,
}

/// What routing decided.
#[derive(Clone, Default)]
pub(crate) struct HttpPlan {
    /// Index of the endpoint.
    pub endpoint: u32,
    /// Bits of [`raddle_model::RetryOn`].
    pub retry_on: u8,
    /// Share and floor of the retry budget.
    pub budget: (f64, u32),
    /// The rule's name.
    pub rule: Option<String>,
    /// The rule as logs name it, where callers are told less.
    pub logged: Option<String>,
}

/// The endpoint's side of an exchange.
pub(crate) enum Up {
    /// None yet, or none any more.
    None,
    /// It waits for a connection of this lane.
    Waiting(Lane),
    /// On this HTTP/1.1 connection. The number is its stream position before the head.
    One(Key, u64),
    /// A stream of this HTTP/2 connection.
    Two(Key, Box<EndpointStream>),
    /// It is delayed on purpose.
    Delayed(Time),
}

/// A caller's stream.
pub(crate) struct CallerStream {
    pub respond: Option<h2::server::SendResponse<Bytes>>,
    pub body: Option<h2::RecvStream>,
    pub out: Sender,
}

/// A stream to an endpoint.
pub(crate) struct EndpointStream {
    /// The connection's stream position before it began.
    pub at: u64,
    pub response: Option<h2::client::ResponseFuture>,
    pub body: Option<h2::RecvStream>,
    pub out: Sender,
}

/// What follows a stream's data.
#[derive(Default)]
enum Ending {
    /// Not known yet, or it has been sent.
    #[default]
    Open,
    /// Nothing.
    Bare,
    /// These.
    Trailers(HeaderMap),
}

/// The sending half of a stream, and what waits for its window.
#[derive(Default)]
pub(crate) struct Sender {
    pub stream: Option<h2::SendStream<Bytes>>,
    queue: VecDeque<Bytes>,
    queued: usize,
    end: Ending,
    pub ended: bool,
}

impl Sender {
    pub(crate) fn new(stream: h2::SendStream<Bytes>, ended: bool) -> Sender {
        Sender { stream: Some(stream), ended, ..Sender::default() }
    }

    /// Bytes that wait.
    pub(crate) fn queued(&self) -> usize {
        self.queued
    }

    /// Adds data.
    pub(crate) fn push(&mut self, data: Bytes) {
        if !data.is_empty() && !self.ended {
            self.queued += data.len();
            self.queue.push_back(data);
        }
    }

    /// Nothing follows but these trailers.
    pub(crate) fn finish(&mut self, trailers: Option<HeaderMap>) {
        if !self.ended {
            self.end = trailers.map_or(Ending::Bare, Ending::Trailers);
        }
    }

    /// Nobody reads what was to be sent.
    pub(crate) fn abandon(&mut self) {
        self.queue.clear();
        self.queued = 0;
        self.end = Ending::Open;
        self.ended = true;
    }

    /// Gives h2 everything at once, whatever the window: for short answers of the sidecar's own.
    pub(crate) fn finish_now(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        self.end = Ending::Open;
        while let Some(piece) = self.queue.pop_front() {
            let last = self.queue.is_empty();
            // Fails if the caller is gone: then nobody misses it.
            let _ = stream.send_data(piece, last);
            self.ended |= last;
        }
        self.queued = 0;
        if !std::mem::replace(&mut self.ended, true) {
            let _ = stream.send_data(Bytes::new(), true);
        }
    }

    /// Sends what the window takes.
    ///
    /// # Errors
    /// The stream is over.
    pub(crate) fn flush(&mut self, cx: &mut Context<'_>) -> Result<(), h2::Error> {
        let Some(stream) = &mut self.stream else { return Ok(()) };
        while let Some(front) = self.queue.front_mut() {
            stream.reserve_capacity(front.len().min(64 << 10));
            let room = stream.capacity();
            if room == 0 {
                match stream.poll_capacity(cx) {
                    Poll::Ready(Some(Ok(_))) => continue,
                    Poll::Ready(Some(Err(e))) => return Err(e),
                    Poll::Ready(None) => return Err(h2::Reason::CANCEL.into()),
                    Poll::Pending => return Ok(()),
                }
            }
            let piece = front.split_to(room.min(front.len()));
            self.queued -= piece.len();
            if front.is_empty() {
                self.queue.pop_front();
            }
            let last = self.queue.is_empty() && matches!(self.end, Ending::Bare);
            stream.send_data(piece, last)?;
            if last {
                self.ended = true;
                self.end = Ending::Open;
            }
        }
        let end = std::mem::take(&mut self.end);
        if self.ended {
            return Ok(());
        }
        self.ended = !matches!(end, Ending::Open);
        match end {
            Ending::Open => {}
            Ending::Bare => stream.send_data(Bytes::new(), true)?,
            Ending::Trailers(t) => stream.send_trailers(t)?,
        }
        Ok(())
    }
}
