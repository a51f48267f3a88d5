//! Telling the app who calls it. What is said of the caller elsewhere is removed on its way in, in plaintext too: the
//! app may believe what it reads.
//!
//! Requests in Bolt and Dubbo are rewritten where they are forwarded ([`Call::tell`](crate::call::Call::tell)), heads of
//! HTTP before anything looks at them. Trailers stay as they are.
use crate::conn::Direction;
use crate::links::Peer;
use crate::worker::Worker;
use raddle_net::Key;
use raddle_wire::caller::{CALLER, CALLER_ID, CLIENT_CERT, is_reserved};
use raddle_wire::http::Request;
use std::io::Write;
use std::sync::Arc;

impl Worker {
    /// Who is behind a connection that requests for the app come by, as its certificate says.
    #[inline]
    pub(crate) fn peer_behind(&self, direction: Direction, caller: Key) -> Option<Arc<Peer>> {
        match direction {
            Direction::Inbound => self.conns.get(caller)?.peer().cloned(),
            Direction::Outbound => None,
        }
    }

    /// Whether the app behind a listener is to be told who calls.
    #[inline]
    pub(crate) fn tells_caller(&self, listener: u16) -> bool {
        self.config.binding(listener).is_some_and(|b| b.tells_caller)
    }

    /// Makes the head of a request that came by `down` say who calls.
    pub(crate) fn introduce(
        &mut self,
        down: Key,
        direction: Direction,
        listener: u16,
        request: &mut Request,
    ) {
        if direction == Direction::Outbound {
            return;
        }
        request.fields.remove_if(is_reserved);
        let Some(peer) = self.conns.get(down).and_then(|c| c.peer()).filter(|_| self.tells_caller(listener))
        else {
            return;
        };
        let fields = &mut request.fields;
        fields.push(CALLER.as_bytes(), peer.app.as_bytes());
        fields.push(CALLER_ID.as_bytes(), peer.id.as_bytes());
        // SPIFFE ids have no character that would have to be quoted here.
        let mut text = std::mem::take(&mut self.name);
        text.clear();
        if let Some(own) = &self.links.identity {
            // Writing to memory does not fail.
            let _ = write!(text, "By={};", own.id());
        }
        text.extend_from_slice(b"URI=");
        text.extend_from_slice(peer.id.as_bytes());
        fields.push(CLIENT_CERT.as_bytes(), &text);
        self.name = text;
    }
}
