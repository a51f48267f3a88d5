//! Bodies on their way out, as fast as the peer's windows let them.
use super::{DATA, END_HEADERS, END_STREAM, HEADERS, put_frame};
use std::borrow::Cow;
use std::collections::VecDeque;

/// What follows a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// Nothing: its last frame ends the stream.
    End,
    /// These trailers.
    Trailers(&'static [u8]),
}

/// A body that did not fit.
#[derive(Debug)]
struct Waiting {
    stream: u32,
    window: i64,
    body: Vec<u8>,
    sent: usize,
    then: Then,
}

/// The sending half of a connection's flow control.
#[derive(Debug)]
pub(crate) struct Sender {
    window: i64,
    waiting: VecDeque<Waiting>,
}

impl Default for Sender {
    fn default() -> Sender {
        Sender { window: 65_535, waiting: VecDeque::new() }
    }
}

impl Sender {
    /// Whether anything may be sent on the connection at all.
    pub(crate) fn is_open(&self) -> bool {
        self.window > 0
    }

    /// The peer takes `by` bytes more on the connection.
    pub(super) fn widen(&mut self, by: u32) {
        self.window += i64::from(by);
    }

    /// The peer takes `by` bytes more on a stream. Only of streams that wait is a window kept.
    pub(crate) fn widen_stream(&mut self, stream: u32, by: u32) {
        if let Some(waiting) = self.waiting.iter_mut().find(|w| w.stream == stream) {
            waiting.window += i64::from(by);
        }
    }

    /// The peer changed what every stream begins with.
    pub(super) fn shift_all(&mut self, by: i64) {
        for waiting in &mut self.waiting {
            waiting.window += by;
        }
    }

    /// Forgets a stream; returns whether there was something left to send on it.
    pub(crate) fn forget(&mut self, stream: u32) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|w| w.stream != stream);
        self.waiting.len() < before
    }

    pub(super) fn send(
        &mut self,
        out: &mut Vec<u8>,
        stream: u32,
        mut window: i64,
        body: Cow<'_, [u8]>,
        then: Then,
        max_frame: usize,
    ) {
        let sent = self.some(out, stream, &mut window, &body, then, max_frame);
        if sent < body.len() {
            self.waiting.push_back(Waiting { stream, window, body: body.into_owned(), sent, then });
        }
    }

    pub(super) fn pump(&mut self, out: &mut Vec<u8>, max_frame: usize) {
        for _ in 0..self.waiting.len() {
            if self.window <= 0 {
                return;
            }
            // Each in turn: who waits longest is first, who still waits goes to the end.
            let Some(mut w) = self.waiting.pop_front() else { return };
            w.sent += self.some(out, w.stream, &mut w.window, &w.body[w.sent..], w.then, max_frame);
            if w.sent < w.body.len() {
                self.waiting.push_back(w);
            }
        }
    }

    /// Writes as much of `body` as the windows let, and what follows if that was all of it.
    fn some(
        &mut self,
        out: &mut Vec<u8>,
        stream: u32,
        window: &mut i64,
        body: &[u8],
        then: Then,
        max_frame: usize,
    ) -> usize {
        let room = self.window.min(*window).clamp(0, body.len() as i64);
        let (now, later) = body.split_at(room as usize);
        self.window -= room;
        *window -= room;
        let whole = later.is_empty();
        let mut frames = now.chunks(max_frame).peekable();
        if body.is_empty() && then == Then::End {
            put_frame(out, DATA, END_STREAM, stream, &[]);
        }
        while let Some(frame) = frames.next() {
            let last = whole && frames.peek().is_none() && then == Then::End;
            put_frame(out, DATA, if last { END_STREAM } else { 0 }, stream, frame);
        }
        if let (true, Then::Trailers(block)) = (whole, then) {
            put_frame(out, HEADERS, END_HEADERS | END_STREAM, stream, block);
        }
        now.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::{Conn, Event};

    /// The bytes of each body that came, whether its stream ended, and how many frames it took.
    fn receive(wire: &[u8]) -> (usize, bool, usize) {
        let (mut conn, mut at) = (Conn::default(), 0);
        let (mut bytes, mut ended, mut frames) = (0, false, 0);
        while let Some((n, event)) = conn.take_in(&wire[at..], &mut Vec::new()).unwrap() {
            at += n;
            match event {
                Some(Event::Data { bytes: data, end, .. }) => {
                    (bytes, ended, frames) = (bytes + data.len(), ended || end, frames + 1);
                }
                Some(Event::Headers { end, .. }) => ended |= end,
                _ => {}
            }
        }
        (bytes, ended, frames)
    }

    #[test]
    fn a_body_stops_at_each_window_and_goes_on_when_it_widens() {
        let mut sender = Sender::default();
        let mut out = Vec::new();
        let body = vec![7; 100_000];
        sender.send(&mut out, 1, 20_000, Cow::Borrowed(&body), Then::End, 16_384);
        assert_eq!(receive(&out), (20_000, false, 2), "the stream's window");
        sender.widen_stream(1, 80_000);
        sender.pump(&mut out, 16_384);
        assert_eq!(receive(&out).0, 65_535, "the connection's window");
        assert!(!sender.is_open());
        sender.widen(100_000);
        sender.pump(&mut out, 16_384);
        let (bytes, ended, _) = receive(&out);
        assert_eq!((bytes, ended), (100_000, true));
    }

    #[test]
    fn trailers_follow_the_last_byte_and_an_empty_body_ends() {
        for (body, then) in
            [(&b""[..], Then::End), (b"", Then::Trailers(&[0x88])), (b"x", Then::Trailers(&[0x88]))]
        {
            let mut out = Vec::new();
            Sender::default().send(&mut out, 1, 100, Cow::Borrowed(body), then, 16_384);
            let (bytes, ended, _) = receive(&out);
            assert_eq!((bytes, ended), (body.len(), true));
        }
    }
}
