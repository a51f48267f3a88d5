//! Writing: dirty connections, the flush at the turn's end, and holding back those that write too fast.
use crate::conn::{Paused, Role};
use crate::worker::Worker;
use raddle_net::{Flushed, Interest, Key};

/// A connection with this much to write is flushed within the turn, while the bytes are in cache.
const FLUSH_AT: usize = 128 << 10;
/// Out-buffers of one worker together may hold this much before slow callers lose their long rope.
const BUFFER_BUDGET: usize = 128 << 20;

impl Worker {
    /// Notes that a connection has bytes to write.
    #[inline]
    pub(crate) fn mark_dirty(&mut self, key: Key) {
        let Some(conn) = self.conns.get_mut(key) else { return };
        let long = conn.out.len() >= FLUSH_AT && !conn.interest.write;
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(key);
        }
        if long && !conn.connecting() {
            // An error shows again at the turn's end, where closing is safe.
            let before = conn.out.written_offset();
            let _ = conn.flush_out(&mut self.pool);
            let wrote = conn.out.written_offset() - before;
            if wrote > 0 {
                conn.wrote_at = self.now;
                match conn.is_endpoint() {
                    true => self.shard.upstream_bytes_out.add(wrote),
                    false => self.shard.caller_bytes_out.add(wrote),
                }
            }
        }
    }

    pub(crate) fn flush_dirty(&mut self) {
        while let Some(key) = self.dirty.pop() {
            if let Some(c) = self.conns.get_mut(key) {
                c.dirty = false;
                self.flush(key);
            }
        }
    }

    /// Writes what the socket takes and lets those go on that waited for room.
    pub(crate) fn flush(&mut self, key: Key) {
        let now = self.now;
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.dialling() {
            return;
        }
        let before = conn.out.written_offset();
        match conn.flush_out(&mut self.pool) {
            Ok(f) => {
                let wrote = conn.out.written_offset() - before;
                if wrote > 0 {
                    conn.wrote_at = now;
                    match conn.is_endpoint() {
                        true => self.shard.upstream_bytes_out.add(wrote),
                        false => self.shard.caller_bytes_out.add(wrote),
                    }
                }
                let want = f == Flushed::Partly;
                if want != conn.interest.write {
                    self.set_interest(key);
                }
                self.made_room(key);
                if !want {
                    self.close_if_done(key);
                }
            }
            Err(_) => match &conn.role {
                // What it sent before it went is still to be read; the error shows again behind it.
                Role::Relay(r) if !conn.paused.has(Paused::ENDED) && !r.connecting => {
                    conn.out.clear(&mut self.pool);
                    self.set_interest(key);
                    self.made_room(key);
                }
                _ => self.broken(key),
            },
        }
    }

    /// Lets those read again that were held back because this connection's out-buffer was full.
    pub(crate) fn made_room(&mut self, key: Key) {
        let soft = self.config.limits().buffer_soft as usize;
        let Some(conn) = self.conns.get_mut(key) else { return };
        if conn.out.len() > soft / 2 {
            return;
        }
        if conn.paused.has(Paused::OUT_FULL) {
            conn.paused.clear(Paused::OUT_FULL);
            self.resume.push(key);
        }
        let Some(conn) = self.conns.get_mut(key) else { return };
        let feeders = match &mut conn.role {
            Role::Caller(c) => std::mem::take(&mut c.feeders),
            Role::Endpoint(e) => std::mem::take(&mut e.feeders),
            Role::Relay(r) => vec![r.peer],
            Role::New(_) => return,
            Role::Http(_) => return self.http_made_room(key),
        };
        for f in feeders {
            self.unpause(f, Paused::SINK_FULL);
        }
    }

    /// Stops reading from a connection for a reason.
    pub(crate) fn pause(&mut self, key: Key, why: u8) {
        if let Some(c) = self.conns.get_mut(key) {
            c.paused.set(why);
            self.set_interest(key);
        }
    }

    /// Removes a reason not to read from a connection; it goes on when the turn settles.
    pub(crate) fn unpause(&mut self, key: Key, why: u8) {
        if let Some(c) = self.conns.get_mut(key)
            && c.paused.has(why)
        {
            c.paused.clear(why);
            if let Role::Endpoint(e) = &mut c.role {
                e.stalled_since = None;
            }
            self.resume.push(key);
        }
    }

    /// Makes epoll watch for just what is wanted now.
    pub(crate) fn set_interest(&mut self, key: Key) {
        let Some(c) = self.conns.get_mut(key) else { return };
        let want =
            Interest { read: !c.paused.any() && !c.dialling(), write: c.dialling() || c.wants_write() };
        if want != c.interest {
            c.interest = want;
            // It can only fail for a descriptor that is not in the set, and every connection's is.
            let _ = self.poller.modify(&c.fd, key.to_u64(), want);
        }
    }

    /// Bytes a caller's out-buffer may hold while others' connections feed it.
    pub(crate) fn hard_limit(&self) -> usize {
        let l = self.config.limits();
        if self.buffered > BUFFER_BUDGET { l.buffer_soft as usize } else { l.buffer_hard as usize }
    }
}
