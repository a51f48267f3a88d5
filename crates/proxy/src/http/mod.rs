//! HTTP on the data path: HTTP/1.1, HTTP/2, and gRPC over it.
//!
//! An **exchange** ([`exchange`]) is one request and its response. It has two sides, each of either version:
//! the caller's ([`down1`], [`down2`]) and the endpoint's ([`up1`], [`up2`]). Its life reads downwards in
//! [`request`] (attributes → service → route → endpoint → connection → forward), goes on in [`response`], and
//! its bodies pass through [`flow`]. What the sidecar answers itself is in [`answer`].
//!
//! HTTP/1.1's codec is in crate `wire`. HTTP/2 is the h2 crate's, which wants a socket and a runtime to
//! wake it: it gets bytes in memory ([`pipe`]) and a list of what was woken ([`wake`]), and so it runs within
//! the worker's turn like everything else, and its frames leave in the turn's one write.
pub(crate) mod actions;
pub(crate) mod answer;
pub(crate) mod attributes;
pub(crate) mod convert;
pub(crate) mod down1;
pub(crate) mod down2;
pub(crate) mod exchange;
pub(crate) mod flow;
mod limiting;
pub(crate) mod pipe;
pub(crate) mod pool;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod sides;
pub(crate) mod timers;
pub(crate) mod tunnel;
pub(crate) mod unknown;
pub(crate) mod up1;
pub(crate) mod up2;
mod view;
pub(crate) mod wake;

use crate::conn::Role;
use crate::worker::Worker;
use exchange::Exchange;
use raddle_core::Reason;
use raddle_net::{Key, Slab};
use raddle_wire::http::Request;
pub use sides::{Down1, Down2, HttpConn, Up1, Up2};
use wake::{Ready, Token};

/// Heads kept to be filled again.
const SPARE_MOST: usize = 256;

/// A worker's HTTP state.
#[derive(Default)]
pub struct Http {
    /// Exchanges under way.
    pub(crate) exchanges: Slab<Exchange>,
    /// Heads to be used again, with their memory.
    spare: Vec<Request>,
    /// What h2 wants looked at.
    pub(crate) ready: Ready,
    tokens: Vec<Token>,
    /// Exchanges whose caller or endpoint may have room now.
    pub(crate) again: Vec<Key>,
    /// Copies for services that mirror others.
    pub(crate) mirrors: Vec<Key>,
}

impl Http {
    pub(crate) fn spare(&mut self) -> Request {
        self.spare.pop().unwrap_or_default()
    }

    pub(crate) fn give(&mut self, mut r: Request) {
        if self.spare.len() < SPARE_MOST && r.bytes() <= 16 << 10 {
            r.reset(b"", b"", b"");
            self.spare.push(r);
        }
    }

    /// Whether something is to be done before the next wait.
    pub(crate) fn pending(&self) -> bool {
        !self.again.is_empty() || self.ready.any()
    }

    /// Gives spare memory back.
    pub(crate) fn shrink(&mut self) {
        self.spare = Vec::new();
        self.tokens = Vec::new();
    }
}

impl Worker {
    /// Looks at what was woken and at what has room again, until nothing is left or for long enough.
    pub(crate) fn settle_http(&mut self) {
        for _ in 0..64 {
            let mut tokens = std::mem::take(&mut self.http.tokens);
            self.http.ready.take(&mut tokens);
            tokens.extend(self.http.again.drain(..).map(Token::Exchange));
            if tokens.is_empty() {
                self.http.tokens = tokens;
                return;
            }
            for t in tokens.drain(..) {
                match t {
                    Token::Conn(key) => self.drive(key),
                    Token::Exchange(key) => self.advance(key),
                }
            }
            self.http.tokens = tokens;
        }
    }

    /// Hands bytes to whoever understands them.
    pub(crate) fn feed_http(&mut self, key: Key, bytes: &[u8]) -> usize {
        let Some(conn) = self.conns.get(key) else { return bytes.len() };
        if conn.lingers {
            return bytes.len();
        }
        match &conn.role {
            Role::Http(HttpConn::Down1(_)) => self.feed_down1(key, bytes),
            Role::Http(HttpConn::Down2(_)) => self.feed_down2(key, bytes),
            Role::Http(HttpConn::Up1(_)) => self.feed_up1(key, bytes),
            Role::Http(HttpConn::Up2(_)) => self.feed_up2(key, bytes),
            _ => 0,
        }
    }

    /// The peer has ended its stream.
    pub(crate) fn on_http_end(&mut self, key: Key) {
        let Some(conn) = self.conns.get(key) else { return };
        if conn.lingers {
            return self.close(key, Reason::CallerGone);
        }
        match &conn.role {
            Role::Http(HttpConn::Down1(_)) => self.on_down1_end(key),
            Role::Http(HttpConn::Down2(_)) => self.on_down2_end(key),
            Role::Http(HttpConn::Up1(_)) => self.on_up1_end(key),
            Role::Http(HttpConn::Up2(u)) => {
                u.pipe.0.borrow_mut().ended = true;
                self.drive_up2(key);
                self.close(key, Reason::ConnectionLost);
            }
            _ => {}
        }
    }

    /// Lets h2 work on a connection.
    pub(crate) fn drive(&mut self, key: Key) {
        match self.conns.get(key).map(|c| &c.role) {
            Some(Role::Http(HttpConn::Down2(_))) => self.drive_down2(key),
            Some(Role::Http(HttpConn::Up2(_))) => self.drive_up2(key),
            _ => {}
        }
    }
}
